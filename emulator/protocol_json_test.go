package emulator_test

import (
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestJSONClientIsToldWhoItIs(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dial(t, srv, dialOptions{user: "ann", subprotocols: []string{"unknown", protocolJSON}})
	require.Equal(t, protocolJSON, c.ws.Subprotocol())
	hello := c.object()
	require.Len(t, hello["connectionId"], 26)
	delete(hello, "connectionId")
	require.Equal(t, map[string]any{"type": "system", "event": "connected", "userId": "ann"}, hello)
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
		"join without a role":  {nil, `{"type":"joinGroup","group":"g","ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"Forbidden","message":"the client does not have the permission joinLeaveGroup for the group \"g\""}}`},
		"send without a role":  {all[:1], `{"type":"sendToGroup","group":"g","data":1,"ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"Forbidden","message":"the client does not have the permission sendToGroup for the group \"g\""}}`},
		"an event":             {nil, `{"type":"event","event":"e","data":1,"ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"InternalServerError","message":"no event handler takes this event"}}`},
		"a bad event name":     {nil, `{"type":"event","event":"1e","data":1,"ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"BadRequest","message":"the event name \"1e\" does not match ^[A-Za-z][A-Za-z0-9_.-]{0,127}$"}}`},
		"no group":             {all, `{"type":"joinGroup","ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"BadRequest","message":"the group name is empty"}}`},
		"no data":              {all, `{"type":"sendToGroup","group":"g","ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"BadRequest","message":"data is missing"}}`},
		"text that is none":    {all, `{"type":"sendToGroup","group":"g","dataType":"text","data":1,"ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"BadRequest","message":"data of dataType text is not a string"}}`},
		"binary that is none":  {all, `{"type":"sendToGroup","group":"g","dataType":"binary","data":"?","ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"BadRequest","message":"data of dataType binary is not base64"}}`},
		"an unknown data type": {all, `{"type":"sendToGroup","group":"g","dataType":"xml","data":"","ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"BadRequest","message":"unknown dataType \"xml\""}}`},
		"a TTL too long":       {all, `{"type":"sendToGroup","group":"g","data":1,"ttlSeconds":301,"ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"BadRequest","message":"ttlSeconds is more than 300"}}`},
		"bad metadata":         {all, `{"type":"sendToGroup","group":"g","data":1,"metadata":{"a b":""},"ackId":1}`, `{"type":"ack","ackId":1,"success":false,"error":{"name":"BadRequest","message":"the metadata key \"a b\" is not an HTTP token"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialJSON(t, emulator.StartT(t, nil), dialOptions{roles: tt.roles})
			require.Equal(t, tt.want, c.ask(tt.request))
			require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`), "the client stays connected")
		})
	}
}

func TestJSONWithoutAckIDIsFireAndForget(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{})
	c.write(`{"type":"joinGroup","group":"g"}`)
	c.write(`{"type":"event","event":"e","data":""}`)
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`))
}

func TestARepeatedAckIDIsNotExecutedAgain(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.sendToGroup"}, groups: []string{"g"}})
	const send = `{"type":"sendToGroup","group":"g","data":1,"ackId":7}`
	c.write(send)
	require.Equal(t, "message", c.object()["type"])
	require.Equal(t, true, c.object()["success"])
	require.Contains(t, c.ask(send), ackDuplicate)
	c.nothing(srv)
}

func TestGroupMessagesBetweenClients(t *testing.T) {
	srv := emulator.StartT(t, nil)
	sender := dialJSON(t, srv, dialOptions{user: "ann", roles: []string{"webpubsub.sendToGroup.g"}, groups: []string{"g"}})
	member := dialJSON(t, srv, dialOptions{groups: []string{"g"}})
	raw := dial(t, srv, dialOptions{groups: []string{"g"}})
	other := dialJSON(t, srv, dialOptions{})

	sender.write(`{"type":"sendToGroup","group":"g","dataType":"binary","data":"AP8=","metadata":{"k":"v"}}`)
	const want = `{"type":"message","from":"group","group":"g","fromUserId":"ann","dataType":"binary","metadata":{"k":"v"},"data":"AP8="}`
	require.Equal(t, want, sender.text(), "the sender gets a copy")
	require.Equal(t, want, member.text())
	typ, data := raw.read()
	require.Equal(t, websocket.MessageBinary, typ)
	require.Equal(t, "\x00\xff", data)

	sender.write(`{"type":"sendToGroup","group":"g","noEcho":true,"data":{"a":1}}`)
	require.Equal(t, map[string]any{"a": 1.0}, member.object()["data"])
	require.Equal(t, `{"a":1}`, raw.text())
	sender.nothing(srv)
	other.nothing(srv)
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
	c.nothing(srv)
	require.Contains(t, c.ask(`{"type":"joinGroup","group":"room.1.x","ackId":3}`), ackForbidden)
}

func TestFramesThatCannotBeReadCloseTheClientAndNobodyElse(t *testing.T) {
	for name, tt := range map[string]struct {
		typ    websocket.MessageType
		frame  string
		code   websocket.StatusCode
		reason string
	}{
		"no JSON":                  {websocket.MessageText, `{"type":`, 1007, "not the JSON of a request"},
		"a list":                   {websocket.MessageText, `[]`, 1007, "not the JSON of a request"},
		"no type":                  {websocket.MessageText, `{}`, 1007, "no type"},
		"an unknown type":          {websocket.MessageText, `{"type":"dance"}`, 1007, `unknown type "dance"`},
		"a group that is a number": {websocket.MessageText, `{"type":"joinGroup","group":1}`, 1007, "group is a number"},
		"an ackId below zero":      {websocket.MessageText, `{"type":"joinGroup","group":"g","ackId":-1}`, 1007, "ackId is a number -1"},
		"an ackId too large":       {websocket.MessageText, `{"type":"joinGroup","group":"g","ackId":18446744073709551616}`, 1007, "ackId"},
		"sequenceAck of nothing":   {websocket.MessageText, `{"type":"sequenceAck"}`, 1007, "sequenceId"},
		"text that is not UTF-8":   {websocket.MessageText, "{\"type\":\"\xff\"}", 1007, "UTF-8"},
		"a binary frame":           {websocket.MessageBinary, `{"type":"ping"}`, 1003, "text frames only"},
		"a frame over the limit":   {websocket.MessageText, string(make([]byte, maxMessageSize+1)), 1009, ""},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			bystander := dialJSON(t, srv, dialOptions{})
			c := dialJSON(t, srv, dialOptions{})
			require.NoError(t, c.ws.Write(t.Context(), tt.typ, []byte(tt.frame)))
			ce, frames := c.closed()
			require.Equal(t, tt.code, ce.Code)
			require.Contains(t, ce.Reason, tt.reason)
			if tt.code != websocket.StatusMessageTooBig {
				require.Len(t, frames, 1)
				require.Contains(t, frames[0], `"event":"disconnected"`)
			}
			bystander.nothing(srv)
		})
	}
}
