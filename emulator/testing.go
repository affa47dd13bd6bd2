package emulator

import (
	"bytes"
	"log/slog"
	"sync"
	"time"
)

// TB has the methods of *testing.T and *testing.B that StartT uses.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// testWaitTimeout bounds the WaitFor methods under StartT.
const testWaitTimeout = 10 * time.Second

// StartT starts a server for a test, and closes the server when the test ends. The server logs to the test unless opts has a Logger.
//
// StartT fails the test if the server cannot start. Later, [Server.InjectFault], [Server.InjectClientFault] and
// [Server.HasPermission] fail the test if they return an error. Otherwise, a test whose fault cannot happen would pass without
// testing anything.
//
// The server's WaitFor methods give up after 10 seconds if their context has no deadline, and return an error that names the
// awaited state.
func StartT(t TB, opts *Options) *Server {
	t.Helper()
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		w := &testLog{t: t}
		o.Logger = slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: dropTime}))
		t.Cleanup(w.end) // runs after the server is closed
	}
	s, err := Start(&o)
	if err != nil {
		t.Fatalf("%v", err)
		return nil
	}
	s.waitTimeout, s.test = testWaitTimeout, t
	t.Cleanup(func() { s.Close() })
	return s
}

// testLog writes to a test's log until the test ends. After that, Logf would panic.
type testLog struct {
	mu sync.Mutex // guards t
	t  TB
}

func (w *testLog) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Logf("%s", bytes.TrimSuffix(line, []byte("\n")))
	}
	return len(line), nil
}

func (w *testLog) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = nil
}

func dropTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
