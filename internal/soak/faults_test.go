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

// TestFaults calls every operation of the service client from 64 goroutines, while one request in five fails. It checks that
//   - every call ends, at the latest with its context;
//   - a message whose send succeeded has arrived, unchanged;
//   - no attempt is written twice;
//   - no connection and no goroutine is left.
func TestFaults(t *testing.T) {
	t.Run("between client and service", func(t *testing.T) {
		srv := emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.DiscardHandler), ConnectedAfterRecovery: true})
		proxy := newFaultyProxy(t, srv.Endpoint(), random(t, 0))
		f := newFaultyRun(t, srv, &webpubsub.ClientOptions{ReverseProxyEndpoint: proxy.URL})
		f.run(func(*rand.Rand) {})
		proxy.end()
		f.end()
		figures(t, "faults: %s", proxy)
		for kind := range faultKinds {
			require.Positive(t, proxy.injected[kind].Load(), "the fault %q happened", faultNames[kind])
		}
		for number, n := range proxy.forwarded { // without the mutex, because nobody sends any more
			require.Equal(t, n, f.received[number], "how often message %d arrived", number)
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

// faultyRun is a run of calls, many of which fail.
type faultyRun struct {
	t        *testing.T
	srv      *emulator.Server
	direct   *webpubsub.ServiceClient // its calls meet no faults
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
	received  map[int64]int  // message -> how often the message arrived
	succeeded map[int64]bool // the messages whose send succeeded
}

func newFaultyRun(t *testing.T, srv *emulator.Server, options *webpubsub.ClientOptions) *faultyRun {
	f := &faultyRun{t: t, srv: srv, wire: newWire(), received: map[int64]int{}, succeeded: map[int64]bool{}}
	f.leaks = goleak.IgnoreCurrent()
	f.direct = newClient(t, srv.ConnectionString(), "soak", nil)
	ctx, cancel := waitContext()
	defer cancel()
	access, err := f.direct.GetClientAccessToken(ctx,
		&webpubsub.ClientAccessTokenOptions{UserID: "soak", Groups: []string{"soak"}})
	require.NoError(t, err)
	f.receiver, err = connect(ctx, access.URL, wsclient.JSONPlain.String(), func(got *wsclient.Message) {
		number, _, _ := strings.Cut(string(got.Data), " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || string(got.Data) != text(n) {
			t.Errorf("received %.100q, which was not sent", got.Data)
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
	// An attempt that receives no response ends with its own timeout, or with the context of the call.
	for _, tryTimeout := range []time.Duration{200 * time.Millisecond, 0} {
		options.Retry = policy.RetryOptions{MaxRetries: 4, RetryDelay: time.Millisecond,
			MaxRetryDelay: 2 * time.Second, TryTimeout: tryTimeout} // longer than Retry-After, or azcore would not retry
		f.clients = append(f.clients, newClient(t, srv.ConnectionString(), "soak", options))
	}
	return f
}

type policyFunc func(*policy.Request) (*http.Response, error)

func (p policyFunc) Do(req *policy.Request) (*http.Response, error) { return p(req) }

// tryHeader numbers the attempts, so that wire can detect an attempt that is written twice.
const tryHeader = "X-Soak-Try"

// RoundTrip makes one attempt.
func (f *faultyRun) RoundTrip(req *http.Request) (*http.Response, error) {
	numbered := *req
	numbered.Header = req.Header.Clone()
	numbered.Header.Set(tryHeader, req.Method+"-"+strconv.FormatInt(f.tries.Add(1), 10))
	return f.transport.RoundTrip(&numbered)
}

// run makes calls from 64 goroutines until the time is over. It calls before ahead of each call.
func (f *faultyRun) run(before func(*rand.Rand)) {
	var wg sync.WaitGroup
	end := time.Now().Add(*duration)
	for i := range 64 {
		wg.Go(func() {
			r := random(f.t, i+1)
			for time.Now().Before(end) && !f.t.Failed() {
				before(r)
				f.callOnce(r)
			}
		})
	}
	wg.Wait()
}

// callOnce makes one call.
func (f *faultyRun) callOnce(r *rand.Rand) {
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
		f.t.Errorf("%s did not end with its context", o.name)
		return
	}
	if err != nil && !strings.HasPrefix(err.Error(), "webpubsub: ") {
		f.t.Errorf("%s: the error does not begin with the package's name: %v", o.name, err)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		f.timedOut.Add(1)
	case errors.Is(err, webpubsub.ErrNotFound): // the result for names that do not exist
	case err != nil:
		f.failed.Add(1)
	case o.sends:
		f.mu.Lock()
		f.succeeded[number] = true
		f.mu.Unlock()
	}
}

// end checks the results of the run.
func (f *faultyRun) end() {
	t := f.t
	f.transport.CloseIdleConnections()
	f.wire.waitClosed(t)
	f.srv.ClearFaults()
	require.NoError(t, f.receiver.drained(func(text string) error {
		ctx, cancel := waitContext()
		defer cancel()
		return f.direct.SendToConnection(ctx, f.receiver.id, webpubsub.Text(text), nil)
	}))
	f.receiver.close()
	require.NoError(t, f.receiver.waitEnd())
	f.srv.Close() // so that goleak checks the server, too
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
	figures(t, "calls %d, of which failed %d, ended by their context %d; requests %d, attempts %d, retries %d; successful sends %d, "+
		"of which lost %d; duplicates by retries %d; connections %d, left open 0; bodies written twice in one attempt %d", f.calls.Load(),
		f.failed.Load(), f.timedOut.Load(), f.requests.Load(), f.tries.Load(), retries, len(f.succeeded), lost, again,
		f.wire.dialed.Load(), len(twice))
	require.NotEmpty(t, f.succeeded)
	require.Zero(t, lost, "successful sends whose message did not arrive")
	require.Positive(t, retries)
	require.Equal(t, f.tries.Load(), f.logged.tries.Load(), "the attempts in the client's log")
	require.Empty(t, twice, "bodies that were written twice in one attempt")
}

// logged is a slog.Handler that adds up the attempts of the calls.
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

// wire dials connections. It counts the connections and the attempts that are written to them.
type wire struct {
	dialed atomic.Int64

	mu      sync.Mutex // guards everything below
	open    map[*wireConn]struct{}
	closed  chan struct{}  // receives a value when a connection is closed
	written map[string]int // attempt -> how often it was written
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

// waitClosed waits until all connections have been closed.
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

// twice returns the attempts with a body that were written more than once. Attempts without a body are ignored: net/http may
// write a GET or HEAD again on a new connection if the server has closed an idle connection.
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
	faultPartialHeader
	faultPartialBody
	faultNoResponse
	faultSilentConnection // must be last: the listener injects this fault
	faultKinds
)

var faultNames = [faultKinds]string{"429", "500", "503", "reset", "reset after the effect", "partial header", "partial body", "no response", "silent connection"}

// faultyProxy is a proxy between the client and the service that makes one request in five fail.
type faultyProxy struct {
	*httptest.Server
	service   string // its URL
	transport *http.Transport
	ended     chan struct{}
	injected  [faultKinds]atomic.Int64
	total     atomic.Int64

	mu        sync.Mutex // guards everything below
	random    *rand.Rand
	silent    []net.Conn    // connections that are never read
	forwarded map[int64]int // message -> how often the service has accepted it
}

func newFaultyProxy(t *testing.T, service string, r *rand.Rand) *faultyProxy {
	w := &faultyProxy{service: service, random: r, ended: make(chan struct{}), forwarded: map[int64]int{},
		transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
	w.Server = httptest.NewUnstartedServer(w)
	w.Server.Listener = silentListener{w.Server.Listener, w}
	w.Server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	w.Server.Start()
	t.Cleanup(w.end)
	return w
}

func (w *faultyProxy) String() string {
	var b strings.Builder
	var sum int64
	for kind := range faultKinds {
		fmt.Fprintf(&b, "%s %d, ", faultNames[kind], w.injected[kind].Load())
		sum += w.injected[kind].Load()
	}
	fmt.Fprintf(&b, "in all %.1f %% of %d requests", 100*float64(sum)/float64(w.total.Load()), w.total.Load())
	return b.String()
}

// end closes the proxy and its connections. It may be called twice.
func (w *faultyProxy) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.ended:
		return
	default:
	}
	close(w.ended)
	for _, conn := range w.silent {
		conn.Close()
	}
	w.Server.CloseClientConnections()
	w.Server.Close()
	w.transport.CloseIdleConnections()
}

// silentListener accepts one connection in twenty without ever reading from it.
type silentListener struct {
	net.Listener
	proxy *faultyProxy
}

func (l silentListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.proxy.mu.Lock()
		silent := l.proxy.random.IntN(20) == 0
		if silent {
			l.proxy.silent = append(l.proxy.silent, conn)
		}
		l.proxy.mu.Unlock()
		if !silent {
			return conn, nil
		}
		l.proxy.total.Add(1)
		l.proxy.injected[faultSilentConnection].Add(1)
	}
}

func (w *faultyProxy) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.total.Add(1)
	body, err := io.ReadAll(r.Body)
	if err != nil { // the client has given up
		return
	}
	w.mu.Lock()
	kind := -1
	if w.random.IntN(5) == 0 {
		if kind = w.random.IntN(faultSilentConnection); kind == faultPartialBody && r.Method == http.MethodHead {
			kind = faultPartialHeader // a response to HEAD has no body
		}
	}
	w.mu.Unlock()
	if kind >= 0 {
		w.injected[kind].Add(1)
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
	case faultNoResponse:
		select {
		case <-r.Context().Done():
		case <-w.ended:
		}
		return
	}
	resp, respBody, err := w.forward(r, body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return
	}
	switch kind {
	case faultResetAfter:
		reset(rw)
		return
	case faultPartialHeader:
		cut(rw, "HTTP/1.1 202 Accepted\r\nContent-Le")
		return
	case faultPartialBody:
		cut(rw, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"value\":[")
		return
	}
	maps.Copy(rw.Header(), resp.Header)
	rw.WriteHeader(resp.StatusCode)
	_, _ = rw.Write(respBody)
}

// forward sends a request to the service. It waits for the response even if the client has given up.
func (w *faultyProxy) forward(r *http.Request, body []byte) (*http.Response, []byte, error) {
	ctx, cancel := waitContext()
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, w.service+r.RequestURI, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = r.Header
	resp, err := w.transport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	respBody, err := io.ReadAll(resp.Body)
	if number, _, found := strings.Cut(string(body), " "); found && resp.StatusCode == http.StatusAccepted {
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			w.mu.Lock()
			w.forwarded[n]++
			w.mu.Unlock()
		}
	}
	return resp, respBody, err
}

// reset closes the connection with a TCP RST.
func reset(rw http.ResponseWriter) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err == nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

// cut writes a part of a response and closes the connection.
func cut(rw http.ResponseWriter, part string) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err == nil {
		_, _ = io.WriteString(conn, part)
		conn.Close()
	}
}
