package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
)

// program is the built program.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "webpubsub-emulator")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "webpubsub-emulator")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		panic(fmt.Sprintf("building the program: %v\n%s", err, out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	p := &process{Cmd: exec.CommandContext(ctx, program, args...), stderr: &safeBuffer{}}
	p.Env = append(os.Environ(), env...)
	p.Stderr = p.stderr
	stdout, err := p.StdoutPipe()
	require.NoError(t, err)
	p.stdout = bufio.NewReader(stdout)
	require.NoError(t, p.Start())
	t.Cleanup(func() { p.Process.Kill(); p.Wait() })
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

// end sends a signal and waits for the program's end. It returns what else was on standard output.
func (p *process) end(t *testing.T, signal os.Signal) string {
	t.Helper()
	require.NoError(t, p.Process.Signal(signal))
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
			ok, err := client.GetServiceStatus(t.Context(), nil)
			require.NoError(t, err)
			require.True(t, ok)

			access, err := client.GetClientAccessToken(t.Context(), nil)
			require.NoError(t, err)
			conn, _, err := websocket.Dial(t.Context(), access.URL,
				&websocket.DialOptions{Subprotocols: []string{"json.webpubsub.azure.v1"}})
			require.NoError(t, err)
			defer conn.CloseNow()
			_, frame, err := conn.Read(t.Context())
			require.NoError(t, err)
			require.Contains(t, string(frame), `"connected"`)

			ended := make(chan string, 1)
			go func() { ended <- p.end(t, signal) }()
			_, frame, err = conn.Read(t.Context())
			require.NoError(t, err)
			require.Contains(t, string(frame), `"disconnected"`)
			_, _, err = conn.Read(t.Context())
			require.NotEqual(t, websocket.StatusCode(-1), websocket.CloseStatus(err), "the client gets a close frame: %v", err)

			require.Empty(t, <-ended, "the connection string is the only line on standard output")
			logged := p.stderr.String()
			require.Contains(t, logged, "local development only")
			require.NotContains(t, logged, key)
			require.NotContains(t, logged, access.Token)
		})
	}
}

func TestAFlagWinsOverItsVariable(t *testing.T) {
	p := start(t, []string{"-addr", ":0", "-access-key", "flag"},
		"WEBPUBSUB_EMULATOR_ADDR=nowhere", "WEBPUBSUB_EMULATOR_ACCESS_KEY=variable", "WEBPUBSUB_EMULATOR_LOG_LEVEL=error")
	require.Regexp(t, `^Endpoint=http://127\.0\.0\.1:[1-9][0-9]*;AccessKey=flag;`, p.connectionString(t))
	require.Empty(t, p.end(t, syscall.SIGTERM))
	require.Empty(t, p.stderr.String(), "the log level of the environment holds")
}

func TestWithoutAKeyEachRunHasItsOwn(t *testing.T) {
	keys := make(map[string]bool)
	for range 2 {
		p := start(t, []string{"-addr", "127.0.0.1:0"})
		_, key, _ := strings.Cut(p.connectionString(t), "AccessKey=")
		keys[key] = true
		p.end(t, syscall.SIGTERM)
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
		{"an unknown flag", []string{"-port", "80"}, "", exitUsage, "flag provided but not defined: -port (-help lists the flags)"},
		{"an argument", []string{"start"}, "", exitUsage, `unexpected argument "start"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := start(t, tc.args, tc.env)
			stdout, err := io.ReadAll(p.stdout)
			require.NoError(t, err)
			p.Wait()
			require.Equal(t, tc.code, p.ProcessState.ExitCode(), "%s", p.stderr)
			require.Empty(t, stdout)
			require.Contains(t, p.stderr.String(), tc.stderr)
			require.NotContains(t, p.stderr.String(), "a;b")
		})
	}
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
	for _, name := range []string{"addr", "access-key", "log-level"} {
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
	p.end(t, syscall.SIGTERM)
}
