package wsclient

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
)

// TestMainPath covers the common operations with each protocol, against the emulator.
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

// TestTheEmulatorsFaults uses the faults that the emulator offers to the tests of an application.
func TestTheEmulatorsFaults(t *testing.T) {
	h := startHub(t)
	ctx := testContext(t)
	o, e := recordEvents(Options{Reconnect: ReconnectOptions{MinDelay: time.Millisecond}})
	conn := h.dial(t, &o)
	require.NoError(t, conn.JoinGroup(ctx, "room"))
	first := conn.ConnectionID()
	e.expect(t, "connected "+first+" false")

	// The client reconnects too late to recover: it makes a new connection and rejoins its group.
	require.NoError(t, h.InjectFault(emulator.Fault{Operation: emulator.OperationConnect, Status: 503, Times: 2}))
	require.True(t, h.DropConnection(hubName, first))
	h.Advance(31 * time.Second)
	e.expect(t, "recovering "+first, "disconnected "+first+" 1008")
	require.NoError(t, conn.SendToGroup(ctx, "room", Text("a"), nil)) // waits for the connection
	require.Equal(t, "a", receive(t, conn).Text(), "the group was joined before anything was sent")
	second := conn.ConnectionID()
	require.NotEqual(t, first, second)
	e.expect(t, "connected "+second+" false")

	// An application server closes the connection.
	require.NoError(t, h.service.CloseConnection(ctx, second, nil))
	e.expect(t, "disconnected "+second+" 1000")
	require.NoError(t, conn.SendToGroup(ctx, "room", Text("b"), nil))
	require.Equal(t, "b", receive(t, conn).Text())
	third := conn.ConnectionID()
	e.expect(t, "connected "+third+" false")

	// The client lacks a permission.
	require.NoError(t, h.service.RevokePermission(ctx, webpubsub.PermissionSendToGroup, third,
		&webpubsub.RevokePermissionOptions{TargetName: "room"}))
	require.ErrorIs(t, conn.SendToGroup(ctx, "room", Text("c"), nil), ErrForbidden)
	require.EqualValues(t, 3, conn.Stats().Connections)
}

// TestExtremeMessages checks the smallest and largest messages with each codec. JSON escapes each character of the largest
// text with six bytes.
func TestExtremeMessages(t *testing.T) {
	h := startHub(t)
	const largest = 1 << 20
	report := make([]byte, 7<<20) // in base64, less than the 16 MiB that may be unacknowledged
	require.NoError(t, h.SetHubSettings(hubName, emulator.HubSettings{EventHandlers: []emulator.EventHandler{{UserEventPattern: "*",
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodOptions { // the validation
				w.Header().Set("WebHook-Allowed-Origin", "*")
				return
			}
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = w.Write(report)
		})}}}))
	for _, p := range []Protocol{JSONReliable, ProtobufReliable} {
		conn := h.dial(t, &Options{Protocol: p})
		for _, m := range []struct {
			sent webpubsub.Message
			want Payload
		}{
			{webpubsub.JSON(nil), Payload{DataType: DataJSON, Data: []byte("null")}},
			{webpubsub.Text(""), Text("")},
			{webpubsub.Binary(nil), Binary([]byte{})},
			{webpubsub.Text(strings.Repeat("\x01", largest)), Text(strings.Repeat("\x01", largest))},
			{webpubsub.Binary(make([]byte, largest)), Binary(make([]byte, largest))},
		} {
			require.NoError(t, h.service.SendToConnection(testContext(t), conn.ConnectionID(), m.sent, nil))
			got := receive(t, conn)
			require.Equal(t, m.want.DataType, got.DataType)
			require.Equal(t, string(m.want.Data), got.Text())
		}
		require.EqualValues(t, 1, conn.Stats().Connections)
		require.NoError(t, conn.Close())
	}
	conn := h.dial(t, nil) // nothing is unacknowledged
	require.NoError(t, conn.SendEvent(testContext(t), "report", Text("a"), nil))
	require.Len(t, receive(t, conn).Data, len(report))
	require.EqualValues(t, 1, conn.Stats().Connections)
}
