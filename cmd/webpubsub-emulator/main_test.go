package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/cmd/internal/programtest"
	"github.com/awps-go/webpubsub/wsclient"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

// connectionString reads the line that the program prints once it has started.
func connectionString(t *testing.T, p *programtest.Process) string {
	t.Helper()
	line := p.Line(t)
	connectionString, ok := strings.CutPrefix(line, "connection string: ")
	require.True(t, ok, "the program printed %q", line)
	return connectionString
}

// end stops the program and waits for it. It returns the rest of standard output.
func end(t *testing.T, p *programtest.Process) string {
	t.Helper()
	p.End(t)
	return wait(t, p)
}

// wait waits for the program to exit, which must succeed. It returns the rest of standard output.
func wait(t *testing.T, p *programtest.Process) string {
	t.Helper()
	code, rest := p.Result(t)
	require.Equal(t, exitOK, code, "standard error: %s", p.Stderr)
	return rest
}

func TestASignalEndsTheProgramCleanly(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			const key = "the-key-nobody-should-see"
			p := programtest.Start(t, []string{"-addr", "127.0.0.1:0", "-log-level", "debug"}, "WEBPUBSUB_EMULATOR_ACCESS_KEY="+key)
			connectionString := connectionString(t, p)
			require.Regexp(t, `^Endpoint=http://127\.0\.0\.1:[1-9][0-9]*;AccessKey=`+key+`;Version=1\.0;$`, connectionString)

			client, err := webpubsub.NewClientFromConnectionString(connectionString, "chat", nil)
			require.NoError(t, err)
			require.NoError(t, client.GetServiceStatus(t.Context(), nil))

			access, err := client.GetClientAccessToken(t.Context(), nil)
			require.NoError(t, err)
			conn, _, err := websocket.Dial(t.Context(), access.URL,
				&websocket.DialOptions{Subprotocols: []string{"json.webpubsub.azure.v1"}})
			require.NoError(t, err)
			defer conn.CloseNow()
			_, frame, err := conn.Read(t.Context())
			require.NoError(t, err)
			require.Contains(t, string(frame), `"connected"`)

			p.Signal(t, signal)
			_, frame, err = conn.Read(t.Context())
			require.NoError(t, err)
			require.Contains(t, string(frame), `"disconnected"`)
			_, _, err = conn.Read(t.Context())
			require.NotEqual(t, websocket.StatusCode(-1), websocket.CloseStatus(err), "the client must receive a close frame: %v", err)

			require.Empty(t, wait(t, p), "the connection string is the only line on standard output")
			logged := p.Stderr.String()
			require.Contains(t, logged, "local development only")
			require.NotContains(t, logged, key)
			require.NotContains(t, logged, access.Token)
		})
	}
}

func TestAFlagWinsOverItsVariable(t *testing.T) {
	p := programtest.Start(t, []string{"-addr", ":0", "-access-key", "flag", "-log-level", "error"},
		"WEBPUBSUB_EMULATOR_ADDR=nowhere", "WEBPUBSUB_EMULATOR_ACCESS_KEY=variable", "WEBPUBSUB_EMULATOR_LOG_LEVEL=loud")
	require.Regexp(t, `^Endpoint=http://127\.0\.0\.1:[1-9][0-9]*;AccessKey=flag;`, connectionString(t, p))
	require.Empty(t, end(t, p))
	require.Empty(t, p.Stderr.String())
}

func TestWithoutAKeyEachRunHasItsOwn(t *testing.T) {
	keys := make(map[string]bool)
	for range 2 {
		p := programtest.Start(t, []string{"-addr", "127.0.0.1:0"})
		_, key, _ := strings.Cut(connectionString(t, p), "AccessKey=")
		keys[key] = true
		end(t, p)
	}
	require.Len(t, keys, 2)
}

func TestTheProgramRefusesToStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for _, tc := range []struct {
		name   string
		args   []string
		env    string
		code   int
		stderr string
	}{
		{"an address without a port", []string{"-addr", "localhost"}, "", exitUsage, "--addr: address localhost: missing port in address"},
		{"an address that is taken", []string{"-addr", taken.Addr().String()}, "", exitFailed, "address already in use"},
		{"an unknown level", []string{"-log-level", "loud"}, "", exitUsage, `invalid value "loud" for flag -log-level`},
		{"an unknown level in the environment", nil, "WEBPUBSUB_EMULATOR_LOG_LEVEL=loud", exitUsage,
			"the environment variable WEBPUBSUB_EMULATOR_LOG_LEVEL: "},
		{"a key that would break the connection string", []string{"-addr", "127.0.0.1:0", "-access-key", "a;b"}, "", exitUsage, "semicolon"},
		{"no file of hub settings", []string{"-hubs", filepath.Join(t.TempDir(), "none.json")}, "", exitUsage, "--hubs: open "},
		{"hub settings that are not JSON", []string{"-hubs", writeFile(t, `{"chat":`)}, "", exitUsage, "unexpected EOF"},
		{"hub settings and more", []string{"-hubs", writeFile(t, `{}{}`)}, "", exitUsage, "unexpected data after the settings"},
		{"an unknown hub setting", []string{"-hubs", writeFile(t, `{"chat":{"handlers":[]}}`)}, "", exitUsage, `unknown field "handlers"`},
		{"an invalid hub setting", []string{"-addr", "127.0.0.1:0", "-hubs",
			writeFile(t, `{"chat":{"eventHandlers":[{"urlTemplate":"nowhere","userEventPattern":"*"}]}}`)}, "", exitUsage,
			"hub chat: EventHandlers[0]: "},
		{"a certificate without a key", []string{"-tls-cert", "cert.pem"}, "", exitUsage, "--tls-cert and --tls-key must be used together"},
		{"a key without a certificate", nil, "WEBPUBSUB_EMULATOR_TLS_KEY=key.pem", exitUsage, "--tls-cert and --tls-key must be used together"},
		{"an invalid certificate", []string{"-tls-cert", writeFile(t, "{}"), "-tls-key", writeFile(t, "{}")}, "", exitUsage,
			"--tls-cert, --tls-key: tls: failed to find any PEM data"},
		{"an unknown flag", []string{"-port", "80"}, "", exitUsage, "flag provided but not defined: -port (-help lists the flags)"},
		{"a connection string", []string{"Endpoint=https://example.com;AccessKey=a-secret-key;Version=1.0;"}, "", exitUsage, "unexpected argument"},
		{"an argument", []string{"start"}, "", exitUsage, `unexpected argument "start"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := programtest.Start(t, tc.args, tc.env)
			code, stdout := p.Result(t)
			require.Equal(t, tc.code, code, "%s", p.Stderr)
			require.Empty(t, stdout)
			require.Contains(t, p.Stderr.String(), tc.stderr)
			require.NotRegexp(t, "a;b|a-secret-key", p.Stderr.String())
		})
	}
}

// writeFile writes a file for one test.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestHubSettingsConfigureEventHandlers(t *testing.T) {
	gone := make(chan string, 1)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			w.Header().Set("WebHook-Allowed-Origin", "*")
			return
		}
		said, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if r.URL.Path == "/chat/disconnected" {
			gone <- string(said)
		}
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "%s: %s", r.URL.Path, said)
	}))
	defer app.Close()
	file := writeFile(t, `{"chat": {"eventHandlers": [{"urlTemplate": "`+app.URL+`/{hub}/{event}",
		"systemEvents": ["disconnected"], "userEventPattern": "*"}]}}`)
	p := programtest.Start(t, []string{"-addr", "127.0.0.1:0"}, "WEBPUBSUB_EMULATOR_HUBS="+file, "WEBPUBSUB_EMULATOR_LOG_LEVEL=error")
	client, err := webpubsub.NewClientFromConnectionString(connectionString(t, p), "chat", nil)
	require.NoError(t, err)
	access, err := client.GetClientAccessToken(t.Context(), nil)
	require.NoError(t, err)
	conn, err := wsclient.Dial(t.Context(), wsclient.StaticURL(access.URL), nil)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SendEvent(t.Context(), "order", wsclient.Text("hello"), nil))
	message, err := conn.Receive(t.Context())
	require.NoError(t, err)
	require.Equal(t, "/chat/order: hello", message.Text())
	end(t, p)
	require.Contains(t, <-gone, "shutting down", "the application is notified that the program has ended")
	require.Empty(t, p.Stderr.String(), "the log level of the environment applies")
}

func TestTheHubSettingsFileIsReloadedWhileTheProgramRuns(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(w, r.URL.Path)
	}))
	defer app.Close()
	settings := func(path string) string {
		return `{"chat": {"eventHandlers": [{"urlTemplate": "` + app.URL + path + `", "userEventPattern": "*"}]}}`
	}
	file := writeFile(t, settings("/a"))
	p := programtest.Start(t, []string{"-addr", "127.0.0.1:0", "-hubs", file})
	client, err := webpubsub.NewClientFromConnectionString(connectionString(t, p), "chat", nil)
	require.NoError(t, err)
	access, err := client.GetClientAccessToken(t.Context(), nil)
	require.NoError(t, err)
	conn, err := wsclient.Dial(t.Context(), wsclient.StaticURL(access.URL), nil)
	require.NoError(t, err)
	defer conn.Close()
	ask := func() string {
		require.NoError(t, conn.SendEvent(t.Context(), "order", wsclient.Text("hello"), nil))
		message, err := conn.Receive(t.Context())
		require.NoError(t, err)
		return message.Text()
	}
	require.Equal(t, "/a", ask())
	require.NoError(t, os.WriteFile(file, []byte(`{"chat": `), 0o600))
	require.Eventually(t, func() bool { return strings.Contains(p.Stderr.String(), "the last good settings still apply") },
		30*time.Second, time.Millisecond)
	require.Equal(t, "/a", ask())
	require.NoError(t, os.WriteFile(file, []byte(settings("/changed")), 0o600))
	require.Eventually(t, func() bool { return ask() == "/changed" }, 30*time.Second, 10*time.Millisecond,
		"the new handler receives events of clients that were already connected")
	require.NoError(t, conn.Close())
	end(t, p)
}

func TestConnectedAfterRecovery(t *testing.T) {
	for _, again := range []bool{true, false} {
		p := programtest.Start(t, []string{"-addr", "127.0.0.1:0", fmt.Sprintf("-connected-after-recovery=%t", again)})
		client, err := webpubsub.NewClientFromConnectionString(connectionString(t, p), "chat", nil)
		require.NoError(t, err)
		access, err := client.GetClientAccessToken(t.Context(), nil)
		require.NoError(t, err)
		open := func(query string) (ws *websocket.Conn, hello map[string]string) {
			ws, _, err := websocket.Dial(t.Context(), access.URL+query,
				&websocket.DialOptions{Subprotocols: []string{wsclient.JSONReliable.String()}})
			require.NoError(t, err)
			require.NoError(t, ws.Write(t.Context(), websocket.MessageText, []byte(`{"type":"ping"}`)))
			_, frame, err := ws.Read(t.Context())
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(frame, &hello))
			return ws, hello
		}
		ws, hello := open("")
		require.NoError(t, ws.CloseNow())
		ws, first := open("&awps_connection_id=" + hello["connectionId"] + "&awps_reconnection_token=" + url.QueryEscape(hello["reconnectionToken"]))
		require.Equal(t, again, first["event"] == "connected", first)
		require.NoError(t, ws.Close(websocket.StatusNormalClosure, ""))
		end(t, p)
	}
}

func TestBearerTokensAreAcceptedOnRequest(t *testing.T) {
	for _, accept := range []bool{true, false} {
		p := programtest.Start(t, []string{"-addr", "127.0.0.1:0", fmt.Sprintf("-accept-bearer=%t", accept)})
		parsed, err := webpubsub.ParseConnectionString(connectionString(t, p))
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, parsed.Endpoint+"/api/hubs/chat/:closeConnections", nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer not.a.signed-token")
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, accept, resp.StatusCode == http.StatusNoContent, resp.Status)
		require.True(t, accept || resp.StatusCode == http.StatusUnauthorized, resp.Status)
		end(t, p)
	}
}

func TestWithACertificateItSpeaksTLS(t *testing.T) {
	other := httptest.NewTLSServer(nil) // with a certificate for 127.0.0.1 and a client that trusts it
	defer other.Close()
	pair := other.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	require.NoError(t, os.WriteFile(certFile, cert, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))

	p := programtest.Start(t, []string{"-addr", "127.0.0.1:0", "-tls-cert", certFile, "-tls-key", keyFile})
	connectionString := connectionString(t, p)
	require.Contains(t, connectionString, "Endpoint=https://127.0.0.1:")
	client, err := webpubsub.NewClientFromConnectionString(connectionString, "chat",
		&webpubsub.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: other.Client()}})
	require.NoError(t, err)
	access, err := client.GetClientAccessToken(t.Context(), nil)
	require.NoError(t, err)
	require.Contains(t, access.URL, "wss://127.0.0.1:")
	conn, err := wsclient.Dial(t.Context(), wsclient.StaticURL(access.URL), &wsclient.Options{HTTPClient: other.Client()})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, client.SendToAll(t.Context(), webpubsub.Text("hello"), nil))
	message, err := conn.Receive(t.Context())
	require.NoError(t, err)
	require.Equal(t, "hello", message.Text())
	require.NoError(t, conn.Close())
	end(t, p)
}

func TestHelp(t *testing.T) {
	p := programtest.Start(t, []string{"-help"}, "WEBPUBSUB_EMULATOR_ACCESS_KEY=secret")
	require.Empty(t, wait(t, p))
	help := p.Stderr.String()
	require.Contains(t, help, "for local development")
	require.NotContains(t, help, "secret")
	for _, name := range []string{"addr", "access-key", "accept-bearer", "connected-after-recovery", "log-level", "hubs", "tls-cert", "tls-key"} {
		require.Contains(t, help, "\n  -"+name+" ")
		require.Contains(t, help, "\n        WEBPUBSUB_EMULATOR_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"\n")
	}
}

func TestHealth(t *testing.T) {
	p := programtest.Start(t, []string{"-addr", "127.0.0.1:0"})
	endpoint, _, _ := strings.Cut(strings.TrimPrefix(connectionString(t, p), "Endpoint="), ";")
	resp, err := http.Head(endpoint + "/api/health")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	end(t, p)
}
