package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
)

// asProgram is the environment variable that makes the test binary be the program.
const asProgram = "TEST_BINARY_IS_THE_PROGRAM"

// TestMain runs the tests, or is the program for them: so what they start is built from what they are built from, with
// the race detector if they have it. A program built by the tests would be out of sight of go test's cache, which then
// reports as passed what it has not run.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is the program, running.
type process struct {
	*exec.Cmd
	stdout *bufio.Reader
	stderr *safeBuffer
}

// start starts the program on a free port, with further arguments and environment variables.
func start(t *testing.T, args []string, env ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	program, err := os.Executable()
	require.NoError(t, err)
	p := &process{Cmd: exec.CommandContext(ctx, program, args...), stderr: &safeBuffer{}}
	// The race detector would have each program sleep for a second before it ends.
	p.Env = append(append(os.Environ(), asProgram+"=1", "GORACE=atexit_sleep_ms=0"), env...)
	p.Stderr = p.stderr
	stdout, err := p.StdoutPipe()
	require.NoError(t, err)
	p.stdout = bufio.NewReader(stdout)
	require.NoError(t, p.Start())
	t.Cleanup(func() { _, _ = p.Process.Kill(), p.Wait() })
	return p
}

// connectionString reads the line that the program prints once it is up.
func (p *process) connectionString(t *testing.T) string {
	t.Helper()
	line, err := p.stdout.ReadString('\n')
	require.NoError(t, err, "standard error: %s", p.stderr)
	connectionString, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "connection string: ")
	require.True(t, ok, "the program printed %q", line)
	return connectionString
}

// end asks the program to end and waits for it. It returns what else was on standard output.
func (p *process) end(t *testing.T) string {
	t.Helper()
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	return p.wait(t)
}

// wait waits for the program's end, which must be a clean one. It returns what else was on standard output.
func (p *process) wait(t *testing.T) string {
	t.Helper()
	rest, err := io.ReadAll(p.stdout)
	require.NoError(t, err)
	require.NoError(t, p.Wait(), "standard error: %s", p.stderr)
	return string(rest)
}

type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestASignalEndsTheProgramCleanly(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			const key = "the-key-nobody-should-see"
			p := start(t, []string{"-addr", "127.0.0.1:0", "-log-level", "debug"}, "WEBPUBSUB_EMULATOR_ACCESS_KEY="+key)
			connectionString := p.connectionString(t)
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

			require.NoError(t, p.Process.Signal(signal))
			_, frame, err = conn.Read(t.Context())
			require.NoError(t, err)
			require.Contains(t, string(frame), `"disconnected"`)
			_, _, err = conn.Read(t.Context())
			require.NotEqual(t, websocket.StatusCode(-1), websocket.CloseStatus(err), "the client gets a close frame: %v", err)

			require.Empty(t, p.wait(t), "the connection string is the only line on standard output")
			logged := p.stderr.String()
			require.Contains(t, logged, "local development only")
			require.NotContains(t, logged, key)
			require.NotContains(t, logged, access.Token)
		})
	}
}

func TestAFlagWinsOverItsVariable(t *testing.T) {
	p := start(t, []string{"-addr", ":0", "-access-key", "flag", "-log-level", "error"},
		"WEBPUBSUB_EMULATOR_ADDR=nowhere", "WEBPUBSUB_EMULATOR_ACCESS_KEY=variable", "WEBPUBSUB_EMULATOR_LOG_LEVEL=loud")
	require.Regexp(t, `^Endpoint=http://127\.0\.0\.1:[1-9][0-9]*;AccessKey=flag;`, p.connectionString(t))
	require.Empty(t, p.end(t))
	require.Empty(t, p.stderr.String())
}

func TestWithoutAKeyEachRunHasItsOwn(t *testing.T) {
	keys := make(map[string]bool)
	for range 2 {
		p := start(t, []string{"-addr", "127.0.0.1:0"})
		_, key, _ := strings.Cut(p.connectionString(t), "AccessKey=")
		keys[key] = true
		p.end(t)
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
		{"an address without a port", []string{"-addr", "localhost"}, "", exitUsage, "-addr: address localhost: missing port in address"},
		{"an address that is taken", []string{"-addr", taken.Addr().String()}, "", exitFailed, "address already in use"},
		{"an unknown level", []string{"-log-level", "loud"}, "", exitUsage, `invalid value "loud" for flag -log-level`},
		{"an unknown level in the environment", nil, "WEBPUBSUB_EMULATOR_LOG_LEVEL=loud", exitUsage,
			"the environment variable WEBPUBSUB_EMULATOR_LOG_LEVEL: "},
		{"a key that would break the connection string", []string{"-addr", "127.0.0.1:0", "-access-key", "a;b"}, "", exitFailed, "semicolon"},
		{"no file of hub settings", []string{"-hubs", filepath.Join(t.TempDir(), "none.json")}, "", exitUsage, "-hubs: open "},
		{"hub settings that are no JSON", []string{"-hubs", writeFile(t, `{"chat":`)}, "", exitUsage, "unexpected EOF"},
		{"hub settings and more", []string{"-hubs", writeFile(t, `{}{}`)}, "", exitUsage, "there is more after the settings"},
		{"an unknown hub setting", []string{"-hubs", writeFile(t, `{"chat":{"handlers":[]}}`)}, "", exitUsage, `unknown field "handlers"`},
		{"a hub setting that is wrong", []string{"-addr", "127.0.0.1:0", "-hubs",
			writeFile(t, `{"chat":{"eventHandlers":[{"urlTemplate":"nowhere","userEventPattern":"*"}]}}`)}, "", exitFailed,
			"hub chat: EventHandlers[0]: "},
		{"a certificate without a key", []string{"-tls-cert", "cert.pem"}, "", exitUsage, "-tls-cert and -tls-key go together"},
		{"a key without a certificate", nil, "WEBPUBSUB_EMULATOR_TLS_KEY=key.pem", exitUsage, "-tls-cert and -tls-key go together"},
		{"a certificate that is none", []string{"-tls-cert", writeFile(t, "{}"), "-tls-key", writeFile(t, "{}")}, "", exitUsage,
			"-tls-cert, -tls-key: tls: failed to find any PEM data"},
		{"an unknown flag", []string{"-port", "80"}, "", exitUsage, "flag provided but not defined: -port (-help lists the flags)"},
		{"an argument", []string{"start"}, "", exitUsage, `unexpected argument "start"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := start(t, tc.args, tc.env)
			stdout, err := io.ReadAll(p.stdout)
			require.NoError(t, err)
			_ = p.Wait() // its exit code is checked below
			require.Equal(t, tc.code, p.ProcessState.ExitCode(), "%s", p.stderr)
			require.Empty(t, stdout)
			require.Contains(t, p.stderr.String(), tc.stderr)
			require.NotContains(t, p.stderr.String(), "a;b")
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

func TestHubSettingsSayWhoIsToldOfEvents(t *testing.T) {
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
	p := start(t, []string{"-addr", "127.0.0.1:0"}, "WEBPUBSUB_EMULATOR_HUBS="+file, "WEBPUBSUB_EMULATOR_LOG_LEVEL=error")
	client, err := webpubsub.NewClientFromConnectionString(p.connectionString(t), "chat", nil)
	require.NoError(t, err)
	access, err := client.GetClientAccessToken(t.Context(), nil)
	require.NoError(t, err)
	conn, _, err := websocket.Dial(t.Context(), access.URL, nil)
	require.NoError(t, err)
	defer conn.CloseNow()
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("hello")))
	_, frame, err := conn.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, "/chat/message: hello", string(frame))
	p.end(t)
	require.Contains(t, <-gone, "shutting down", "the application hears that the program has ended")
	require.Empty(t, p.stderr.String(), "the log level of the environment holds")
}

func TestWithACertificateItSpeaksTLS(t *testing.T) {
	other := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1, and a client that trusts it
	defer other.Close()
	pair := other.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	require.NoError(t, os.WriteFile(certFile, cert, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))

	p := start(t, []string{"-addr", "127.0.0.1:0", "-tls-cert", certFile, "-tls-key", keyFile})
	connectionString := p.connectionString(t)
	require.Contains(t, connectionString, "Endpoint=https://127.0.0.1:")
	client, err := webpubsub.NewClientFromConnectionString(connectionString, "chat",
		&webpubsub.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: other.Client()}})
	require.NoError(t, err)
	access, err := client.GetClientAccessToken(t.Context(), nil)
	require.NoError(t, err)
	require.Contains(t, access.URL, "wss://127.0.0.1:")
	conn, _, err := websocket.Dial(t.Context(), access.URL, &websocket.DialOptions{HTTPClient: other.Client()})
	require.NoError(t, err)
	defer conn.CloseNow()
	require.NoError(t, client.SendToAll(t.Context(), webpubsub.Text("hello"), nil))
	_, frame, err := conn.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, "hello", string(frame))
	require.NoError(t, conn.CloseNow())
	p.end(t)
}

func TestHelp(t *testing.T) {
	p := start(t, []string{"-help"}, "WEBPUBSUB_EMULATOR_ACCESS_KEY=secret")
	stdout, err := io.ReadAll(p.stdout)
	require.NoError(t, err)
	require.NoError(t, p.Wait())
	require.Empty(t, stdout)
	help := p.stderr.String()
	require.Contains(t, help, "for local development")
	require.NotContains(t, help, "secret")
	for _, name := range []string{"addr", "access-key", "log-level", "hubs", "tls-cert", "tls-key"} {
		require.Contains(t, help, "\n  -"+name+" ")
		require.Contains(t, help, "\n        WEBPUBSUB_EMULATOR_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"\n")
	}
}

func TestAnAddressWithoutAHostIsLoopback(t *testing.T) {
	for addr, want := range map[string]string{
		":8080":          "127.0.0.1:8080",
		"127.0.0.1:8080": "127.0.0.1:8080",
		"0.0.0.0:8080":   "0.0.0.0:8080",
		"[::1]:0":        "[::1]:0",
	} {
		cfg, err := parse([]string{"-addr", addr}, func(string) string { return "" }, io.Discard)
		require.NoError(t, err)
		require.Equal(t, want, cfg.addr)
	}
}

func TestHealth(t *testing.T) {
	p := start(t, []string{"-addr", "127.0.0.1:0"})
	endpoint, _, _ := strings.Cut(strings.TrimPrefix(p.connectionString(t), "Endpoint="), ";")
	resp, err := http.Head(endpoint + "/api/health")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	p.end(t)
}
