package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/wsclient"
)

// TestFaults makes every operation of the service client, from 64 goroutines, while one request in five goes wrong. Every
// call ends, by itself or with its context; a send that succeeded has arrived; what arrived was whole; no try is
// written twice; and nothing is left open.
func TestFaults(t *testing.T) {
	t.Run("on the way", func(t *testing.T) {
		srv := emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.DiscardHandler), ConnectedAfterRecovery: true})
		way := newWay(t, srv.Endpoint(), random(t, 0))
		f := newFaultyRun(t, srv, &webpubsub.ClientOptions{ReverseProxyEndpoint: way.URL})
		f.run(func(*rand.Rand) {})
		way.end()
		f.end()
		figures(t, "faults: %s", way)
		for kind := range faultKinds {
			require.Positive(t, way.struck[kind].Load(), "the fault %q happened", faultNames[kind])
		}
		for number, n := range way.passed { // nobody sends any more
			require.Equal(t, n, f.received[number], "the times that message %d arrived", number)
		}
	})
	t.Run("in the service", func(t *testing.T) {
		srv := emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.DiscardHandler), ConnectedAfterRecovery: true})
		f := newFaultyRun(t, srv, &webpubsub.ClientOptions{})
		f.run(func(r *rand.Rand) {
			if r.IntN(5) > 0 {
				return
			}
			fault := []emulator.Fault{
				{Status: 429, RetryAfter: time.Second}, {Status: 500}, {Status: 503}, {Status: 408}, {Cut: emulator.CutBeforeEffect},
				{Cut: emulator.CutAfterEffect}, {Delay: time.Hour},
			}[r.IntN(7)]
			if err := srv.InjectFault(fault); err != nil {
				t.Error(err)
			}
		})
		f.end()
	})
}

// faultyRun is a number of calls of which many go wrong.
type faultyRun struct {
	t        *testing.T
	srv      *emulator.Server
	direct   *webpubsub.ServiceClient // nothing goes wrong with its calls
	clients  []*webpubsub.ServiceClient
	receiver *client
	wire     *wire
	logged   logged
	leaks    goleak.Option

	transport *http.Transport
	requests  atomic.Int64
	tries     atomic.Int64
	calls     atomic.Int64
	failed    atomic.Int64
	timedOut  atomic.Int64

	mu        sync.Mutex
	received  map[int64]int  // message -> how often it arrived
	succeeded map[int64]bool // message -> the call that sent it had no error
}

func newFaultyRun(t *testing.T, srv *emulator.Server, options *webpubsub.ClientOptions) *faultyRun {
	f := &faultyRun{t: t, srv: srv, wire: newWire(), received: map[int64]int{}, succeeded: map[int64]bool{}}
	f.leaks = goleak.IgnoreCurrent()
	f.direct = newClient(t, srv.ConnectionString(), "soak", nil)
	ctx, cancel := patient()
	defer cancel()
	access, err := f.direct.GetClientAccessToken(ctx,
		&webpubsub.ClientAccessTokenOptions{UserID: "soak", Groups: []string{"soak"}})
	require.NoError(t, err)
	f.receiver, err = connect(ctx, access.URL, wsclient.JSONPlain.String(), func(got *wsclient.Message) {
		number, _, _ := strings.Cut(string(got.Data), " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || string(got.Data) != text(n) {
			t.Errorf("%.100q arrived, which nobody sent", got.Data)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.received[n]++
	})
	require.NoError(t, err)

	f.transport = &http.Transport{DialContext: f.wire.dial, MaxIdleConnsPerHost: 64, DisableCompression: true}
	options.Transport = &http.Client{Transport: f}
	options.Logger = slog.New(&f.logged)
	options.PerCallPolicies = []policy.Policy{policyFunc(func(req *policy.Request) (*http.Response, error) {
		f.requests.Add(1)
		return req.Next()
	})}
	// What is in a black hole is given up by the try's own time, or by the call's.
	for _, tryTimeout := range []time.Duration{200 * time.Millisecond, 0} {
		options.Retry = policy.RetryOptions{MaxRetries: 4, RetryDelay: time.Millisecond,
			MaxRetryDelay: 2 * time.Second, TryTimeout: tryTimeout} // azcore does not wait for a Retry-After beyond the delay
		f.clients = append(f.clients, newClient(t, srv.ConnectionString(), "soak", options))
	}
	return f
}

type policyFunc func(*policy.Request) (*http.Response, error)

func (p policyFunc) Do(req *policy.Request) (*http.Response, error) { return p(req) }

// tryHeader numbers the tries, so that the wire can tell whether one is written twice.
const tryHeader = "X-Soak-Try"

// RoundTrip makes one try.
func (f *faultyRun) RoundTrip(req *http.Request) (*http.Response, error) {
	numbered := *req
	numbered.Header = req.Header.Clone()
	numbered.Header.Set(tryHeader, req.Method+"-"+strconv.FormatInt(f.tries.Add(1), 10))
	return f.transport.RoundTrip(&numbered)
}

// run makes calls, one after the other in each of 64 goroutines, until the time is over.
func (f *faultyRun) run(before func(*rand.Rand)) {
	var wg sync.WaitGroup
	end := time.Now().Add(*duration)
	for i := range 64 {
		wg.Go(func() {
			r := random(f.t, i+1)
			for time.Now().Before(end) && !f.t.Failed() {
				before(r)
				f.one(r)
			}
		})
	}
	wg.Wait()
}

// one makes one call.
func (f *faultyRun) one(r *rand.Rand) {
	number := f.calls.Add(1)
	o := operations[r.IntN(len(operations))]
	client, limit := f.clients[0], patience
	if r.IntN(10) == 0 {
		client, limit = f.clients[1], time.Duration(1+r.IntN(300))*time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- o.call(ctx, client, text(number)) }()
	var err error
	select {
	case err = <-ended:
	case <-time.After(limit + patience):
		f.t.Errorf("%s does not end with its context", o.name)
		return
	}
	if err != nil && !strings.HasPrefix(err.Error(), "webpubsub: ") {
		f.t.Errorf("%s: the error does not say whose it is: %v", o.name, err)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		f.timedOut.Add(1)
	case errors.Is(err, webpubsub.ErrNotFound): // the answer to those about nobody
	case err != nil:
		f.failed.Add(1)
	case o.sends:
		f.mu.Lock()
		f.succeeded[number] = true
		f.mu.Unlock()
	}
}

// end looks at what came of it all.
func (f *faultyRun) end() {
	t := f.t
	f.transport.CloseIdleConnections()
	f.wire.waitClosed(t)
	f.srv.ClearFaults()
	require.NoError(t, f.receiver.drained(func(text string) error {
		ctx, cancel := patient()
		defer cancel()
		return f.direct.SendToConnection(ctx, f.receiver.id, webpubsub.Text(text), nil)
	}))
	f.receiver.close()
	require.NoError(t, f.receiver.waitEnd())
	f.srv.Close() // nothing of it is left running either
	goleak.VerifyNone(t, f.leaks)

	lost, again := 0, 0
	for number := range f.succeeded {
		if f.received[number] == 0 {
			lost++
		}
	}
	for _, n := range f.received {
		again += n - 1
	}
	twice := f.wire.twice()
	retries := f.tries.Load() - f.requests.Load()
	figures(t, "calls %d, of which failed %d, ended by their context %d; requests %d, tries %d, retries %d; sends that succeeded %d, "+
		"of which lost %d; arrived again by retries %d; connections %d, left open 0; bodies written twice in one try %d", f.calls.Load(),
		f.failed.Load(), f.timedOut.Load(), f.requests.Load(), f.tries.Load(), retries, len(f.succeeded), lost, again,
		f.wire.dialed.Load(), len(twice))
	require.NotEmpty(t, f.succeeded)
	require.Zero(t, lost, "sends that succeeded and did not arrive")
	require.Positive(t, retries)
	require.Equal(t, f.tries.Load(), f.logged.tries.Load(), "the tries that the client's log counts")
	require.Empty(t, twice, "bodies that were written twice in one try")
}

// logged is a slog.Handler that adds up the tries of the calls.
type logged struct {
	slog.Handler
	tries atomic.Int64
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }

func (l *logged) Handle(_ context.Context, record slog.Record) error {
	record.Attrs(func(a slog.Attr) bool {
		if a.Key == "tries" {
			l.tries.Add(a.Value.Int64())
		}
		return true
	})
	return nil
}

// wire dials connections, and counts them and the tries that are written to them.
type wire struct {
	dialed atomic.Int64

	mu      sync.Mutex // guards everything below
	open    map[*wireConn]struct{}
	closed  chan struct{} // gets something when a connection is closed
	written map[string]int
}

func newWire() *wire {
	return &wire{open: map[*wireConn]struct{}{}, closed: make(chan struct{}, 1), written: map[string]int{}}
}

type wireConn struct {
	net.Conn
	wire *wire
}

func (w *wire) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.dialed.Add(1)
	c := &wireConn{conn, w}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[c] = struct{}{}
	return c, nil
}

var tryPattern = regexp.MustCompile(tryHeader + `: (\S+)`)

func (c *wireConn) Write(b []byte) (int, error) {
	if match := tryPattern.FindSubmatch(b); match != nil {
		c.wire.mu.Lock()
		c.wire.written[string(match[1])]++
		c.wire.mu.Unlock()
	}
	return c.Conn.Write(b)
}

func (c *wireConn) Close() error {
	c.wire.mu.Lock()
	delete(c.wire.open, c)
	c.wire.mu.Unlock()
	select {
	case c.wire.closed <- struct{}{}:
	default:
	}
	return c.Conn.Close()
}

// waitClosed waits until all connections are closed.
func (w *wire) waitClosed(t *testing.T) {
	late := time.After(patience)
	for {
		w.mu.Lock()
		open := len(w.open)
		w.mu.Unlock()
		if open == 0 {
			return
		}
		select {
		case <-w.closed:
		case <-late:
			t.Fatalf("%d connections are left open", open)
		}
	}
}

// twice returns the tries with a body that were written more than once. (net/http may write a GET or HEAD again, on a
// new connection, when the server has closed the one that it waited on.)
func (w *wire) twice() []string {
	var twice []string
	for try, n := range w.written {
		if n > 1 && !strings.HasPrefix(try, "GET") && !strings.HasPrefix(try, "HEAD") {
			twice = append(twice, try)
		}
	}
	return twice
}

const (
	faultThrottled = iota
	faultInternal
	faultUnavailable
	faultReset
	faultResetAfter
	faultHalfHead
	faultHalfBody
	faultBlackHole
	faultBlackSocket
	faultKinds
)

var faultNames = [faultKinds]string{"429", "500", "503", "reset", "reset after the effect", "half a head", "half a body", "black hole", "black socket"}

// way is a proxy on the way to the service, on which one request in five goes wrong.
type way struct {
	*httptest.Server
	service string
	over    *http.Transport
	ended   chan struct{}
	struck  [faultKinds]atomic.Int64
	total   atomic.Int64

	mu     sync.Mutex // guards everything below
	random *rand.Rand
	holes  []net.Conn
	passed map[int64]int // message -> how often the service has taken it
}

func newWay(t *testing.T, service string, r *rand.Rand) *way {
	w := &way{service: service, random: r, ended: make(chan struct{}), passed: map[int64]int{},
		over: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
	w.Server = httptest.NewUnstartedServer(w)
	w.Server.Listener = holeyListener{w.Server.Listener, w}
	w.Server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	w.Server.Start()
	t.Cleanup(w.end)
	return w
}

func (w *way) String() string {
	var b strings.Builder
	var sum int64
	for kind := range faultKinds {
		fmt.Fprintf(&b, "%s %d, ", faultNames[kind], w.struck[kind].Load())
		sum += w.struck[kind].Load()
	}
	fmt.Fprintf(&b, "in all %.1f %% of %d requests", 100*float64(sum)/float64(w.total.Load()), w.total.Load())
	return b.String()
}

// end closes everything.
func (w *way) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.ended:
		return
	default:
	}
	close(w.ended)
	for _, hole := range w.holes {
		hole.Close()
	}
	w.Server.CloseClientConnections()
	w.Server.Close()
	w.over.CloseIdleConnections()
}

// holeyListener drops some connections into a hole: nobody reads them.
type holeyListener struct {
	net.Listener
	way *way
}

func (l holeyListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.way.mu.Lock()
		hole := l.way.random.IntN(20) == 0
		if hole {
			l.way.holes = append(l.way.holes, conn)
		}
		l.way.mu.Unlock()
		if !hole {
			return conn, nil
		}
		l.way.total.Add(1)
		l.way.struck[faultBlackSocket].Add(1)
	}
}

func (w *way) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.total.Add(1)
	body, err := io.ReadAll(r.Body)
	if err != nil { // given up
		return
	}
	w.mu.Lock()
	kind := -1
	if w.random.IntN(5) == 0 {
		if kind = w.random.IntN(faultBlackSocket); kind == faultHalfBody && r.Method == http.MethodHead {
			kind = faultHalfHead // there is no body to halve
		}
	}
	w.mu.Unlock()
	if kind >= 0 {
		w.struck[kind].Add(1)
	}
	switch kind {
	case faultThrottled:
		rw.Header().Set("Retry-After", "1")
		rw.WriteHeader(http.StatusTooManyRequests)
		return
	case faultInternal:
		http.Error(rw, "broken", http.StatusInternalServerError)
		return
	case faultUnavailable:
		http.Error(rw, "not now", http.StatusServiceUnavailable)
		return
	case faultReset:
		reset(rw)
		return
	case faultBlackHole:
		select {
		case <-r.Context().Done():
		case <-w.ended:
		}
		return
	}
	resp, answer, err := w.pass(r, body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return
	}
	switch kind {
	case faultResetAfter:
		reset(rw)
		return
	case faultHalfHead:
		cut(rw, "HTTP/1.1 202 Accepted\r\nContent-Le")
		return
	case faultHalfBody:
		cut(rw, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"value\":[")
		return
	}
	maps.Copy(rw.Header(), resp.Header)
	rw.WriteHeader(resp.StatusCode)
	_, _ = rw.Write(answer)
}

// pass sends a request on, and waits for the answer even if nobody waits for ours.
func (w *way) pass(r *http.Request, body []byte) (*http.Response, []byte, error) {
	ctx, cancel := patient()
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, w.service+r.RequestURI, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = r.Header
	resp, err := w.over.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if number, _, found := strings.Cut(string(body), " "); found && resp.StatusCode == http.StatusAccepted {
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			w.mu.Lock()
			w.passed[n]++
			w.mu.Unlock()
		}
	}
	return resp, answer, err
}

// reset breaks the connection off as hard as can be.
func reset(rw http.ResponseWriter) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err == nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

// cut writes a part of an answer.
func cut(rw http.ResponseWriter, part string) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err == nil {
		_, _ = io.WriteString(conn, part)
		conn.Close()
	}
}
