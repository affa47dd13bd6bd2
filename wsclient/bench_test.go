package wsclient

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// benchFrame is a group message with 100 bytes of data.
var benchFrame = `{"type":"message","from":"group","group":"room","fromUserId":"user1","dataType":"text","data":"` +
	strings.Repeat("a", 100) + `"}`

// floodServer returns the URL of a server that sends count() frames each time the client sends "go".
func floodServer(b testing.TB, count func() int) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: subprotocols[:]})
		if err != nil {
			return
		}
		defer ws.CloseNow()
		ctx := context.Background()
		if ws.Write(ctx, websocket.MessageText, []byte(`{"type":"system","event":"connected","connectionId":"c1"}`)) != nil {
			return
		}
		for {
			if _, data, err := ws.Read(ctx); err != nil {
				return
			} else if !strings.Contains(string(data), `"go"`) {
				continue
			}
			for range count() {
				if ws.Write(ctx, websocket.MessageText, []byte(benchFrame)) != nil {
					return
				}
			}
		}
	}))
	b.Cleanup(server.Close)
	return strings.Replace(server.URL, "http", "ws", 1) + "/?access_token=t"
}

// BenchmarkReceive compares the client with a minimal loop that decodes the same JSON.
func BenchmarkReceive(b *testing.B) {
	b.Run("floor", func(b *testing.B) {
		ctx := context.Background()
		ws, _, err := websocket.Dial(ctx, floodServer(b, func() int { return b.N }),
			&websocket.DialOptions{Subprotocols: []string{JSONPlain.String()}})
		require.NoError(b, err)
		defer ws.CloseNow()
		_, _, err = ws.Read(ctx)
		require.NoError(b, err)
		b.ReportAllocs()
		b.ResetTimer()
		require.NoError(b, ws.Write(ctx, websocket.MessageText, []byte(`"go"`)))
		for range b.N {
			_, data, err := ws.Read(ctx)
			require.NoError(b, err)
			var m struct {
				Type, From, Group, FromUserID, DataType string
				Data                                    json.RawMessage
			}
			if err := json.Unmarshal(data, &m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("wsclient", func(b *testing.B) {
		conn, err := Dial(context.Background(), StaticURL(floodServer(b, func() int { return b.N })),
			&Options{Protocol: JSONPlain, Buffer: BufferOptions{Messages: math.MaxInt, Bytes: math.MaxInt}})
		require.NoError(b, err)
		defer conn.Close()
		ctx := context.Background()
		b.ReportAllocs()
		b.ResetTimer()
		require.NoError(b, conn.SendEvent(ctx, "go", Text("a"), &SendEventOptions{NoAck: true}))
		for range b.N {
			if _, err := conn.Receive(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := (jsonCodec{}).decode([]byte(benchFrame)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
