package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
)

// join connects a client to a hub of the emulator, and returns it with the token it came with.
func join(t *testing.T, srv *emulator.Server, hub, subprotocol string, options *webpubsub.ClientAccessTokenOptions) (*websocket.Conn, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	access, err := serviceClient(t, srv, hub).GetClientAccessToken(ctx, options)
	require.NoError(t, err)
	dial := &websocket.DialOptions{}
	if subprotocol != "" {
		dial.Subprotocols = []string{subprotocol}
	}
	ws, _, err := websocket.Dial(ctx, access.URL, dial)
	require.NoError(t, err)
	t.Cleanup(func() { ws.CloseNow() })
	return ws, access.Token
}

func serviceClient(t *testing.T, srv *emulator.Server, hub string) *webpubsub.ServiceClient {
	t.Helper()
	client, err := webpubsub.NewClientFromConnectionString(srv.ConnectionString(), hub, nil)
	require.NoError(t, err)
	return client
}

// evaluate returns what a JavaScript expression, or the promise that it is, becomes.
func evaluate[T any](p *page, expression string, args ...any) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](fmt.Sprintf(expression, args...), chromedp.EvalAwaitPromise))
	require.NoError(p.t, err)
	return v
}

func TestTheLiveViewShowsWhoIsThereAndWhatPasses(t *testing.T) {
	srv := emulator.StartT(t, nil)
	client := serviceClient(t, srv, "chat")
	p := newPage(t, startBrowser(t), "the live view")
	p.do(chromedp.Navigate(srv.Endpoint()))
	p.until(`document.querySelector("#status").dataset.state === "live"`)
	p.sees("#no-hubs", "Nobody has connected yet")
	p.sees("#no-hubs code", strings.Replace(srv.Endpoint(), "http", "ws", 1)+"/client/hubs/{hub}")
	p.sees("#no-events", "Waiting for traffic")
	screenshot(t, p, "liveview-empty")

	// A connection and its group appear.
	ann, token := join(t, srv, "chat", "json.webpubsub.azure.v1", &webpubsub.ClientAccessTokenOptions{UserID: "ann",
		Groups: []string{"lobby"}, Roles: []string{webpubsub.RoleSendToGroup("lobby"), "webpubsub.joinLeaveGroup"}})
	id := srv.Connections("chat")[0].ID
	p.sees(".hub h3", "chat")
	p.sees(".hub .summary", "1 connection · 1 user")
	p.sees(".connections li .user", "ann")
	p.sees(".connections li .id", id)
	p.sees(".connections li .subprotocol", "json.webpubsub.azure.v1")
	p.sees(".connections li .chip", "lobby")
	p.sees(".groups li", "lobby1 member")
	p.sees("#connection-count", "1")
	p.sees("[data-kind=connection].event", "connected json.webpubsub.azure.v1")

	// So do a REST call and its message. What looks like HTML is text.
	const markup = `<img src=x onerror="document.body.remove()"> & <b>bold</b>`
	require.NoError(t, client.SendToGroup(t.Context(), "lobby", webpubsub.Text(markup), nil))
	p.sees("[data-kind=rest].event .path", "/api/hubs/chat/groups/lobby/:send")
	p.sees("[data-kind=rest].event .status", "202")
	p.sees("[data-kind=rest].event .duration", "ms")
	p.sees("[data-kind=message].event .text", "SendToGroup: 1 recipient")
	p.until("[...document.querySelectorAll('.data')].some((e) => e.textContent === %q)", markup)
	p.seesNo(".data *")
	p.seesNo("#events img, #events b:not(.text > b)")
	require.True(t, evaluate[bool](p, `(() => { try { document.body.innerHTML = "x"; return false } catch { return true } })()`),
		"the page's policy takes no HTML")

	// A token and a key do not.
	require.NoError(t, client.SendToGroup(t.Context(), "lobby", webpubsub.JSON(map[string]string{
		"url": "ws://localhost/client/hubs/chat?access_token=" + token, "from": srv.ConnectionString()}), nil))
	p.sees(".data", "access_token=REDACTED")
	p.sees(".data", "AccessKey=REDACTED")
	text := evaluate[string](p, "document.documentElement.outerHTML")
	require.NotContains(t, text, token)
	require.NotContains(t, text, token[strings.LastIndexByte(token, '.'):])
	require.NotContains(t, text, srv.AccessKey())

	// What clients send appears, too.
	for _, frame := range []string{
		`{"type":"joinGroup","group":"<i>garden</i>"}`,
		`{"type":"sendToGroup","group":"lobby","dataType":"json","data":{"text":"Hello, everybody!","at":1}}`,
		`{"type":"event","event":"typing","dataType":"text","data":"ann types"}`,
		`{"type":"sendToGroup","group":"cellar","dataType":"text","data":"psst"}`,
	} {
		require.NoError(t, ann.Write(t.Context(), websocket.MessageText, []byte(frame)))
	}
	p.sees(".groups li .group", "<i>garden</i>")
	p.sees("[data-kind=group].event", "joined <i>garden</i>")
	p.sees("[data-kind=message].event", "client to group: 1 recipient")
	p.sees("[data-kind=event].event", "user event typing")
	p.sees("[data-kind=message].event", "sendToGroup failed: Forbidden")

	bob, _ := join(t, srv, "chat", "json.reliable.webpubsub.azure.v1", &webpubsub.ClientAccessTokenOptions{UserID: "bob", Groups: []string{"lobby", "orders.europe", "orders.asia"}})
	join(t, srv, "notifications", "", nil)
	p.sees(".hub h3", "notifications")
	p.sees(".connections li .user", "anonymous")
	p.until(`document.querySelector("#connection-count").textContent === "3"`)
	require.Error(t, client.AddConnectionToGroup(t.Context(), "lobby", "nobody", nil))
	p.sees("[data-kind=rest].event .status", "404")
	p.look("liveview")

	// A client that was cut off may come back, one that leaves is gone.
	bob.CloseNow()
	p.sees(".connections li.recovering", "bob")
	require.NoError(t, ann.Close(websocket.StatusNormalClosure, "bye"))
	p.sees("[data-kind=connection].event", "disconnected: bye")
	p.until(`document.querySelector("#connection-count").textContent === "2"`)
	p.until(`![...document.querySelectorAll(".connections .user")].some((e) => e.textContent === "ann")`)
	srv.Advance(time.Minute)
	p.sees("[data-kind=connection].event", "disconnected: the client did not come back in time")
	p.sees(".hub .quiet", "No client is connected.")

	// People choose what they look at.
	p.do(chromedp.Click(chromedp.CSS("[data-kind=rest][aria-pressed]")))
	p.seesNo("[data-kind=rest].event")
	p.do(chromedp.Click(chromedp.CSS("[data-kind=rest][aria-pressed]")))
	p.sees("[data-kind=rest].event", "POST")
	p.do(chromedp.SendKeys(chromedp.CSS("#search"), "TYPING"))
	p.until(`document.querySelectorAll(".event").length === 1`)
	p.do(chromedp.SendKeys(chromedp.CSS("#search"), " no such thing"))
	p.sees("#no-events", "Nothing matches")
	p.do(chromedp.SendKeys(chromedp.CSS("#search"), kb.Escape), chromedp.Click(chromedp.CSS("#pause")))
	p.seesNo("#no-events:not([hidden])")
	require.NoError(t, client.SendToAll(t.Context(), webpubsub.Text("while you were away"), nil))
	p.sees("#pause", "Resume (2 new)")
	p.until(`![...document.querySelectorAll(".data")].some((e) => e.textContent === "while you were away")`)
	p.do(chromedp.Click(chromedp.CSS("#pause")))
	p.sees(".data", "while you were away")
	p.do(chromedp.Click(chromedp.CSS("#clear")))
	p.sees("#no-events", "Waiting for traffic")

	// The emulator ends, and the page says so.
	require.NoError(t, srv.Close())
	p.sees("#status", "reconnecting")
	p.sees("#events .note", "The emulator is gone")
}

// look takes pictures of the page: in light and dark, and as on a phone.
func (p *page) look(name string) {
	p.t.Helper()
	scheme := func(value string) chromedp.Action[chromedp.Void] {
		return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}}})
			return err
		})
	}
	wide, narrow := chromedp.EmulateViewport(1280, 800), chromedp.EmulateViewport(390, 800, chromedp.EmulateScale(2))
	for _, s := range []string{"light", "dark"} {
		p.do(scheme(s), wide)
		screenshot(p.t, p, name+"-"+s)
		p.do(narrow)
		p.fits()
		screenshot(p.t, p, name+"-phone-"+s)
		p.do(chromedp.Click(chromedp.CSS("[data-show=traffic]")))
		p.fits()
		screenshot(p.t, p, name+"-phone-traffic-"+s)
		p.do(chromedp.Click(chromedp.CSS("[data-show=state]")))
	}
	p.do(wide)
}

// fits fails the test if one has to scroll sideways.
func (p *page) fits() {
	p.t.Helper()
	require.LessOrEqual(p.t, evaluate[int](p, "document.documentElement.scrollWidth"), 390)
}

// Whoever has a page open in this browser must not read the live view through it, nor call the emulator: not a page
// of another origin, and not one whose name resolves to this machine.
func TestOtherPagesCannotReadTheLiveView(t *testing.T) {
	srv := emulator.StartT(t, nil)
	_, port, _ := strings.Cut(strings.TrimPrefix(srv.Endpoint(), "http://"), ":")
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<p>a page") }))
	t.Cleanup(foreign.Close)
	browser := startBrowser(t, chromedp.Flag("host-resolver-rules", "MAP evil.example 127.0.0.1"))
	evil := strings.Replace(foreign.URL, "127.0.0.1", "evil.example", 1)
	const stream, health, socket = "/liveview/stream", "/api/health", "/client/hubs/chat"

	// outcome is what a page gets of a path: the status of a fetch that it may read, or "refused".
	outcome := func(p *page, url string) string {
		return evaluate[string](p, `fetch(%q).then((r) => { r.body?.cancel(); return String(r.status); }, () => "refused")`, url)
	}
	connects := func(p *page, host string) bool {
		access, err := serviceClient(t, srv, "chat").GetClientAccessToken(t.Context(), nil)
		require.NoError(t, err)
		quoted, _ := json.Marshal(strings.Replace(access.URL, "127.0.0.1", host, 1))
		return evaluate[bool](p, `new Promise((resolve) => {
			const ws = new WebSocket(%s);
			ws.onopen = () => { ws.close(); resolve(true); };
			ws.onerror = () => resolve(false);
		})`, quoted)
	}

	t.Run("a page of this machine may call the emulator, but not read its live view", func(t *testing.T) {
		p := newPage(t, browser, "another server of this machine")
		p.do(chromedp.Navigate(foreign.URL))
		require.Equal(t, "405", outcome(p, srv.Endpoint()+health), "health takes HEAD, and the page may read that")
		require.True(t, connects(p, "127.0.0.1"))
		require.Equal(t, "refused", outcome(p, srv.Endpoint()+stream))
		require.Equal(t, "refused", outcome(p, srv.Endpoint()+"/"))
	})
	t.Run("a page from elsewhere may do nothing", func(t *testing.T) {
		p := newPage(t, browser, "a foreign server")
		p.do(chromedp.Navigate(evil))
		require.Equal(t, "refused", outcome(p, srv.Endpoint()+health))
		require.False(t, connects(p, "127.0.0.1"))
		require.Equal(t, "refused", outcome(p, srv.Endpoint()+stream))
	})
	t.Run("a page whose name resolves to this machine sees no live view", func(t *testing.T) {
		p := newPage(t, browser, "a name that was rebound")
		p.do(chromedp.Navigate("http://evil.example:" + port + "/"))
		p.sees("body", "the live view is not shown under the host name")
		require.Equal(t, "403", outcome(p, stream))
		require.False(t, connects(p, "evil.example"))
	})
}
