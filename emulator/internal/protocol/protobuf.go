package protocol

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/internal/pb"
)

// Protobuf is the codec of protobuf.webpubsub.azure.v1 and protobuf.reliable.webpubsub.azure.v1. Name is the subprotocol.
type Protobuf struct{ Name string }

func (Protobuf) Encoding() hub.Encoding { return EncodingProtobuf }

func (p Protobuf) Decode(text bool, data []byte) (Request, error) {
	if text {
		return Request{}, &FrameError{CloseUnsupportedData, "The " + p.Name + " subprotocol requires binary messages.",
			"the client sent a text frame"}
	}
	r, err := decodeProtobuf(data)
	if err != nil {
		return Request{}, &FrameError{CloseInvalidPayload, "The client message is not a valid " + p.Name + " protocol message.",
			err.Error()}
	}
	return r, nil
}

func decodeProtobuf(data []byte) (r Request, err error) {
	var up pb.UpstreamMessage
	if err := proto.Unmarshal(data, &up); err != nil {
		return r, fmt.Errorf("the frame is not an UpstreamMessage: %w", err)
	}
	switch m := up.Message.(type) {
	case *pb.UpstreamMessage_JoinGroupMessage:
		r = Request{Kind: RequestJoin, Group: m.JoinGroupMessage.GetGroup(), AckID: m.JoinGroupMessage.AckId}
	case *pb.UpstreamMessage_LeaveGroupMessage:
		r = Request{Kind: RequestLeave, Group: m.LeaveGroupMessage.GetGroup(), AckID: m.LeaveGroupMessage.AckId}
	case *pb.UpstreamMessage_SendToGroupMessage:
		send := m.SendToGroupMessage
		r = Request{Kind: RequestSend, Group: send.GetGroup(), AckID: send.AckId, NoEcho: send.GetNoEcho(),
			TTLSeconds: send.GetTtlSeconds()}
		err = r.readProtobuf(send.GetData(), send.GetMetadata())
		if hasField(send, sendStreamField) {
			err = errStream
		}
	case *pb.UpstreamMessage_EventMessage:
		event := m.EventMessage
		r = Request{Kind: RequestEvent, Event: event.GetEvent(), AckID: event.AckId}
		err = r.readProtobuf(event.GetData(), event.GetMetadata())
		if hasField(event, eventStreamField) {
			err = errStream
		}
	case *pb.UpstreamMessage_SequenceAckMessage:
		return Request{Kind: RequestSequenceAck, SequenceID: m.SequenceAckMessage.GetSequenceId()}, nil
	case *pb.UpstreamMessage_PingMessage:
		return Request{Kind: RequestPing}, nil
	default:
		err = errors.New("the UpstreamMessage has no request of a known type")
	}
	if err == nil {
		err = r.check()
	}
	return r, err
}

// The field numbers of the stream that a SendToGroupMessage or an EventMessage opens.
const (
	sendStreamField  = 7
	eventStreamField = 5
)

var errStream = errors.New("the message opens a stream, which protobuf clients cannot: the other frames of a stream are not public")

// hasField reports whether a message has a field that its type does not define.
func hasField(m proto.Message, number protowire.Number) bool {
	unknown := m.ProtoReflect().GetUnknown()
	for len(unknown) > 0 {
		n, _, length := protowire.ConsumeField(unknown)
		if n == number {
			return true
		}
		unknown = unknown[length:] // valid, because proto.Unmarshal has checked it
	}
	return false
}

// readProtobuf reads the payload of a request. Metadata without data counts as empty text.
func (r *Request) readProtobuf(data *pb.MessageData, metadata map[string]string) error {
	p := &r.Payload
	p.Metadata = metadata
	switch d := data.GetData().(type) {
	case *pb.MessageData_TextData:
		p.Type, p.Data = hub.DataText, []byte(d.TextData)
	case *pb.MessageData_BinaryData:
		p.Type, p.Data = hub.DataBinary, d.BinaryData
	case *pb.MessageData_JsonData:
		p.Type, p.Data = hub.DataJSON, []byte(d.JsonData)
		if what := Unfit(p); what != "" {
			return fmt.Errorf("json_data is not valid %s", what)
		}
		if strings.TrimSpace(d.JsonData) == "null" {
			return errors.New("json_data is null")
		}
	case *pb.MessageData_ProtobufData:
		p.Type, p.Data = hub.DataProtobuf, marshalProtobuf(d.ProtobufData)
	default:
		if len(metadata) == 0 {
			return errors.New("data is missing")
		}
		p.Type = hub.DataText
	}
	return nil
}

func (Protobuf) Encode(m *hub.Message) *hub.Frame {
	down := &pb.DataMessage{From: "server", Metadata: m.Metadata, Data: &pb.MessageData{}}
	if m.Group != "" {
		down.From, down.Group = "group", &m.Group
	}
	switch m.Type {
	case hub.DataText:
		down.Data.Data = &pb.MessageData_TextData{TextData: string(m.Data)}
	case hub.DataJSON:
		down.Data.Data = &pb.MessageData_JsonData{JsonData: string(m.Data)}
	case hub.DataProtobuf:
		var a anypb.Any
		if err := proto.Unmarshal(m.Data, &a); err != nil {
			panic(fmt.Sprintf("emulator: a validated google.protobuf.Any does not unmarshal: %v", err))
		}
		down.Data.Data = &pb.MessageData_ProtobufData{ProtobufData: &a}
	default:
		down.Data.Data = &pb.MessageData_BinaryData{BinaryData: m.Data}
	}
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_DataMessage{DataMessage: down}})
}

func (Protobuf) Connected(c *hub.Connection, reconnectionToken string) *hub.Frame {
	m := &pb.SystemMessage_ConnectedMessage{ConnectionId: c.ID, UserId: c.UserID}
	if reconnectionToken != "" {
		m.ReconnectionToken = &reconnectionToken
	}
	return systemFrame(&pb.SystemMessage{Message: &pb.SystemMessage_ConnectedMessage_{ConnectedMessage: m}})
}

func (Protobuf) Disconnected(reason string) *hub.Frame {
	return systemFrame(&pb.SystemMessage{Message: &pb.SystemMessage_DisconnectedMessage_{
		DisconnectedMessage: &pb.SystemMessage_DisconnectedMessage{Reason: reason}}})
}

func (Protobuf) Ack(id uint64, err *AckError) *hub.Frame {
	m := &pb.AckMessage{AckId: id, Success: err == nil}
	if err != nil {
		m.Error = &pb.AckMessage_ErrorMessage{Name: err.Name, Message: err.Message}
	}
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_AckMessage{AckMessage: m}})
}

func (Protobuf) Pong() *hub.Frame {
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_PongMessage{PongMessage: &pb.PongMessage{}}})
}

// Sequenced appends a sequence_id to the DataMessage in a DownstreamMessage. The DownstreamMessage must have no other field.
func (Protobuf) Sequenced(data []byte, id uint64) []byte {
	num, typ, n := protowire.ConsumeTag(data)
	message, _ := protowire.ConsumeBytes(data[n:])
	b := make([]byte, 0, len(data)+2*protowire.SizeVarint(id)+4)
	b = protowire.AppendTag(b, num, typ)
	b = protowire.AppendVarint(b, uint64(len(message)+protowire.SizeTag(sequenceIDField)+protowire.SizeVarint(id)))
	b = append(b, message...)
	b = protowire.AppendTag(b, sequenceIDField, protowire.VarintType)
	return protowire.AppendVarint(b, id)
}

// sequenceIDField is the field number of DataMessage.sequence_id.
const sequenceIDField = 4

func systemFrame(m *pb.SystemMessage) *hub.Frame {
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_SystemMessage{SystemMessage: m}})
}

func downstream(m *pb.DownstreamMessage) *hub.Frame {
	return &hub.Frame{Data: marshalProtobuf(m)}
}

// marshalProtobuf encodes a message. It panics on an error, which cannot happen because all strings are valid UTF-8.
func marshalProtobuf(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("emulator: %T does not marshal: %v", m, err))
	}
	return b
}
