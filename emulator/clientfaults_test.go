package emulator_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
)

func TestClientFaults(t *testing.T) {
	const join, leave = `{"type":"joinGroup","group":"g","ackId":1}`, `{"type":"leaveGroup","group":"g","ackId":2}`
	const (
		openStream      = `{"type":"sendToGroup","group":"g","stream":{"streamId":"s"}}`
		streamKeepAlive = `{"type":"streamData","streamId":"s"}`
		streamData      = `{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"text","data":"hi"}`
		streamEnd       = `{"type":"streamEnd","streamId":"s"}`
	)
	start := func(t *testing.T) (*emulator.Server, *reliableClient) {
		srv := emulator.StartT(t, nil)
		return srv, dialReliable(t, srv, dialOptions{roles: []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"}})
	}
	t.Run("an acknowledgement is dropped", func(t *testing.T) {
		srv, c := start(t)
		require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Operation: emulator.ClientJoinGroup, Unacknowledged: true}))
		c.write(leave) // an operation without a fault
		require.Equal(t, 2.0, c.object()["ackId"])
		c.write(join)
		require.NoError(t, srv.WaitForGroup(t.Context(), "chat", "g", 1))
		require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`), "there is no acknowledgement")
		require.Contains(t, c.ask(join), ackDuplicate)
	})
	t.Run("requests of one client fail", func(t *testing.T) {
		srv, c := start(t)
		other := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.joinLeaveGroup"}})
		require.NoError(t, srv.InjectClientFault(emulator.ClientFault{ConnectionID: c.id, Times: 2, Error: "InternalServerError"}))
		require.Contains(t, other.ask(join), `"success":true`)
		for range 2 {
			require.Equal(t, `{"type":"ack","ackId":1,"success":false,"error":{"name":"InternalServerError","message":"A fault that was asked for."}}`, c.ask(join))
		}
		require.NoError(t, srv.WaitForGroup(t.Context(), "chat", "g", 1))
		require.Contains(t, c.ask(join), `"success":true`)
	})
	t.Run("the connection is cut", func(t *testing.T) {
		srv, c := start(t)
		for _, cut := range []emulator.Cut{emulator.CutBeforeEffect, emulator.CutAfterEffect} {
			require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Cut: cut}))
			c.write(join)
			_, _, err := c.ws.Read(t.Context())
			require.Equal(t, websocket.StatusCode(-1), websocket.CloseStatus(err))
			require.NoError(t, srv.WaitForRecovering(t.Context(), "chat", 1))
			require.Equal(t, cut == emulator.CutAfterEffect, len(srv.Groups("chat")) == 1)
			c.comeBack()
		}
		require.Contains(t, c.ask(join), ackDuplicate)
	})
	t.Run("a delayed invocation is cancelled", func(t *testing.T) {
		srv, c := start(t)
		application(t, srv, nil, func(http.ResponseWriter, *http.Request) {})
		require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Operation: emulator.ClientInvoke, Delay: time.Minute}))
		c.write(`{"type":"invoke","invocationId":"i","target":"event","event":"late"}`)
		c.write(`{"type":"cancelInvocation","invocationId":"i"}`)
		c.write(join)
		require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`))
		srv.Advance(time.Minute)
		require.Equal(t, 1.0, c.object()["ackId"], "there is no invokeResponse")
		require.Zero(t, srv.EventCount("chat", "late"))
	})
	t.Run("a delayed request of a closed client is dropped", func(t *testing.T) {
		srv, c := start(t)
		member := dialJSON(t, srv, dialOptions{groups: []string{"g"}})
		require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Operation: emulator.ClientSendToGroup, Delay: time.Minute}))
		c.write(`{"type":"sendToGroup","group":"g","data":"late"}`)
		require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`))
		rest{t, srv}.must(204, "DELETE", "hubs/chat/connections/"+c.id)
		srv.Advance(time.Minute)
		member.expectNothing(srv)
	})
	t.Run("a request and all later requests are delayed", func(t *testing.T) {
		srv, c := start(t)
		require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Delay: time.Minute}))
		c.write(join)
		c.write(leave)
		require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`))
		require.NoError(t, srv.WaitForDelayed(t.Context(), 1))
		srv.Advance(time.Minute)
		require.Equal(t, 1.0, c.object()["ackId"])
		require.Equal(t, 2.0, c.object()["ackId"])
	})
	t.Run("a stream cannot be opened", func(t *testing.T) {
		srv, c := start(t)
		require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Operation: emulator.ClientSendToGroup, Error: "Forbidden"}))
		require.Equal(t, `{"type":"streamClosed","streamId":"s","error":{"name":"Forbidden","message":"A fault that was asked for."}}`, c.ask(openStream))
		require.Contains(t, c.ask(openStream), `"streamAck"`)
	})
	t.Run("the responses of a stream are dropped", func(t *testing.T) {
		srv, c := start(t)
		member := dialJSON(t, srv, dialOptions{groups: []string{"g"}})
		for _, frame := range []string{openStream, streamData, streamEnd} {
			require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Unacknowledged: true}))
			c.write(frame)
			require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`), frame)
		}
		require.Equal(t, "hi", member.object()["data"])
		require.Contains(t, member.object()["stream"], "endOfStream")
	})
	t.Run("an open stream fails", func(t *testing.T) {
		srv, c := start(t)
		member := dialJSON(t, srv, dialOptions{groups: []string{"g"}})
		require.Contains(t, c.ask(openStream), `"streamAck"`)
		require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Error: "InternalServerError"}))
		require.Contains(t, c.ask(streamData), `"name":"InternalServerError"`)
		require.Contains(t, member.object()["stream"], "error", "the members are told")
		require.Contains(t, c.ask(streamData), `"name":"StreamNotFound"`)
	})
	t.Run("the connection is cut after each request of a stream", func(t *testing.T) {
		srv, c := start(t)
		member := dialJSON(t, srv, dialOptions{groups: []string{"g"}})
		for _, frame := range []string{openStream, streamKeepAlive, streamData, streamEnd} {
			require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Cut: emulator.CutAfterEffect}))
			c.write(frame)
			_, _, err := c.ws.Read(t.Context())
			require.Equal(t, websocket.StatusCode(-1), websocket.CloseStatus(err), frame)
			c.comeBack()
		}
		require.Equal(t, "hi", member.object()["data"])
		require.Contains(t, member.object()["stream"], "endOfStream")
	})
	t.Run("the response to an invocation that failed is dropped", func(t *testing.T) {
		srv, c := start(t)
		require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Operation: emulator.ClientInvoke, Unacknowledged: true}))
		c.write(`{"type":"invoke","invocationId":"i","target":"event","event":"nobody"}`)
		require.Contains(t, c.ask(join), `"ackId":1`, "there is no invokeResponse")
	})
	t.Run("a raw client's frame fails", func(t *testing.T) {
		srv, _ := start(t)
		require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Operation: emulator.ClientSendEvent, Error: "x"}))
		c := dial(t, srv, dialOptions{})
		c.write("hello")
		ce, _ := c.closed()
		require.Equal(t, websocket.StatusInternalError, ce.Code)
	})
	t.Run("faults are cleared", func(t *testing.T) {
		srv, c := start(t)
		require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Error: "x"}))
		srv.ClearFaults()
		require.Contains(t, c.ask(join), `"success":true`)
	})
}

func TestInvalidClientFaults(t *testing.T) {
	tb := &failureRecorder{TB: t}
	srv := emulator.StartT(tb, nil)
	for want, f := range map[string]emulator.ClientFault{
		`there is no operation "SendToAll"`: {Operation: "SendToAll", Error: "x"},
		"Times is -2":                       {Times: -2, Error: "x"},
		"Delay is negative":                 {Delay: -1},
		"Cut is 3":                          {Cut: 3},
		"ClientFault has no effect":         {Operation: emulator.ClientInvoke},
		"are mutually exclusive":            {Unacknowledged: true, Cut: emulator.CutAfterEffect},
	} {
		err := srv.InjectClientFault(f)
		require.ErrorContains(t, err, want)
		require.Equal(t, err.Error(), tb.take(), "the error fails the test")
	}
	require.NoError(t, srv.InjectClientFault(emulator.ClientFault{ConnectionID: "pump1", Error: "x"}), "the client may have left")
	dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("pump1"))
	require.ErrorContains(t, srv.InjectClientFault(emulator.ClientFault{ConnectionID: "pump1", Error: "x"}), `"pump1" is an MQTT client`)
	tb.take()
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 2999, 5000} {
		require.Panics(t, func() { srv.CloseConnection("chat", "x", code, "") }, code)
	}
	require.False(t, srv.CloseConnection("chat", "x", 1001, ""))
	require.False(t, srv.SilenceConnection("chat", "x"))
	require.False(t, srv.RenewReconnectionToken("chat", "x"))
}

func TestAHalfOpenConnection(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialReliable(t, srv, dialOptions{roles: []string{"webpubsub.joinLeaveGroup"}})
	require.True(t, srv.SilenceConnection("chat", c.id))
	c.write(`{"type":"joinGroup","group":"g","ackId":1}`)
	rest{t, srv}.text("hubs/chat/:send", "one")
	require.False(t, srv.Connections("chat")[0].Recovering, "the server does not notice")
	c.comeBack()
	c.expect(1, "one")
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`))
	require.Empty(t, srv.Groups("chat"))
	require.True(t, srv.SilenceConnection("chat", c.id))
	require.True(t, srv.DropConnection("chat", c.id))
	require.True(t, srv.Connections("chat")[0].Recovering)
	require.False(t, srv.SilenceConnection("chat", c.id), "the client has no connection")
}

// A client that notices the failure connects again. The server still has the old connection, as if the network had failed.
func TestAHalfOpenConnectionOutlivesItsClient(t *testing.T) {
	srv := emulator.StartT(t, nil)
	log := newEventLog()
	listen(t, srv, handlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		log.add("%s", r.Header.Get("ce-connectionId")+" "+r.Header.Get("ce-eventName"))
	}), inProcess)
	old := dialJSON(t, srv, dialOptions{user: "ann"})
	require.NoError(t, srv.WaitForEvents(t.Context(), "chat", "connected", 1))
	require.True(t, srv.SilenceConnection("chat", old.id))
	require.NoError(t, old.ws.CloseNow())
	c := dialJSON(t, srv, dialOptions{user: "ann"})
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`))
	require.NoError(t, srv.WaitForUser(t.Context(), "chat", "ann", 2))
	rest{t, srv}.text("hubs/chat/connections/"+old.id+"/:send", "lost")
	require.NoError(t, srv.WaitForUser(t.Context(), "chat", "ann", 2))
	require.NoError(t, srv.WaitForEvents(t.Context(), "chat", "connected", 2))
	require.True(t, srv.DropConnection("chat", old.id))
	require.NoError(t, srv.WaitForUser(t.Context(), "chat", "ann", 1))
	require.Equal(t, []string{old.id + " connect", old.id + " connected", c.id + " connect", c.id + " connected", old.id + " disconnected"}, log.wait(t, 5))

	require.True(t, srv.SilenceConnection("chat", c.id))
	require.NoError(t, c.ws.CloseNow())
	rest{t, srv}.must(204, "DELETE", "hubs/chat/connections/"+c.id)
	require.NoError(t, srv.WaitForUser(t.Context(), "chat", "ann", 0))
}

func TestAHalfOpenConnectionOfAnMQTTClient(t *testing.T) {
	both(t, func(t *testing.T, version mqttVersion) {
		srv := emulator.StartT(t, nil)
		o := dialOptions{roles: allRoles}
		c, _ := dialWire(t, srv, version, o, keeping(connectPacket("id")))
		c.send(subscribePacket("room"))
		c.expect(mqttpacket.Suback)
		require.True(t, srv.SilenceConnection("chat", "id"))
		c.send(subscribePacket("other"))
		rest{t, srv}.text("hubs/chat/groups/room/:send", "one")
		require.False(t, srv.Connections("chat")[0].Recovering, "the server does not notice")
		c, ack := dialWire(t, srv, version, o, keeping(connectPacket("id")))
		require.True(t, ack.SessionPresent)
		require.Equal(t, "one", string(c.expect(mqttpacket.Publish).Payload))
		require.Equal(t, []string{"room"}, srv.Groups("chat"))

		require.True(t, srv.SilenceConnection("chat", "id"))
		require.True(t, srv.DropConnection("chat", "id"))
		require.NoError(t, srv.WaitForRecovering(t.Context(), "chat", 1))
		require.False(t, srv.SilenceConnection("chat", "id"), "the client has no connection")
	})
}

func TestAConnectionIsClosedWithACode(t *testing.T) {
	srv := emulator.StartT(t, nil)
	for _, code := range []int{1001, 1011, 1012, 4000} {
		c := dialReliable(t, srv, dialOptions{})
		require.True(t, srv.CloseConnection("chat", c.id, code, "maintenance"))
		ce, frames := c.closed()
		require.Equal(t, websocket.CloseError{Code: websocket.StatusCode(code), Reason: "maintenance"}, ce)
		require.Empty(t, frames)
		require.NoError(t, srv.WaitForRecovering(t.Context(), "chat", 1))
		c.comeBack()
		require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`))
		require.True(t, srv.CloseConnection("chat", c.id, 1008, "permanently"))
		require.Empty(t, srv.Connections("chat"))
		ce, frames = c.closed()
		require.Equal(t, websocket.StatusPolicyViolation, ce.Code)
		require.Equal(t, []string{`{"type":"system","event":"disconnected","message":"permanently"}`}, frames)
	}
	plain := dialJSON(t, srv, dialOptions{})
	require.True(t, srv.CloseConnection("chat", plain.id, 1001, "bye"))
	require.Empty(t, srv.Connections("chat"))
	ce, _ := plain.closed()
	require.Equal(t, websocket.StatusGoingAway, ce.Code)
}

func TestANewReconnectionToken(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialReliable(t, srv, dialOptions{})
	old, id := c.token, c.id
	require.True(t, srv.RenewReconnectionToken("chat", c.id))
	c.hello()
	require.Equal(t, id, c.id)
	require.NotEqual(t, old, c.token)
	newer := c.token
	c.cut()
	c.token = old
	c.comeBack()
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`), "the old token is valid until the new one is used")
	c.cut()
	c.token = newer
	require.False(t, srv.RenewReconnectionToken("chat", c.id), "the client is cut off")
	c.comeBack()
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`))
	c.cut()
	c.token = old
	c.reconnect(c.recoverURL("chat"), protocolJSONReliable)
	ce, _ := c.closed()
	require.Equal(t, websocket.StatusPolicyViolation, ce.Code)
	require.False(t, srv.RenewReconnectionToken("chat", dialJSON(t, srv, dialOptions{}).id))
}
