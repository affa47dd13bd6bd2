package wsclient

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTimeout limits every wait. It is reached only if a test fails.
const testTimeout = time.Minute

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// hub is an emulator with a service client for one hub.
type hub struct {
	*emulator.Server
	service *webpubsub.ServiceClient
}

const hubName = "chat"

func startHub(t testing.TB) *hub {
	t.Helper()
	server, err := emulator.Start(nil)
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	service, err := webpubsub.NewClientFromConnectionString(server.ConnectionString(), hubName, nil)
	require.NoError(t, err)
	return &hub{server, service}
}

// url returns a provider of URLs for a user with all permissions.
func (h *hub) url(user string) URLProvider {
	return func(ctx context.Context) (string, error) {
		access, err := h.service.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: user,
			Roles: []string{"webpubsub.sendToGroup", "webpubsub.joinLeaveGroup"}})
		return access.URL, err
	}
}

// dial connects to the hub, and closes the Conn when the test ends.
func (h *hub) dial(t testing.TB, o *Options) *Conn {
	t.Helper()
	conn, err := Dial(testContext(t), h.url("user1"), o)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// receive returns the next message.
func receive(t testing.TB, conn *Conn) *Message {
	t.Helper()
	m, err := conn.Receive(testContext(t))
	require.NoError(t, err)
	return m
}

// service is a scripted service: the test decides what it sends. It uses in-memory pipes instead of sockets, because
// time in a synctest bubble advances only if all goroutines are blocked on something inside the bubble.
type service struct {
	t        testing.TB
	listener *pipeListener
	client   *http.Client
	accepted chan *peer
	silent   bool // never responds, not even to close frames

	mu     sync.Mutex
	status func(r *http.Request) int // the status of the response to a handshake; 0 accepts it

	retryAfter string // a header of the response; set it before the handshake
}

func newService(t testing.TB) *service {
	s := &service{t: t, listener: &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})},
		accepted: make(chan *peer, 100)}
	transport := &http.Transport{DialContext: s.listener.dial}
	s.client = &http.Client{Transport: transport}
	server := &http.Server{Handler: http.HandlerFunc(s.serve)}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(s.listener) })
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
		wg.Wait()
	})
	return s
}

func (s *service) setHandshakeStatus(status func(r *http.Request) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *service) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	status := s.status
	s.mu.Unlock()
	if status != nil {
		if code := status(r); code != 0 {
			w.Header().Set("Retry-After", s.retryAfter)
			http.Error(w, "no: "+r.URL.Query().Get("access_token")+"\x01", code)
			return
		}
	}
	var offered []string
	for _, p := range subprotocols {
		offered = append(offered, p)
	}
	raw := make(chan net.Conn, 1)
	ws, err := websocket.Accept(&hijackSpy{w, raw}, r, &websocket.AcceptOptions{Subprotocols: offered})
	if err != nil {
		return
	}
	ws.SetReadLimit(-1)
	p := &peer{t: s.t, ws: ws, raw: <-raw, request: r, frames: make(chan clientFrame, 100_000), ended: make(chan struct{})}
	if s.silent {
		go p.discard()
	} else {
		go p.read()
	}
	s.accepted <- p
}

// hijackSpy sends the hijacked connection to raw.
type hijackSpy struct {
	http.ResponseWriter
	raw chan net.Conn
}

func (h *hijackSpy) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h *hijackSpy) Hijack() (c net.Conn, rw *bufio.ReadWriter, err error) {
	c, rw, err = http.NewResponseController(h.ResponseWriter).Hijack()
	if err == nil {
		h.raw <- c
	}
	return c, rw, err
}

// clientFrame is a frame of the client. If the frame is not JSON, only raw is set.
type clientFrame struct {
	Type         string          `json:"type"`
	Group        string          `json:"group"`
	Event        string          `json:"event"`
	AckID        uint64          `json:"ackId"`
	DataType     string          `json:"dataType"`
	Data         json.RawMessage `json:"data"`
	SequenceID   uint64          `json:"sequenceId"`
	InvocationID string          `json:"invocationId"`
	StreamID     string          `json:"streamId"`
	Fragment     uint64          `json:"streamSequenceId"`
	Stream       *struct {
		StreamID      string `json:"streamId"`
		IdleTimeoutMS int    `json:"idleTimeoutMs"`
	} `json:"stream"`
	Error *jsonFailure `json:"error"`
	raw   []byte
}

// peer is the service's end of one WebSocket connection.
type peer struct {
	t       testing.TB
	ws      *websocket.Conn
	raw     net.Conn
	request *http.Request
	frames  chan clientFrame
	ended   chan struct{} // closed when the reader has stopped
	err     error         // the reason; set before ended is closed
	stuck   atomic.Bool   // stops reading after the next byte; only for a silent service
}

func (p *peer) read() {
	defer close(p.ended)
	for {
		_, data, err := p.ws.Read(context.Background())
		if err != nil {
			p.err = err
			p.ws.CloseNow()
			return
		}
		f := clientFrame{raw: data}
		_ = json.Unmarshal(data, &f) // a test recognizes other data by raw
		p.frames <- f
	}
}

// discard reads and discards bytes without responding to any frame, including close frames.
func (p *peer) discard() {
	defer close(p.ended)
	for b := make([]byte, 1); p.err == nil && !p.stuck.Load(); {
		_, p.err = p.raw.Read(b)
	}
}

func (p *peer) send(frames ...string) {
	p.t.Helper()
	for _, f := range frames {
		require.NoError(p.t, p.ws.Write(context.Background(), websocket.MessageText, []byte(f)))
	}
}

// write sends a message that the client may reject. It ignores errors, because the client may close the connection
// before the whole message is written.
func (p *peer) write(typ websocket.MessageType, data []byte) {
	_ = p.ws.Write(context.Background(), typ, data)
}

// expect returns the next frame of the client, which must have the type typ. It skips pings and sequenceAcks unless typ
// is one of them.
func (p *peer) expect(typ string) clientFrame {
	p.t.Helper()
	timeout := time.After(testTimeout)
	for {
		select {
		case f := <-p.frames:
			if f.Type == typ {
				return f
			}
			if f.Type != "ping" && f.Type != "sequenceAck" {
				require.Equal(p.t, typ, f.Type, "%s", f.raw)
			}
		case <-p.ended:
			select {
			case f := <-p.frames:
				if f.Type == typ {
					return f
				}
				continue
			default:
			}
			require.Fail(p.t, "the connection ended", "waiting for %s: %v", typ, p.err)
		case <-timeout:
			require.Fail(p.t, "no frame", "waiting for %s", typ)
		}
	}
}

// ack acknowledges a request.
func (p *peer) ack(f clientFrame) {
	p.t.Helper()
	require.NotZero(p.t, f.AckID)
	p.send(fmt.Sprintf(`{"type":"ack","ackId":%d,"success":true}`, f.AckID))
}

func (p *peer) nack(f clientFrame, name string) {
	p.t.Helper()
	p.send(fmt.Sprintf(`{"type":"ack","ackId":%d,"success":false,"error":{"name":%q,"message":"no"}}`, f.AckID, name))
}

// cut closes the socket without a close frame.
func (p *peer) cut() { p.raw.Close() }

// close closes the connection with a close frame.
func (p *peer) close(code websocket.StatusCode, reason string) { p.ws.Close(code, reason) }

// next returns the next connection that the client makes.
func (s *service) next() *peer {
	s.t.Helper()
	select {
	case p := <-s.accepted:
		return p
	case <-time.After(testTimeout):
		require.Fail(s.t, "no connection")
		return nil
	}
}

// sendConnected sends the connected frame.
func (p *peer) sendConnected(id string) {
	p.t.Helper()
	p.send(fmt.Sprintf(`{"type":"system","event":"connected","userId":"user1","connectionId":%q,"reconnectionToken":"token-%s"}`, id, id))
}

// options adds the options that a client of this service needs.
func (s *service) options(o Options) *Options {
	o.HTTPClient = s.client
	return &o
}

const (
	secretToken = "secret-token"
	serviceURL  = "ws://service.test/client/hubs/chat?access_token=" + secretToken
)

// connect makes a client and returns it with the service's end of its connection.
func (s *service) connect(o Options) (*Conn, *peer) {
	s.t.Helper()
	return s.connectTo(freshURL, o)
}

// connectTo is connect with the given provider.
func (s *service) connectTo(provider URLProvider, o Options) (*Conn, *peer) {
	s.t.Helper()
	dialed := s.dial(context.Background(), provider, o)
	p := s.next()
	p.sendConnected("c1")
	d := <-dialed
	require.NoError(s.t, d.err)
	s.t.Cleanup(func() { d.conn.Close() })
	return d.conn, p
}

// dialed is the result of Dial.
type dialed struct {
	conn *Conn
	err  error
}

// dial calls Dial in the background.
func (s *service) dial(ctx context.Context, provider URLProvider, o Options) chan dialed {
	returned := make(chan dialed, 1)
	go func() {
		conn, err := Dial(ctx, provider, s.options(o))
		returned <- dialed{conn, err}
	}()
	return returned
}

// freshURL is a URLProvider that is not a StaticURL.
func freshURL(context.Context) (string, error) { return serviceURL, nil }

// pipeListener accepts in-memory connections.
type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
	pace   atomic.Int64 // how long the service takes to read 4 KiB, in nanoseconds
}

// pacedConn is the service's end of a slow connection.
type pacedConn struct {
	net.Conn
	pace *atomic.Int64
}

func (c pacedConn) Read(p []byte) (int, error) {
	if pace := c.pace.Load(); pace > 0 {
		time.Sleep(time.Duration(pace))
	}
	return c.Conn.Read(p[:min(len(p), 4<<10)])
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- pacedConn{server, &l.pace}:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closed:
		return nil, errors.New("connection refused")
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// goroutinesOf returns the number of goroutines whose stack contains any of the functions.
func goroutinesOf(functions ...string) int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	count := 0
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		for _, f := range functions {
			if strings.Contains(stack, f) {
				count++
				break
			}
		}
	}
	return count
}
