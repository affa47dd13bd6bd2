// Package protocol turns frames into requests and messages into frames, for each protocol that a client may speak: none
// (raw), JSON, protobuf and MQTT. It also has the rules for names, metadata and content types that all of them and the
// REST API share. It is pure functions: no connection, no lock, no clock. It knows the kernel's messages and nothing
// else of the emulator.
package protocol

import (
	"errors"
	"fmt"
	"strings"

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

// Subprotocols are the subprotocols of the service that one of these codecs speaks, by name. See FindSubprotocol.
var Subprotocols = map[string]Subprotocol{
	JSONSubprotocol:             {Codec: JSON{}},
	JSONReliableSubprotocol:     {Codec: JSON{}, Reliable: true},
	ProtobufSubprotocol:         {Codec: Protobuf{Name: ProtobufSubprotocol}},
	ProtobufReliableSubprotocol: {Codec: Protobuf{Name: ProtobufReliableSubprotocol}, Reliable: true},
}

// FindSubprotocol returns what a subprotocol means, whose name may be in any case, and false if it is none of the
// service's.
func FindSubprotocol(name string) (Subprotocol, bool) {
	p, ok := Subprotocols[strings.ToLower(name)]
	return p, ok
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
}

// check returns what is wrong with a request that names a group or an event.
func (r *Request) check() error {
	fault := ""
	switch {
	case r.Kind == RequestEvent && !EventPattern.MatchString(r.Event):
		fault = fmt.Sprintf("the event name %.64q does not match %s", r.Event, EventPattern)
	case r.Kind != RequestEvent:
		fault = CheckGroup(r.Group)
	}
	if fault == "" && r.TTLSeconds > MaxTTLSeconds {
		fault = fmt.Sprintf("ttlSeconds is more than %d", MaxTTLSeconds)
	}
	if fault == "" {
		fault = CheckMetadata(r.Payload.Metadata)
	}
	if fault != "" {
		return errors.New(fault)
	}
	return nil
}

// AckError is why a client's request failed.
type AckError struct{ Name, Message string }

func (e *AckError) Error() string { return e.Name + ": " + e.Message }

// The names of an AckError.
const (
	AckForbidden = "Forbidden"
	AckInternal  = "InternalServerError"
	AckDuplicate = "Duplicate"
)

// FrameError is a frame that breaks the protocol's rules: the client that sent it is closed.
type FrameError struct {
	Code   int    // for the close frame
	Reason string // for the client and the application, in the service's words
	Detail string // for people: what is wrong with the frame
}

func (e *FrameError) Error() string { return e.Detail }

// TooLarge is a message over the limit.
func TooLarge() *FrameError {
	return &FrameError{CloseTooLarge, "The client message is too large.",
		fmt.Sprintf("a message is longer than %d bytes", hub.MaxMessageSize)}
}

// The codes of close frames.
const (
	CloseNormal          = 1000
	CloseProtocolError   = 1002
	CloseUnsupportedData = 1003
	CloseInvalidPayload  = 1007
	ClosePolicyViolation = 1008
	CloseTooLarge        = 1009
	CloseInternalError   = 1011
)
