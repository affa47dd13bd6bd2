// Package protocol turns frames into requests and messages into frames, for each protocol that a client may speak: none
// (raw), JSON, protobuf and MQTT. It also has the rules for names, metadata and content types that all of them and the
// REST API share. It is pure functions: no connection, no lock, no clock. It knows the kernel's messages and nothing
// else of the emulator.
package protocol

import (
	"fmt"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

// Codec is one client protocol: how it writes what the service sends, and how it reads what a client sends. Two codecs
// with the same encoding write a message alike. A protocol that has no word for something returns a nil frame.
type Codec interface {
	hub.Encoder
	// Decode reads a frame. The error is a *FrameError: the client that sent it is closed.
	Decode(text bool, data []byte) (Request, error)

	Connected(c *hub.Connection, reconnectionToken string) *hub.Frame
	Disconnected(reason string) *hub.Frame
	Ack(id uint64, err *AckError) *hub.Frame
	Pong() *hub.Frame
	// Sequenced returns a message's frame with a sequence id, for reliable clients.
	Sequenced(data []byte, id uint64) []byte
}

const (
	EncodingRaw hub.Encoding = iota
	EncodingJSON
	EncodingProtobuf
	EncodingMQTT311
	EncodingMQTT5
	encodings
)

var _ [hub.MaxEncodings]struct{} = [encodings]struct{}{}

// The subprotocols the service itself speaks. Any other leaves the client a raw one.
const (
	JSONSubprotocol             = "json.webpubsub.azure.v1"
	JSONReliableSubprotocol     = "json.reliable.webpubsub.azure.v1"
	ProtobufSubprotocol         = "protobuf.webpubsub.azure.v1"
	ProtobufReliableSubprotocol = "protobuf.reliable.webpubsub.azure.v1"
)

// Subprotocol is what a negotiated subprotocol means.
type Subprotocol struct {
	Codec    Codec
	Reliable bool
}

// Subprotocols are the subprotocols of the service that one of these codecs speaks.
var Subprotocols = map[string]Subprotocol{
	JSONSubprotocol:             {Codec: JSON{}},
	JSONReliableSubprotocol:     {Codec: JSON{}, Reliable: true},
	ProtobufSubprotocol:         {Codec: Protobuf{}},
	ProtobufReliableSubprotocol: {Codec: Protobuf{}, Reliable: true},
}

// RequestKind is what a client asks for.
type RequestKind uint8

const (
	RequestJoin RequestKind = iota
	RequestLeave
	RequestSend
	RequestEvent
	RequestSequenceAck
	RequestPing
)

var requestNames = [...]string{"joinGroup", "leaveGroup", "sendToGroup", "event", "sequenceAck", "ping"}

func (k RequestKind) String() string { return requestNames[k] }

// Request is a frame from a client, whatever its protocol.
type Request struct {
	Kind       RequestKind
	AckID      *uint64 // nil = the client wants no answer
	Group      string
	Event      string
	Payload    hub.Payload
	NoEcho     bool
	TTLSeconds uint32
	SequenceID uint64
	// Invalid is what is wrong with a frame that could be read but asks for something that cannot be.
	Invalid string
}

// Check returns what is wrong with a request that names a group or an event, or "".
func (r *Request) Check() string {
	if r.Invalid != "" {
		return r.Invalid
	}
	if r.Kind == RequestEvent {
		if !EventPattern.MatchString(r.Event) {
			return fmt.Sprintf("the event name %.64q does not match %s", r.Event, EventPattern)
		}
	} else if fault := CheckGroup(r.Group); fault != "" {
		return fault
	}
	if r.TTLSeconds > MaxTTLSeconds {
		return fmt.Sprintf("ttlSeconds is more than %d", MaxTTLSeconds)
	}
	return CheckMetadata(r.Payload.Metadata)
}

// AckError is why a client's request failed.
type AckError struct{ Name, Message string }

func (e *AckError) Error() string { return e.Name + ": " + e.Message }

// The names of an AckError.
const (
	AckForbidden  = "Forbidden"
	AckInternal   = "InternalServerError"
	AckDuplicate  = "Duplicate"
	AckBadRequest = "BadRequest"
)

// FrameError is a frame that cannot be read at all: the client that sent it is closed.
type FrameError struct {
	Code   int // for the close frame
	Reason string
}

func (e *FrameError) Error() string { return e.Reason }

func unreadable(format string, args ...any) *FrameError {
	return &FrameError{CloseInvalidPayload, fmt.Sprintf(format, args...)}
}

// The codes of close frames.
const (
	CloseNormal          = 1000
	CloseProtocolError   = 1002
	CloseUnsupportedData = 1003
	CloseInvalidPayload  = 1007
	ClosePolicyViolation = 1008
	CloseInternalError   = 1011
)
