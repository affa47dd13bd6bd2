package browsertest

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
)

// startChat builds and starts examples/chat on its own emulator, and returns the URL of its page.
func startChat(t *testing.T) string {
	t.Helper()
	url, _ := startChatOn(t, "", "127.0.0.1:0")
	return url
}

// startChatOn builds and starts examples/chat on the service of a connection string. The chat ends with the test, or earlier if
// stop is called.
func startChatOn(t *testing.T, connectionString, addr string) (url string, stop func()) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "chat")
	build := exec.Command("go", "build", "-C", "../..", "-o", binary, "./examples/chat")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	var log bytes.Buffer
	chat := exec.Command(binary, "-addr", addr)
	chat.Env = append(os.Environ(), "WEBPUBSUB_CONNECTION_STRING="+connectionString)
	chat.Stderr = &log
	stdout, err := chat.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, chat.Start())
	stop = sync.OnceFunc(func() {
		_ = chat.Process.Signal(syscall.SIGTERM)
		if err := chat.Wait(); err != nil {
			t.Errorf("the chat's exit: %v", err)
		}
		if t.Failed() {
			t.Logf("the chat's log:\n%s", &log)
		}
	})
	t.Cleanup(stop)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	_, url, found := strings.Cut(strings.TrimSpace(line), "The chat is open at ")
	require.True(t, found, line)
	return url, stop
}

// enter logs the page's user in and waits until the page is connected.
func (p *page) enter(url string) {
	p.t.Helper()
	p.do(chromedp.Navigate(url), chromedp.WaitVisible(chromedp.CSS("#login-form")))
	p.fill("#name", p.name)
	p.connected()
}

func (p *page) connected() {
	p.t.Helper()
	p.waitUntil(`document.querySelector("#status").dataset.state === "connected" && !document.querySelector("#text").disabled`)
}

func (p *page) say(text string) {
	p.t.Helper()
	p.fill("#text", text)
}

func TestThreePeopleChat(t *testing.T) {
	browser := startBrowser(t)
	url := startChat(t)
	ann, bob := newPage(t, browser, "ann"), newPage(t, browser, "bob")
	ann.enter(url)
	bob.enter(url)
	for _, p := range []*page{ann, bob} {
		p.waitUntil(`document.querySelectorAll("#people li").length === 2`)
	}
	ann.waitForText(`#people [data-name=ann]`, "host")

	// Ann and Bob chat.
	ann.say("hello bob")
	for _, p := range []*page{ann, bob} {
		p.waitForText("#messages li.message", "hello bob")
	}
	const markup = `<img src=x onerror="document.body.remove()"> & <b>bold</b>`
	bob.say(markup)
	ann.waitForText("#messages .text", markup)
	ann.waitForNone("#messages .text *")
	bob.do(chromedp.SendKeys(chromedp.CSS("#text"), "I am think"))
	ann.waitForText("#typing", "bob is typing")
	bob.do(chromedp.Clear(chromedp.CSS("#text")))

	// Only Bob receives a direct message to him.
	eve := newPage(t, browser, "eve")
	eve.enter(url)
	ann.do(chromedp.Click(chromedp.CSS(`#people [data-name=bob] .who`)), chromedp.WaitVisible(chromedp.CSS("#to")))
	ann.say("between us")
	ann.waitForText("#messages li.direct", "between us")
	bob.waitForText("#messages li.direct", "ann to you")
	ann.do(chromedp.Click(chromedp.CSS("#to")))
	ann.say("hello all")
	eve.waitForText("#messages li.message", "hello all")
	eve.waitForNone("#messages li.direct")

	// After a reload, Bob is still logged in and has the history.
	bob.do(chromedp.Reload())
	bob.connected()
	bob.waitForText("#me", "bob")
	bob.waitForText("#messages li.message", "hello bob")
	bob.waitForText("#messages li.message", markup)
	bob.waitUntil(`document.querySelectorAll("#messages li.message").length === 3`)
	ann.waitUntil(`document.querySelectorAll("#people li").length === 3`)
	bob.say("back again")
	ann.waitForText("#messages li.message", "back again")

	// Eve enters another room.
	eve.fill("#room-name", "garden")
	eve.waitUntil(`document.querySelector("#room").textContent === "garden"`)
	ann.waitUntil(`!document.querySelector("#people [data-name=eve]")`)
	eve.say("quiet here")
	eve.waitForText("#messages li.message", "quiet here")
	eve.waitForNone("#people [data-name=ann]")

	// Ann hosts the lobby. She mutes and unmutes Bob.
	ann.do(chromedp.Click(chromedp.Search(`//li[@data-name="bob"]//button[text()="mute"]`)))
	bob.waitForText("#messages li.notice", "ann has muted you in lobby")
	bob.say("but why")
	bob.waitForText("#messages li.notice", "you cannot speak in lobby")
	ann.do(chromedp.Click(chromedp.Search(`//li[@data-name="bob"]//button[text()="unmute"]`)))
	bob.waitForText("#messages li.notice", "ann lets you speak again")
	bob.say("thank you")
	ann.waitForText("#messages li.message", "thank you")
	ann.waitUntil(`![...document.querySelectorAll("#messages .text")].some((e) => e.textContent === "but why")`)

	// Ann removes Bob. He cannot come back, not even with a reload, but he can enter other rooms.
	ann.do(chromedp.Click(chromedp.Search(`//li[@data-name="bob"]//button[text()="remove"]`)))
	bob.waitForText("#messages li.notice", "ann has removed you from lobby")
	bob.waitUntil(`document.querySelector("#text").disabled`)
	ann.waitForNone("#people [data-name=bob]")
	ann.say("he is gone")
	ann.waitForText("#messages li.message", "he is gone")
	bob.do(chromedp.Reload())
	bob.waitForText("#messages li.notice", "You cannot enter lobby")
	bob.fill("#room-name", "garden")
	bob.connected()
	bob.waitForText("#messages li.message", "quiet here")
	eve.waitUntil(`document.querySelectorAll("#people li").length === 2`)
	bob.waitUntil(`![...document.querySelectorAll("#messages .text")].some((e) => e.textContent === "he is gone")`)
	screenshot(t, ann, "ann")
	screenshot(t, bob, "bob")

	// Eve logs out and leaves the room.
	eve.do(chromedp.Click(chromedp.CSS("#logout")), chromedp.WaitVisible(chromedp.CSS("#login-form")))
	bob.waitUntil(`document.querySelectorAll("#people li").length === 1`)
}

func TestChatRestartsWhilePagesAreOpen(t *testing.T) {
	browser := startBrowser(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String() // the same for both runs
	require.NoError(t, listener.Close())
	srv := emulator.StartT(t, nil)
	require.NoError(t, srv.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
		URLTemplate:  "http://" + addr + "/eventhandler/{event}",
		SystemEvents: []string{"connect", "connected", "disconnected"}, UserEventPattern: "*",
	}}}))
	url, stop := startChatOn(t, srv.ConnectionString(), addr)
	ann, bob := newPage(t, browser, "ann"), newPage(t, browser, "bob")
	ann.enter(url)
	bob.enter(url)
	ann.say("before")
	bob.waitForText("#messages li.message", "before")
	stop()
	startChatOn(t, srv.ConnectionString(), addr)
	for _, text := range []string{"after", "and again"} {
		ann.say(text)
		ann.waitForText("#messages li.message", text)
		bob.waitForText("#messages li.message", text)
	}

	// A message that arrives twice is shown once.
	direct := webpubsub.JSON(map[string]any{"type": "direct", "id": "x-1", "from": "ann", "to": "bob", "text": "psst", "at": 1})
	service := serviceClient(t, srv, "chat")
	for range 2 {
		require.NoError(t, service.SendToUser(t.Context(), "bob", direct, nil))
	}
	ann.say("the end")
	bob.waitForText("#messages li.message", "the end")
	bob.waitUntil(`document.querySelectorAll("#messages li.direct").length === 1`)
}

func TestChatPageDetails(t *testing.T) {
	browser := startBrowser(t)
	url := startChat(t)
	ann, bob := newPage(t, browser, "ann"), newPage(t, browser, "bob")

	// A URL without a valid room name opens the lobby. Room names in a URL are case-insensitive.
	ann.enter(url + "#No room")
	ann.waitForText("#room", "lobby")
	bob.enter(url + "#Lobby")
	bob.waitForText("#room", "lobby")
	bob.waitUntil(`document.querySelector("#rooms").textContent === "# lobby"`)

	// Bob goes to another room and comes back. His direct messages are in their old places.
	ann.say("first")
	bob.waitForText("#messages li.message", "first")
	ann.do(chromedp.Click(chromedp.CSS(`#people [data-name=bob] .who`)), chromedp.WaitVisible(chromedp.CSS("#to")))
	ann.say("between us")
	bob.waitForText("#messages li.direct", "between us")
	ann.do(chromedp.Click(chromedp.CSS("#to")))
	ann.say("last")
	bob.waitForText("#messages li.message", "last")
	bob.fill("#room-name", "garden")
	bob.waitForText("#room", "garden")
	bob.waitUntil(`[...document.querySelectorAll("#messages .text")].map((e) => e.textContent).join() === "between us"`)
	bob.fill("#room-name", "lobby")
	bob.waitForText("#room", "lobby")
	bob.waitUntil(`[...document.querySelectorAll("#messages .text")].map((e) => e.textContent).join() === "first,between us,last"`)

	// A message of the longest length that the field accepts can be sent.
	long := strings.Repeat("ж", 2000)
	bob.do(chromedp.SetValue(chromedp.CSS("#text"), long), chromedp.Click(chromedp.CSS("#send")))
	ann.waitForText("#messages .text", long)

	// A user who selects another room while the page connects enters that room.
	eve := newPage(t, browser, "eve")
	eve.do(chromedp.Navigate(url), chromedp.WaitVisible(chromedp.CSS("#login-form")))
	evaluate[bool](eve, `new MutationObserver((_, observer) => {
		if (document.querySelector("#status").dataset.state !== "connecting") return;
		observer.disconnect();
		queueMicrotask(() => { // after the page has created its socket
			document.querySelector("#room-name").value = "garden";
			document.querySelector("#room-form").requestSubmit();
		});
	}).observe(document.querySelector("#status"), { attributes: true }) === undefined`)
	eve.fill("#name", "eve")
	eve.connected()
	eve.waitForText("#room", "garden")

	// A name is normalized, whatever way a keyboard composes it.
	zoe := newPage(t, browser, "zoe")
	zoe.do(chromedp.Navigate(url), chromedp.WaitVisible(chromedp.CSS("#login-form")),
		chromedp.SetValue(chromedp.CSS("#name"), "Zoe\u0308"), chromedp.Click(chromedp.CSS("#login-form button")))
	zoe.waitUntil(`document.querySelector("#me").textContent === "Zo\u00eb"`)
}

// screenshot writes a picture of the page into the directory BROWSERTEST_SCREENSHOTS, if that variable is set.
func screenshot(t *testing.T, p *page, name string) {
	t.Helper()
	dir := os.Getenv("BROWSERTEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
}
