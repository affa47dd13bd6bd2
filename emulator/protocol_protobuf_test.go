package emulator_test

import (
	"context"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/internal/pb"
)

// readProtobuf reads a binary frame and returns its DownstreamMessage.
func (c *client) readProtobuf() *pb.DownstreamMessage {
	c.t.Helper()
	typ, data := c.read()
	require.Equal(c.t, websocket.MessageBinary, typ)
	var m pb.DownstreamMessage
	require.NoError(c.t, proto.Unmarshal([]byte(data), &m))
	return &m
}

// writeProtobuf writes a request, given as the JSON of an UpstreamMessage.
func (c *client) writeProtobuf(request string) {
	c.t.Helper()
	var m pb.UpstreamMessage
	require.NoError(c.t, protojson.Unmarshal([]byte(request), &m), request)
	b, err := proto.Marshal(&m)
	require.NoError(c.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(c.t, c.ws.Write(ctx, websocket.MessageBinary, b))
}

// requireProtobuf fails the test if got is not the DownstreamMessage whose JSON is want.
func requireProtobuf(t testing.TB, want string, got *pb.DownstreamMessage) {
	t.Helper()
	var m pb.DownstreamMessage
	require.NoError(t, protojson.Unmarshal([]byte(want), &m), want)
	require.True(t, proto.Equal(&m, got), "want %v\ngot  %v", &m, got)
}

func dialProtobuf(t testing.TB, srv *emulator.Server, o dialOptions) *client {
	t.Helper()
	o.subprotocols = []string{protocolProtobuf}
	c := dial(t, srv, o)
	hello := c.readProtobuf().GetSystemMessage().GetConnectedMessage()
	require.Equal(t, o.user, hello.GetUserId())
	require.Nil(t, hello.ReconnectionToken)
	c.id = hello.GetConnectionId()
	require.NotEmpty(t, c.id)
	return c
}

func TestProtobufRequests(t *testing.T) {
	for name, tt := range map[string]struct{ request, want string }{
		"ping":        {`{"pingMessage":{}}`, `{"pongMessage":{}}`},
		"join":        {`{"joinGroupMessage":{"group":"g","ackId":1}}`, `{"ackMessage":{"ackId":1,"success":true}}`},
		"leave":       {`{"leaveGroupMessage":{"group":"g","ackId":1}}`, `{"ackMessage":{"ackId":1,"success":true}}`},
		"send":        {`{"sendToGroupMessage":{"group":"h","ackId":1,"data":{"textData":"x"}}}`, `{"ackMessage":{"ackId":1,"success":true}}`},
		"not allowed": {`{"joinGroupMessage":{"group":"x","ackId":1}}`, `{"ackMessage":{"ackId":1,"error":{"name":"Forbidden","message":"The client does not have permission to join group 'x'."}}}`},
		"an event":    {`{"eventMessage":{"event":"e","ackId":1,"data":{"textData":"x"}}}`, `{"ackMessage":{"ackId":1,"error":{"name":"InternalServerError","message":"Internal server error"}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialProtobuf(t, emulator.StartT(t, nil), dialOptions{roles: []string{"webpubsub.joinLeaveGroup.g", "webpubsub.sendToGroup"}})
			c.writeProtobuf(tt.request)
			requireProtobuf(t, tt.want, c.readProtobuf())
		})
	}
}

func TestOneMessageReachesEveryProtocolInItsForm(t *testing.T) {
	greeting, err := anypb.New(wrapperspb.String("hello"))
	require.NoError(t, err)
	greetingJSON, err := protojson.Marshal(greeting)
	require.NoError(t, err)
	greetingBytes, err := proto.Marshal(greeting)
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		data    string // of a protobuf sender
		json    string // that a JSON client receives
		rawType websocket.MessageType
		raw     string
	}{
		"text":     {`{"textData":"<é>"}`, `"dataType":"text","metadata":{"k":"v"},"data":"<é>"}`, websocket.MessageText, "<é>"},
		"JSON":     {`{"jsonData":"{\"a\": 1.0}"}`, `"dataType":"json","metadata":{"k":"v"},"data":{"a": 1.0}}`, websocket.MessageText, `{"a": 1.0}`},
		"bytes":    {`{"binaryData":"AP8="}`, `"dataType":"binary","metadata":{"k":"v"},"data":"AP8="}`, websocket.MessageBinary, "\x00\xff"},
		"protobuf": {`{"protobufData":` + string(greetingJSON) + `}`, `"dataType":"protobuf","metadata":{"k":"v"},"data":"Ci90eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5wcm90b2J1Zi5TdHJpbmdWYWx1ZRIHCgVoZWxsbw=="}`, websocket.MessageBinary, string(greetingBytes)},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			o := dialOptions{user: "ann", groups: []string{"g"}, roles: []string{"webpubsub.sendToGroup"}}
			sender := dialProtobuf(t, srv, o)
			js := dialJSON(t, srv, o)
			raw := dial(t, srv, o)
			sender.writeProtobuf(`{"sendToGroupMessage":{"group":"g","metadata":{"k":"v"},"data":` + tt.data + `}}`)
			requireProtobuf(t, `{"dataMessage":{"from":"group","group":"g","metadata":{"k":"v"},"data":`+tt.data+`}}`, sender.readProtobuf())
			require.Equal(t, `{"type":"message","from":"group","group":"g","fromUserId":"ann",`+tt.json, js.text())
			typ, data := raw.read()
			require.Equal(t, tt.rawType, typ)
			require.Equal(t, tt.raw, data)

			// The reverse: the JSON client sends the message back.
			js.write(`{"type":"sendToGroup","group":"g","noEcho":true,` + tt.json)
			requireProtobuf(t, `{"dataMessage":{"from":"group","group":"g","metadata":{"k":"v"},"data":`+tt.data+`}}`, sender.readProtobuf())
		})
	}
}

func TestProtobufClientReceivesTheReasonOfAClose(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialProtobuf(t, srv, dialOptions{})
	rest{t, srv}.must(204, "DELETE", "hubs/chat/connections/"+c.id+"?reason=bye%FF")
	requireProtobuf(t, `{"systemMessage":{"disconnectedMessage":{"reason":"Application server closed the connection. Reason: bye\ufffd"}}}`, c.readProtobuf())
	ce, _ := c.closed()
	require.Equal(t, websocket.CloseError{Code: websocket.StatusNormalClosure}, ce)
}

func TestInvalidProtobufFrames(t *testing.T) {
	for name, tt := range map[string]struct {
		typ   websocket.MessageType
		frame string
		code  websocket.StatusCode
	}{
		"a text frame":             {websocket.MessageText, "\x4a\x00", 1003},
		"not protobuf":             {websocket.MessageBinary, "\xff\xff", 1007},
		"an empty frame":           {websocket.MessageBinary, "", 1007},
		"an unknown request":       {websocket.MessageBinary, "\x7a\x00", 1007},
		"a group of invalid UTF-8": {websocket.MessageBinary, "\x32\x03\x0a\x01\xff", 1007},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			bystander := dialJSON(t, srv, dialOptions{})
			c := dialProtobuf(t, srv, dialOptions{})
			require.NoError(t, c.ws.Write(t.Context(), tt.typ, []byte(tt.frame)))
			ce, frames := c.closed()
			require.Equal(t, tt.code, ce.Code)
			require.Len(t, frames, 1, "a disconnected message precedes the close")
			bystander.expectNothing(srv)
		})
	}
}
