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

// join connects a client to a hub of the emulator. It returns the connection and its token.
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

// evaluate returns the value of a JavaScript expression. It awaits a promise.
func evaluate[T any](p *page, expression string, args ...any) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](fmt.Sprintf(expression, args...), chromedp.EvalAwaitPromise))
	require.NoError(p.t, err)
	return v
}

func TestLiveViewShowsConnectionsAndTraffic(t *testing.T) {
	srv := emulator.StartT(t, nil)
	client := serviceClient(t, srv, "chat")
	p := newPage(t, startBrowser(t), "the live view")
	p.do(chromedp.Navigate(srv.Endpoint()))
	p.waitUntil(`document.querySelector("#status").dataset.state === "live"`)
	p.waitForText("#no-hubs", "Nobody has connected yet")
	p.waitForText("#no-hubs code", strings.Replace(srv.Endpoint(), "http", "ws", 1)+"/client/hubs/{hub}")
	p.waitForText("#no-events", "Waiting for traffic")
	screenshot(t, p, "liveview-empty")

	// A connection and its group appear.
	ann, token := join(t, srv, "chat", "json.webpubsub.azure.v1", &webpubsub.ClientAccessTokenOptions{UserID: "ann",
		Groups: []string{"lobby"}, Roles: []string{webpubsub.RoleSendToGroup("lobby"), "webpubsub.joinLeaveGroup"}})
	id := srv.Connections("chat")[0].ID
	p.waitForText(".hub h3", "chat")
	p.waitForText(".hub .summary", "1 connection · 1 user")
	p.waitForText(".connections li .user", "ann")
	p.waitForText(".connections li .id", id)
	p.waitForText(".connections li .subprotocol", "json.webpubsub.azure.v1")
	p.waitForText(".connections li .chip", "lobby")
	p.waitForText(".groups li", "lobby1 member")
	p.waitForText("#connection-count", "1")
	p.waitForText("[data-kind=connection].event", "connected json.webpubsub.azure.v1")

	// A REST call and its message appear. HTML in a message is shown as text.
	const markup = `<img src=x onerror="document.body.remove()"> & <b>bold</b>`
	require.NoError(t, client.SendToGroup(t.Context(), "lobby", webpubsub.Text(markup), nil))
	p.waitForText("[data-kind=rest].event .path", "/api/hubs/chat/groups/lobby/:send")
	p.waitForText("[data-kind=rest].event .status", "202")
	p.waitForText("[data-kind=rest].event .duration", "ms")
	p.waitForText("[data-kind=message].event .text", "SendToGroup: 1 recipient")
	p.waitUntil("[...document.querySelectorAll('.data')].some((e) => e.textContent === %q)", markup)
	p.waitForNone(".data *")
	p.waitForNone("#events img, #events b:not(.text > b)")
	require.True(t, evaluate[bool](p, `(() => { try { document.body.innerHTML = "x"; return false } catch { return true } })()`),
		"the page's policy does not allow innerHTML")

	// A token and a key are hidden.
	require.NoError(t, client.SendToGroup(t.Context(), "lobby", webpubsub.JSON(map[string]string{
		"url": "ws://localhost/client/hubs/chat?access_token=" + token, "from": srv.ConnectionString()}), nil))
	p.waitForText(".data", "access_token=REDACTED")
	p.waitForText(".data", "AccessKey=REDACTED")
	text := evaluate[string](p, "document.documentElement.outerHTML")
	require.NotContains(t, text, token)
	require.NotContains(t, text, token[strings.LastIndexByte(token, '.'):])
	require.NotContains(t, text, srv.AccessKey())

	// The requests of clients appear.
	for _, frame := range []string{
		`{"type":"joinGroup","group":"<i>garden</i>"}`,
		`{"type":"sendToGroup","group":"lobby","dataType":"json","data":{"text":"Hello, everybody!","at":1}}`,
		`{"type":"event","event":"typing","dataType":"text","data":"ann types"}`,
		`{"type":"sendToGroup","group":"cellar","dataType":"text","data":"psst"}`,
	} {
		require.NoError(t, ann.Write(t.Context(), websocket.MessageText, []byte(frame)))
	}
	p.waitForText(".groups li .group", "<i>garden</i>")
	p.waitForText("[data-kind=group].event", "joined <i>garden</i>")
	p.waitForText("[data-kind=message].event", "client to group: 1 recipient")
	p.waitForText("[data-kind=event].event", "user event typing")
	p.waitForText("[data-kind=message].event", "sendToGroup failed: Forbidden")

	bob, _ := join(t, srv, "chat", "json.reliable.webpubsub.azure.v1", &webpubsub.ClientAccessTokenOptions{UserID: "bob", Groups: []string{"lobby", "orders.europe", "orders.asia"}})
	join(t, srv, "notifications", "", nil)
	p.waitForText(".hub h3", "notifications")
	p.waitForText(".connections li .user", "anonymous")
	p.waitUntil(`document.querySelector("#connection-count").textContent === "3"`)
	require.Error(t, client.AddConnectionToGroup(t.Context(), "lobby", "nobody", nil))
	p.waitForText("[data-kind=rest].event .status", "404")
	p.screenshots("liveview")

	// A reliable client that was cut off is recovering. A client that closes its connection disappears.
	bob.CloseNow()
	p.waitForText(".connections li.recovering", "bob")
	require.NoError(t, ann.Close(websocket.StatusNormalClosure, "bye"))
	p.waitForText("[data-kind=connection].event", "disconnected: bye")
	p.waitUntil(`document.querySelector("#connection-count").textContent === "2"`)
	p.waitUntil(`![...document.querySelectorAll(".connections .user")].some((e) => e.textContent === "ann")`)
	srv.Advance(time.Minute)
	p.waitForText("[data-kind=connection].event", "disconnected: the client did not come back in time")
	p.waitForText(".hub .quiet", "No client is connected.")

	// Filters, search, pause and clear.
	p.do(chromedp.Click(chromedp.CSS("[data-kind=rest][aria-pressed]")))
	p.waitForNone("[data-kind=rest].event")
	p.do(chromedp.Click(chromedp.CSS("[data-kind=rest][aria-pressed]")))
	p.waitForText("[data-kind=rest].event", "POST")
	p.do(chromedp.SendKeys(chromedp.CSS("#search"), "TYPING"))
	p.waitUntil(`document.querySelectorAll(".event").length === 1`)
	p.do(chromedp.SendKeys(chromedp.CSS("#search"), " no such thing"))
	p.waitForText("#no-events", "Nothing matches")
	p.do(chromedp.SendKeys(chromedp.CSS("#search"), kb.Escape), chromedp.Click(chromedp.CSS("#pause")))
	p.waitForNone("#no-events:not([hidden])")
	require.NoError(t, client.SendToAll(t.Context(), webpubsub.Text("while you were away"), nil))
	p.waitForText("#pause", "Resume (2 new)")
	p.waitUntil(`![...document.querySelectorAll(".data")].some((e) => e.textContent === "while you were away")`)
	p.do(chromedp.Click(chromedp.CSS("#pause")))
	p.waitForText(".data", "while you were away")
	p.do(chromedp.Click(chromedp.CSS("#clear")))
	p.waitForText("#no-events", "Waiting for traffic")

	// The page reports the end of the emulator.
	require.NoError(t, srv.Close())
	p.waitForText("#status", "reconnecting")
	p.waitForText("#events .note", "The emulator is gone")
}

// screenshots takes pictures of the page in light and dark mode, on a wide screen and on a phone.
func (p *page) screenshots(name string) {
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
		p.requireFits()
		screenshot(p.t, p, name+"-phone-"+s)
		p.do(chromedp.Click(chromedp.CSS("[data-show=traffic]")))
		p.requireFits()
		screenshot(p.t, p, name+"-phone-traffic-"+s)
		p.do(chromedp.Click(chromedp.CSS("[data-show=state]")))
	}
	p.do(wide)
}

// requireFits fails the test if the page scrolls sideways on a phone.
func (p *page) requireFits() {
	p.t.Helper()
	require.LessOrEqual(p.t, evaluate[int](p, "document.documentElement.scrollWidth"), 390)
}

// Other pages in the same browser must not read the live view or call the emulator. That includes a page whose host name resolves
// to this machine. Only a page from this machine may call the emulator.
func TestOtherPagesCannotReadTheLiveView(t *testing.T) {
	srv := emulator.StartT(t, nil)
	_, port, _ := strings.Cut(strings.TrimPrefix(srv.Endpoint(), "http://"), ":")
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<p>a page") }))
	t.Cleanup(foreign.Close)
	browser := startBrowser(t, chromedp.Flag("host-resolver-rules", "MAP evil.example 127.0.0.1"))
	evil := strings.Replace(foreign.URL, "127.0.0.1", "evil.example", 1)
	const stream, health, socket = "/liveview/stream", "/api/health", "/client/hubs/chat"

	// outcome returns the status of a page's fetch, or "refused" if the page may not read the response.
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

	t.Run("a page from this machine may call the emulator, but not read its live view", func(t *testing.T) {
		p := newPage(t, browser, "another server of this machine")
		p.do(chromedp.Navigate(foreign.URL))
		require.Equal(t, "405", outcome(p, srv.Endpoint()+health), "health accepts only HEAD, and the page may read that response")
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
	t.Run("a page whose host name resolves to this machine cannot read the live view", func(t *testing.T) {
		p := newPage(t, browser, "a name that was rebound")
		p.do(chromedp.Navigate("http://evil.example:" + port + "/"))
		p.waitForText("body", "the live view is not shown under the host name")
		require.Equal(t, "403", outcome(p, stream))
		require.False(t, connects(p, "evil.example"))
	})
}

// The names of groups and the ids of MQTT clients are the same on the page if they differ only in what is redacted.
func TestLiveViewShowsItemsOfTheSameNameOnce(t *testing.T) {
	srv := emulator.StartT(t, &emulator.Options{AccessKey: "the primary key", SecondaryAccessKey: "the secondary key"})
	p := newPage(t, startBrowser(t), "the live view")
	p.do(chromedp.Navigate(srv.Endpoint()))
	join(t, srv, "chat", "", &webpubsub.ClientAccessTokenOptions{Groups: []string{"the primary key", "the secondary key"}})
	for n := 1; n <= 3; n++ {
		p.waitForText(".hub .summary", fmt.Sprintf("%d connection", n))
		require.Equal(t, 2, evaluate[int](p, `document.querySelectorAll(".groups li").length`))
		join(t, srv, "chat", "", &webpubsub.ClientAccessTokenOptions{UserID: fmt.Sprint(n)})
	}
}
