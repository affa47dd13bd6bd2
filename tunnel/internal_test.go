package tunnel

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

func TestHandshakesOfTheOfficialPackage(t *testing.T) {
	data, err := os.ReadFile("testdata/handshakes.json")
	require.NoError(t, err)
	var file struct {
		Endpoint, Hub string
		Targets       []string
		Handshakes    []struct {
			URL    string
			Header map[string]any
			Claims map[string]any
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	service, err := parseEndpoint(file.Endpoint)
	require.NoError(t, err)
	require.Len(t, file.Handshakes, 2)
	tokens := keyTokens("the primary key")
	var subject any
	for i, want := range file.Handshakes {
		e := endpoints{service: service}
		to, err := e.follow(file.Endpoint, file.Targets[i])
		require.NoError(t, err)
		request, audience := e.urls(file.Hub, to)
		require.Equal(t, want.Claims["aud"], audience)
		require.Equal(t, "ws://"+service.Host+want.URL, request)

		text, err := tokens(t.Context(), audience)
		require.NoError(t, err)
		claims := jwt.MapClaims{}
		token, err := jwt.ParseWithClaims(text, claims, func(*jwt.Token) (any, error) { return []byte("the primary key"), nil })
		require.NoError(t, err)
		require.Equal(t, want.Header, token.Header)
		require.Len(t, claims, len(want.Claims))
		require.Equal(t, audience, claims["aud"])
		require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, claims["sub"])
		require.Equal(t, want.Claims["exp"].(float64)-want.Claims["iat"].(float64), claims["exp"].(float64)-claims["iat"].(float64))
		if i > 0 {
			require.Equal(t, subject, claims["sub"], "the connections of one server have the same subject")
			require.Equal(t, want.Claims["sub"], file.Handshakes[0].Claims["sub"])
		}
		subject = claims["sub"]
	}
	other, err := keyTokens("the primary key")(t.Context(), "aud")
	require.NoError(t, err)
	claims := jwt.MapClaims{}
	_, _, err = jwt.NewParser().ParseUnverified(other, claims)
	require.NoError(t, err)
	require.NotEqual(t, subject, claims["sub"], "two servers have different subjects")
}

func TestURLs(t *testing.T) {
	for _, c := range []struct{ service, proxy, to, target, request, audience string }{
		{"https://NAME.webpubsub.azure.com:443/", "", "", "", "wss://name.webpubsub.azure.com/server/tunnel?hub=chat", ""},
		{"http://localhost:8080", "", "", "", "ws://localhost:8080/server/tunnel?hub=chat", ""},
		{"https://h:8443/a/b/", "", "", "", "wss://h:8443/a/b/server/tunnel?hub=chat", ""},
		{"https://h.x.y.z", "", "https://i.x.y.z/?v=1", "t", "wss://i.x.y.z/server/tunnel?v=1&hub=chat&target=t", ""},
		{"https://h", "http://proxy:81/p/", "", "", "ws://proxy:81/p/server/tunnel?hub=chat", "wss://h/server/tunnel?hub=chat"},
		{"https://h", "https://proxy", "https://h/", "t", "wss://proxy/server/tunnel?hub=chat&target=t", "wss://h/server/tunnel?hub=chat&target=t"},
		{"https://h.x.y.z", "https://proxy", "https://i.x.y.z/", "t", "wss://i.x.y.z/server/tunnel?hub=chat&target=t", ""},
	} {
		e := endpoints{}
		var err error
		e.service, err = parseEndpoint(c.service)
		require.NoError(t, err)
		if c.proxy != "" {
			e.proxy, err = parseEndpoint(c.proxy)
			require.NoError(t, err)
		}
		to, err := e.follow(c.to, c.target)
		require.NoError(t, err)
		request, audience := e.urls("chat", to)
		if c.audience == "" {
			c.audience = c.request
		}
		require.Equal(t, c.request, request)
		require.Equal(t, c.audience, audience)
	}
}

func TestEndpointsThatAreFollowed(t *testing.T) {
	for _, c := range []struct {
		service, endpoint string
		ok                bool
	}{
		{"https://name.webpubsub.azure.com", "", true},
		{"https://name.webpubsub.azure.com", "https://name.webpubsub.azure.com/", true},
		{"https://name.webpubsub.azure.com", "wss://NAME.webpubsub.azure.com:444/", true},
		{"https://name.webpubsub.azure.com", "https://name-replica.webpubsub.azure.com/", true},
		{"https://name.webpubsub.azure.com", "http://name.webpubsub.azure.com/", false},
		{"https://name.webpubsub.azure.com", "https://webpubsub.azure.com/", false},
		{"https://name.webpubsub.azure.com", "https://name.webpubsub.azure.com.example.com/", false},
		{"https://name.webpubsub.azure.com", "https://webpubsub.azure.com@example.com/", false},
		{"https://name.webpubsub.azure.com", "https://user:x@name.webpubsub.azure.com/", false},
		{"https://name.webpubsub.azure.com", "https://a.b.webpubsub.azure.com/", false},
		{"https://name.webpubsub.azure.com", "//name.webpubsub.azure.com/", false},
		{"https://name.webpubsub.azure.com", "ftp://name.webpubsub.azure.com/", false},
		{"https://name.webpubsub.azure.com", "https://%zz/", false},
		{"https://a.co.uk", "https://b.co.uk", false},
		{"https://a.example.com", "https://b.example.com", false},
		{"https://localhost", "https://otherhost", false},
		{"http://127.0.0.1:80", "http://127.0.0.1:81", true},
		{"http://127.0.0.1:80", "http://128.0.0.1:80", false},
		{"http://10.0.0.1", "https://10.0.0.1", true},
	} {
		service, err := parseEndpoint(c.service)
		require.NoError(t, err)
		_, err = endpoints{service: service}.follow(c.endpoint, "")
		require.Equal(t, c.ok, err == nil, "%s to %s: %v", c.service, c.endpoint, err)
	}
}

func TestRedactedText(t *testing.T) {
	jwt := "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJ4In0.c2lnbmF0dXJl"
	opaque := "opaque token+/of=Entra"
	for _, c := range []struct{ text, token, want string }{
		{"you sent " + jwt + ", no", jwt, "you sent REDACTED, no"},
		{"you sent " + jwt[:30], jwt, "you sent REDACTED"},
		{"you sent " + jwt[:30] + ", no", "another", "you sent REDACTED, no"},
		{"you sent " + opaque + ", no", opaque, "you sent REDACTED, no"},
		{"you sent opaque+token%2B%2Fof%3DEntra, no", opaque, "you sent REDACTED, no"},
		{"you sent opaque+token%2B%2F", opaque, "you sent REDACTED"},
		{"a\r\n\tb", "", "a b"},
		{"\x1b[2Jall\u202e is\x00 well\xff", "", `\u001b[2Jall\u202e is\u0000 well\xff`},
		{`{"AccessKey":"c2VjcmV0"}, Bearer abcdefgh`, "", `{"AccessKey":"REDACTED"}, Bearer REDACTED`},
		{strings.Repeat("ä", 200), "", strings.Repeat("ä", 150) + "..."},
	} {
		require.Equal(t, c.want, redact(c.text, c.token))
	}
}

func TestBackoff(t *testing.T) {
	o, _, _ := withDefaults(nil)
	b := backoff{options: o.Reconnect}
	var bounds []time.Duration
	for range 9 {
		delay := b.next(resetDelayAfter - 1)
		require.Positive(t, delay)
		require.LessOrEqual(t, delay, b.bound)
		bounds = append(bounds, b.bound)
	}
	const second = time.Second
	require.Equal(t, []time.Duration{second / 2, second, 2 * second, 4 * second, 8 * second, 16 * second, 30 * second, 30 * second, 30 * second}, bounds)
	b.next(resetDelayAfter)
	require.Equal(t, second/2, b.bound)
	different := map[time.Duration]bool{}
	for range 20 {
		different[b.next(0)] = true
	}
	require.Greater(t, len(different), 10, "delays are random")
}

// The service may close the connection immediately after a Close message. The loss must not hide the message.
func TestALossDoesNotHideTheReasonToClose(t *testing.T) {
	c := &connection{closing: make(chan error, 1)}
	c.closeWhenIdle(ErrClosed)
	require.ErrorIs(t, c.lostReason(io.EOF), ErrClosed)
	require.ErrorIs(t, c.lostReason(io.EOF), io.EOF)
}

// On a slow network, a large response takes long, even longer than the time limit for writes. The connection must survive
// that, and the pings of both sides in the meantime.
func TestLargeResponsesOnASlowNetwork(t *testing.T) {
	for name, network := range map[string]struct{ rate, buffers, events int }{
		"200 KiB/s": {200 << 10, 1024, 20},
		"24 KiB/s":  {24 << 10, 16, 4}, // more than 30 seconds for a response
	} {
		t.Run(name, func(t *testing.T) { testLargeResponses(t, network.rate, network.buffers, network.events) })
	}
}

func testLargeResponses(t *testing.T, rate, buffers, events int) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		received := make(chan error, 1)
		service := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ws, err := websocket.Accept(w, r, nil)
			if err != nil {
				received <- err
				return
			}
			defer ws.CloseNow()
			received <- receiveResponses(ws, events)
			_, _, _ = ws.Read(context.Background()) // until the client closes the connection
		})}
		defer service.Close()
		listener := pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		listener.conns <- far
		go func() { _ = service.Serve(listener) }()

		transport := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return newSlowConn(near, rate, buffers), nil }}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() {
			served <- Serve(ctx, "Endpoint=http://service;AccessKey=key;Version=1.0;", "chat", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(make([]byte, 1000<<10))
			}), &Options{HTTPClient: &http.Client{Transport: transport}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
		}()
		require.NoError(t, <-received)
		cancel()
		require.NoError(t, <-served)
	})
}

// receiveResponses sends events, and receives their responses while it pings each second.
func receiveResponses(ws *websocket.Conn, events int) error {
	ctx, cancel := context.WithCancel(context.Background())
	var pinging sync.WaitGroup
	defer func() { cancel(); pinging.Wait() }()
	send := func(m tunnelframe.Message) error {
		frame, err := tunnelframe.Encode(m, tunnelframe.MaxSize)
		if err != nil {
			return err
		}
		return ws.Write(ctx, websocket.MessageBinary, frame)
	}
	ws.SetReadLimit(tunnelframe.MaxSize)
	if err := send(&tunnelframe.Connected{}); err != nil {
		return err
	}
	for i := range events {
		if err := send(&tunnelframe.Request{AckID: int64(i), Method: "POST", URL: "/"}); err != nil {
			return err
		}
	}
	pinging.Go(func() {
		for ctx.Err() == nil {
			_ = ws.Ping(ctx)
			time.Sleep(time.Second)
		}
	})
	for range events {
		if _, _, err := ws.Read(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

// slowConn is a connection that sends a number of bytes a second. Like the buffers of a real network, it accepts 4 KiB more
// for each of its buffers.
type slowConn struct {
	net.Conn
	buffered chan []byte
	closed   context.Context
	close    context.CancelFunc
}

func newSlowConn(conn net.Conn, rate, buffers int) *slowConn {
	c := &slowConn{Conn: conn, buffered: make(chan []byte, buffers)}
	c.closed, c.close = context.WithCancel(context.Background())
	go func() {
		for c.closed.Err() == nil {
			select {
			case b := <-c.buffered:
				sleep(c.closed, time.Duration(len(b))*time.Second/time.Duration(rate))
				_, _ = conn.Write(b) // fails once the connection is closed
			case <-c.closed.Done():
			}
		}
	}()
	return c
}

func (c *slowConn) Write(b []byte) (int, error) {
	select {
	case c.buffered <- bytes.Clone(b): // the WebSocket library writes 4 KiB at once
		return len(b), nil
	case <-c.closed.Done():
		return 0, net.ErrClosed
	}
}

func (c *slowConn) Close() error {
	c.close()
	return c.Conn.Close()
}

// pipeListener is a listener that accepts the connections of a channel.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pipeListener) Close() error { close(l.closed); return nil }

func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func TestANilLoggerLogsNothing(t *testing.T) {
	for _, options := range []*Options{nil, {}} {
		o, _, _ := withDefaults(options)
		require.False(t, o.Logger.Enabled(t.Context(), slog.LevelError))
	}
}
