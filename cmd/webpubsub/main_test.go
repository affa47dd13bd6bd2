package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/cmd/internal/programtest"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/wsclient"
)

func TestMain(m *testing.M) { programtest.Main(m, main) }

// hub is the hub of the tests.
const hub = "chat"

// on returns the environment variables for an emulator and the hub.
func on(server *emulator.Server) []string {
	return []string{"WEBPUBSUB_CONNECTION_STRING=" + server.ConnectionString(), "WEBPUBSUB_HUB=" + hub}
}

// succeed runs the program and returns its standard output. The program must exit with 0 and write nothing to standard
// error.
func succeed(t *testing.T, env []string, args ...string) string {
	t.Helper()
	p := programtest.Start(t, args, env...)
	require.NoError(t, p.Stdin.Close())
	code, stdout := p.Result(t)
	require.Equal(t, exitOK, code, "%q: %s", args, p.Stderr)
	require.Empty(t, p.Stderr.String())
	return stdout
}

// fail runs the program and returns its error. The program must exit with the code and write one line to standard
// error.
func fail(t *testing.T, code int, env []string, args ...string) string {
	t.Helper()
	p := programtest.Start(t, args, env...)
	require.NoError(t, p.Stdin.Close())
	got, stdout := p.Result(t)
	require.Equal(t, code, got, "%q: %s", args, p.Stderr)
	require.Empty(t, stdout)
	line := p.Stderr.String()
	require.Regexp(t, `^webpubsub: [^\n]+\n$`, line)
	return line
}

// newConn connects a client with plain JSON, as a user and in groups. It does not come back if the server closes it.
func newConn(t *testing.T, server *emulator.Server, user string, groups ...string) *wsclient.Conn {
	t.Helper()
	service, err := webpubsub.NewClientFromConnectionString(server.ConnectionString(), hub, nil)
	require.NoError(t, err)
	access, err := service.GetClientAccessToken(t.Context(), &webpubsub.ClientAccessTokenOptions{UserID: user, Groups: groups})
	require.NoError(t, err)
	conn, err := wsclient.Dial(t.Context(), wsclient.StaticURL(access.URL), &wsclient.Options{Protocol: wsclient.JSONPlain,
		Reconnect: wsclient.ReconnectOptions{Disabled: true}})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// rawServer starts a server that responds to a request with the bytes. It keeps the connection open until the client
// closes it.
func rawServer(t *testing.T, response string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, response)
		_, _ = io.Copy(io.Discard, conn)
	}))
	t.Cleanup(server.Close)
	return server
}

// receive returns the next message.
func receive(t *testing.T, conn *wsclient.Conn) *wsclient.Message {
	t.Helper()
	m, err := conn.Receive(deadline(t))
	require.NoError(t, err)
	return m
}

// deadline returns a context that limits how long a test waits.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// writeFile writes a file for one test.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}
