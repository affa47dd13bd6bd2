package browsertest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
)

const wsclientPage = `<!doctype html><pre id="log"></pre><script src="wasm_exec.js"></script><script>
const go = new Go();
WebAssembly.instantiateStreaming(fetch("main.wasm"), go.importObject).then((result) => go.run(result.instance));
</script>`

// TestWSClient runs package wsclient in a browser. There a connection cannot be cut, most close codes are refused, and the
// service's close code is not available.
func TestWSClient(t *testing.T) {
	browser := startBrowser(t)
	wasm := filepath.Join(t.TempDir(), "main.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", wasm, "./testdata/wsclient")
	build.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("/main.wasm", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, wasm) })
	mux.HandleFunc("/wasm_exec.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(strings.TrimSpace(string(root)), "lib", "wasm", "wasm_exec.js"))
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(wsclientPage)) })
	pages := httptest.NewServer(mux)
	defer pages.Close()

	srv := emulator.StartT(t, nil)
	service := serviceClient(t, srv, "chat")
	access, err := service.GetClientAccessToken(t.Context(), &webpubsub.ClientAccessTokenOptions{UserID: "gopher"})
	require.NoError(t, err)
	p := newPage(t, browser, "the client")
	p.do(chromedp.Navigate(pages.URL + "/#" + url.PathEscape(access.URL)))
	send := func(text string) {
		t.Helper()
		require.NoError(t, service.SendToUser(t.Context(), "gopher", webpubsub.Text(text), nil))
	}
	// connectionID returns the id of the connection on the log's last line.
	connectionID := func() string {
		t.Helper()
		return evaluate[string](p, `document.querySelector("#log").textContent.trim().split(" ").at(-1)`)
	}
	p.waitForText("#log", "connected")
	id := connectionID()
	send("one")
	p.waitForText("#log", "message one")

	require.True(t, srv.SilenceConnection("chat", id))
	send("two")
	p.waitForText("#log", "recovered "+id)
	p.waitForText("#log", "message two")

	require.True(t, srv.DropConnection("chat", id))
	srv.Advance(31 * time.Second) // too late for a recovery
	p.waitForText("#log", "disconnected 1008")
	p.waitUntil(`document.querySelector("#log").textContent.match(/^connected/gm).length === 3`)

	require.NoError(t, service.CloseConnection(t.Context(), connectionID(), &webpubsub.CloseConnectionOptions{Reason: "bye"}))
	p.waitForText("#log", "server close: Application server closed the connection. Reason: bye")
	p.waitForText("#log", "disconnected 1000")
	p.waitUntil(`document.querySelector("#log").textContent.match(/^connected/gm).length === 4`)

	send("close")
	p.waitForText("#log", "Close: <nil>")
	require.NoError(t, srv.WaitForConnections(t.Context(), "chat", 0))
}
