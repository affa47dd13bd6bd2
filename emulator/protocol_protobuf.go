package emulator

import (
	"encoding/json"
	"fmt"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/awps-go/webpubsub/internal/pb"
)

// protobufCodec is protobuf.webpubsub.azure.v1 and protobuf.reliable.webpubsub.azure.v1.
type protobufCodec struct{}

func (protobufCodec) kind() codecKind { return codecProtobuf }

func (protobufCodec) decode(typ websocket.MessageType, data []byte) (clientRequest, error) {
	if typ != websocket.MessageBinary {
		return clientRequest{}, &frameError{websocket.StatusUnsupportedData, "this subprotocol takes binary frames only"}
	}
	var up pb.UpstreamMessage
	if err := proto.Unmarshal(data, &up); err != nil {
		return clientRequest{}, unreadable("the frame is not an UpstreamMessage: %v", err)
	}
	switch m := up.Message.(type) {
	case *pb.UpstreamMessage_JoinGroupMessage:
		return clientRequest{kind: requestJoin, group: m.JoinGroupMessage.GetGroup(), ackID: m.JoinGroupMessage.AckId}, nil
	case *pb.UpstreamMessage_LeaveGroupMessage:
		return clientRequest{kind: requestLeave, group: m.LeaveGroupMessage.GetGroup(), ackID: m.LeaveGroupMessage.AckId}, nil
	case *pb.UpstreamMessage_SendToGroupMessage:
		send := m.SendToGroupMessage
		r := clientRequest{kind: requestSend, group: send.GetGroup(), ackID: send.AckId, noEcho: send.GetNoEcho(),
			ttlSeconds: send.GetTtlSeconds()}
		r.payload, r.invalid = protobufPayload(send.GetData(), send.GetMetadata())
		return r, nil
	case *pb.UpstreamMessage_EventMessage:
		event := m.EventMessage
		r := clientRequest{kind: requestEvent, event: event.GetEvent(), ackID: event.AckId}
		r.payload, r.invalid = protobufPayload(event.GetData(), event.GetMetadata())
		return r, nil
	case *pb.UpstreamMessage_SequenceAckMessage:
		return clientRequest{kind: requestSequenceAck, sequenceID: m.SequenceAckMessage.GetSequenceId()}, nil
	case *pb.UpstreamMessage_PingMessage:
		return clientRequest{kind: requestPing}, nil
	default:
		return clientRequest{}, unreadable("the frame is none of the requests of an UpstreamMessage")
	}
}

// protobufPayload reads the data of a request; the string is what is wrong with it.
func protobufPayload(data *pb.MessageData, metadata map[string]string) (payload, string) {
	p := payload{metadata: metadata}
	switch d := data.GetData().(type) {
	case *pb.MessageData_TextData:
		p.dataType, p.data = dataText, []byte(d.TextData)
	case *pb.MessageData_BinaryData:
		p.dataType, p.data = dataBinary, d.BinaryData
	case *pb.MessageData_JsonData:
		p.dataType, p.data = dataJSON, []byte(d.JsonData)
		if !json.Valid(p.data) {
			return p, "json_data is not valid JSON"
		}
	case *pb.MessageData_ProtobufData:
		p.dataType, p.data = dataProtobuf, marshalProtobuf(d.ProtobufData)
	default:
		return p, "data is missing"
	}
	return p, ""
}

func (protobufCodec) message(m *message) *frame {
	down := &pb.DataMessage{From: "server", Metadata: m.metadata, Data: &pb.MessageData{}}
	if m.group != "" {
		down.From, down.Group = "group", &m.group
	}
	switch m.dataType {
	case dataText:
		down.Data.Data = &pb.MessageData_TextData{TextData: string(m.data)}
	case dataJSON:
		down.Data.Data = &pb.MessageData_JsonData{JsonData: string(m.data)}
	case dataProtobuf:
		var a anypb.Any
		if err := proto.Unmarshal(m.data, &a); err != nil {
			panic(fmt.Sprintf("emulator: a payload that was read as an Any is none: %v", err))
		}
		down.Data.Data = &pb.MessageData_ProtobufData{ProtobufData: &a}
	default:
		down.Data.Data = &pb.MessageData_BinaryData{BinaryData: m.data}
	}
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_DataMessage{DataMessage: down}})
}

func (protobufCodec) connected(c *connection, reconnectionToken string) *frame {
	m := &pb.SystemMessage_ConnectedMessage{ConnectionId: c.id, UserId: c.userID}
	if reconnectionToken != "" {
		m.ReconnectionToken = &reconnectionToken
	}
	return systemFrame(&pb.SystemMessage{Message: &pb.SystemMessage_ConnectedMessage_{ConnectedMessage: m}})
}

func (protobufCodec) disconnected(reason string) *frame {
	return systemFrame(&pb.SystemMessage{Message: &pb.SystemMessage_DisconnectedMessage_{
		DisconnectedMessage: &pb.SystemMessage_DisconnectedMessage{Reason: reason}}})
}

func (protobufCodec) ack(id uint64, err *ackError) *frame {
	m := &pb.AckMessage{AckId: id, Success: err == nil}
	if err != nil {
		m.Error = &pb.AckMessage_ErrorMessage{Name: err.name, Message: err.message}
	}
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_AckMessage{AckMessage: m}})
}

func (protobufCodec) pong() *frame {
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_PongMessage{PongMessage: &pb.PongMessage{}}})
}

// sequenced appends a sequence_id to the DataMessage in a DownstreamMessage, which has no other field.
func (protobufCodec) sequenced(data []byte, id uint64) []byte {
	num, typ, n := protowire.ConsumeTag(data)
	message, _ := protowire.ConsumeBytes(data[n:])
	b := make([]byte, 0, len(data)+2*protowire.SizeVarint(id)+4)
	b = protowire.AppendTag(b, num, typ)
	b = protowire.AppendVarint(b, uint64(len(message)+protowire.SizeTag(sequenceIDField)+protowire.SizeVarint(id)))
	b = append(b, message...)
	b = protowire.AppendTag(b, sequenceIDField, protowire.VarintType)
	return protowire.AppendVarint(b, id)
}

// sequenceIDField is the number of DataMessage.sequence_id.
const sequenceIDField = 4

func systemFrame(m *pb.SystemMessage) *frame {
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_SystemMessage{SystemMessage: m}})
}

func downstream(m *pb.DownstreamMessage) *frame {
	return &frame{typ: websocket.MessageBinary, data: marshalProtobuf(m)}
}

// marshalProtobuf encodes a message that cannot fail to: its strings are UTF-8.
func marshalProtobuf(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("emulator: %T does not marshal: %v", m, err))
	}
	return b
}
