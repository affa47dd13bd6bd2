package wsclient

import (
	"context"
	"testing"

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
