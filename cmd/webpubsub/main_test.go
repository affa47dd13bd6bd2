package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/cmd/internal/programtest"
	"github.com/awps-go/webpubsub/emulator"
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

// client connects a client of the JSON subprotocol, as a user and in groups. The channel has the frames that it
// receives.
func client(t *testing.T, server *emulator.Server, user string, groups ...string) (id string, frames <-chan map[string]any) {
	t.Helper()
	service, err := webpubsub.NewClientFromConnectionString(server.ConnectionString(), hub, nil)
	require.NoError(t, err)
	access, err := service.GetClientAccessToken(t.Context(), &webpubsub.ClientAccessTokenOptions{UserID: user, Groups: groups})
	require.NoError(t, err)
	conn, _, err := websocket.Dial(t.Context(), access.URL, &websocket.DialOptions{Subprotocols: []string{"json.webpubsub.azure.v1"}})
	require.NoError(t, err)
	t.Cleanup(func() { conn.CloseNow() })
	ch := make(chan map[string]any, 100)
	go func() {
		defer close(ch)
		for {
			_, data, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			var frame map[string]any
			if json.Unmarshal(data, &frame) == nil {
				ch <- frame
			}
		}
	}()
	connected := receive(t, ch)
	require.Equal(t, "connected", connected["event"])
	return connected["connectionId"].(string), ch
}

// receive returns the next frame of a client.
func receive(t *testing.T, frames <-chan map[string]any) map[string]any {
	t.Helper()
	select {
	case frame, ok := <-frames:
		require.True(t, ok, "the connection has ended")
		return frame
	case <-time.After(30 * time.Second):
		t.Fatal("no frame arrived")
		return nil
	}
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
