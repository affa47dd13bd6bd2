package tunnel

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/wire"
	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

// TestWritingToASlowServer checks that a server that reads slowly but steadily receives a frame, even if that takes longer than
// writeTimeout. A server that does not read is cut off.
func TestWritingToASlowServer(t *testing.T) {
	for name, reads := range map[string]bool{"reads slowly": true, "does not read": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				nc := &wire.Conn{Conn: far}
				written := make(chan error, 1)
				service := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					ws, err := websocket.Accept(w, r, nil)
					if err != nil {
						written <- err
						return
					}
					defer ws.CloseNow()
					written <- newConn(nil, ws, nc).write(&tunnelframe.Request{Method: "POST", URL: "/", Body: make([]byte, 1<<20)})
				})}
				listener := &pipeListener{conn: nc, closed: make(chan struct{})}
				go func() { _ = service.Serve(listener) }()
				defer service.Close()
				ws, _, err := websocket.Dial(t.Context(), "ws://service", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
					DialContext: func(context.Context, string, string) (net.Conn, error) { return slowReader{near}, nil },
				}}})
				require.NoError(t, err)
				defer ws.CloseNow()
				ws.SetReadLimit(maxFrame)
				start := time.Now()
				if !reads {
					require.Equal(t, errLost, <-written)
					require.Equal(t, writeTimeout, time.Since(start))
					return
				}
				_, data, err := ws.Read(t.Context())
				require.NoError(t, err)
				require.Greater(t, len(data), 1<<20)
				require.NoError(t, <-written)
				require.Greater(t, time.Since(start), writeTimeout)
			})
		})
	}
}

// slowReader is a connection that pauses before each Read.
type slowReader struct{ net.Conn }

func (c slowReader) Read(b []byte) (int, error) {
	time.Sleep(2 * time.Second)
	return c.Conn.Read(b)
}

// pipeListener is a listener that accepts one connection.
type pipeListener struct {
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	var conn net.Conn
	l.once.Do(func() { conn = l.conn })
	if conn != nil {
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *pipeListener) Close() error { close(l.closed); return nil }

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }
