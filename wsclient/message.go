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

// DataType is how a payload is encoded.
type DataType string

// The data types of the service.
const (
	DataText     DataType = "text"     // UTF-8 text
	DataJSON     DataType = "json"     // one JSON text, as it was sent
	DataBinary   DataType = "binary"   // any bytes
	DataProtobuf DataType = "protobuf" // an encoded google.protobuf.Any
)

// Payload is data with its type: what a client sends, and what is inside a [Message]. Make one with [Text], [JSON],
// [Binary] or [Protobuf]. The zero Payload is not one: every call rejects it with [ErrInvalidArgument].
//
// A Payload may be sent any number of times, also by several goroutines at once. The service accepts frames of at most
// 1 MiB; a larger one is [ErrInvalidArgument]. The JSON protocols encode binary data as base64, which makes it a third
// larger.
type Payload struct {
	DataType DataType
	Data     []byte

	err error // why the constructor failed; returned when the payload is sent
}

// Text returns a payload of text. Sending text that is not valid UTF-8 is [ErrInvalidArgument]. The text may be empty.
func Text(text string) Payload {
	if !utf8.ValidString(text) {
		return Payload{err: errors.New("is text that is not valid UTF-8; send it with Binary")}
	}
	return Payload{DataType: DataText, Data: []byte(text)}
}

// JSON returns a payload of JSON that holds v as encoding/json encodes it. It encodes v at once, so later changes of v
// do not change the payload.
//
// Sending a value that does not encode is [ErrInvalidArgument], which wraps the encoder's error. So is sending null,
// which the service does not accept.
func JSON(v any) Payload {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return Payload{err: fmt.Errorf("does not encode as JSON: %w", err)}
	}
	return Payload{DataType: DataJSON, Data: bytes.TrimSuffix(buf.Bytes(), []byte("\n"))}
}

// Binary returns a payload of bytes. It does not copy data: do not change data until the last call that sends it has
// returned. The data may be empty.
func Binary(data []byte) Payload {
	return Payload{DataType: DataBinary, Data: data}
}

// Protobuf returns a payload of a protobuf message, wrapped into a google.protobuf.Any. Only a connection with
// [ProtobufReliable] or [ProtobufPlain] can send it; for others it is [ErrInvalidArgument].
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

// JSON decodes the data into v, as json.Unmarshal does. It fails if the data is not JSON.
func (p Payload) JSON(v any) error { return json.Unmarshal(p.Data, v) }

// Protobuf decodes the data into m. It fails if the data type is not [DataProtobuf] or the message is of another type.
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

// problem returns what is wrong with a payload, in words that follow the name of the argument.
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

// Message is a message that the client received.
type Message struct {
	// Payload is the data and its type.
	Payload

	// From is [FromGroup] for a message to a group, and [FromServer] for all others: sends to all, to a user or to this
	// connection, and an event handler's answers.
	From string

	// Group is the group of a message from a group.
	Group string

	// FromUserID is the user of the client that sent a message to a group. It is empty if an application server sent the
	// message, if the client has no user, and with the protobuf protocols, which do not carry it.
	FromUserID string

	// Metadata is what the sender added to the message, or nil.
	Metadata map[string]string

	// SequenceID counts the messages of one connection id, from 1 on. It is 0 with the protocols that are not reliable.
	SequenceID uint64

	// Stream is set if the message is a fragment of a group stream. See [StreamFragment].
	Stream *StreamFragment
}
