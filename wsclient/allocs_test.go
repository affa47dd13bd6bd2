package wsclient

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// TestAReceivedMessageAllocatesLittle counts the allocations for a message from the socket to Receive: the message, its
// data, group and user ID, and the allocations of the WebSocket library on both sides.
func TestAReceivedMessageAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const batch = 100
	conn, err := Dial(testContext(t), StaticURL(floodServer(t, func() int { return batch })), &Options{Protocol: JSONPlain})
	require.NoError(t, err)
	defer conn.Close()
	ctx := context.Background()
	allocs := testing.AllocsPerRun(20, func() {
		if err := conn.SendEvent(ctx, "go", Text("a"), &SendEventOptions{NoAck: true}); err != nil {
			t.Error(err)
		}
		for range batch {
			if _, err := conn.Receive(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	require.LessOrEqual(t, allocs/batch, 5.5)
}

// TestAnIdleClientHasASmallStack checks that the goroutine of an idle client waits on a stack of 4 KiB. One more function between
// Conn.serve and the socket can double the size, which is a fifth of the client's memory.
func TestAnIdleClientHasASmallStack(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs larger stacks")
	}
	const clients = 200
	peers := make(chan *websocket.Conn, clients) // so that they are not collected
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{JSONReliable.String()}})
		if err == nil {
			err = ws.Write(r.Context(), websocket.MessageText, []byte(`{"type":"system","event":"connected","connectionId":"c","reconnectionToken":"r"}`))
		}
		if err != nil {
			t.Error(err)
			return
		}
		peers <- ws // no goroutine of the server remains
	}))
	defer server.Close()
	stacks := func() int {
		runtime.GC() // frees the stacks of goroutines that have ended
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int(stats.StackInuse)
	}
	before := stacks()
	for range clients {
		conn, err := Dial(testContext(t), StaticURL("ws"+server.URL[len("http"):]+"/client/hubs/chat?access_token=t"), nil)
		require.NoError(t, err)
		defer conn.Close()
	}
	stack := (stacks() - before) / clients
	for range clients {
		(<-peers).CloseRead(t.Context()) // responds to the close frame
	}
	require.Less(t, stack, 6<<10)
}
