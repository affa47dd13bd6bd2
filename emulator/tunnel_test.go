package emulator_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/internal/tunnelframe"
	"github.com/awps-go/webpubsub/tunnel"
)

const tunnelTemplate = "tunnel:///eventhandler/{hub}/{event}?code=7"

// setTunnelHandler sends all events of the hub chat through the tunnel.
func setTunnelHandler(t testing.TB, s *emulator.Server) {
	t.Helper()
	require.NoError(t, s.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{
		{URLTemplate: tunnelTemplate, SystemEvents: allEvents, UserEventPattern: "*"}}}))
}

// serveTunnel serves the events of the hub chat with package tunnel until the test ends or stop is called. stop returns the result
// of Serve.
func serveTunnel(t testing.TB, s *emulator.Server, handler http.Handler) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- tunnel.Serve(ctx, s.ConnectionString(), "chat", handler, &tunnel.Options{
			Logger:    slog.New(slog.DiscardHandler),
			Reconnect: tunnel.ReconnectOptions{MinDelay: time.Millisecond, MaxDelay: 10 * time.Millisecond},
		})
	}()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	return stop
}

func waitForTunnels(t testing.TB, s *emulator.Server, n int) []emulator.Tunnel {
	t.Helper()
	require.NoError(t, s.WaitForTunnels(t.Context(), "chat", n))
	return s.Tunnels("chat")
}

// receivedRequest is a request as received by a handler, without values that differ from run to run.
type receivedRequest struct {
	method, path, query, proto string
	header                     http.Header
	length                     int64
	body                       string
}

// perRunValues matches the values in the body of a connect event that differ from run to run: port, key and time.
var perRunValues = regexp.MustCompile(`(127\.0\.0\.1:)\d+|("exp":\[")\d+|("Sec-WebSocket-Key":\[")[^"]*`)

// recorder records the events that it receives, and responds like an application.
type recorder struct {
	mu   sync.Mutex
	seen []receivedRequest
}

func (h *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	header, id := r.Header.Clone(), r.Header.Get("ce-connectionId")
	for name, values := range header {
		for i, value := range values {
			values[i] = strings.ReplaceAll(value, id, "ID")
		}
		switch name {
		case "Ce-Signature", "Ce-Time", "X-Ms-Client-Request-Id":
			header[name] = []string{fmt.Sprintf("%d lines", len(values))}
		}
	}
	h.mu.Lock()
	h.seen = append(h.seen, receivedRequest{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Proto, header, r.ContentLength,
		perRunValues.ReplaceAllString(string(body), "$1$2$3")})
	h.mu.Unlock()
	switch name := r.Header.Get("ce-eventName"); name {
	case "connect":
		http.SetCookie(w, &http.Cookie{Name: "visit", Value: "1", Path: "/"})
		w.Header().Set("ce-connectionState", "fresh")
		fmt.Fprint(w, `{"userId":"Ännchen","groups":["lobby"]}`)
	case "reject":
		http.Error(w, "no", http.StatusForbidden)
	case "silent", "connected", "disconnected":
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.Header().Set("X-WebPubSub-Metadata-From", "handler")
		w.Header().Set("ce-connectionState", "after "+name)
		_, _ = w.Write(body)
	}
}

// wait waits for n events and returns them.
func (h *recorder) wait(t *testing.T, n int) []receivedRequest {
	t.Helper()
	var seen []receivedRequest
	require.Eventually(t, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		seen = slices.Clone(h.seen)
		return len(seen) >= n
	}, patience, time.Millisecond)
	return seen
}

func TestEventsAreTheSameOverTheTunnelAndOverHTTP(t *testing.T) {
	runClient := func(t *testing.T, s *emulator.Server, h *recorder) (frames []string, seen []receivedRequest) {
		c := dialJSON(t, s, dialOptions{user: "ann", query: "&room=1&room=2"})
		for _, frame := range []string{
			`{"type":"event","event":"order","ackId":1,"dataType":"json","data":{"a":"ü"},"metadata":{"trace":"t"}}`,
			`{"type":"event","event":"Note","ackId":2,"dataType":"text","data":"grüße"}`,
			`{"type":"event","event":"bytes","ackId":3,"dataType":"binary","data":"AP8="}`,
		} {
			frames = append(frames, c.ask(frame), c.text())
		}
		frames = append(frames, c.ask(`{"type":"event","event":"silent","ackId":4,"dataType":"text","data":""}`),
			c.ask(`{"type":"event","event":"reject","ackId":5,"dataType":"text","data":"x"}`))
		require.NoError(t, c.ws.Close(websocket.StatusNormalClosure, ""))
		return frames, h.wait(t, 8)
	}
	var frames [2][]string
	var seen [2][]receivedRequest
	t.Run("http", func(t *testing.T) {
		s, h := emulator.StartT(t, nil), &recorder{}
		server := httptest.NewServer(h)
		defer server.Close()
		require.NoError(t, s.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
			URLTemplate: server.URL + strings.TrimPrefix(tunnelTemplate, "tunnel://"), SystemEvents: allEvents, UserEventPattern: "*"}}}))
		frames[0], seen[0] = runClient(t, s, h)
	})
	t.Run("tunnel", func(t *testing.T) {
		s, h := emulator.StartT(t, nil), &recorder{}
		setTunnelHandler(t, s)
		serveTunnel(t, s, h)
		frames[1], seen[1] = runClient(t, s, h)
	})
	require.Equal(t, frames[0], frames[1], "the client receives the same frames")
	require.Len(t, seen[1], 8)
	for i, over := range seen[0] {
		through := seen[1][i]
		if i > 0 {
			require.Equal(t, "visit=1", through.header.Get("Cookie"))
		}
		require.Equal(t, []string{"1 lines"}, over.header["Ce-Signature"])
		require.Equal(t, []string{"2 lines"}, through.header["Ce-Signature"])
		for _, header := range []http.Header{over.header, through.header} {
			header.Del("ce-signature")
			header.Del("Accept-Encoding") // of HTTP's transport
		}
		require.Equal(t, over, through)
	}
}

func TestConnectionsShareTheEventsOfTheTunnel(t *testing.T) {
	s := emulator.StartT(t, nil)
	setTunnelHandler(t, s)
	var counts [3]atomic.Int32
	for i := range counts {
		serveTunnel(t, s, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			counts[i].Add(1)
			w.WriteHeader(http.StatusNoContent)
		}))
	}
	users := map[string]bool{}
	for _, tunnel := range waitForTunnels(t, s, len(counts)) {
		users[tunnel.UserID] = true
		require.NotEmpty(t, tunnel.ID)
		require.Empty(t, tunnel.Target)
	}
	require.Len(t, users, len(counts), "each server has its own user id")
	c := dialJSON(t, s, dialOptions{})
	require.NoError(t, s.WaitForEvents(t.Context(), "chat", "connected", 1))
	for i := range 28 { // plus connect and connected
		require.Contains(t, c.ask(fmt.Sprintf(`{"type":"event","event":"e","ackId":%d,"data":1}`, i+1)), `"success":true`)
	}
	for i := range counts {
		require.EqualValues(t, 10, counts[i].Load())
	}
	require.Empty(t, s.Tunnels("other"))
}

// clientsUnderLoad connects n clients that each send a number of events, one after another. It returns when all events have a
// response. No two events have the same body.
func clientsUnderLoad(t *testing.T, s *emulator.Server, n, events int) {
	t.Helper()
	var all sync.WaitGroup
	for i := range n {
		c := dialJSON(t, s, dialOptions{user: fmt.Sprint("user ", i)})
		all.Go(func() {
			for j := range events {
				answer := c.ask(fmt.Sprintf(`{"type":"event","event":"e","ackId":%d,"dataType":"text","data":"%d/%d"}`, j+1, i, j))
				if !strings.Contains(answer, fmt.Sprintf(`"data":"%d/%d"`, i, j)) || !strings.Contains(c.text(), `"success":true`) {
					t.Errorf("client %d, event %d: %s", i, j, answer)
					return
				}
			}
		})
	}
	all.Wait()
}

// counter counts the events with each body, and responds with the body.
type counter struct {
	mu     sync.Mutex
	bodies map[string]int
}

func (h *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if r.Header.Get("ce-eventName") != "e" {
		return
	}
	h.mu.Lock()
	if h.bodies == nil {
		h.bodies = map[string]int{}
	}
	h.bodies[string(body)]++
	h.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write(body)
}

func TestRebalanceReconnectAndCloseUnderLoadLoseNothing(t *testing.T) {
	s := emulator.StartT(t, nil)
	setTunnelHandler(t, s)
	h := &counter{}
	stop := serveTunnel(t, s, h)
	first := waitForTunnels(t, s, 1)[0]
	directed := make(chan struct{})
	go func() {
		defer close(directed)
		if !assert.True(t, s.RebalanceTunnel("chat", first.ID, emulator.TunnelTarget{Target: "instance 2", Message: "more of us"})) ||
			!assert.NoError(t, s.WaitForTunnels(t.Context(), "chat", 2)) {
			return
		}
		second := s.Tunnels("chat")[1]
		assert.Equal(t, "instance 2", second.Target)
		if !assert.True(t, s.ReconnectTunnel("chat", first.ID, emulator.TunnelTarget{Endpoint: s.Endpoint(), Target: "instance 3"})) ||
			!assert.Eventually(t, func() bool {
				now := s.Tunnels("chat")
				return len(now) == 2 && now[0].ID == second.ID && now[1].Target == "instance 3"
			}, patience, time.Millisecond) {
			return
		}
		assert.True(t, s.CloseTunnel("chat", second.ID, "fewer of us"))
		assert.NoError(t, s.WaitForTunnels(t.Context(), "chat", 1))
	}()
	const clients, events = 16, 50
	for range 4 {
		clientsUnderLoad(t, s, clients, events)
	}
	<-directed
	clientsUnderLoad(t, s, clients, events)
	require.Len(t, h.bodies, clients*events)
	for body, times := range h.bodies {
		require.Equal(t, 5, times, body)
	}
	require.False(t, s.RebalanceTunnel("chat", first.ID, emulator.TunnelTarget{}), "the connection has ended")
	require.NoError(t, stop())
	waitForTunnels(t, s, 0)
}

// A token matters only when a server connects.
func TestTheTunnelOutlivesItsToken(t *testing.T) {
	s := emulator.StartT(t, nil)
	setTunnelHandlerOfUserEvents(t, s)
	h := &counter{}
	serveTunnel(t, s, h)
	waitForTunnels(t, s, 1)
	s.Advance(2 * time.Hour) // the token was valid for one
	clientsUnderLoad(t, s, 1, 3)
	require.Len(t, h.bodies, 3)
	require.Len(t, s.Tunnels("chat"), 1)
}

func TestCloseEndsTheTunnel(t *testing.T) {
	s := emulator.StartT(t, nil)
	ended := make(chan error, 1)
	go func() { ended <- tunnel.Serve(t.Context(), s.ConnectionString(), "chat", http.NotFoundHandler(), nil) }()
	require.True(t, s.CloseTunnel("chat", waitForTunnels(t, s, 1)[0].ID, "go"))
	require.ErrorIs(t, <-ended, tunnel.ErrClosed)
	require.False(t, s.CloseTunnel("chat", "nobody", ""))
	require.False(t, s.DropTunnel("chat", "nobody"))
}

func TestAnEventWaitsForATunnel(t *testing.T) {
	s := emulator.StartT(t, nil)
	setTunnelHandler(t, s)
	connected := make(chan error, 1)
	url := dialOptions{user: "ann"}.url(t, s)
	go func() {
		_, err := tryDial(t, url)
		connected <- err
	}()
	s.Advance(4 * time.Second)
	serveTunnel(t, s, &recorder{})
	require.NoError(t, <-connected)
}

func TestWithoutATunnelConnectFailsAndTheLogSaysWhatToDo(t *testing.T) {
	var log bytes.Buffer
	s := emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	setTunnelHandler(t, s)
	status := make(chan int, 1)
	url := dialOptions{user: "ann"}.url(t, s)
	go func() {
		resp, err := tryDial(t, url)
		if resp == nil {
			t.Error(err)
			status <- 0
			return
		}
		status <- resp.StatusCode
	}()
	require.NoError(t, s.WaitForDelayed(t.Context(), 1))
	s.Advance(5 * time.Second)
	require.Equal(t, http.StatusInternalServerError, <-status)
	require.NoError(t, s.Close()) // ends logging
	require.Contains(t, log.String(), "an event waits for a server to connect to the tunnel")
	require.Contains(t, log.String(), "no server has connected to the tunnel of hub chat within 5s: start a server that connects, such as one that calls tunnel.Serve, or run webpubsub listen")
	require.Equal(t, 1, strings.Count(log.String(), "an event waits"), "the event is not retried")
}

func TestAnEventIsRetriedWhenItsTunnelIsCut(t *testing.T) {
	s := emulator.StartT(t, nil)
	setTunnelHandler(t, s)
	begun, again := make(chan struct{}), make(chan struct{})
	var times atomic.Int32
	serveTunnel(t, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ce-eventName") == "message" {
			if times.Add(1) == 1 {
				close(begun)
				<-r.Context().Done() // done when the connection is lost
				return
			}
			close(again)
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, "at last")
		}
	}))
	c := dial(t, s, dialOptions{})
	c.write("x")
	<-begun
	before := waitForTunnels(t, s, 1)[0]
	require.Equal(t, 1, before.Unanswered)
	require.True(t, s.DropTunnel("chat", before.ID))
	require.NoError(t, s.WaitForDelayed(t.Context(), 1))
	s.Advance(time.Second)
	<-again
	require.Equal(t, "at last", c.text())
	require.NotEqual(t, before.ID, waitForTunnels(t, s, 1)[0].ID)
	require.Zero(t, s.Tunnels("chat")[0].Unanswered)
	require.EqualValues(t, 2, times.Load())
}

func TestClosingTheServerEndsTheTunnel(t *testing.T) {
	s := emulator.StartT(t, nil)
	setTunnelHandler(t, s)
	log := newEventLog()
	stop := serveTunnel(t, s, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { log.add("%s", r.Header.Get("ce-eventName")) }))
	dialJSON(t, s, dialOptions{})
	log.wait(t, 2)
	require.NoError(t, s.Close())
	require.Equal(t, "disconnected", log.wait(t, 3)[2], "the application receives disconnected before the tunnel closes")
	require.NoError(t, stop())
}

func TestTheTunnelOverTLS(t *testing.T) {
	certServer := httptest.NewTLSServer(nil) // for its certificate
	certServer.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certServer.Certificate())
	s := emulator.StartT(t, &emulator.Options{TLSConfig: certServer.TLS})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	go func() {
		ended <- tunnel.Serve(ctx, s.ConnectionString(), "chat", http.NotFoundHandler(), &tunnel.Options{HTTPClient: &http.Client{Transport: transport}})
	}()
	waitForTunnels(t, s, 1)
	cancel()
	require.NoError(t, <-ended)
}

// tunnelURL returns the URL at which a server connects. claims replace those of the token.
func tunnelURL(t testing.TB, s *emulator.Server, key string, claims jwt.MapClaims) string {
	t.Helper()
	u := "ws" + strings.TrimPrefix(s.Endpoint(), "http") + "/server/tunnel?hub=chat"
	all := jwt.MapClaims{"aud": u, "sub": "a server", "exp": s.Now().Add(time.Hour).Unix()}
	maps.Copy(all, claims)
	return u + "&access_token=" + url.QueryEscape(sign(t, key, all))
}

func TestTunnelHandshakes(t *testing.T) {
	s := emulator.StartT(t, nil)
	good := tunnelURL(t, s, s.AccessKey(), nil)
	withoutToken, _, _ := strings.Cut(good, "&access_token=")
	audience := func(aud string) string { return tunnelURL(t, s, s.AccessKey(), jwt.MapClaims{"aud": aud}) }
	for name, test := range map[string]struct {
		url    string
		status int
		header []string
	}{
		"the primary key":              {url: good, status: 101},
		"the secondary key":            {url: tunnelURL(t, s, secondaryKey(t, s), nil), status: 101},
		"the audience in another case": {url: audience(strings.ToUpper(withoutToken)), status: 101},
		"the token in a header": {url: withoutToken, status: 101,
			header: []string{"Authorization", "Bearer " + good[strings.LastIndexByte(good, '=')+1:]}},
		"another key":                 {url: tunnelURL(t, s, "another", nil), status: 401},
		"no token":                    {url: withoutToken, status: 401},
		"a token that has expired":    {url: tunnelURL(t, s, s.AccessKey(), jwt.MapClaims{"exp": s.Now().Add(-time.Hour).Unix()}), status: 401},
		"the audience of http":        {url: audience("http" + strings.TrimPrefix(withoutToken, "ws")), status: 401},
		"the audience of a client":    {url: audience(s.Endpoint() + "/client/hubs/chat"), status: 401},
		"the audience of another hub": {url: audience(strings.Replace(withoutToken, "chat", "other", 1)), status: 401},
		"no target in the audience":   {url: strings.Replace(good, "hub=chat", "hub=chat&target=1", 1), status: 401},
		"no hub":                      {url: strings.Replace(good, "hub=chat", "hub=", 1), status: 400},
		"an invalid hub":              {url: strings.Replace(good, "hub=chat", "hub=a%20b", 1), status: 400},
		"a web page":                  {url: good, status: 403, header: []string{"Origin", "http://localhost"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.status, upgradeStatus(t, "http"+strings.TrimPrefix(test.url, "ws"), test.header...))
		})
	}
	require.Equal(t, http.StatusBadRequest, ask(t, "GET", "http"+strings.TrimPrefix(good, "ws")).status, "a request that is not a handshake")

	err := tunnel.Serve(t.Context(), "Endpoint="+s.Endpoint()+";AccessKey=another;Version=1.0;", "chat", http.NotFoundHandler(), nil)
	var refused *tunnel.HandshakeError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusUnauthorized, refused.StatusCode)
}

func secondaryKey(t testing.TB, s *emulator.Server) string {
	t.Helper()
	_, rest, ok := strings.Cut(s.SecondaryConnectionString(), "AccessKey=")
	require.True(t, ok)
	key, _, _ := strings.Cut(rest, ";")
	return key
}

// staticCredential is a credential of Microsoft Entra ID.
type staticCredential string

func (c staticCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(c), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestTheTunnelAcceptsTokensThatAcceptBearerAccepts(t *testing.T) {
	s := emulator.StartT(t, &emulator.Options{AcceptBearer: func(token string) bool { return token == "of Entra ID" }})
	serve := func(credential staticCredential) (ended chan error, stop func()) {
		ctx, stop := context.WithCancel(t.Context())
		ended = make(chan error, 1)
		go func() {
			ended <- tunnel.ServeWithCredential(ctx, s.Endpoint(), "chat", credential, http.NotFoundHandler(),
				&tunnel.Options{InsecureAllowCredentialWithHTTP: true})
		}()
		return ended, stop
	}
	ended, stop := serve("of Entra ID")
	waitForTunnels(t, s, 1)
	stop()
	require.NoError(t, <-ended)
	ended, stop = serve("of somebody else")
	defer stop()
	require.Error(t, <-ended)
}

// peer is a server that connects to the tunnel without package tunnel.
type peer struct {
	t  *testing.T
	ws *websocket.Conn
}

// dialPeer connects a server and reads the Connected frame.
func dialPeer(t *testing.T, s *emulator.Server) *peer {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), tunnelURL(t, s, s.AccessKey(), nil), nil)
	require.NoError(t, err)
	t.Cleanup(func() { ws.CloseNow() })
	ws.SetReadLimit(4 << 20)
	p := &peer{t, ws}
	connected, ok := p.read().(*tunnelframe.Connected)
	require.True(t, ok, "the first frame is Connected")
	require.Equal(t, "a server", connected.UserID)
	require.Equal(t, waitForTunnels(t, s, 1)[0].ID, connected.ConnectionID)
	return p
}

func (p *peer) read() tunnelframe.Message {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	kind, data, err := p.ws.Read(ctx)
	require.NoError(p.t, err)
	require.Equal(p.t, websocket.MessageBinary, kind)
	m, err := tunnelframe.Decode(data, 4<<20)
	require.NoError(p.t, err)
	return m
}

// event reads the next event.
func (p *peer) event() *tunnelframe.Request {
	p.t.Helper()
	event, ok := p.read().(*tunnelframe.Request)
	require.True(p.t, ok)
	return event
}

func (p *peer) write(m tunnelframe.Message) {
	p.t.Helper()
	frame, err := tunnelframe.Encode(m, 4<<20)
	require.NoError(p.t, err)
	require.NoError(p.t, p.ws.Write(p.t.Context(), websocket.MessageBinary, frame))
}

// setTunnelHandlerOfUserEvents sends only the user events of the hub chat through the tunnel.
func setTunnelHandlerOfUserEvents(t *testing.T, s *emulator.Server) {
	t.Helper()
	require.NoError(t, s.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{
		{URLTemplate: "tunnel:///{event}", UserEventPattern: "*"}}}))
}

func TestTheFramesOfTheTunnel(t *testing.T) {
	s := emulator.StartT(t, nil)
	setTunnelHandlerOfUserEvents(t, s)
	p := dialPeer(t, s)
	c := dial(t, s, dialOptions{})

	c.write("one")
	event := p.event()
	require.Equal(t, "POST", event.Method)
	require.Equal(t, "https://host/message", event.URL)
	require.Equal(t, "one", string(event.Body))
	require.Equal(t, []string{"text/plain; charset=utf-8"}, event.Headers["Content-Type"])
	require.Len(t, event.Headers["Ce-Signature"], 2)

	// A response in parts is joined. Further responses are ignored.
	text := map[string][]string{"content-type": {"text/plain"}}
	part := event.Answer(200, text, []byte("a"))
	part.NotCompleted = true
	p.write(part)
	part = event.Answer(500, nil, []byte("b"))
	part.NotCompleted = true
	p.write(part)
	p.write(event.Answer(500, nil, []byte("c")))
	p.write(event.Answer(200, text, []byte("a second response")))
	p.write(&tunnelframe.Response{AckID: 1000, StatusCode: 200})
	p.write(&tunnelframe.Unknown{FrameType: 99, Text: "{}"})
	require.Equal(t, "abc", c.text())

	// A call of the REST API is not served.
	p.write(&tunnelframe.Request{AckID: 7, LocalRouting: true, Method: "POST", URL: "https://host/api/hubs/chat/:send?api-version=2023-07-01"})
	answer, ok := p.read().(*tunnelframe.Response)
	require.True(t, ok)
	require.Equal(t, []any{int64(7), true, 501}, []any{answer.AckID, answer.LocalRouting, answer.StatusCode})

	// A large event is one frame.
	big := strings.Repeat("x", 1<<20-1)
	c.write(big)
	event = p.event()
	require.Equal(t, big, string(event.Body))
	p.write(event.Answer(200, text, []byte("got it")))
	require.Equal(t, "got it", c.text())
}

func TestATunnelThatIsClosingReceivesNoEvents(t *testing.T) {
	s := emulator.StartT(t, nil)
	setTunnelHandlerOfUserEvents(t, s)
	p := dialPeer(t, s)
	c := dial(t, s, dialOptions{})
	id := s.Tunnels("chat")[0].ID
	require.True(t, s.ReconnectTunnel("chat", id, emulator.TunnelTarget{Endpoint: "https://elsewhere", Target: "t", Message: "m"}))
	require.Equal(t, &tunnelframe.Reconnect{Endpoint: "https://elsewhere", TargetID: "t", Message: "m"}, p.read())
	c.write("one")
	event := p.event() // because there is no other connection
	require.True(t, s.CloseTunnel("chat", id, "bye"))
	require.Equal(t, &tunnelframe.Close{Message: "bye"}, p.read())
	p.write(event.Answer(204, nil, nil))
	c.write("two")
	other := make(chan string, 1)
	serveTunnel(t, s, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		other <- string(body)
	}))
	require.Equal(t, "two", <-other)
}

func TestInvalidFramesCloseTheTunnelsConnection(t *testing.T) {
	s := emulator.StartT(t, nil)
	setTunnelHandlerOfUserEvents(t, s)
	for name, send := range map[string]struct {
		kind websocket.MessageType
		data []byte
	}{
		"a text message": {websocket.MessageText, []byte("{}")},
		"a wrong length": {websocket.MessageBinary, []byte{9, 0, 0, 0, 0x93}},
		"an empty frame": {websocket.MessageBinary, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := dialPeer(t, s)
			require.NoError(t, p.ws.Write(t.Context(), send.kind, send.data))
			_, _, err := p.ws.Read(t.Context())
			require.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err), "%v", err)
			waitForTunnels(t, s, 0)
		})
	}
}

func TestURLTemplatesOfTheTunnel(t *testing.T) {
	s := emulator.StartT(t, nil)
	set := func(e emulator.EventHandler) error {
		e.UserEventPattern = "*"
		return s.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{e}})
	}
	require.NoError(t, set(emulator.EventHandler{URLTemplate: "tunnel:///"}))
	for _, template := range []string{"tunnel://", "tunnel://host/path", "tunnel:path", "tunnel:///{other}"} {
		require.Error(t, set(emulator.EventHandler{URLTemplate: template}), template)
	}
	require.ErrorContains(t, set(emulator.EventHandler{URLTemplate: "tunnel:///x", Handler: http.NotFoundHandler()}), "URLTemplate")
}

func TestTheLiveViewShowsTheTunnel(t *testing.T) {
	s := emulator.StartT(t, nil)
	page := openPage(t, s)
	dialPeer(t, s)
	require.Contains(t, page.waitForTraffic(" connected").Text, "tunnel ")
	page.until("the tunnel appeared", func() bool {
		return len(page.state.Hubs) == 1 && page.state.Hubs[0].Name == "chat" && page.state.Hubs[0].TunnelCount == 1
	})
}
