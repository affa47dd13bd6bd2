// Package browsertest tests the web pages of this repository in a headless Chromium. It is a separate module, so that users of
// the library do not download a browser driver.
//
//	cd internal/browsertest && go test ./...
//
// Without a browser the tests are skipped, unless WEBPUBSUB_REQUIRE_BROWSER=1 is set. If the browser is not in the PATH, set
// CHROMIUM to its path.
package browsertest

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// patience bounds every wait of these tests. It elapses only if a test fails.
const patience = 30 * time.Second

// startBrowser starts a browser with an empty profile. The browser is closed when the test ends.
func startBrowser(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path := os.Getenv("CHROMIUM")
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = cmp.Or(path, found)
		}
	}
	if path == "" {
		if os.Getenv("WEBPUBSUB_REQUIRE_BROWSER") == "1" {
			t.Fatal("Chromium is not in the PATH, but WEBPUBSUB_REQUIRE_BROWSER=1 requires it")
		}
		t.Skip("Chromium is not in the PATH")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1100, 720))
	options = append(options, more...)
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the browser has exited, so that its profile can be removed
		cancel()
		cancelAllocator()
	})
	require.NoError(t, chromedp.Do(ctx))
	return ctx
}

// page is a tab in its own browser context. It does not share cookies with other pages.
type page struct {
	t    *testing.T
	name string
	ctx  context.Context

	mu     sync.Mutex // guards faults
	faults []string   // uncaught exceptions
}

func newPage(t *testing.T, browser context.Context, name string) *page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	p := &page{t: t, name: name, ctx: ctx}
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		if thrown, ok := event.(*runtime.EventExceptionThrown); ok {
			details := thrown.ExceptionDetails
			fault := fmt.Sprintf("%s, line %d", details.Text, details.LineNumber+1)
			if details.Exception != nil {
				fault += ": " + details.Exception.Description
			}
			p.mu.Lock()
			p.faults = append(p.faults, fault)
			p.mu.Unlock()
		}
	}))
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.faults) > 0 {
			t.Errorf("uncaught exceptions on the page of %s: %q", name, p.faults)
		}
		if t.Failed() {
			t.Logf("the text of the page of %s at the end:\n%s", name, p.text())
		}
	})
	return p
}

// do runs actions, and fails the test if one fails.
func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("the page of %s: %v", p.name, err)
	}
}

// fill types text into an input and submits its form with the Enter key.
func (p *page) fill(selector, text string) {
	p.t.Helper()
	p.do(chromedp.SendKeys(chromedp.CSS(selector), text+"\r"))
}

// waitUntil waits until a JavaScript expression is true.
func (p *page) waitUntil(expression string, args ...any) {
	p.t.Helper()
	if len(args) > 0 {
		expression = fmt.Sprintf(expression, args...)
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	// chromedp.Poll does not work on a page with a strict content security policy, because it evaluates a string.
	poll := fmt.Sprintf("new Promise((resolve) => { (function look() { (%s) ? resolve(true) : requestAnimationFrame(look); })(); })", expression)
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](poll, chromedp.EvalAwaitPromise)); err != nil {
		p.t.Fatalf("on the page of %s, %s did not become true: %v", p.name, expression, err)
	}
}

// waitForText waits until an element contains text.
func (p *page) waitForText(selector, text string) {
	p.t.Helper()
	p.waitUntil("[...document.querySelectorAll(%q)].some((e) => e.textContent.includes(%q))", selector, text)
}

// waitForNone waits until no element matches the selector.
func (p *page) waitForNone(selector string) {
	p.t.Helper()
	p.waitUntil("!document.querySelector(%q)", selector)
}

// text returns the text of the page, to debug a failed test.
func (p *page) text() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	if err != nil {
		return err.Error()
	}
	return text
}
