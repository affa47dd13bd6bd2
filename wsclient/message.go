package wsclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// DataType is the encoding of a [Payload]. A received Payload may have a newer data type of the service. With the JSON
// protocols, its Data is then the JSON value in the frame. With the protobuf protocols, its type is [DataUnknown].
type DataType string

// The data types of the service.
const (
	DataText     DataType = "text"     // UTF-8 text
	DataJSON     DataType = "json"     // a JSON value, byte for byte as it was sent
	DataBinary   DataType = "binary"   // bytes
	DataProtobuf DataType = "protobuf" // an encoded google.protobuf.Any
)

// DataUnknown is the type of a payload received with a protobuf protocol whose data is of a kind that this package does
// not know. Data is then the encoded field of the service's MessageData, with its field number. It cannot be sent.
const DataUnknown DataType = "unknown"

// Payload is the data of a message, event or response, with its type. Create one with [Text], [JSON], [Binary] or
// [Protobuf]. Sending the zero Payload returns [ErrInvalidArgument].
//
// A Payload may be sent more than once, and from several goroutines at the same time.
//
// The service accepts frames of up to 1 MiB. Sending a Payload that needs a larger frame returns ErrInvalidArgument.
// The JSON protocols encode binary data as base64, so less than 768 KiB of it fits in a frame.
type Payload struct {
	DataType DataType
	Data     []byte

	err error // the constructor's error, returned when the payload is sent
}

// Text returns a text payload. The text may be empty. Sending text that is not valid UTF-8 returns
// [ErrInvalidArgument].
func Text(text string) Payload {
	if !utf8.ValidString(text) {
		return Payload{err: errors.New("is text that is not valid UTF-8; send it with Binary")}
	}
	return Payload{DataType: DataText, Data: []byte(text)}
}

// JSON returns a JSON payload with the encoding/json encoding of v. It encodes v immediately, so later changes to v do
// not affect the payload. HTML characters are not escaped.
//
// If v cannot be encoded, sending the payload returns [ErrInvalidArgument], which wraps the encoder's error. Sending
// the JSON value null also returns ErrInvalidArgument, because the service does not accept it.
func JSON(v any) Payload {
	data, err := marshalJSON(v)
	if err != nil {
		return Payload{err: fmt.Errorf("does not encode as JSON: %w", err)}
	}
	return Payload{DataType: DataJSON, Data: data}
}

// Binary returns a binary payload. The data may be empty. Binary does not copy data, so data must not change until
// every call that sends the payload has returned.
func Binary(data []byte) Payload {
	return Payload{DataType: DataBinary, Data: data}
}

// Protobuf returns a protobuf payload: the message, wrapped in a google.protobuf.Any. Sending it returns
// [ErrInvalidArgument] if the message cannot be encoded, or if the protocol is not [ProtobufReliable] or
// [ProtobufPlain].
func Protobuf(m proto.Message) Payload {
	wrapped, err := anypb.New(m)
	if err != nil {
		return Payload{err: fmt.Errorf("does not encode as protobuf: %w", err)}
	}
	data, err := proto.Marshal(wrapped)
	if err != nil {
		return Payload{err: fmt.Errorf("does not encode as protobuf: %w", err)}
	}
	return Payload{DataType: DataProtobuf, Data: data}
}

// Text returns the data as a string, whatever its type.
func (p Payload) Text() string { return string(p.Data) }

// JSON decodes the data into v with json.Unmarshal. It does not check the data type.
func (p Payload) JSON(v any) error { return json.Unmarshal(p.Data, v) }

// Protobuf decodes the data into m. It returns an error if the data type is not [DataProtobuf] or the message is not of
// m's type.
func (p Payload) Protobuf(m proto.Message) error {
	if p.DataType != DataProtobuf {
		return fmt.Errorf("wsclient: a payload of type %q is not protobuf", p.DataType)
	}
	var wrapped anypb.Any
	if err := proto.Unmarshal(p.Data, &wrapped); err != nil {
		return err
	}
	return wrapped.UnmarshalTo(m)
}

// problem returns an error if the payload cannot be sent. Its text continues a sentence whose subject is the argument.
func (p Payload) problem() error {
	switch {
	case p.err != nil:
		return p.err
	case p.DataType == "":
		return errors.New("is the zero Payload; make one with Text, JSON, Binary or Protobuf")
	}
	switch p.DataType {
	case DataBinary, DataProtobuf:
	case DataText:
		if !utf8.Valid(p.Data) {
			return errors.New("is text that is not valid UTF-8; send it with Binary")
		}
	case DataJSON:
		switch {
		case !utf8.Valid(p.Data):
			return errors.New("is JSON that is not valid UTF-8")
		case !json.Valid(p.Data):
			return errors.New("is not valid JSON")
		case string(bytes.TrimSpace(p.Data)) == "null":
			return errors.New("is the JSON null, which the service does not accept")
		}
	default:
		return fmt.Errorf("has the unknown data type %.32q", p.DataType)
	}
	return nil
}

// The values of [Message.From].
const (
	FromGroup  = "group"
	FromServer = "server"
)

// Message is a received message.
type Message struct {
	// Payload is the data and its type. It is the zero Payload if the message has no data, like the last message of a
	// stream.
	Payload

	// From is [FromGroup] if the message was sent to a group. It is [FromServer] for all other messages: messages to all
	// clients, to a user or to this connection, and responses of an event handler.
	From string

	// Group is the group to which the message was sent. It is empty if From is FromServer.
	Group string

	// FromUserID is the user ID of the client that sent a message to a group. It is empty if an application server sent
	// the message or the client has no user ID. It is always empty with the protobuf protocols, which do not transmit it.
	FromUserID string

	// Metadata is the metadata that the sender added to the message, or nil.
	Metadata map[string]string

	// SequenceID counts the messages of a connection, starting at 1. A recovery continues the count, and a new connection
	// restarts it. SequenceID is 0 with the plain protocols.
	SequenceID uint64

	// Stream is not nil if the message is a fragment of a group stream. See [StreamFragment].
	Stream *StreamFragment
}
