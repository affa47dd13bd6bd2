package browsertest

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// startChat builds and starts examples/chat on its emulator, and returns the URL of its page.
func startChat(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "chat")
	build := exec.Command("go", "build", "-C", "../..", "-o", binary, "./examples/chat")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	var log bytes.Buffer
	chat := exec.Command(binary, "-addr", "127.0.0.1:0")
	chat.Env = append(os.Environ(), "WEBPUBSUB_CONNECTION_STRING=")
	chat.Stderr = &log
	stdout, err := chat.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, chat.Start())
	t.Cleanup(func() {
		_ = chat.Process.Signal(syscall.SIGTERM)
		if err := chat.Wait(); err != nil {
			t.Errorf("the chat ended with %v", err)
		}
		if t.Failed() {
			t.Logf("the chat's log:\n%s", &log)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	_, url, found := strings.Cut(strings.TrimSpace(line), "The chat is open at ")
	require.True(t, found, line)
	return url
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
