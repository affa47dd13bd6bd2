package wsclient

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
)

// TestMainPath walks the main path against the emulator with each protocol.
func TestMainPath(t *testing.T) {
	for p := range Protocol(len(subprotocols)) {
		t.Run(p.String(), func(t *testing.T) {
			h := startHub(t)
			conn := h.dial(t, &Options{Protocol: p})
			require.Equal(t, StateConnected, conn.State())
			require.Equal(t, "user1", conn.UserID())
			require.NotEmpty(t, conn.ConnectionID())
			ctx := testContext(t)
			require.NoError(t, conn.JoinGroup(ctx, "room"))
			require.NoError(t, conn.SendToGroup(ctx, "room", Text("hi"), &SendToGroupOptions{Metadata: map[string]string{"k": "v"}}))
			m := receive(t, conn)
			require.Equal(t, "room", m.Group)
			require.Equal(t, FromGroup, m.From)
			require.Equal(t, "hi", m.Text())
			require.Equal(t, DataText, m.DataType)
			require.Equal(t, map[string]string{"k": "v"}, m.Metadata)
			if !p.protobuf() {
				require.Equal(t, "user1", m.FromUserID)
			}
			if p.reliable() {
				require.EqualValues(t, 1, m.SequenceID)
			}
			require.NoError(t, h.service.SendToAll(ctx, webpubsub.JSON(map[string]int{"a": 1}), nil))
			m = receive(t, conn)
			require.Equal(t, FromServer, m.From)
			var v map[string]int
			require.NoError(t, m.JSON(&v))
			require.Equal(t, map[string]int{"a": 1}, v)
			require.NoError(t, h.service.SendToConnection(ctx, conn.ConnectionID(), webpubsub.Binary([]byte{0, 255}), nil))
			require.Equal(t, []byte{0, 255}, receive(t, conn).Data)
			require.NoError(t, conn.LeaveGroup(ctx, "room"))
			require.Empty(t, h.Groups(hubName))
			require.NoError(t, conn.Close())
			require.ErrorIs(t, conn.Err(), ErrClosed)
			require.Equal(t, StateClosed, conn.State())
			require.NoError(t, h.WaitForConnections(ctx, hubName, 0))
		})
	}
}

func TestRecovery(t *testing.T) {
	for _, p := range []Protocol{JSONReliable, ProtobufReliable} {
		t.Run(p.String(), func(t *testing.T) {
			h := startHub(t)
			events := make(chan ConnectedEvent, 10)
			conn := h.dial(t, &Options{Protocol: p, OnConnected: func(e ConnectedEvent) { events <- e }})
			require.True(t, (<-events).First)
			id := conn.ConnectionID()
			require.True(t, h.DropConnection(hubName, id))
			require.NoError(t, h.service.SendToAll(testContext(t), webpubsub.Text("while away"), nil))
			require.Equal(t, "while away", receive(t, conn).Text())
			e := <-events
			require.True(t, e.Resumed)
			require.Equal(t, id, e.ConnectionID)
			require.EqualValues(t, 1, conn.Stats().Recoveries)
		})
	}
}
