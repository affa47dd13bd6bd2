package emulator_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestServerStartsOnAFreePort(t *testing.T) {
	srv, err := emulator.Start(&emulator.Options{AccessKey: "a=key/with+signs="})
	require.NoError(t, err)
	defer srv.Close()
	require.Regexp(t, `^http://127\.0\.0\.1:\d+$`, srv.Endpoint())
	require.Equal(t, "a=key/with+signs=", srv.AccessKey())
	require.Equal(t, "Endpoint="+srv.Endpoint()+";AccessKey=a=key/with+signs=;Version=1.0;", srv.ConnectionString())
}

func TestAServerIsPrintedWithoutItsKeys(t *testing.T) {
	srv := emulator.StartT(t, &emulator.Options{AccessKey: "marked-key", SecondaryAccessKey: "marked-secondary"})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.Equal(t, "emulator.Server("+srv.Endpoint()+")", fmt.Sprintf(verb, srv), verb)
	}
}

func TestStartRejectsInvalidOptions(t *testing.T) {
	for name, tt := range map[string]struct {
		opts emulator.Options
		want string
	}{
		"a key with a semicolon": {emulator.Options{AccessKey: "a;b"}, "Options.AccessKey"},
		"an invalid address":     {emulator.Options{Addr: "nowhere"}, "Options.Addr"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := emulator.Start(&tt.opts)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestCloseNotifiesClientsAndStopsEverything(t *testing.T) {
	srv, err := emulator.Start(nil)
	require.NoError(t, err)
	json := dialJSON(t, srv, dialOptions{})
	raw := dial(t, srv, dialOptions{})
	require.NoError(t, srv.Close())
	require.NoError(t, srv.Close(), "a second Close does nothing")

	ce, frames := json.closed()
	require.Equal(t, websocket.StatusNormalClosure, ce.Code)
	require.Equal(t, []string{`{"type":"system","event":"disconnected","message":"the server is shutting down"}`}, frames)
	ce, frames = raw.closed()
	require.Equal(t, "the server is shutting down", ce.Reason)
	require.Empty(t, frames)
	_, err = http.Get(srv.Endpoint())
	require.Error(t, err)
}

// recordingTB is a test whose log and cleanups a test controls.
type recordingTB struct {
	testing.TB
	cleanups []func()
	log      strings.Builder
	ended    bool
}

func (r *recordingTB) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recordingTB) Logf(format string, args ...any) {
	if r.ended {
		panic("log after the test ended")
	}
	fmt.Fprintf(&r.log, format+"\n", args...)
}

func TestStartTLogsToTheTestUntilItEnds(t *testing.T) {
	tb := &recordingTB{TB: t}
	srv := emulator.StartT(tb, nil)
	for _, cleanup := range slices.Backward(tb.cleanups) {
		cleanup()
	}
	tb.ended = true
	require.Contains(t, tb.log.String(), "emulator started")
	require.Contains(t, tb.log.String(), "emulator closed")
	require.NotContains(t, tb.log.String(), srv.AccessKey())

	late := &recordingTB{TB: t}
	srv = emulator.StartT(late, nil)
	late.cleanups[0]() // ends the log; a test runs it last
	late.ended = true
	require.NoError(t, srv.Close()) // logs
	require.NotContains(t, late.log.String(), "emulator closed")
}

func TestPagesOfThisMachineMayCallTheServer(t *testing.T) {
	srv := emulator.StartT(t, nil)
	for origin, allowed := range map[string]bool{
		"http://localhost:3000": true, "http://127.0.0.1": true, "http://[::1]:8080": true, "http://app.localhost:3000": true,
		"https://example.com": false, "http://evillocalhost": false, "null": false, "http://localhost.example.com": false,
	} {
		req, _ := http.NewRequest("OPTIONS", srv.Endpoint()+"/api/hubs/chat/:send", nil)
		req.Header.Set("Origin", origin)
		req.Header.Set("Access-Control-Request-Method", "POST")
		resp, err := restClient.Do(req)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, allowed, resp.Header.Get("Access-Control-Allow-Origin") == origin, origin)
		status := upgradeStatus(t, strings.Replace(dialOptions{}.url(t, srv), "ws:", "http:", 1), "Origin", origin)
		require.Equal(t, allowed, status == http.StatusSwitchingProtocols, "%s: %d", origin, status)
	}
}

func TestTLS(t *testing.T) {
	certServer := httptest.NewTLSServer(nil) // for its certificate
	defer certServer.Close()
	srv := emulator.StartT(t, &emulator.Options{TLSConfig: certServer.TLS})
	require.Regexp(t, `^https://127\.0\.0\.1:\d+$`, srv.Endpoint())
	require.Contains(t, srv.ConnectionString(), "Endpoint=https://127.0.0.1:")

	hc := certServer.Client()
	defer hc.CloseIdleConnections()
	target := srv.Endpoint() + "/api/hubs/chat/:send"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "wss"+strings.TrimPrefix(dialOptions{}.httpURL(t, srv), "https"),
		&websocket.DialOptions{HTTPClient: hc, Subprotocols: []string{protocolJSON}})
	require.NoError(t, err)
	defer ws.CloseNow()
	c := &client{t: t, ws: ws}
	c.object()

	req, _ := http.NewRequest("POST", target, strings.NewReader("hello"))
	req.Header.Set("Content-Type", "text/plain")
	req.Header["X-WebPubSub-Metadata-traceID"] = []string{"1"}
	req.Header.Set("Authorization", "Bearer "+sign(t, srv.AccessKey(), jwt.MapClaims{"aud": target, "exp": srv.Now().Add(time.Minute).Unix()}))
	resp, err := hc.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	require.Equal(t, "max-age=31536000; includeSubDomains", resp.Header.Get("Strict-Transport-Security"))
	require.Equal(t, `{"type":"message","from":"server","dataType":"text","metadata":{"traceid":"1"},"data":"hello"}`, c.text())
	srv.Close()
	ce, _ := c.closed()
	require.Equal(t, closeReason, ce.Reason)
}

func TestTheAudienceBehindAProxyIsTheServersURL(t *testing.T) {
	srv := emulator.StartT(t, nil)
	target := srv.Endpoint() + "/api/hubs/chat/users/ann"
	req, _ := http.NewRequest("HEAD", target, nil)
	req.Host = "proxy.example.com"
	req.Header.Set("Authorization", "Bearer "+sign(t, srv.AccessKey(), jwt.MapClaims{"aud": target, "exp": srv.Now().Add(time.Minute).Unix()}))
	resp, err := restClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusNotFound, resp.StatusCode, "the request is authorized, and the user does not exist")
}
