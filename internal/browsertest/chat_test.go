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

// startChat builds and starts examples/chat on its emulator, and returns the URL of its page.
func startChat(t *testing.T) string {
	t.Helper()
	url, _ := startChatOn(t, "", "127.0.0.1:0")
	return url
}

// startChatOn starts it on the service of a connection string. stop ends it before the test ends.
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
			t.Errorf("the chat ended with %v", err)
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

// enter logs a user in and waits until they are in the lobby.
func (p *page) enter(url string) {
	p.t.Helper()
	p.do(chromedp.Navigate(url), chromedp.WaitVisible(chromedp.CSS("#login-form")))
	p.fill("#name", p.name)
	p.connected()
}

func (p *page) connected() {
	p.t.Helper()
	p.until(`document.querySelector("#status").dataset.state === "connected" && !document.querySelector("#text").disabled`)
}

func (p *page) say(text string) {
	p.t.Helper()
	p.fill("#text", text)
}

func TestTwoPeopleChatInTwoBrowsers(t *testing.T) {
	browser := startBrowser(t)
	url := startChat(t)
	ann, bob := newPage(t, browser, "ann"), newPage(t, browser, "bob")
	ann.enter(url)
	bob.enter(url)
	for _, p := range []*page{ann, bob} {
		p.until(`document.querySelectorAll("#people li").length === 2`)
	}
	ann.sees(`#people [data-name=ann]`, "host")

	// They talk.
	ann.say("hello bob")
	for _, p := range []*page{ann, bob} {
		p.sees("#messages li.message", "hello bob")
	}
	const markup = `<img src=x onerror="document.body.remove()"> & <b>bold</b>`
	bob.say(markup)
	ann.sees("#messages .text", markup)
	ann.seesNo("#messages .text *")
	bob.do(chromedp.SendKeys(chromedp.CSS("#text"), "I am think"))
	ann.sees("#typing", "bob is typing")
	bob.do(chromedp.Clear(chromedp.CSS("#text")))

	// Only bob reads what is meant for bob.
	eve := newPage(t, browser, "eve")
	eve.enter(url)
	ann.do(chromedp.Click(chromedp.CSS(`#people [data-name=bob] .who`)), chromedp.WaitVisible(chromedp.CSS("#to")))
	ann.say("between us")
	ann.sees("#messages li.direct", "between us")
	bob.sees("#messages li.direct", "ann to you")
	ann.do(chromedp.Click(chromedp.CSS("#to")))
	ann.say("hello all")
	eve.sees("#messages li.message", "hello all")
	eve.seesNo("#messages li.direct")

	// Bob reloads: he is still bob, and reads what was said before.
	bob.do(chromedp.Reload())
	bob.connected()
	bob.sees("#me", "bob")
	bob.sees("#messages li.message", "hello bob")
	bob.sees("#messages li.message", markup)
	bob.until(`document.querySelectorAll("#messages li.message").length === 3`)
	ann.until(`document.querySelectorAll("#people li").length === 3`)
	bob.say("back again")
	ann.sees("#messages li.message", "back again")

	// Rooms.
	eve.fill("#room-name", "garden")
	eve.until(`document.querySelector("#room").textContent === "garden"`)
	ann.until(`!document.querySelector("#people [data-name=eve]")`)
	eve.say("quiet here")
	eve.sees("#messages li.message", "quiet here")
	eve.seesNo("#people [data-name=ann]")

	// Ann, who hosts the lobby, mutes bob for a while.
	ann.do(chromedp.Click(chromedp.Search(`//li[@data-name="bob"]//button[text()="mute"]`)))
	bob.sees("#messages li.notice", "ann has muted you in lobby")
	bob.say("but why")
	bob.sees("#messages li.notice", "you cannot speak in lobby")
	ann.do(chromedp.Click(chromedp.Search(`//li[@data-name="bob"]//button[text()="unmute"]`)))
	bob.sees("#messages li.notice", "ann lets you speak again")
	bob.say("thank you")
	ann.sees("#messages li.message", "thank you")
	ann.until(`![...document.querySelectorAll("#messages .text")].some((e) => e.textContent === "but why")`)

	// Then she removes him. He cannot come back, not by reloading either, but there are other rooms.
	ann.do(chromedp.Click(chromedp.Search(`//li[@data-name="bob"]//button[text()="remove"]`)))
	bob.sees("#messages li.notice", "ann has removed you from lobby")
	bob.until(`document.querySelector("#text").disabled`)
	ann.seesNo("#people [data-name=bob]")
	ann.say("he is gone")
	ann.sees("#messages li.message", "he is gone")
	bob.do(chromedp.Reload())
	bob.sees("#messages li.notice", "You cannot enter lobby")
	bob.fill("#room-name", "garden")
	bob.connected()
	bob.sees("#messages li.message", "quiet here")
	eve.until(`document.querySelectorAll("#people li").length === 2`)
	bob.until(`![...document.querySelectorAll("#messages .text")].some((e) => e.textContent === "he is gone")`)
	screenshot(t, ann, "ann")
	screenshot(t, bob, "bob")

	// Whoever logs out makes room for another.
	eve.do(chromedp.Click(chromedp.CSS("#logout")), chromedp.WaitVisible(chromedp.CSS("#login-form")))
	bob.until(`document.querySelectorAll("#people li").length === 1`)
}

func TestAChatThatRestartsUnderItsPages(t *testing.T) {
	browser := startBrowser(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String() // both runs have it
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
	bob.sees("#messages li.message", "before")
	stop()
	startChatOn(t, srv.ConnectionString(), addr)
	for _, text := range []string{"after", "and again"} {
		ann.say(text)
		ann.sees("#messages li.message", text)
		bob.sees("#messages li.message", text)
	}

	// A message that comes again is shown once.
	direct := webpubsub.JSON(map[string]any{"type": "direct", "id": "x-1", "from": "ann", "to": "bob", "text": "psst", "at": 1})
	service := serviceClient(t, srv, "chat")
	for range 2 {
		require.NoError(t, service.SendToUser(t.Context(), "bob", direct, nil))
	}
	ann.say("the end")
	bob.sees("#messages li.message", "the end")
	bob.until(`document.querySelectorAll("#messages li.direct").length === 1`)
}

func TestWhatThePageKeeps(t *testing.T) {
	browser := startBrowser(t)
	url := startChat(t)
	ann, bob := newPage(t, browser, "ann"), newPage(t, browser, "bob")

	// An address that names no room is the lobby's, and one in upper case is the room's.
	ann.enter(url + "#No room")
	ann.sees("#room", "lobby")
	bob.enter(url + "#Lobby")
	bob.sees("#room", "lobby")
	bob.until(`document.querySelector("#rooms").textContent === "# lobby"`)

	// Bob goes to another room and comes back: his direct messages are where they were.
	ann.say("first")
	bob.sees("#messages li.message", "first")
	ann.do(chromedp.Click(chromedp.CSS(`#people [data-name=bob] .who`)), chromedp.WaitVisible(chromedp.CSS("#to")))
	ann.say("between us")
	bob.sees("#messages li.direct", "between us")
	ann.do(chromedp.Click(chromedp.CSS("#to")))
	ann.say("last")
	bob.sees("#messages li.message", "last")
	bob.fill("#room-name", "garden")
	bob.sees("#room", "garden")
	bob.until(`[...document.querySelectorAll("#messages .text")].map((e) => e.textContent).join() === "between us"`)
	bob.fill("#room-name", "lobby")
	bob.sees("#room", "lobby")
	bob.until(`[...document.querySelectorAll("#messages .text")].map((e) => e.textContent).join() === "first,between us,last"`)

	// As many letters as the field takes can be sent.
	long := strings.Repeat("ж", 2000)
	bob.do(chromedp.SetValue(chromedp.CSS("#text"), long), chromedp.Click(chromedp.CSS("#send")))
	ann.sees("#messages .text", long)

	// Who asks for another room while the page connects comes to that.
	eve := newPage(t, browser, "eve")
	eve.do(chromedp.Navigate(url), chromedp.WaitVisible(chromedp.CSS("#login-form")))
	evaluate[bool](eve, `new MutationObserver((_, observer) => {
		if (document.querySelector("#status").dataset.state !== "connecting") return;
		observer.disconnect();
		queueMicrotask(() => { // once there is a socket
			document.querySelector("#room-name").value = "garden";
			document.querySelector("#room-form").requestSubmit();
		});
	}).observe(document.querySelector("#status"), { attributes: true }) === undefined`)
	eve.fill("#name", "eve")
	eve.connected()
	eve.sees("#room", "garden")

	// One name is one, however a keyboard composes it.
	zoe := newPage(t, browser, "zoe")
	zoe.do(chromedp.Navigate(url), chromedp.WaitVisible(chromedp.CSS("#login-form")),
		chromedp.SetValue(chromedp.CSS("#name"), "Zoe\u0308"), chromedp.Click(chromedp.CSS("#login-form button")))
	zoe.until(`document.querySelector("#me").textContent === "Zo\u00eb"`)
}

// screenshot writes a picture into the directory that BROWSERTEST_SCREENSHOTS names, if it does.
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
