package wsclient

import (
	"errors"
	"fmt"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/awps-go/webpubsub/internal/pb"
)

// protobufCodec implements protobuf.webpubsub.azure.v1 and protobuf.reliable.webpubsub.azure.v1. It does not support
// invocations and group streams, because the field numbers of their frames are not public.
type protobufCodec struct{}

func (protobufCodec) messageType() websocket.MessageType { return websocket.MessageBinary }

func (protobufCodec) decode(data []byte) (frame, error) {
	var down pb.DownstreamMessage
	if err := proto.Unmarshal(data, &down); err != nil {
		return frame{}, unreadable("a frame that is not valid protobuf")
	}
	switch {
	case down.GetDataMessage() != nil:
		d := down.GetDataMessage()
		m := &Message{From: d.GetFrom(), Group: d.GetGroup(), SequenceID: d.GetSequenceId()}
		if len(d.GetMetadata()) > 0 {
			m.Metadata = d.GetMetadata()
		}
		var err error
		m.Payload, err = payloadOf(d.GetData())
		return frame{kind: frameMessage, message: m}, err
	case down.GetAckMessage() != nil:
		a := down.GetAckMessage()
		return frame{kind: frameAck, ackID: a.GetAckId(), success: a.GetSuccess(),
			failure: failure{a.GetError().GetName(), a.GetError().GetMessage()}}, nil
	case down.GetPongMessage() != nil:
		return frame{kind: framePong}, nil
	case down.GetSystemMessage().GetConnectedMessage() != nil:
		c := down.GetSystemMessage().GetConnectedMessage()
		return frame{kind: frameConnected, connectionID: c.GetConnectionId(), userID: c.GetUserId(),
			reconnectionToken: c.GetReconnectionToken()}, nil
	case down.GetSystemMessage().GetDisconnectedMessage() != nil:
		return frame{kind: frameDisconnected, reason: down.GetSystemMessage().GetDisconnectedMessage().GetReason()}, nil
	}
	return frame{}, nil
}

// payloadOf converts the data of a message. Data of a kind that the schema does not list is delivered like a newer data
// type of a JSON message. If it ended the session instead, each such message to a group would disconnect all members that
// use this package, and they would lose other messages.
func payloadOf(data *pb.MessageData) (Payload, error) {
	switch d := data.GetData().(type) {
	case *pb.MessageData_TextData:
		return Payload{DataType: DataText, Data: []byte(d.TextData)}, nil
	case *pb.MessageData_JsonData:
		return Payload{DataType: DataJSON, Data: []byte(d.JsonData)}, nil
	case *pb.MessageData_BinaryData:
		return Payload{DataType: DataBinary, Data: d.BinaryData}, nil
	case *pb.MessageData_ProtobufData:
		wrapped, err := proto.Marshal(d.ProtobufData)
		if err != nil {
			return Payload{}, unreadable("protobuf data that cannot be read")
		}
		return Payload{DataType: DataProtobuf, Data: wrapped}, nil
	}
	if unknown := data.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		return Payload{DataType: DataUnknown, Data: unknown}, nil
	}
	return Payload{}, nil // such as the end of a group stream
}

func (protobufCodec) encode(r *request) ([]byte, error) {
	var up pb.UpstreamMessage
	var ackID *uint64
	if r.ackID != 0 {
		ackID = &r.ackID
	}
	switch r.kind {
	case requestJoin:
		up.Message = &pb.UpstreamMessage_JoinGroupMessage{JoinGroupMessage: &pb.JoinGroupMessage{Group: r.group, AckId: ackID}}
	case requestLeave:
		up.Message = &pb.UpstreamMessage_LeaveGroupMessage{LeaveGroupMessage: &pb.LeaveGroupMessage{Group: r.group, AckId: ackID}}
	case requestSend:
		data, err := dataOf(r.payload)
		if err != nil {
			return nil, err
		}
		send := &pb.SendToGroupMessage{Group: r.group, AckId: ackID, Data: data, Metadata: r.metadata}
		if r.noEcho {
			send.NoEcho = new(true)
		}
		if r.ttl > 0 {
			send.TtlSeconds = new(uint32(r.ttl / time.Second))
		}
		up.Message = &pb.UpstreamMessage_SendToGroupMessage{SendToGroupMessage: send}
	case requestEvent:
		data, err := dataOf(r.payload)
		if err != nil {
			return nil, err
		}
		up.Message = &pb.UpstreamMessage_EventMessage{EventMessage: &pb.EventMessage{
			Event: r.event, Data: data, AckId: ackID, Metadata: r.metadata}}
	case requestPing:
		up.Message = &pb.UpstreamMessage_PingMessage{PingMessage: &pb.PingMessage{}}
	case requestSequenceAck:
		up.Message = &pb.UpstreamMessage_SequenceAckMessage{SequenceAckMessage: &pb.SequenceAckMessage{SequenceId: r.sequenceID}}
	default:
		return nil, fmt.Errorf("the protobuf protocols have no public frame for this: %w", errors.ErrUnsupported)
	}
	return proto.Marshal(&up)
}

func dataOf(p Payload) (*pb.MessageData, error) {
	switch p.DataType {
	case DataText:
		return &pb.MessageData{Data: &pb.MessageData_TextData{TextData: string(p.Data)}}, nil
	case DataJSON:
		return &pb.MessageData{Data: &pb.MessageData_JsonData{JsonData: string(p.Data)}}, nil
	case DataBinary:
		return &pb.MessageData{Data: &pb.MessageData_BinaryData{BinaryData: p.Data}}, nil
	}
	var wrapped anypb.Any
	if err := proto.Unmarshal(p.Data, &wrapped); err != nil {
		return nil, invalid("send", "payload", "is not an encoded google.protobuf.Any")
	}
	return &pb.MessageData{Data: &pb.MessageData_ProtobufData{ProtobufData: &wrapped}}, nil
}
