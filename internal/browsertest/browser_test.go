// Package browsertest drives the web pages of this repository in a real headless Chromium. It is a module of its own, so
// that nobody who uses the library downloads a browser driver.
//
//	cd internal/browsertest && go test ./...
//
// Without a browser its tests are skipped, unless WEBPUBSUB_REQUIRE_BROWSER=1 is set. CHROMIUM names the browser if it is
// not in the PATH.
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

// patience is how long a test waits for what should happen, before it fails.
const patience = 30 * time.Second

// startBrowser starts a browser with an empty profile, which ends with the test.
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
			t.Fatal("there is no Chromium in the PATH, and WEBPUBSUB_REQUIRE_BROWSER=1 asks for one")
		}
		t.Skip("skipped: there is no Chromium in the PATH")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1100, 720))
	options = append(options, more...)
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the browser has gone, so that its profile can be removed
		cancel()
		cancelAllocator()
	})
	require.NoError(t, chromedp.Do(ctx))
	return ctx
}

// page is a tab of a browser context of its own: it shares no cookie with another.
type page struct {
	t    *testing.T
	name string
	ctx  context.Context

	mu     sync.Mutex // guards faults
	faults []string   // exceptions and errors on the console
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
			t.Errorf("the page of %s threw: %q", name, p.faults)
		}
		if t.Failed() {
			t.Logf("the page of %s is at the end:\n%s", name, p.last())
		}
	})
	return p
}

// do runs actions.
func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("the page of %s: %v", p.name, err)
	}
}

// fill types a text into an input and sends its form.
func (p *page) fill(selector, text string) {
	p.t.Helper()
	p.do(chromedp.SendKeys(chromedp.CSS(selector), text+"\r"))
}

// until waits for a JavaScript expression to become true.
func (p *page) until(expression string, args ...any) {
	p.t.Helper()
	if len(args) > 0 {
		expression = fmt.Sprintf(expression, args...)
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	// Not chromedp.Poll, which makes a function of a string: a page with a strict policy does not let it.
	poll := fmt.Sprintf("new Promise((resolve) => { (function look() { (%s) ? resolve(true) : requestAnimationFrame(look); })(); })", expression)
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](poll, chromedp.EvalAwaitPromise)); err != nil {
		p.t.Fatalf("on the page of %s, %s did not become true: %v", p.name, expression, err)
	}
}

// sees waits for an element that contains a text.
func (p *page) sees(selector, text string) {
	p.t.Helper()
	p.until("[...document.querySelectorAll(%q)].some((e) => e.textContent.includes(%q))", selector, text)
}

// seesNo waits until there is no element.
func (p *page) seesNo(selector string) {
	p.t.Helper()
	p.until("!document.querySelector(%q)", selector)
}

// last is the text of the page, for those who look for what went wrong.
func (p *page) last() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	if err != nil {
		return err.Error()
	}
	return text
}
