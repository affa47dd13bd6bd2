package emulator_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestJSONClientReceivesConnected(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dial(t, srv, dialOptions{user: "ann", subprotocols: []string{"unknown", protocolJSON}})
	require.Equal(t, protocolJSON, c.ws.Subprotocol())
	hello := c.object()
	require.Regexp(t, `^[A-Za-z0-9_-]{31}$`, hello["connectionId"])
	delete(hello, "connectionId")
	require.Equal(t, map[string]any{"type": "system", "event": "connected", "userId": "ann"}, hello)

	nobody := dial(t, srv, dialOptions{subprotocols: []string{strings.ToUpper(protocolJSON)}})
	require.Equal(t, strings.ToUpper(protocolJSON), nobody.ws.Subprotocol(), "the name is case-insensitive, and its case is kept")
	require.Contains(t, nobody.text(), `"event":"connected","userId":null,`)
}

func TestJSONRequests(t *testing.T) {
	all := []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"}
	for name, tt := range map[string]struct {
		roles         []string
		request, want string
	}{
		"ping":                 {nil, `{"type":"ping"}`, `{"type":"pong"}`},
		"join":                 {all, `{"type":"joinGroup","group":"g","ackId":0}`, `{"type":"ack","ackId":0,"success":true}`},
		"the largest ackId":    {all, `{"type":"joinGroup","group":"g","ackId":18446744073709551615}`, `{"type":"ack","ackId":18446744073709551615,"success":true}`},
		"leave":                {all, `{"type":"leaveGroup","group":"g","ackId":2}`, `{"type":"ack","ackId":2,"success":true}`},
		"send":                 {all, `{"type":"sendToGroup","group":"g","data":1,"ackId":3,"ttlSeconds":300}`, `{"type":"ack","ackId":3,"success":true}`},
		"join without a role":  {nil, `{"type":"joinGroup","group":"g","ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"Forbidden","message":"The client does not have permission to join group 'g'."}}`},
		"leave without a role": {nil, `{"type":"leaveGroup","group":"g","ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"Forbidden","message":"The client does not have permission to leave group 'g'."}}`},
		"send without a role":  {all[:1], `{"type":"sendToGroup","group":"g","data":1,"ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"Forbidden","message":"The client does not have permission to send to group 'g'."}}`},
		"an event":             {nil, `{"type":"event","event":"e","data":1,"ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"InternalServerError","message":"Internal server error"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialJSON(t, emulator.StartT(t, nil), dialOptions{roles: tt.roles})
			require.Equal(t, tt.want, c.ask(tt.request))
			require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`), "the client stays connected")
		})
	}
}

func TestAJSONFrameMayBeABinaryOne(t *testing.T) {
	c := dialJSON(t, emulator.StartT(t, nil), dialOptions{})
	require.NoError(t, c.ws.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"PING"}`)))
	require.Equal(t, `{"type":"pong"}`, c.text())
}

func TestJSONWithoutAckIDIsFireAndForget(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{})
	c.write(`{"type":"joinGroup","group":"g"}`)
	c.write(`{"type":"event","event":"e","data":""}`)
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`))
}

func TestOnlySuccessfulRequestsAreDuplicates(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.sendToGroup"}, groups: []string{"g"}})
	const send = `{"type":"sendToGroup","group":"g","data":1,"ackId":7}`
	c.write(send)
	require.Equal(t, "message", c.object()["type"], "the echo precedes the acknowledgement")
	require.Equal(t, true, c.object()["success"])
	for range 2 {
		require.Equal(t, `{"type":"ack","ackId":7,"success":false,"error":{"name":"Duplicate","message":"Message with ack-id: 7 has been processed"}}`, c.ask(send))
	}
	c.expectNothing(srv)
	for _, frame := range []string{`{"type":"joinGroup","group":"x","ackId":8}`, `{"type":"leaveGroup","group":"x","ackId":8}`} {
		require.Contains(t, c.ask(frame), ackForbidden)
	}
	require.Contains(t, c.ask(`{"type":"event","event":"e","data":1,"ackId":8}`), ackInternal)
	require.NoError(t, srv.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{UserEventPattern: "*",
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("WebHook-Allowed-Origin", "*") })}}}))
	require.Contains(t, c.ask(`{"type":"event","event":"e","data":1,"ackId":8}`), `"success":true`)
	require.Contains(t, c.ask(`{"type":"event","event":"e","data":1,"ackId":8}`), ackDuplicate)
}

func TestGroupMessagesBetweenClients(t *testing.T) {
	srv := emulator.StartT(t, nil)
	sender := dialJSON(t, srv, dialOptions{user: "ann", roles: []string{"webpubsub.sendToGroup.g"}, groups: []string{"g"}})
	member := dialJSON(t, srv, dialOptions{groups: []string{"g"}})
	raw := dial(t, srv, dialOptions{groups: []string{"g"}})
	other := dialJSON(t, srv, dialOptions{})

	sender.write(`{"type":"sendToGroup","group":"g","dataType":"binary","data":"AP8=","metadata":{"k":"v"}}`)
	const want = `{"type":"message","from":"group","group":"g","fromUserId":"ann","dataType":"binary","metadata":{"k":"v"},"data":"AP8="}`
	require.Equal(t, want, sender.text(), "the sender receives a copy")
	require.Equal(t, want, member.text())
	typ, data := raw.read()
	require.Equal(t, websocket.MessageBinary, typ)
	require.Equal(t, "\x00\xff", data)

	sender.write(`{"type":"sendToGroup","group":"g","noEcho":true,"data":{"a":1}}`)
	require.Equal(t, map[string]any{"a": 1.0}, member.object()["data"])
	require.Equal(t, `{"a":1}`, raw.text())
	sender.expectNothing(srv)
	other.expectNothing(srv)
}

func TestJoiningAndLeaving(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.joinLeaveGroups.room.*"}})
	api := rest{t, srv}
	require.Contains(t, c.ask(`{"type":"joinGroup","group":"room.1","ackId":1}`), "true")
	api.text("hubs/chat/groups/room.1/:send", "in")
	require.Equal(t, "in", c.object()["data"])
	require.Contains(t, c.ask(`{"type":"leaveGroup","group":"room.1","ackId":2}`), "true")
	api.text("hubs/chat/groups/room.1/:send", "out")
	c.expectNothing(srv)
	require.Contains(t, c.ask(`{"type":"joinGroup","group":"room.1.x","ackId":3}`), ackForbidden)
}

func TestInvalidFramesCloseOnlyTheirClient(t *testing.T) {
	for name, tt := range map[string]struct {
		typ    websocket.MessageType
		frame  string
		code   websocket.StatusCode
		reason string
	}{
		"not JSON":                  {websocket.MessageText, `{"type":`, 1007, "The client message is not a valid JSON protocol message."},
		"a list":                    {websocket.MessageText, `[]`, 1007, "The client message is not a valid JSON protocol message."},
		"no type":                   {websocket.MessageText, `{}`, 1007, "The client message is not a valid JSON protocol message."},
		"an unknown type":           {websocket.MessageText, `{"type":"dance"}`, 1007, "The client message is not a valid JSON protocol message."},
		"a group that is a number":  {websocket.MessageText, `{"type":"joinGroup","group":1}`, 1007, "The client message is not a valid JSON protocol message."},
		"an ackId below zero":       {websocket.MessageText, `{"type":"joinGroup","group":"g","ackId":-1}`, 1007, "The client message is not a valid JSON protocol message."},
		"no group":                  {websocket.MessageText, `{"type":"joinGroup","ackId":1}`, 1007, "The client message is not a valid JSON protocol message."},
		"a bad frame in binary":     {websocket.MessageBinary, `{"type":"event","event":"1","data":1}`, 1007, "The client message is not a valid JSON protocol message."},
		"an ackId too large":        {websocket.MessageText, `{"type":"joinGroup","group":"g","ackId":18446744073709551616}`, 1007, "The client message is not a valid JSON protocol message."},
		"sequenceAck without an id": {websocket.MessageText, `{"type":"sequenceAck"}`, 1007, "The client message is not a valid JSON protocol message."},
		"text that is not UTF-8":    {websocket.MessageText, "{\"type\":\"\xff\"}", 1007, "The client message is not a valid JSON protocol message."},
		"a frame over the limit":    {websocket.MessageText, string(make([]byte, maxMessageSize+1)), 1009, "The client message is too large."},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			bystander := dialJSON(t, srv, dialOptions{})
			c := dialJSON(t, srv, dialOptions{})
			require.NoError(t, c.ws.Write(t.Context(), tt.typ, []byte(tt.frame)))
			ce, frames := c.closed()
			require.Equal(t, tt.code, ce.Code)
			require.Equal(t, tt.reason, ce.Reason)
			require.Equal(t, []string{`{"type":"system","event":"disconnected","message":"` + tt.reason + `"}`}, frames)
			bystander.expectNothing(srv)
		})
	}
}
