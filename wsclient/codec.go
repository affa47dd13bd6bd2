package wsclient

import (
	"fmt"
	"time"

	"github.com/coder/websocket"
)

// codec encodes and decodes frames. It is stateless, so all links share one.
type codec interface {
	// messageType returns the WebSocket message type of all frames.
	messageType() websocket.MessageType

	// decode decodes a frame of the service. The result does not refer to data. A frame of an unknown kind is not an
	// error: it has the kind frameUnknown.
	decode(data []byte) (frame, error)

	// encode encodes a request. It returns errors.ErrUnsupported if the protocol has no frame for the request.
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

// frame is a frame of the service. The kind determines which fields are set.
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
	expected uint64 // frameStreamAck, frameStreamNack: number of the next fragment that the service expects
}

// isSuccess reports whether an acknowledgement says that the request was executed, now or before.
func (f *frame) isSuccess() bool { return f.success || f.failure.name == nameDuplicate }

// failure is the error in a frame. The zero value means no error.
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

// request is a frame of the client. The kind determines which fields are used.
type request struct {
	kind     requestKind
	ackID    uint64 // 0 means no ackId
	group    string
	event    string
	noEcho   bool
	ttl      time.Duration
	payload  Payload
	metadata map[string]string

	sequenceID uint64 // requestSequenceAck

	invocationID string // requestInvoke, requestCancelInvocation

	streamID    string
	fragment    uint64        // requestStreamData: number of the fragment; 0 means a keep-alive without data
	idleTimeout time.Duration // requestStreamOpen: 0 means the service's default
	end         *StreamError  // requestStreamEnd: nil means success
}

// unreadableError reports a frame that cannot be decoded.
type unreadableError struct {
	code   websocket.StatusCode
	reason string
}

func (e *unreadableError) Error() string { return "the service sent " + e.reason }

func unreadable(format string, args ...any) error {
	return &unreadableError{websocket.StatusInvalidFramePayloadData, fmt.Sprintf(format, args...)}
}
