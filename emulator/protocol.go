package emulator

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/coder/websocket"
	"golang.org/x/net/http/httpguts"
)

// codec is one client protocol: how it writes what the service says, and how it reads what a client says. Two codecs
// of a kind encode a message alike. A protocol that has no word for something returns a nil frame.
type codec interface {
	encoder
	decode(typ websocket.MessageType, data []byte) (clientRequest, error)

	connected(c *connection, reconnectionToken string) *frame
	disconnected(reason string) *frame
	ack(id uint64, err *ackError) *frame
	pong() *frame
	// sequenced returns a message's frame with a sequence id, for reliable clients.
	sequenced(data []byte, id uint64) []byte
}

// encoder is how a protocol writes a message. Two of a kind write it alike.
type encoder interface {
	kind() codecKind
	message(m *message) *frame
}

type codecKind uint8

const (
	codecRaw codecKind = iota
	codecJSON
	codecProtobuf
	codecMQTT311
	codecMQTT5
	codecKinds
)

// The subprotocols the service itself speaks. Any other leaves the client a raw one.
const (
	protocolJSON             = "json.webpubsub.azure.v1"
	protocolJSONReliable     = "json.reliable.webpubsub.azure.v1"
	protocolProtobuf         = "protobuf.webpubsub.azure.v1"
	protocolProtobufReliable = "protobuf.reliable.webpubsub.azure.v1"
)

// subprotocol is what a negotiated subprotocol means.
type subprotocol struct {
	codec    codec
	reliable bool
}

var subprotocols = map[string]subprotocol{
	protocolJSON:             {codec: jsonCodec{}},
	protocolJSONReliable:     {codec: jsonCodec{}, reliable: true},
	protocolProtobuf:         {codec: protobufCodec{}},
	protocolProtobufReliable: {codec: protobufCodec{}, reliable: true},
}

// requestKind is what a client asks for.
type requestKind uint8

const (
	requestJoin requestKind = iota
	requestLeave
	requestSend
	requestEvent
	requestSequenceAck
	requestPing
)

var requestNames = [...]string{"joinGroup", "leaveGroup", "sendToGroup", "event", "sequenceAck", "ping"}

func (k requestKind) String() string { return requestNames[k] }

// clientRequest is a frame from a client, whatever its protocol.
type clientRequest struct {
	kind       requestKind
	ackID      *uint64 // nil = the client wants no answer
	group      string
	event      string
	payload    payload
	noEcho     bool
	ttlSeconds uint32
	sequenceID uint64
	// invalid says what is wrong with a frame that could be read but asks for something that cannot be.
	invalid string
}

// ackError is why a client's request failed.
type ackError struct{ name, message string }

func (e *ackError) Error() string { return e.name + ": " + e.message }

const (
	ackForbidden  = "Forbidden"
	ackInternal   = "InternalServerError"
	ackDuplicate  = "Duplicate"
	ackBadRequest = "BadRequest"
)

// frameError is a frame that cannot be read at all: the client that sent it is closed.
type frameError struct {
	code   websocket.StatusCode
	reason string
}

func (e *frameError) Error() string { return e.reason }

func unreadable(format string, args ...any) *frameError {
	return &frameError{websocket.StatusInvalidFramePayloadData, fmt.Sprintf(format, args...)}
}

var (
	hubPattern   = regexp.MustCompile("^[A-Za-z][A-Za-z0-9_`,.[\\]]{0,127}$")
	eventPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,127}$`)
)

const (
	maxGroupName  = 1024 // characters
	maxTTLSeconds = 300

	maxMetadataKey   = 256  // bytes
	maxMetadataValue = 1024 // bytes
	maxMetadata      = 8 << 10
)

// checkGroup returns what is wrong with a group's name, or "".
func checkGroup(name string) string {
	switch {
	case name == "":
		return "the group name is empty"
	case !utf8.ValidString(name):
		return "the group name is not valid UTF-8"
	case strings.TrimSpace(name) == "":
		return "the group name is only white space"
	case utf8.RuneCountInString(name) > maxGroupName:
		return fmt.Sprintf("the group name has more than %d characters", maxGroupName)
	}
	return ""
}

// checkMetadata returns what is wrong with a message's metadata, or "".
func checkMetadata(metadata map[string]string) string {
	total := 0
	for key, value := range metadata {
		switch {
		case !httpguts.ValidHeaderFieldName(key):
			return fmt.Sprintf("the metadata key %q is not an HTTP token", key)
		case len(key) > maxMetadataKey:
			return fmt.Sprintf("the metadata key %.32q... is longer than %d bytes", key, maxMetadataKey)
		case !isASCII(value):
			return fmt.Sprintf("the value of metadata key %q has characters outside ASCII", key)
		case len(value) > maxMetadataValue:
			return fmt.Sprintf("the value of metadata key %q is longer than %d bytes", key, maxMetadataValue)
		}
		total += len(key) + len(value)
	}
	if total > maxMetadata {
		return fmt.Sprintf("the metadata are longer than %d bytes", maxMetadata)
	}
	return ""
}
