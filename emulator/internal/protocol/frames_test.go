package protocol

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/internal/pb"
)

// nested returns JSON with n levels, and brackets in a string that do not count.
func nested(n int) string {
	return strings.Repeat(`{"[{\"{":[`, n/2) + strings.Repeat("[", n%2) + strings.Repeat("]", n%2) + strings.Repeat("]}", n/2)
}

func textPayload(s string) hub.Payload { return hub.Payload{Type: hub.DataText, Data: []byte(s)} }

func TestValidJSONFrames(t *testing.T) {
	for frame, want := range map[string]Request{
		` { "type" : "ping" , "x":[{"type":"event"}] } `:                                                         {Kind: RequestPing},
		`{"type":"PiNg","ackId":3}`:                                                                              {Kind: RequestPing, AckID: new(uint64(3))},
		`{"type":"SEQUENCEACK","sequenceId":18446744073709551615}`:                                               {Kind: RequestSequenceAck, SequenceID: 1<<64 - 1},
		`{"type":"joinGroup","group":"a\"b\\","ackId":0}`:                                                        {Kind: RequestJoin, Group: `a"b\`, AckID: new(uint64(0))},
		`{"type":"leavegroup","group":"\ud83d\ude00","ackId":null}`:                                              {Kind: RequestLeave, Group: "😀"},
		`{"type":"joinGroup","Group":"no","group":"x","group":"g"}`:                                              {Kind: RequestJoin, Group: "g"},
		`{"type":"sendToGroup","group":"g","data":{"a": 1}}`:                                                     {Kind: RequestSend, Group: "g", Payload: hub.Payload{Data: []byte(`{"a": 1}`)}},
		`{"type":"sendToGroup","group":"g","data":"x","ttlSeconds":null}`:                                        {Kind: RequestSend, Group: "g", Payload: hub.Payload{Data: []byte(`"x"`)}},
		`{"type":"sendToGroup","group":"g","data":[true,null,"]"] }`:                                             {Kind: RequestSend, Group: "g", Payload: hub.Payload{Data: []byte(`[true,null,"]"]`)}},
		`{"type":"sendToGroup","group":"g","data":-1.5e3,"ttlSeconds":300}`:                                      {Kind: RequestSend, Group: "g", Payload: hub.Payload{Data: []byte(`-1.5e3`)}, TTLSeconds: 300},
		`{"type":"sendToGroup","group":"g","dataType":"Text","data":"","noEcho":true}`:                           {Kind: RequestSend, Group: "g", Payload: textPayload(""), NoEcho: true},
		`{"type":"event","event":"E.1_-","dataType":"BINARY","data":"AP8="}`:                                     {Kind: RequestEvent, Event: "E.1_-", Payload: hub.Payload{Type: hub.DataBinary, Data: []byte{0, 255}}},
		`{"type":"event","event":"e","data":1,"noEcho":null,"group":1}`:                                          {Kind: RequestEvent, Event: "e", Payload: hub.Payload{Data: []byte("1")}},
		`{"type":"sendToGroup","group":"g","metadata":{"Trace":"1","trace":""}}`:                                 {Kind: RequestSend, Group: "g", Payload: hub.Payload{Type: hub.DataText, Metadata: map[string]string{"Trace": "1", "trace": ""}}},
		`{"type":"event","event":"e","metadata":{"trace":"1","TRACE":"2","Trace":"3"}}`:                          {Kind: RequestEvent, Event: "e", Payload: hub.Payload{Type: hub.DataText, Metadata: map[string]string{"Trace": "3"}}},
		`{"type":"invoke","invocationId":"i","target":"event","event":"e","metadata":{"k":"1","K":"2","l":"3"}}`: {Kind: RequestInvoke, InvocationID: "i", Event: "e", Payload: hub.Payload{Type: hub.DataText, Metadata: map[string]string{"K": "2", "l": "3"}}},
		`{"type":"event","event":"e","metadata":{},"dataType":"json"}`:                                           {Kind: RequestEvent, Event: "e", Payload: hub.Payload{Type: hub.DataText, Metadata: map[string]string{}}},
		`{"type":"event","event":"e","data":` + nested(63) + `}`:                                                 {Kind: RequestEvent, Event: "e", Payload: hub.Payload{Data: []byte(nested(63))}},
		`{"type":"event","event":"e","metadata":null,"data":false}`:                                              {Kind: RequestEvent, Event: "e", Payload: hub.Payload{Data: []byte("false")}},
	} {
		for _, isText := range []bool{true, false} {
			got, err := JSON{}.Decode(isText, []byte(frame))
			require.NoError(t, err, frame)
			require.Equal(t, want, got, frame)
		}
	}
}

func TestInvalidJSONFrames(t *testing.T) {
	send := func(rest string) string { return `{"type":"sendToGroup","group":"g","ackId":1,` + rest + `}` }
	for name, frame := range map[string]string{
		"nothing": "", "half an object": `{"type":"ping"`, "two objects": `{"type":"ping"}{}`, "a list": `["ping"]`, "a word": `null`, "bad UTF-8": "{\"type\":\"ping\",\"x\":\"\xff\"}",
		"no type": `{"group":"g"}`, "a type of null": `{"type":null}`, "a type that is a number": `{"type":42}`, "an unknown type": `{"type":"dance"}`, "Type": `{"Type":"ping"}`,
		"an ackId that is a string": `{"type":"ping","ackId":"1"}`, "an ackId below zero": `{"type":"ping","ackId":-1}`, "a broken ackId": `{"type":"ping","ackId":1.0}`,
		"an ackId too large": `{"type":"ping","ackId":18446744073709551616}`, "an ackId with an exponent": `{"type":"ping","ackId":1e1}`,
		"no sequenceId": `{"type":"sequenceAck"}`, "a sequenceId of null": `{"type":"sequenceAck","sequenceId":null}`,
		"no group": `{"type":"joinGroup"}`, "a group of null": `{"type":"joinGroup","group":null}`, "an empty group": `{"type":"leaveGroup","group":""}`,
		"a blank group": `{"type":"joinGroup","group":" \t\u00a0"}`, "a high surrogate": `{"type":"joinGroup","group":"\ud83d"}`, "a low surrogate": `{"type":"joinGroup","group":"x\ude00\ud83d"}`,
		"a long group": `{"type":"joinGroup","group":"` + strings.Repeat("😀", 513) + `"}`, "a group that is a path": `{"type":"joinGroup","group":".."}`,
		"no event": `{"type":"event","data":1}`, "an event of null": `{"type":"event","event":null,"data":1}`, "an event with a space": `{"type":"event","event":"a b","data":1}`,
		"a long event": `{"type":"event","event":"` + strings.Repeat("e", 129) + `","data":1}`, "an event outside ASCII": `{"type":"event","event":"é","data":1}`,
		"no data": send(`"dataType":"text"`), "data of null": send(`"data":null`), "text of null": send(`"dataType":"text","data":null`), "text that is a number": send(`"dataType":"text","data":1`),
		"null, with metadata": send(`"data":null,"metadata":{"a":"b"}`), "a bad dataType": send(`"dataType":"xml","data":"x"`), "a dataType of null": send(`"dataType":null,"data":1`),
		"a bad dataType, with metadata": send(`"dataType":"xml","metadata":{"a":"b"}`), "binary that is a list": send(`"dataType":"binary","data":[1]`),
		"bad base64": send(`"dataType":"binary","data":"%%%"`), "URL-safe base64": send(`"dataType":"binary","data":"_-8="`), "truncated base64": send(`"dataType":"binary","data":"AP8"`),
		"invalid protobuf": send(`"dataType":"protobuf","data":"/w=="`), "noEcho of null": send(`"data":1,"noEcho":null`), "noEcho of 1": send(`"data":1,"noEcho":1`),
		"a ttl of 301": send(`"data":1,"ttlSeconds":301`), "a ttl below zero": send(`"data":1,"ttlSeconds":-1`), "a ttl that is a string": send(`"data":1,"ttlSeconds":"1"`), "a broken ttl": send(`"data":1,"ttlSeconds":1.5`),
		"metadata that is a list": send(`"data":1,"metadata":[]`), "metadata of a number": send(`"data":1,"metadata":{"a":1}`), "metadata of null": send(`"data":1,"metadata":{"a":null}`),
		"a duplicate metadata key": send(`"data":1,"metadata":{"a":"1","a":"2"}`), "a duplicate, escaped": send(`"data":1,"metadata":{"a":"1","\u0061":"2"}`), "a metadata key with a space": send(`"data":1,"metadata":{"a b":"1"}`),
		"data that is too deep": send(`"data":` + nested(64)), "an unknown member that is too deep": `{"type":"ping","x":` + nested(64) + `}`,
		"an empty metadata key": send(`"data":1,"metadata":{"":"1"}`), "metadata outside ASCII": send(`"data":1,"metadata":{"a":"ü"}`),
		"a long metadata key": send(`"data":1,"metadata":{"` + strings.Repeat("k", 257) + `":"1"}`), "a long metadata value": send(`"data":1,"metadata":{"a":"` + strings.Repeat("v", 1025) + `"}`),
		"much metadata": send(`"data":1,"metadata":{` + strings.TrimSuffix(strings.Repeat(`"a":"`+strings.Repeat("v", 1000)+`",`, 9), ",") + `}`),
	} {
		_, err := JSON{}.Decode(true, []byte(frame))
		var bad *FrameError
		require.ErrorAs(t, err, &bad, name)
		require.Equal(t, 1007, bad.Code, name)
		require.Equal(t, "The client message is not a valid JSON protocol message.", bad.Reason, name)
		require.NotEmpty(t, bad.Detail, name)
	}
}

func TestProtobufFramesFollowTheSameRules(t *testing.T) {
	decode := func(t *testing.T, frame string) (Request, error) {
		var m pb.UpstreamMessage
		require.NoError(t, protojson.Unmarshal([]byte(frame), &m))
		return Protobuf{Name: protobufReliableSubprotocol}.Decode(false, marshalProtobuf(&m))
	}
	for frame, want := range map[string]Request{
		`{"joinGroupMessage":{"group":"g","ackId":"18446744073709551615"}}`:     {Kind: RequestJoin, Group: "g", AckID: new(uint64(1<<64 - 1))},
		`{"eventMessage":{"event":"e","data":{"textData":""}}}`:                 {Kind: RequestEvent, Event: "e", Payload: textPayload("")},
		`{"eventMessage":{"event":"e","metadata":{"k":"v"},"data":{}}}`:         {Kind: RequestEvent, Event: "e", Payload: hub.Payload{Type: hub.DataText, Metadata: map[string]string{"k": "v"}}},
		`{"sendToGroupMessage":{"group":"g","data":{"jsonData":" {\"a\":1}"}}}`: {Kind: RequestSend, Group: "g", Payload: hub.Payload{Data: []byte(` {"a":1}`)}},
	} {
		got, err := decode(t, frame)
		require.NoError(t, err, frame)
		require.Equal(t, want, got, frame)
	}
	for _, frame := range []string{
		`{}`, `{"joinGroupMessage":{}}`, `{"leaveGroupMessage":{"group":" "}}`, `{"eventMessage":{"event":"1","data":{"textData":"x"}}}`,
		`{"eventMessage":{"event":"e"}}`, `{"eventMessage":{"event":"e","data":{},"metadata":{}}}`, `{"sendToGroupMessage":{"group":"g","data":{"jsonData":"null"}}}`,
		`{"sendToGroupMessage":{"group":"g","data":{"jsonData":"{"}}}`, `{"sendToGroupMessage":{"group":"g","data":{"textData":"x"},"ttlSeconds":301}}`,
		`{"sendToGroupMessage":{"group":"g","data":{"textData":"x"},"metadata":{"a b":"v"}}}`,
		`{"sendToGroupMessage":{"group":"g","data":{"jsonData":"` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `"}}}`,
	} {
		_, err := decode(t, frame)
		var bad *FrameError
		require.ErrorAs(t, err, &bad, frame)
		require.Equal(t, 1007, bad.Code)
		require.Equal(t, "The client message is not a valid protobuf.reliable.webpubsub.azure.v1 protocol message.", bad.Reason)
	}
	_, err := Protobuf{Name: protobufSubprotocol}.Decode(true, []byte("x"))
	require.Equal(t, &FrameError{1003, "The protobuf.webpubsub.azure.v1 subprotocol requires binary messages.", "the client sent a text frame"}, err)
}

func TestProtobufStreamsAreRejected(t *testing.T) {
	// Fields that package pb does not define: one of the future, and a StreamStartInfo.
	unknown := func(stream protowire.Number) []byte {
		b := protowire.AppendVarint(protowire.AppendTag(nil, 100, protowire.VarintType), 1)
		return protowire.AppendBytes(protowire.AppendTag(b, stream, protowire.BytesType), []byte("\x0a\x01s"))
	}
	for name, tt := range map[string]struct {
		send, event protowire.Number
		valid       bool
	}{
		"a stream":      {7, 5, false},
		"another field": {5, 7, true}, // 5 has another type in a send, so it is unknown
	} {
		send := &pb.SendToGroupMessage{Group: "g", Metadata: map[string]string{"k": "v"}}
		send.ProtoReflect().SetUnknown(unknown(tt.send))
		event := &pb.EventMessage{Event: "e", Metadata: map[string]string{"k": "v"}}
		event.ProtoReflect().SetUnknown(unknown(tt.event))
		for _, m := range []*pb.UpstreamMessage{{Message: &pb.UpstreamMessage_SendToGroupMessage{SendToGroupMessage: send}},
			{Message: &pb.UpstreamMessage_EventMessage{EventMessage: event}}} {
			_, err := Protobuf{}.Decode(false, marshalProtobuf(m))
			require.Equal(t, tt.valid, err == nil, "%s: %v", name, err)
			if bad, ok := errors.AsType[*FrameError](err); ok {
				require.Equal(t, 1007, bad.Code)
				require.Contains(t, bad.Detail, "stream")
			}
		}
	}
}

func TestFramesForJSONClients(t *testing.T) {
	for want, frame := range map[string]*hub.Frame{
		`{"type":"system","event":"connected","userId":null,"connectionId":"c"}`:                             JSON{}.Connected(&hub.Connection{ID: "c"}, ""),
		`{"type":"system","event":"connected","userId":"u","connectionId":"c","reconnectionToken":"t"}`:      JSON{}.Connected(&hub.Connection{ID: "c", UserID: "u"}, "t"),
		`{"type":"system","event":"disconnected","message":""}`:                                              JSON{}.Disconnected(""),
		`{"type":"message","from":"group","group":"g","fromUserId":null,"dataType":"json","data":1}`:         JSON{}.Encode(&hub.Message{Payload: hub.Payload{Data: []byte("1")}, Group: "g"}),
		`{"type":"message","from":"server","dataType":"text","metadata":{"k":"v"},"data":""}`:                JSON{}.Encode(&hub.Message{Payload: hub.Payload{Type: hub.DataText, Metadata: map[string]string{"k": "v"}}}),
		`{"type":"ack","ackId":18446744073709551615,"success":true}`:                                         JSON{}.Ack(1<<64-1, nil),
		`{"type":"ack","ackId":0,"success":false,"error":{"name":"Forbidden","message":"no \"<é>\" there"}}`: JSON{}.Ack(0, &AckError{AckForbidden, `no "<é>" there`}),
	} {
		require.Equal(t, want, string(frame.Data))
	}
}

func TestNames(t *testing.T) {
	for name, valid := range map[string]struct{ group, user bool }{
		"a": {true, true}, "a/b": {true, true}, "a b": {true, true}, "日本🎉": {true, true}, "...": {true, true},
		"": {}, " ": {}, "\t": {}, "\u3000": {}, ".": {}, "..": {}, "\xff": {}, "a\uFFFD": {},
		" admin": {true, false}, "admin\t": {true, false}, "a\tb": {true, false}, "a\x00": {true, false}, "a\u0085b": {true, false},
		strings.Repeat("é", 1024): {true, true}, strings.Repeat("é", 1025): {false, true}, strings.Repeat("😀", 512): {true, true}, strings.Repeat("😀", 513): {false, true},
	} {
		require.Equal(t, valid.group, CheckGroup(name) == "", "%.20q: %s", name, CheckGroup(name))
		require.Equal(t, valid.user, CheckUser(name) == "", "%.20q: %s", name, CheckUser(name))
	}
}

func FuzzFields(f *testing.F) {
	for _, seed := range []string{`{"a":1,"b":[{"}":"]"}],"c":"\"\\"}`, `{}`, `{ "" : -1e5 , "x":{} }`, `[1]`, `{"a":{"b":{"c":"\ud800"}}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want map[string]json.RawMessage
		wrong := json.Unmarshal(data, &want) != nil || want == nil || !json.Valid(data)
		got, err := readFields(data)
		if strings.ContainsRune(string(data), '\uFFFD') || strings.Contains(string(data), `\u`) {
			return // encoding/json replaces invalid characters in names
		}
		require.Equal(t, wrong, err != nil, "%v", err)
		if !wrong {
			require.Equal(t, want, map[string]json.RawMessage(got))
		}
	})
}
