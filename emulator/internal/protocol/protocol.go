// Package protocol decodes frames into requests, and encodes messages into frames. It does so for every client protocol: raw
// (no subprotocol), JSON, protobuf and MQTT. It also has the rules for names, metadata and content types that the protocols
// and the REST API share.
//
// It consists of pure functions, without connections, locks or a clock of its own. Apart from the messages of package hub, it
// does not depend on the emulator.
package protocol

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

// Codec encodes and decodes the frames of one client protocol. Two codecs with the same Encoding encode messages
// identically. A method returns a nil frame if the protocol does not have that kind of frame.
type Codec interface {
	hub.Encoder
	// Decode decodes a client's frame. It returns a *FrameError if the frame is not valid; the client must then be closed.
	Decode(text bool, data []byte) (Request, error)

	Connected(c *hub.Connection, reconnectionToken string) *hub.Frame
	Disconnected(reason string) *hub.Frame
	Ack(id uint64, err *AckError) *hub.Frame
	Pong() *hub.Frame
	// Sequenced returns the data of a message's frame with a sequence id, for reliable clients.
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

// The service's own JSON and protobuf subprotocols. A client with any other subprotocol is raw. See [MQTTSubprotocol] for MQTT.
const (
	jsonSubprotocol             = "json.webpubsub.azure.v1"
	jsonReliableSubprotocol     = "json.reliable.webpubsub.azure.v1"
	protobufSubprotocol         = "protobuf.webpubsub.azure.v1"
	protobufReliableSubprotocol = "protobuf.reliable.webpubsub.azure.v1"
)

// Subprotocol describes one of the service's subprotocols.
type Subprotocol struct {
	Codec    Codec
	Reliable bool
}

// subprotocols maps the names of the service's JSON and protobuf subprotocols to their descriptions. See [FindSubprotocol].
var subprotocols = map[string]Subprotocol{
	jsonSubprotocol:             {Codec: JSON{}},
	jsonReliableSubprotocol:     {Codec: JSON{}, Reliable: true},
	protobufSubprotocol:         {Codec: Protobuf{Name: protobufSubprotocol}},
	protobufReliableSubprotocol: {Codec: Protobuf{Name: protobufReliableSubprotocol}, Reliable: true},
}

// FindSubprotocol returns the entry of subprotocols with a name, and false if there is none. Names are case-insensitive.
func FindSubprotocol(name string) (Subprotocol, bool) {
	p, ok := subprotocols[strings.ToLower(name)]
	return p, ok
}

// RequestKind is the kind of a client's request.
type RequestKind uint8

const (
	RequestJoin RequestKind = iota
	RequestLeave
	RequestSend
	RequestEvent
	RequestSequenceAck
	RequestPing
	RequestInvoke
	RequestCancelInvocation
	RequestStreamData
	RequestStreamEnd
)

var requestNames = [...]string{"joinGroup", "leaveGroup", "sendToGroup", "event", "sequenceAck", "ping", "invoke",
	"cancelInvocation", "streamData", "streamEnd"}

func (k RequestKind) String() string { return requestNames[k] }

// Request is a decoded frame from a client, for all protocols.
type Request struct {
	Kind       RequestKind
	AckID      *uint64 // nil = the client wants no acknowledgement
	Group      string
	Event      string
	Payload    hub.Payload
	NoEcho     bool
	TTLSeconds uint32
	SequenceID uint64

	InvocationID string             // of invoke and cancelInvocation
	StreamID     string             // of streamData and streamEnd, and of a sendToGroup that opens a stream; "" otherwise
	IdleTimeout  time.Duration      // of a sendToGroup that opens a stream; 0 = the service's default
	Fragment     uint64             // of streamData; 0 = keep-alive
	StreamError  *hub.StreamFailure // of streamEnd; nil = the stream ends normally
}

// check returns an error if the event, the group, the TTL or the metadata of a request is not valid.
func (r *Request) check() error {
	fault := ""
	switch {
	case (r.Kind == RequestEvent || r.Kind == RequestInvoke) && !EventPattern.MatchString(r.Event):
		fault = fmt.Sprintf("the event name %.64q does not match %s", r.Event, EventPattern)
	case r.Kind <= RequestSend:
		fault = CheckGroup(r.Group)
	}
	if fault == "" && r.TTLSeconds > MaxTTLSeconds {
		fault = fmt.Sprintf("ttlSeconds must be at most %d", MaxTTLSeconds)
	}
	if fault == "" {
		fault = CheckMetadata(r.Payload.Metadata)
	}
	if fault != "" {
		return errors.New(fault)
	}
	return nil
}

// AckError describes why a client's request failed.
type AckError struct {
	Name    string `json:"name"`
	Message string `json:"message"`
}

func (e *AckError) Error() string { return e.Name + ": " + e.Message }

// The names of an AckError.
const (
	AckForbidden = "Forbidden"
	AckInternal  = "InternalServerError"
	AckDuplicate = "Duplicate"
)

// FrameError describes a frame that breaks the protocol's rules. The client that sent it must be closed.
type FrameError struct {
	Code   int    // for the close frame
	Reason string // for the client and the application, in the hosted service's words
	Detail string // for people: the rule that the frame breaks
}

func (e *FrameError) Error() string { return e.Detail }

// TooLarge returns the error for a message that is larger than hub.MaxMessageSize.
func TooLarge() *FrameError {
	return &FrameError{CloseTooLarge, "The client message is too large.",
		fmt.Sprintf("a message is longer than %d bytes", hub.MaxMessageSize)}
}

// The codes in close frames.
const (
	CloseNormal          = 1000
	CloseProtocolError   = 1002
	CloseUnsupportedData = 1003
	CloseInvalidPayload  = 1007
	ClosePolicyViolation = 1008
	CloseTooLarge        = 1009
	CloseInternalError   = 1011
)
