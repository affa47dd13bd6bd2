package wsclient

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/awps-go/webpubsub/internal/pb"
)

// jsonFrames are frames of the service, in usual and unusual forms. Some are invalid.
var jsonFrames = []string{
	benchFrame,
	`{"type":"message","from":"group","group":"room","fromUserId":null,"dataType":"json","data":{"a":[1,"}\""]},"sequenceId":12}`,
	`{"sequenceId":7,"type":"message","from":"server","dataType":"binary","metadata":{"k":"v"},"data":"AP8="}`,
	`{"type":"message","from":"server","dataType":"text","data":"a\"b\u00e9"}`,
	`{"type":"message","from":"server","dataType":"text","data":""}`,
	`{"type":"message","from":"server","dataType":"json","data":"a"}`,
	`{"type":"message","from":"server","dataType":"json","data":nul}`,
	`{"type":"message","from":"server","dataType":"json","data":null}`,
	`{"type":"message","from":"server","dataType":"json","data":[1,]}`,
	`{"type":"message","from":"server","dataType":"protobuf","data":"CgA="}`,
	` { "type" : "message" , "from" : "server" , "dataType" : "json" , "data" : 5 } `,
	`{"type":"message","from":"group","group":"r","dataType":"text","data":"a","stream":{"streamId":"1","streamSequenceId":2,"endOfStream":true}}`,
	`{"type":"ack","ackId":5,"success":true}`,
	`{"type":"ack","ackId":5,"success":false,"error":{"name":"Forbidden","message":"no"}}`,
	`{"type":"system","event":"connected","userId":"u","connectionId":"c","reconnectionToken":"t"}`,
	`{"type":"system","event":"disconnected","message":"bye"}`,
	`{"type":"pong"}`,
	`{"type":"invokeResponse","invocationId":"1","success":true,"dataType":"json","data":1}`,
	`{"type":"streamNack","streamId":"1","name":"InvalidSequenceId","expectedSequenceId":4}`,
	`{"type":"streamClosed","streamId":"1","error":{"name":"NotFound"}}`,
	`{"type":"message","from":"server","dataType":"text","data":"a"}x`,
	`{"type":"message","from":"server","dataType":"text","data":"a","sequenceId":01}`,
	`{"type":"message","from":"group","group":"a\"b\\","dataType":"text","data":"a"}`,
	`{"type":"message","from":"group","group":"\u0041","dataType":"text","data":"a"}`,
	`{"type":"message","type":"ack"}`, `{"a":1}`, `{}`, `[]`, `null`, ``, `{"sequenceId":01}`,
}

// FuzzDecodeJSON compares the fast decoder with encoding/json.
func FuzzDecodeJSON(f *testing.F) {
	for _, frame := range jsonFrames {
		f.Add([]byte(frame))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := (jsonCodec{}).decode(data); !utf8.Valid(data) {
			require.Error(t, err)
			return
		}
		fast, ok := decodeFast(data)
		if !ok {
			return
		}
		same, err := decodeGeneric(data)
		require.NoError(t, err)
		require.Equal(t, same, fast)
	})
}

// TestUsualFrames checks that the fast decoder decodes the usual frames.
func TestUsualFrames(t *testing.T) {
	for _, i := range []int{0, 1, 2, 4, 5, 10, 12} {
		_, ok := decodeFast([]byte(jsonFrames[i]))
		require.True(t, ok, jsonFrames[i])
	}
}

func TestDecodeJSON(t *testing.T) {
	for _, test := range []struct {
		frame string
		want  frame
	}{
		{jsonFrames[1], frame{kind: frameMessage, message: &Message{From: FromGroup, Group: "room", SequenceID: 12,
			Payload: Payload{DataType: DataJSON, Data: []byte(`{"a":[1,"}\""]}`)}}}},
		{jsonFrames[2], frame{kind: frameMessage, message: &Message{From: FromServer, SequenceID: 7, Metadata: map[string]string{"k": "v"},
			Payload: Payload{DataType: DataBinary, Data: []byte{0, 255}}}}},
		{jsonFrames[3], frame{kind: frameMessage, message: &Message{From: FromServer, Payload: Payload{DataType: DataText, Data: []byte(`a"bé`)}}}},
		{jsonFrames[12], frame{kind: frameAck, ackID: 5, success: true}},
		{jsonFrames[13], frame{kind: frameAck, ackID: 5, failure: failure{"Forbidden", "no"}}},
		{jsonFrames[14], frame{kind: frameConnected, userID: "u", connectionID: "c", reconnectionToken: "t"}},
		{jsonFrames[15], frame{kind: frameDisconnected, reason: "bye"}},
		{jsonFrames[16], frame{kind: framePong}},
		{jsonFrames[18], frame{kind: frameStreamNack, streamID: "1", expected: 4, failure: failure{name: "InvalidSequenceId"}}},
		{`{"type":"system","event":"new"}`, frame{}},
	} {
		got, err := jsonCodec{}.decode([]byte(test.frame))
		require.NoError(t, err, test.frame)
		require.Equal(t, test.want, got, test.frame)
	}
}

// FuzzDecodeProtobuf checks that decoding does not panic and that decoded payloads can be encoded again.
func FuzzDecodeProtobuf(f *testing.F) {
	wrapped, err := anypb.New(wrapperspb.String("a"))
	require.NoError(f, err)
	for _, data := range []*pb.MessageData{
		{Data: &pb.MessageData_TextData{TextData: "a"}},
		{Data: &pb.MessageData_JsonData{JsonData: "{}"}},
		{Data: &pb.MessageData_BinaryData{BinaryData: []byte{0}}},
		{Data: &pb.MessageData_ProtobufData{ProtobufData: wrapped}},
	} {
		frame, err := proto.Marshal(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_DataMessage{DataMessage: &pb.DataMessage{
			From: "group", Group: new("g"), SequenceId: new(uint64(3)), Metadata: map[string]string{"k": "v"}, Data: data}}})
		require.NoError(f, err)
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := protobufCodec{}.decode(data)
		if err != nil || got.kind != frameMessage || got.message.DataType == DataUnknown || got.message.DataType == "" {
			return
		}
		_, err = protobufCodec{}.encode(&request{kind: requestSend, group: got.message.Group, payload: got.message.Payload, ackID: 1})
		require.NoError(t, err)
	})
}

// TestProtobufBytes compares frames with bytes written by hand from the protocol's field table.
func TestProtobufBytes(t *testing.T) {
	for _, test := range []struct {
		want    string
		request request
	}{
		{"\x0a\x0f\x0a\x01g\x10\x07\x1a\x04\x0a\x02hi\x20\x01\x28\x05",
			request{kind: requestSend, group: "g", ackID: 7, payload: Text("hi"), noEcho: true, ttl: 5e9}},
		{"\x2a\x0a\x0a\x01e\x12\x03\x12\x01\xff\x18\x01", request{kind: requestEvent, event: "e", payload: Binary([]byte{255}), ackID: 1}},
		{"\x32\x05\x0a\x01g\x10\x01", request{kind: requestJoin, group: "g", ackID: 1}},
		{"\x3a\x05\x0a\x01g\x10\x01", request{kind: requestLeave, group: "g", ackID: 1}},
		{"\x42\x03\x08\xac\x02", request{kind: requestSequenceAck, sequenceID: 300}},
		{"\x4a\x00", request{kind: requestPing}},
	} {
		got, err := protobufCodec{}.encode(&test.request)
		require.NoError(t, err)
		require.Equal(t, []byte(test.want), got)
	}
	got, err := protobufCodec{}.decode([]byte("\x12\x13\x0a\x05group\x12\x01g\x1a\x04\x22\x02{}\x20\xac\x02"))
	require.NoError(t, err)
	require.Equal(t, &Message{From: FromGroup, Group: "g", SequenceID: 300, Payload: Payload{DataType: DataJSON, Data: []byte("{}")}}, got.message)
}

// TestProtobufDataOfAnUnknownKind checks that a message whose data is of a kind that the package does not know is
// received, and counted, like other messages. Otherwise each such message would disconnect the client.
func TestProtobufDataOfAnUnknownKind(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		dialed := s.dial(context.Background(), freshURL, Options{Protocol: ProtobufReliable})
		p := s.next()
		p.write(websocket.MessageBinary, []byte("\x1a\x0b\x0a\x09\x0a\x02c1\x1a\x03tok"))
		d := <-dialed
		require.NoError(t, d.err)
		defer d.conn.Close()
		for _, frame := range []string{
			"\x12\x0f\x0a\x06server\x1a\x03\x4a\x01x\x20\x01", // field 9
			"\x12\x0c\x0a\x06server\x1a\x00\x20\x02",          // no data
			"\x12\x0a\x0a\x06server\x20\x03",
			"\x12\x0f\x0a\x06server\x1a\x03\x0a\x01a\x20\x04", // text
		} {
			p.write(websocket.MessageBinary, []byte(frame))
		}
		require.Equal(t, &Message{From: FromServer, SequenceID: 1, Payload: Payload{DataType: DataUnknown, Data: []byte("\x4a\x01x")}},
			receive(t, d.conn))
		require.Equal(t, &Message{From: FromServer, SequenceID: 2}, receive(t, d.conn))
		require.Equal(t, &Message{From: FromServer, SequenceID: 3}, receive(t, d.conn))
		require.Equal(t, "a", receive(t, d.conn).Text())
		time.Sleep(ackDelay)
		synctest.Wait()
		require.Equal(t, []byte("\x42\x02\x08\x04"), (<-p.frames).raw, "a sequenceAck of all four")
		require.EqualValues(t, 1, d.conn.Stats().Connections)
		require.ErrorIs(t, d.conn.SendToGroup(context.Background(), "g", Payload{DataType: DataUnknown}, nil), ErrInvalidArgument)
	})
}

func TestPayloads(t *testing.T) {
	p := Protobuf(wrapperspb.String("a"))
	var s wrapperspb.StringValue
	require.NoError(t, p.Protobuf(&s))
	require.Equal(t, "a", s.Value)
	require.Error(t, Text("a").Protobuf(&s))
	require.Equal(t, `{"a":"<>&"}`, JSON(map[string]string{"a": "<>&"}).Text())
	var v any
	require.Error(t, Binary([]byte{1}).JSON(&v))
	data, err := jsonCodec{}.encode(&request{kind: requestSend, group: "g\"é", payload: Text("\u2028\n"), ackID: 1})
	require.NoError(t, err)
	var back map[string]any
	require.NoError(t, json.Unmarshal(data, &back))
	require.Equal(t, map[string]any{"type": "sendToGroup", "group": "g\"é", "dataType": "text", "data": "\u2028\n", "ackId": 1.0}, back)
	data, err = jsonCodec{}.encode(&request{kind: requestSend, group: "g", payload: Binary([]byte{1, 2})})
	require.NoError(t, err)
	require.Contains(t, string(data), base64.StdEncoding.EncodeToString([]byte{1, 2}))
}

// TestUnknownFramesMayHaveAnyFields checks that a frame of a kind that the package does not know is ignored, whatever its
// fields are.
func TestUnknownFramesMayHaveAnyFields(t *testing.T) {
	for _, text := range []string{
		`{"type":"fromTheFuture","message":{"text":"a"},"error":"no","metadata":[1],"success":"yes"}`,
		`{"message":{"text":"a"},"stream":5,"type":"fromTheFuture"}`,
		`{"type":"system","event":"fromTheFuture","message":{"text":"a"}}`,
	} {
		f, err := jsonCodec{}.decode([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, frameUnknown, f.kind)
	}
	for _, text := range []string{`{"type":5}`, `{"type":"ack","ackId":"1"}`, `{"type":"system","event":"connected","connectionId":5}`} {
		_, err := jsonCodec{}.decode([]byte(text))
		require.Error(t, err, text)
	}
}

// TestInvalidStrings checks that the fast decoder leaves strings with raw control characters to encoding/json.
func TestInvalidStrings(t *testing.T) {
	for _, data := range []string{"\"a\tb\"", "\"a\t\"b\"c\""} {
		for _, dataType := range []string{"text", "json"} {
			_, err := jsonCodec{}.decode([]byte(`{"type":"message","from":"server","dataType":"` + dataType + `","data":` + data + `}`))
			require.Error(t, err, "%s", data)
		}
	}
}
