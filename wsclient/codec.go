package wsclient

import (
	"fmt"
	"time"

	"github.com/coder/websocket"
)

// codec turns frames into bytes and back. Its methods keep no state, so that one serves all links.
type codec interface {
	// messageType is that of every frame.
	messageType() websocket.MessageType

	// decode reads a frame of the service. It keeps nothing of data. A frame of a kind that it does not know has the kind
	// frameUnknown and is no error.
	decode(data []byte) (frame, error)

	// encode writes a request. It fails with errors.ErrUnsupported for what the protocol cannot express.
	encode(r *request) ([]byte, error)
}

func codecFor(p Protocol) codec {
	if p.protobuf() {
		return protobufCodec{}
	}
	return jsonCodec{}
}

type frameKind int

// The kinds of frames that the service sends.
const (
	frameUnknown frameKind = iota
	frameMessage
	frameAck
	framePong
	frameConnected
	frameDisconnected
	frameInvokeResponse
	frameStreamAck
	frameStreamNack
	frameStreamClosed
)

// frame is a frame of the service. Which fields count depends on the kind.
type frame struct {
	kind    frameKind
	message *Message // frameMessage

	ackID   uint64 // frameAck
	success bool   // frameAck, frameInvokeResponse
	failure failure

	connectionID, userID, reconnectionToken string // frameConnected
	reason                                  string // frameDisconnected

	invocationID string  // frameInvokeResponse
	answer       Payload // frameInvokeResponse

	streamID string // frameStream...
	expected uint64 // frameStreamAck, frameStreamNack: the next fragment that the service waits for
}

// failure is the error inside a frame; the zero value is none.
type failure struct {
	name, message string
}

type requestKind int

// The kinds of frames that a client sends.
const (
	requestJoin requestKind = iota
	requestLeave
	requestSend
	requestEvent
	requestPing
	requestSequenceAck
	requestInvoke
	requestCancelInvocation
	requestStreamOpen
	requestStreamData
	requestStreamEnd
)

// request is a frame of the client. Which fields count depends on the kind.
type request struct {
	kind     requestKind
	ackID    uint64 // 0 is none
	group    string
	event    string
	noEcho   bool
	ttl      time.Duration
	payload  Payload
	metadata map[string]string

	sequenceID uint64 // requestSequenceAck

	invocationID string // requestInvoke, requestCancelInvocation

	streamID    string
	fragment    uint64        // requestStreamData: its number; 0 is a keep-alive without data
	idleTimeout time.Duration // requestStreamOpen: 0 is the service's default
	end         *StreamError  // requestStreamEnd: nil is success
}

// unreadableError is a frame that cannot be decoded.
type unreadableError struct {
	code   websocket.StatusCode
	reason string
}

func (e *unreadableError) Error() string { return "the service sent " + e.reason }

func unreadable(format string, args ...any) error {
	return &unreadableError{websocket.StatusInvalidFramePayloadData, fmt.Sprintf(format, args...)}
}
