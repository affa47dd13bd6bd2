package tunnel_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/internal/redact"
	"github.com/awps-go/webpubsub/internal/tunnelframe"
	"github.com/awps-go/webpubsub/tunnel"
)

// blocking is a handler that blocks until release is closed or its context ends. It does not block for /quick.
type blocking struct {
	begun   chan *http.Request
	release chan struct{}
	ended   chan error // the causes of contexts that ended
}

func newBlocking() *blocking {
	return &blocking{make(chan *http.Request, 100), make(chan struct{}), make(chan error, 100)}
}

func (b *blocking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/quick" {
		echo(w, r)
		return
	}
	b.begun <- r
	select {
	case <-b.release:
		echo(w, r)
	case <-r.Context().Done():
		b.ended <- context.Cause(r.Context())
	}
}

func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was received")
		panic("unreachable")
	}
}

func TestRejections(t *testing.T) {
	for status, sentinel := range map[int]error{
		401: webpubsub.ErrUnauthorized, 403: webpubsub.ErrForbidden, 404: webpubsub.ErrNotFound, 400: nil, 307: nil, 200: nil,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := startService(t, func(s *service) { s.check = func(*http.Request) int { return status } })
			err := startClient(t, s, echo).wait(t)
			rejection, ok := errors.AsType[*tunnel.HandshakeError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, status, rejection.StatusCode)
			require.Contains(t, err.Error(), fmt.Sprint(status))
			require.Contains(t, err.Error(), "no, REDACTED")
			require.NotContains(t, err.Error(), "eyJ")
			if sentinel != nil {
				require.ErrorIs(t, err, sentinel)
			}
			require.EqualValues(t, 1, s.dials.Load())
		})
	}
}

func TestWrongKey(t *testing.T) {
	s := startService(t)
	err := tunnel.Serve(t.Context(), strings.Replace(s.connectionString(), testKey, "another key", 1), "chat", echo, nil)
	require.ErrorIs(t, err, webpubsub.ErrUnauthorized)
	require.ErrorContains(t, err, "401")
	require.NotContains(t, err.Error(), "another key")
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := startService(t)
	s := startService(t, func(s *service) {
		s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.RequestURI(), http.StatusTemporaryRedirect)
		}))
	})
	err := startClient(t, s, echo).wait(t)
	require.ErrorContains(t, err, "307")
	require.Zero(t, elsewhere.dials.Load())
}

func TestTemporaryRejectionsAreRetried(t *testing.T) {
	for _, status := range []int{408, 429, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := startService(t, func(s *service) {
				check := s.check
				s.check = func(r *http.Request) int {
					if s.dials.Load() < 3 {
						return status
					}
					return check(r)
				}
			})
			startClient(t, s, echo)
			require.Equal(t, 200, s.next(t).do(t, event("/")).StatusCode)
			require.EqualValues(t, 3, s.dials.Load())
		})
	}
}

func TestRejectionsAfterAConnectionWasUp(t *testing.T) {
	var refused atomic.Bool
	s := startService(t, func(s *service) {
		check := s.check
		s.check = func(r *http.Request) int {
			if refused.Load() {
				return 401
			}
			return check(r)
		}
	})
	c := startClient(t, s, echo)
	p := s.next(t)
	refused.Store(true)
	p.ws.CloseNow()
	require.ErrorIs(t, c.wait(t), webpubsub.ErrUnauthorized)
	require.EqualValues(t, 11, s.dials.Load())
}

func TestRejectionsWhileAnotherConnectionIsUp(t *testing.T) {
	var rejections atomic.Int32
	rejected := make(chan struct{})
	s := startService(t, func(s *service) {
		check := s.check
		s.check = func(r *http.Request) int {
			if s.dials.Load() <= 2 {
				return check(r)
			}
			if rejections.Add(1) == 20 {
				close(rejected)
			}
			return 401
		}
	})
	c := startClient(t, s, echo)
	first := s.next(t)
	first.send(&tunnelframe.Rebalance{})
	s.next(t).ws.CloseNow()
	receive(t, rejected)
	require.Equal(t, 200, first.do(t, event("/")).StatusCode)
	first.ws.CloseNow()
	require.ErrorIs(t, c.wait(t), webpubsub.ErrUnauthorized)
}

func TestAnUnreachableServiceIsRetried(t *testing.T) {
	s := startService(t)
	connectionString := s.connectionString()
	s.Close()
	tried := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		select {
		case tried <- struct{}{}:
		case <-ctx.Done():
		}
		return http.DefaultTransport.RoundTrip(r)
	})}
	c := startServe(t, func(_ context.Context, o *tunnel.Options) error {
		return tunnel.Serve(ctx, connectionString, "chat", echo, o)
	}, func(o *tunnel.Options) { o.HTTPClient = client })
	defer func() {
		cancel()
		require.NoError(t, c.wait(t))
		require.Contains(t, c.log.String(), "connection refused")
	}()
	for range 3 {
		receive(t, tried)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// credential is an azcore.TokenCredential whose tokens are numbered.
type credential struct {
	calls atomic.Int32
	scope atomic.Value
	err   error
}

func (c *credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.scope.Store(o.Scopes[0])
	return azcore.AccessToken{Token: fmt.Sprintf("entra token+%d", c.calls.Add(1))}, c.err
}

func serveWithCredential(t *testing.T, s *service, c *credential, edits ...func(*tunnel.Options)) *client {
	t.Helper()
	return startServe(t, func(ctx context.Context, o *tunnel.Options) error {
		return tunnel.ServeWithCredential(ctx, s.URL, "chat", c, echo, o)
	}, edits...)
}

func TestCredentialOverTLSWithAFreshTokenForEachConnection(t *testing.T) {
	used := map[string]bool{} // each token is valid only once
	s := startService(t, func(s *service) {
		s.check = func(r *http.Request) int {
			token := r.URL.Query().Get("access_token")
			if used[token] || !strings.HasPrefix(token, "entra token+") {
				return 401
			}
			used[token] = true
			return 0
		}
		s.Server = httptest.NewTLSServer(s)
	})
	c := &credential{}
	serveWithCredential(t, s, c, func(o *tunnel.Options) { o.HTTPClient = s.Client() })
	for range 3 {
		p := s.next(t)
		require.Equal(t, 200, p.do(t, event("/")).StatusCode)
		p.ws.CloseNow()
	}
	s.next(t)
	require.EqualValues(t, 4, c.calls.Load())
	require.Equal(t, "https://webpubsub.azure.com/.default", c.scope.Load())
}

func TestKeyOverTLS(t *testing.T) {
	s := startService(t, func(s *service) { s.Server = httptest.NewTLSServer(s) })
	startClient(t, s, echo, func(o *tunnel.Options) { o.HTTPClient = s.Client() })
	require.Equal(t, 200, s.next(t).do(t, event("/")).StatusCode)
}

func TestCredentialOverHTTPNeedsTheOption(t *testing.T) {
	s := startService(t, func(s *service) { s.check = func(*http.Request) int { return 0 } })
	c := &credential{}
	require.ErrorIs(t, serveWithCredential(t, s, c).wait(t), webpubsub.ErrInvalidArgument)
	require.Zero(t, c.calls.Load())
	serveWithCredential(t, s, c, func(o *tunnel.Options) {
		o.InsecureAllowCredentialWithHTTP, o.TokenScope = true, "https://webpubsub.azure.cn/.default"
	})
	s.next(t)
	require.Equal(t, "https://webpubsub.azure.cn/.default", c.scope.Load())
}

type nonRetriableError struct{ error }

func (nonRetriableError) NonRetriable() {}

func TestCredentialThatFails(t *testing.T) {
	s := startService(t)
	c := &credential{err: nonRetriableError{errors.New("DefaultAzureCredential: no such tenant")}}
	err := serveWithCredential(t, s, c, func(o *tunnel.Options) { o.InsecureAllowCredentialWithHTTP = true }).wait(t)
	require.ErrorIs(t, err, c.err)
	require.Equal(t, "tunnel: cannot get a token from the credential: DefaultAzureCredential: no such tenant", redact.Text(err.Error()), "the text survives a program's redaction")
	require.Zero(t, s.dials.Load())
}

func TestReverseProxy(t *testing.T) {
	s := startService(t)
	target, err := url.Parse(s.URL)
	require.NoError(t, err)
	var paths atomic.Value
	proxy := httptest.NewServer(&httputil.ReverseProxy{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Rewrite: func(r *httputil.ProxyRequest) {
		paths.Store(r.In.URL.Path)
		r.SetURL(target) // sets the host too, which the service compares with the audience
		r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, "/below")
	}})
	defer proxy.Close()
	c := startClient(t, s, echo, func(o *tunnel.Options) { o.ReverseProxyEndpoint = proxy.URL + "/below/" })
	p := s.next(t)
	require.Equal(t, 200, p.do(t, event("/")).StatusCode)
	require.Equal(t, "/below/server/tunnel", paths.Load())
	// Connections to an instance at the service's own endpoint use the proxy too.
	p.send(&tunnelframe.Rebalance{Endpoint: s.URL, TargetID: "2"})
	require.Equal(t, "2", s.next(t).request.URL.Query().Get("target"))
	c.stop()
	require.NoError(t, c.wait(t))
}

func TestArguments(t *testing.T) {
	const good = "Endpoint=https://name.webpubsub.azure.com;AccessKey=secret;"
	serve := func(connectionString, hub string, handler http.Handler, o *tunnel.Options) error {
		return tunnel.Serve(t.Context(), connectionString, hub, handler, o)
	}
	var nilFunc http.HandlerFunc
	var nilMux *http.ServeMux
	var nilCredential *credential
	var noContext context.Context
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no connection string":    {serve("", "chat", echo, nil), "connectionString"},
		"bad connection string":   {serve("Endpoint=x;AccessKey=secret", "chat", echo, nil), "connectionString"},
		"no key":                  {serve("Endpoint=https://x", "chat", echo, nil), "AccessKey"},
		"no hub":                  {serve(good, "", echo, nil), "hub"},
		"bad hub":                 {serve(good, "1/2", echo, nil), "hub"},
		"no handler":              {serve(good, "chat", nil, nil), "handler is nil"},
		"nil function":            {serve(good, "chat", nilFunc, nil), "handler is nil"},
		"nil pointer":             {serve(good, "chat", nilMux, nil), "handler is nil"},
		"bad proxy":               {serve(good, "chat", echo, &tunnel.Options{ReverseProxyEndpoint: "ftp://x"}), "options.ReverseProxyEndpoint"},
		"negative MaxConcurrent":  {serve(good, "chat", echo, &tunnel.Options{MaxConcurrent: -1}), "options.MaxConcurrent"},
		"negative MaxFrameBytes":  {serve(good, "chat", echo, &tunnel.Options{MaxFrameBytes: -1}), "options.MaxFrameBytes"},
		"large MaxFrameBytes":     {serve(good, "chat", echo, &tunnel.Options{MaxFrameBytes: 1<<30 + 1}), "options.MaxFrameBytes"},
		"negative timeout":        {serve(good, "chat", echo, &tunnel.Options{ShutdownTimeout: -1}), "options.ShutdownTimeout"},
		"negative delay":          {serve(good, "chat", echo, &tunnel.Options{Reconnect: tunnel.ReconnectOptions{MinDelay: -1}}), "options.Reconnect.MinDelay"},
		"negative largest delay":  {serve(good, "chat", echo, &tunnel.Options{Reconnect: tunnel.ReconnectOptions{MaxDelay: -1}}), "options.Reconnect.MaxDelay"},
		"delays in wrong order":   {serve(good, "chat", echo, &tunnel.Options{Reconnect: tunnel.ReconnectOptions{MinDelay: 5, MaxDelay: 4}}), "options.Reconnect.MaxDelay is less than MinDelay"},
		"less than default delay": {serve(good, "chat", echo, &tunnel.Options{Reconnect: tunnel.ReconnectOptions{MaxDelay: time.Millisecond}}), "options.Reconnect.MaxDelay is less than MinDelay"},
		"negative interval":       {serve(good, "chat", echo, &tunnel.Options{KeepAlive: tunnel.KeepAliveOptions{Interval: -1}}), "options.KeepAlive.Interval"},
		"no endpoint":             {tunnel.ServeWithCredential(t.Context(), "", "chat", &credential{}, echo, nil), "endpoint"},
		"bad endpoint":            {tunnel.ServeWithCredential(t.Context(), "name", "chat", &credential{}, echo, nil), "endpoint"},
		"http endpoint":           {tunnel.ServeWithCredential(t.Context(), "http://name", "chat", &credential{}, echo, nil), "endpoint must be https"},
		"no credential":           {tunnel.ServeWithCredential(t.Context(), "https://name", "chat", nil, echo, nil), "credential"},
		"nil credential":          {tunnel.ServeWithCredential(t.Context(), "https://name", "chat", nilCredential, echo, nil), "credential"},
		"credential, bad hub":     {tunnel.ServeWithCredential(t.Context(), "https://name", "-", &credential{}, echo, nil), "hub"},
		"credential, no handler":  {tunnel.ServeWithCredential(t.Context(), "https://name", "chat", &credential{}, nil, nil), "handler is nil"},
		"credential, no context":  {tunnel.ServeWithCredential(noContext, "https://name", "chat", &credential{}, echo, nil), "ctx is nil"},
		"credential, plain proxy": {tunnel.ServeWithCredential(t.Context(), "https://name", "chat", &credential{}, echo, &tunnel.Options{ReverseProxyEndpoint: "http://x"}), "https"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, c.err, webpubsub.ErrInvalidArgument)
			require.Contains(t, strings.ReplaceAll(c.err.Error(), ": ", " "), c.want)
			require.NotContains(t, c.err.Error(), "secret")
		})
	}
}

func TestCutDuringAnEvent(t *testing.T) {
	handler := newBlocking()
	s := startService(t)
	c := startClient(t, s, handler)
	p := s.next(t)
	answer := p.post(event("/slow"))
	receive(t, handler.begun)
	p.ws.CloseNow()
	require.Error(t, receive(t, handler.ended))
	// The tunnel is up again, and responds only to new events.
	p = s.next(t)
	require.Equal(t, "/quick: body of /quick", string(p.do(t, event("/quick")).Body))
	require.Empty(t, answer)
	require.Empty(t, p.unexpected)
	require.Contains(t, c.log.String(), "a response was dropped")
}

func TestEventsWaitForASlot(t *testing.T) {
	handler := newBlocking()
	s := startService(t)
	startClient(t, s, handler, func(o *tunnel.Options) { o.MaxConcurrent = 2 })
	p := s.next(t)
	var answers []<-chan *tunnelframe.Response
	for i := range 5 {
		answers = append(answers, p.post(event(fmt.Sprintf("/%d", i))))
	}
	receive(t, handler.begun)
	receive(t, handler.begun)
	// A server at its limit still responds to pings.
	require.NoError(t, p.ws.Ping(t.Context()))
	require.Empty(t, handler.begun, "only MaxConcurrent events are served")
	close(handler.release)
	for i, answer := range answers {
		a, err := p.wait(answer)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("/%d: body of /%d", i, i), string(a.Body))
	}
}

func TestTooManyEventsWait(t *testing.T) {
	tunnel.SetMaxPendingBytes(t, 100_000)
	handler := newBlocking()
	s := startService(t)
	startClient(t, s, handler, func(o *tunnel.Options) { o.MaxConcurrent = 1 })
	p := s.next(t)
	first := p.post(event("/first"))
	receive(t, handler.begun)
	var answers []<-chan *tunnelframe.Response
	for range 20 {
		answers = append(answers, p.post(event("/waits")))
	}
	last, err := p.wait(answers[19])
	require.NoError(t, err)
	require.Equal(t, 503, last.StatusCode)
	close(handler.release)
	for _, answer := range append(answers[:5], first) {
		a, err := p.wait(answer)
		require.NoError(t, err)
		require.Equal(t, 200, a.StatusCode)
	}
	require.Equal(t, 200, p.do(t, event("/afterwards")).StatusCode)
}

func TestMalformedFrames(t *testing.T) {
	good, err := tunnelframe.Encode(event("/secret"), tunnelframe.MaxSize)
	require.NoError(t, err)
	longer := binary.LittleEndian.AppendUint32(nil, uint32(len(good)))
	shorter := binary.LittleEndian.AppendUint32(nil, uint32(len(good)-5))
	s := startService(t)
	c := startClient(t, s, echo, func(o *tunnel.Options) { o.MaxFrameBytes = 100_000 })
	for name, bad := range map[string]struct {
		kind  websocket.MessageType
		frame []byte
		code  websocket.StatusCode
	}{
		"declares more":      {websocket.MessageBinary, append(longer, good[4:]...), websocket.StatusInvalidFramePayloadData},
		"declares less":      {websocket.MessageBinary, append(shorter, good[4:]...), websocket.StatusInvalidFramePayloadData},
		"declares 4 GiB":     {websocket.MessageBinary, append([]byte{255, 255, 255, 255}, good[4:]...), websocket.StatusInvalidFramePayloadData},
		"is truncated":       {websocket.MessageBinary, good[:len(good)-1], websocket.StatusInvalidFramePayloadData},
		"is empty":           {websocket.MessageBinary, nil, websocket.StatusInvalidFramePayloadData},
		"is not MessagePack": {websocket.MessageBinary, []byte("\x06\x00\x00\x00secret"), websocket.StatusInvalidFramePayloadData},
		"is text":            {websocket.MessageText, good, websocket.StatusUnsupportedData},
		"is too large":       {websocket.MessageBinary, make([]byte, 100_001), websocket.StatusMessageTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			p := s.next(t)
			_ = p.ws.Write(t.Context(), bad.kind, bad.frame)
			require.Equal(t, bad.code, websocket.CloseStatus(p.waitEnd(t)))
		})
	}
	require.Equal(t, 200, s.next(t).do(t, event("/after")).StatusCode)
	require.NotContains(t, c.log.String(), "/secret")
}

func TestFramesThatAreIgnored(t *testing.T) {
	s := startService(t)
	startClient(t, s, echo)
	p := s.next(t)
	p.send(&tunnelframe.Unknown{FrameType: 99, Text: "{}"})
	p.send(&tunnelframe.Status{Message: "healthy"})
	p.send(&tunnelframe.Response{AckID: 5, StatusCode: 200})
	require.Equal(t, 200, p.do(t, event("/")).StatusCode)
	require.EqualValues(t, 1, s.dials.Load())
}

func TestDeadConnections(t *testing.T) {
	// On the first connection, this service sends a frame and then neither reads nor responds to pings.
	stuck := make(chan struct{})
	s := startService(t, func(s *service) {
		s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s.dials.Load() > 0 {
				s.ServeHTTP(w, r)
				return
			}
			s.dials.Add(1)
			ws, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer ws.CloseNow()
			(&peer{ws: ws}).send(&tunnelframe.Connected{ConnectionID: "c"})
			<-stuck
		}))
	})
	defer close(stuck)
	c := startClient(t, s, echo, func(o *tunnel.Options) {
		o.KeepAlive = tunnel.KeepAliveOptions{Interval: 50 * time.Millisecond, Timeout: time.Second}
	})
	require.Equal(t, 200, s.next(t).do(t, event("/")).StatusCode)
	require.Contains(t, c.log.String(), "no response to a ping")
}

// The service sends nothing while there are no events. Two reports of the official package are about such connections:
//
//   - Its pings were not frames of the tunnel, so idle connections were replaced every 160 seconds
//     (https://github.com/Azure/azure-webpubsub/issues/1020).
//   - It requested an empty subprotocol (https://github.com/Azure/azure-webpubsub/pull/880).
func TestIdleConnectionsStayUp(t *testing.T) {
	pings := make(chan struct{}, 100)
	s := startService(t, func(s *service) {
		s.pinged = func() {
			select {
			case pings <- struct{}{}:
			default:
			}
		}
	})
	startClient(t, s, echo, func(o *tunnel.Options) {
		o.KeepAlive = tunnel.KeepAliveOptions{Interval: time.Millisecond, Timeout: 20 * time.Second}
	})
	p := s.next(t)
	require.NotContains(t, p.request.Header, "Sec-Websocket-Protocol")
	for range 20 {
		receive(t, pings)
	}
	require.Equal(t, 200, p.do(t, event("/")).StatusCode, "the service has received no frames but the response")
	require.EqualValues(t, 1, s.dials.Load())
}

func TestShutdownWaitsForEvents(t *testing.T) {
	handler := newBlocking()
	s := startService(t)
	c := startClient(t, s, handler, func(o *tunnel.Options) { o.MaxConcurrent = 1 })
	p := s.next(t)
	first, second := p.post(event("/first")), p.post(event("/second"))
	r := receive(t, handler.begun)
	require.NoError(t, p.ws.Ping(t.Context())) // the pong proves that the second event has been read too
	c.stop()
	require.Equal(t, 503, waitForStatus(t, p, 503).StatusCode)
	require.NoError(t, r.Context().Err())
	close(handler.release)
	for _, answer := range []<-chan *tunnelframe.Response{first, second} {
		a, err := p.wait(answer)
		require.NoError(t, err)
		require.Equal(t, 200, a.StatusCode)
	}
	require.NoError(t, c.wait(t))
	require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(p.waitEnd(t)))
}

// waitForStatus sends events until a response has the status.
func waitForStatus(t *testing.T, p *peer, status int) *tunnelframe.Response {
	t.Helper()
	for {
		if a := p.do(t, event("/quick")); a.StatusCode == status {
			return a
		}
	}
}

func TestShutdownThatTakesTooLong(t *testing.T) {
	handler := newBlocking()
	s := startService(t)
	c := startClient(t, s, handler, func(o *tunnel.Options) { o.ShutdownTimeout = time.Millisecond })
	p := s.next(t)
	p.post(event("/slow"))
	receive(t, handler.begun)
	c.stop()
	require.ErrorContains(t, c.wait(t), "1 events were not answered")
	require.Error(t, receive(t, handler.ended))
}

func TestCutDuringTheShutdown(t *testing.T) {
	handler := newBlocking()
	s := startService(t)
	c := startClient(t, s, handler)
	p := s.next(t)
	p.post(event("/slow"))
	receive(t, handler.begun)
	c.stop()
	waitForStatus(t, p, 503)
	p.ws.CloseNow()
	require.Error(t, receive(t, handler.ended))
	require.NoError(t, c.wait(t))
	require.EqualValues(t, 1, s.dials.Load())
}

func TestContextThatHasEnded(t *testing.T) {
	s := startService(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, tunnel.Serve(ctx, s.connectionString(), "chat", echo, nil))
	require.Zero(t, s.dials.Load())
}

func TestRequestsHaveTheValuesOfTheContext(t *testing.T) {
	type key struct{}
	values := make(chan any, 1)
	s := startService(t)
	startServe(t, func(ctx context.Context, o *tunnel.Options) error {
		return tunnel.Serve(context.WithValue(ctx, key{}, "value"), s.connectionString(), "chat",
			http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { values <- r.Context().Value(key{}) }), o)
	})
	s.next(t).do(t, event("/"))
	require.Equal(t, "value", <-values)
}

func TestClose(t *testing.T) {
	handler := newBlocking()
	s := startService(t)
	c := startClient(t, s, handler)
	p := s.next(t)
	answer := p.post(event("/slow"))
	receive(t, handler.begun)
	p.send(&tunnelframe.Close{Message: "the hub has gone"})
	require.Equal(t, 200, p.do(t, event("/quick")).StatusCode) // new events are served until the connection is closed
	close(handler.release)
	a, err := p.wait(answer)
	require.NoError(t, err)
	require.Equal(t, 200, a.StatusCode)
	err = c.wait(t)
	require.ErrorIs(t, err, tunnel.ErrClosed)
	require.ErrorContains(t, err, "the hub has gone")
	require.EqualValues(t, 1, s.dials.Load())
}

func TestCloseOfOneOfTwo(t *testing.T) {
	s := startService(t)
	c := startClient(t, s, echo)
	first := s.next(t)
	first.send(&tunnelframe.Rebalance{Endpoint: s.URL, TargetID: "2"})
	second := s.next(t)
	first.send(&tunnelframe.Close{})
	require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(first.waitEnd(t)))
	require.Equal(t, 200, second.do(t, event("/")).StatusCode)
	second.send(&tunnelframe.Close{})
	require.ErrorIs(t, c.wait(t), tunnel.ErrClosed)
	require.EqualValues(t, 2, s.dials.Load())
}

func TestReconnect(t *testing.T) {
	handler := newBlocking()
	s := startService(t)
	startClient(t, s, handler)
	first := s.next(t)
	answer := first.post(event("/slow"))
	receive(t, handler.begun)
	first.send(&tunnelframe.Reconnect{Endpoint: s.URL + "/", TargetID: "instance 2"})
	first.send(&tunnelframe.Reconnect{Endpoint: s.URL + "/", TargetID: "instance 3"}) // ignored
	second := s.next(t)
	require.Equal(t, "instance 2", second.request.URL.Query().Get("target"))
	require.Equal(t, 200, second.do(t, event("/quick")).StatusCode)
	close(handler.release)
	a, err := first.wait(answer)
	require.NoError(t, err)
	require.Equal(t, 200, a.StatusCode)
	require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(first.waitEnd(t)))
	require.EqualValues(t, 2, s.dials.Load())
}

// A service that shuts down may send Reconnect and close the connection before the new one is up.
func TestReconnectThenCut(t *testing.T) {
	s := startService(t)
	startClient(t, s, echo)
	p := s.next(t)
	for i := range 40 {
		target := fmt.Sprint(i)
		p.send(&tunnelframe.Reconnect{TargetID: target})
		p.ws.CloseNow()
		p = s.next(t)
		require.Equal(t, target, p.request.URL.Query().Get("target"), "one connection takes over, and no other is opened")
	}
	require.EqualValues(t, 41, s.dials.Load())
}

func TestTargetThatCannotBeReached(t *testing.T) {
	s := startService(t, func(s *service) {
		check := s.check
		s.check = func(r *http.Request) int {
			if r.URL.Query().Has("target") {
				return 404
			}
			return check(r)
		}
	})
	startClient(t, s, echo)
	first := s.next(t)
	first.send(&tunnelframe.Reconnect{Endpoint: s.URL, TargetID: "2"})
	second := s.next(t)
	require.False(t, second.request.URL.Query().Has("target"))
	require.Equal(t, 200, second.do(t, event("/")).StatusCode)
	require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(first.waitEnd(t)))
	require.EqualValues(t, 5, s.dials.Load())
}

func TestForeignEndpointsReceiveNoToken(t *testing.T) {
	foreign := startService(t)
	s := startService(t)
	startClient(t, s, echo)
	p := s.next(t)
	there := strings.Replace(foreign.URL, "127.0.0.1", "localhost", 1)
	p.send(&tunnelframe.Rebalance{Endpoint: there})
	p.send(&tunnelframe.Reconnect{Endpoint: there})
	second := s.next(t) // made for the Reconnect, to the service's own endpoint
	require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(p.waitEnd(t)))
	require.Equal(t, 200, second.do(t, event("/")).StatusCode)
	require.Zero(t, foreign.dials.Load())
}

func TestTooManyRebalances(t *testing.T) {
	s := startService(t)
	c := startClient(t, s, echo)
	p := s.next(t)
	for range 40 {
		p.send(&tunnelframe.Rebalance{})
	}
	for range 31 {
		s.next(t)
	}
	require.Equal(t, 200, p.do(t, event("/")).StatusCode)
	c.stop()
	require.NoError(t, c.wait(t))
	require.EqualValues(t, 32, s.dials.Load())
}

// counting is a handler that counts the requests for each event.
type counting struct{ times sync.Map }

func (h *counting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, _ := h.times.LoadOrStore(r.URL.Path, new(atomic.Int32))
	n.(*atomic.Int32).Add(1)
	echo(w, r)
}

// load sends events with post, 64 at a time. It checks that each event was served once and has the right response.
func load(t *testing.T, h *counting, events int, post func(*tunnelframe.Request) (*peer, <-chan *tunnelframe.Response)) {
	t.Helper()
	numbers := make(chan int)
	var senders sync.WaitGroup
	for range 64 {
		senders.Go(func() {
			for i := range numbers {
				path := fmt.Sprintf("/%d", i)
				p, response := post(event(path))
				a, err := p.wait(response)
				if err != nil {
					t.Errorf("event %d: %v", i, err)
				} else if want := path + ": body of " + path; string(a.Body) != want {
					t.Errorf("event %d has the response %q", i, a.Body)
				}
			}
		})
	}
	for i := range events {
		numbers <- i
	}
	close(numbers)
	senders.Wait()
	for i := range events {
		n, ok := h.times.Load(fmt.Sprintf("/%d", i))
		if !ok || n.(*atomic.Int32).Load() != 1 {
			t.Errorf("event %d was not served exactly once", i)
		}
	}
}

func TestTenThousandEvents(t *testing.T) {
	s := startService(t)
	h := &counting{}
	startClient(t, s, h, quiet)
	p := s.next(t)
	load(t, h, 10_000, func(event *tunnelframe.Request) (*peer, <-chan *tunnelframe.Response) { return p, p.post(event) })
	require.Empty(t, p.unexpected)
	require.EqualValues(t, 1, s.dials.Load())
}

func TestRebalanceAndReconnectUnderLoad(t *testing.T) {
	s := startService(t)
	h := &counting{}
	startClient(t, s, h, quiet)
	var mu sync.Mutex
	peers := []*peer{s.next(t)}
	all := peers
	sent := 0
	load(t, h, 2_500, func(event *tunnelframe.Request) (*peer, <-chan *tunnelframe.Response) {
		mu.Lock() // also while an event is posted, so that none follows a Reconnect
		defer mu.Unlock()
		switch sent++; sent {
		case 500, 1000:
			peers[0].send(&tunnelframe.Rebalance{Endpoint: s.URL, TargetID: fmt.Sprint(sent)})
			peers = append(peers, s.next(t))
		case 1500, 2000: // we assume that the service sends no events to a connection that it has asked to reconnect
			peers[0].send(&tunnelframe.Reconnect{Endpoint: s.URL, TargetID: fmt.Sprint(sent)})
			peers = append(peers[1:], s.next(t))
		}
		all = append(all, peers[len(peers)-1])
		p := peers[sent%len(peers)]
		return p, p.post(event)
	})
	for _, p := range all {
		require.Empty(t, p.unexpected)
	}
	require.EqualValues(t, 5, s.dials.Load())
}

// quiet disables the log.
func quiet(o *tunnel.Options) { o.Logger = slog.New(slog.DiscardHandler) }
