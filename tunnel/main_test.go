package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/awps-go/webpubsub/internal/tunnelframe"
	"github.com/awps-go/webpubsub/tunnel"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const testKey = "the primary key"

// service is the service's side of the tunnel. It sends accepted connections to the test.
type service struct {
	*httptest.Server
	connections chan *peer
	dials       atomic.Int32

	// check returns the status with which to reject a handshake, or 0 to accept it. The default checks the token's
	// signature and audience.
	check func(r *http.Request) (status int)

	pinged func() // called for each ping; may be nil
}

// startService starts a service after applying edits to it.
func startService(t *testing.T, edits ...func(*service)) *service {
	t.Helper()
	s := &service{connections: make(chan *peer, 100)}
	s.check = s.checkKeyToken
	for _, edit := range edits {
		edit(s)
	}
	if s.Server == nil {
		s.Server = httptest.NewServer(s)
	}
	t.Cleanup(s.Close)
	return s
}

func (s *service) connectionString() string {
	return "Endpoint=" + s.URL + ";AccessKey=" + testKey + ";Version=1.0;"
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.dials.Add(1)
	if r.URL.Path != "/server/tunnel" {
		http.NotFound(w, r)
		return
	}
	if status := s.check(r); status != 0 {
		http.Error(w, "no, "+r.URL.Query().Get("access_token"), status)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{OnPingReceived: func(context.Context, []byte) bool {
		if s.pinged != nil {
			s.pinged()
		}
		return true
	}})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(64 << 20)
	p := &peer{ws: ws, request: r, answers: map[int64]chan *tunnelframe.Response{}, ended: make(chan struct{})}
	p.send(&tunnelframe.Connected{ConnectionID: "connection-1", UserID: "u"})
	s.connections <- p
	p.read()
}

// checkKeyToken checks the token in the way that we assume of the service.
func (s *service) checkKeyToken(r *http.Request) int {
	scheme := "ws"
	if r.TLS != nil {
		scheme = "wss"
	}
	uri, _, _ := strings.Cut(r.URL.RequestURI(), "&access_token=")
	_, err := jwt.Parse(r.URL.Query().Get("access_token"), func(*jwt.Token) (any, error) { return []byte(testKey), nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithAudience(scheme+"://"+r.Host+uri), jwt.WithExpirationRequired())
	if err != nil {
		return http.StatusUnauthorized
	}
	return 0
}

// next returns the next accepted connection.
func (s *service) next(t testing.TB) *peer {
	t.Helper()
	select {
	case p := <-s.connections:
		return p
	case <-time.After(20 * time.Second):
		t.Fatal("no connection was opened")
		return nil
	}
}

// peer is the service's side of one connection.
type peer struct {
	ws      *websocket.Conn
	request *http.Request
	ended   chan struct{} // closed when the reader has stopped
	err     error         // the reason; set before ended is closed

	mu         sync.Mutex
	ackID      int64
	answers    map[int64]chan *tunnelframe.Response
	unexpected []int64 // AckIDs of responses without a request, or with an earlier response
}

func (p *peer) read() {
	defer close(p.ended)
	for {
		_, data, err := p.ws.Read(context.Background())
		if err != nil {
			p.err = err
			return
		}
		m, err := tunnelframe.Decode(data, tunnelframe.MaxSize)
		if err != nil {
			p.err = err
			return
		}
		answer, ok := m.(*tunnelframe.Response)
		if !ok {
			p.err = fmt.Errorf("a frame of %v", m.Type())
			return
		}
		p.mu.Lock()
		ch := p.answers[answer.AckID]
		delete(p.answers, answer.AckID)
		if ch == nil {
			p.unexpected = append(p.unexpected, answer.AckID)
		} else {
			ch <- answer
		}
		p.mu.Unlock()
	}
}

func (p *peer) send(m tunnelframe.Message) {
	frame, err := tunnelframe.Encode(m, 64<<20)
	if err != nil {
		panic(err)
	}
	p.sendBytes(frame)
}

// sendBytes ignores errors, because the test fails anyway if a response is missing.
func (p *peer) sendBytes(b []byte) {
	_ = p.ws.Write(context.Background(), websocket.MessageBinary, b)
}

// post sends an event and returns a channel for its response.
func (p *peer) post(event *tunnelframe.Request) <-chan *tunnelframe.Response {
	answer := make(chan *tunnelframe.Response, 1)
	p.mu.Lock()
	p.ackID++
	event.AckID = p.ackID
	p.answers[event.AckID] = answer
	p.mu.Unlock()
	p.send(event)
	return answer
}

var errNoAnswer = errors.New("no response: the connection ended, or the timeout expired")

// wait waits for a response.
func (p *peer) wait(answer <-chan *tunnelframe.Response) (*tunnelframe.Response, error) {
	select {
	case a := <-answer:
		return a, nil
	case <-p.ended:
		select {
		case a := <-answer:
			return a, nil
		default:
			return nil, errNoAnswer
		}
	case <-time.After(20 * time.Second):
		return nil, errNoAnswer
	}
}

// do sends an event and returns its response.
func (p *peer) do(t testing.TB, event *tunnelframe.Request) *tunnelframe.Response {
	t.Helper()
	a, err := p.wait(p.post(event))
	require.NoError(t, err)
	return a
}

// waitEnd waits until the connection has ended and returns the reason.
func (p *peer) waitEnd(t testing.TB) error {
	t.Helper()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(20 * time.Second):
		t.Fatal("the connection did not end")
		return nil
	}
}

// event returns an event with the given path.
func event(path string) *tunnelframe.Request {
	return &tunnelframe.Request{Method: "POST", URL: "https://host" + path, Headers: map[string][]string{"ce-id": {"1"}}, Body: []byte("body of " + path)}
}

// client is a running call of Serve.
type client struct {
	stop context.CancelFunc
	done chan error
	log  *logBuffer
}

// startClient calls Serve with the handler until the test ends.
func startClient(t *testing.T, s *service, handler http.Handler, edits ...func(*tunnel.Options)) *client {
	t.Helper()
	return startServe(t, func(ctx context.Context, o *tunnel.Options) error {
		return tunnel.Serve(ctx, s.connectionString(), "chat", handler, o)
	}, edits...)
}

func startServe(t *testing.T, serve func(context.Context, *tunnel.Options) error, edits ...func(*tunnel.Options)) *client {
	t.Helper()
	c := &client{done: make(chan error, 1), log: &logBuffer{}}
	o := &tunnel.Options{
		Logger:    slog.New(slog.NewTextHandler(c.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Reconnect: tunnel.ReconnectOptions{MinDelay: time.Millisecond, MaxDelay: 10 * time.Millisecond},
	}
	for _, edit := range edits {
		edit(o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.stop = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.done <- serve(ctx, o)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		text := c.log.String()
		require.NotContains(t, text, testKey)
		require.NotContains(t, text, "access_token")
		require.NotContains(t, text, "eyJ")
		if t.Failed() {
			t.Log(text)
		}
	})
	return c
}

// wait waits until Serve returns, and returns its error.
func (c *client) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-c.done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("Serve did not return")
		return nil
	}
}

// logBuffer is a buffer for a log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// echo responds with the path and the body of the request.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprintf(w, "%s: %s", r.URL.Path, body)
})
