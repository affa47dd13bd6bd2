package pb

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestFields compares the number, name and type of each field with the protocol's published table. A round trip would
// not detect a wrong field number, but clients could not read the field.
func TestFields(t *testing.T) {
	for _, tc := range []struct {
		message proto.Message
		fields  string
	}{
		{&UpstreamMessage{}, "1 send_to_group_message SendToGroupMessage in message, 5 event_message EventMessage in message, " +
			"6 join_group_message JoinGroupMessage in message, 7 leave_group_message LeaveGroupMessage in message, " +
			"8 sequence_ack_message SequenceAckMessage in message, 9 ping_message PingMessage in message"},
		{&SendToGroupMessage{}, "1 group string, 2 ack_id optional uint64, 3 data MessageData, 4 no_echo optional bool, " +
			"5 ttl_seconds optional uint32, 6 metadata map<string,string>"},
		{&EventMessage{}, "1 event string, 2 data MessageData, 3 ack_id optional uint64, 4 metadata map<string,string>"},
		{&JoinGroupMessage{}, "1 group string, 2 ack_id optional uint64"},
		{&LeaveGroupMessage{}, "1 group string, 2 ack_id optional uint64"},
		{&SequenceAckMessage{}, "1 sequence_id uint64"},
		{&PingMessage{}, ""},
		{&DownstreamMessage{}, "1 ack_message AckMessage in message, 2 data_message DataMessage in message, " +
			"3 system_message SystemMessage in message, 4 pong_message PongMessage in message"},
		{&AckMessage{}, "1 ack_id uint64, 2 success bool, 3 error optional ErrorMessage"},
		{&AckMessage_ErrorMessage{}, "1 name string, 2 message string"},
		{&DataMessage{}, "1 from string, 2 group optional string, 3 data MessageData, 4 sequence_id optional uint64, " +
			"5 metadata map<string,string>"},
		{&SystemMessage{}, "1 connected_message ConnectedMessage in message, 2 disconnected_message DisconnectedMessage in message"},
		{&SystemMessage_ConnectedMessage{}, "1 connection_id string, 2 user_id string, 3 reconnection_token optional string"},
		{&SystemMessage_DisconnectedMessage{}, "2 reason string"},
		{&PongMessage{}, ""},
		{&MessageData{}, "1 text_data string in data, 2 binary_data bytes in data, 3 protobuf_data Any in data, 4 json_data string in data"},
	} {
		d := tc.message.ProtoReflect().Descriptor()
		t.Run(string(d.Name()), func(t *testing.T) {
			var fields []string
			for i := range d.Fields().Len() {
				fields = append(fields, describe(d.Fields().Get(i)))
			}
			require.Equal(t, tc.fields, strings.Join(fields, ", "))
		})
	}
}

// describe returns a field in the notation of the protocol's table.
func describe(f protoreflect.FieldDescriptor) string {
	typ := f.Kind().String()
	switch {
	case f.IsMap():
		typ = fmt.Sprintf("map<%v,%v>", f.MapKey().Kind(), f.MapValue().Kind())
	case f.Message() != nil:
		typ = string(f.Message().Name())
	}
	if f.HasOptionalKeyword() {
		typ = "optional " + typ
	}
	if oneof := f.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
		typ += " in " + string(oneof.Name())
	}
	return fmt.Sprintf("%d %s %s", f.Number(), f.Name(), typ)
}

// TestBytes compares one frame in each direction with bytes encoded by hand.
func TestBytes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		frame proto.Message
		bytes string
	}{
		{"a client sends text to a group", &UpstreamMessage{Message: &UpstreamMessage_SendToGroupMessage{
			SendToGroupMessage: &SendToGroupMessage{Group: "g", AckId: proto.Uint64(0), NoEcho: new(true),
				Data: &MessageData{Data: &MessageData_TextData{TextData: "hi"}}}}},
			"\x0a\x0d" + "\x0a\x01g" + "\x10\x00" + "\x1a\x04\x0a\x02hi" + "\x20\x01"},
		{"the service sends JSON from a group", &DownstreamMessage{Message: &DownstreamMessage_DataMessage{
			DataMessage: &DataMessage{From: "group", Group: new("g"), SequenceId: proto.Uint64(300),
				Data: &MessageData{Data: &MessageData_JsonData{JsonData: "{}"}}}}},
			"\x12\x13" + "\x0a\x05group" + "\x12\x01g" + "\x1a\x04\x22\x02{}" + "\x20\xac\x02"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := proto.MarshalOptions{Deterministic: true}.Marshal(tc.frame)
			require.NoError(t, err)
			require.Equal(t, tc.bytes, string(got))
			back := tc.frame.ProtoReflect().New().Interface()
			require.NoError(t, proto.Unmarshal([]byte(tc.bytes), back))
			require.True(t, proto.Equal(tc.frame, back))
		})
	}
}
