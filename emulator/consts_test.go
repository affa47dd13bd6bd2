package emulator_test

import (
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator"
)

// Values of the protocol and of the emulator's documentation, repeated so that the tests do not depend on the code.
const (
	protocolJSON             = "json.webpubsub.azure.v1"
	protocolJSONReliable     = "json.reliable.webpubsub.azure.v1"
	protocolProtobuf         = "protobuf.webpubsub.azure.v1"
	protocolProtobufReliable = "protobuf.reliable.webpubsub.azure.v1"

	ackForbidden  = "Forbidden"
	ackInternal   = "InternalServerError"
	ackDuplicate  = "Duplicate"
	ackBadRequest = "BadRequest"

	closeReason    = "the server is shutting down"
	recoveryWindow = 30 * time.Second

	maxMessageSize         = 1 << 20  // bytes
	maxAnswerSize          = 16 << 20 // bytes of an event handler's response
	maxGrants              = 1000     // groups of one permission
	maxUnacknowledged      = 1000     // messages to a reliable client
	maxUnacknowledgedBytes = 16 << 20
	maxQueuedFrames        = 10_000 // messages to any client
	maxRequests            = 1000   // requests, and as many events, that the server keeps
)

// mqttVersion is the protocol version in CONNECT packets.
type mqttVersion byte

const (
	mqtt311 mqttVersion = 4
	mqtt5   mqttVersion = 5
)

// errorBody is the JSON body of an error.
type errorBody struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Target  string      `json:"target"`
	Details []errorBody `json:"details"`
}

// host returns the host and port of a server.
func host(srv *emulator.Server) string {
	_, host, _ := strings.Cut(srv.Endpoint(), "://")
	return host
}
