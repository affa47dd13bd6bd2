package emulator_test

import (
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator"
)

// What the protocol and the emulator's documentation promise, in the tests' own words.
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
	maxAnswerSize          = 16 << 20 // bytes, of an event handler
	maxGrants              = 1000     // groups that one permission names
	maxUnacknowledged      = 1000     // messages to a reliable client
	maxUnacknowledgedBytes = 16 << 20
	maxQueuedFrames        = 10_000 // to any client
	maxRequests            = 1000   // that are remembered
)

// mqttVersion is a version of MQTT, as CONNECT packets spell it.
type mqttVersion byte

const (
	mqtt311 mqttVersion = 4
	mqtt5   mqttVersion = 5
)

// errorBody is the JSON of an error.
type errorBody struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Target  string      `json:"target"`
	Details []errorBody `json:"details"`
}

// host is the host and port of a server.
func host(srv *emulator.Server) string {
	_, host, _ := strings.Cut(srv.Endpoint(), "://")
	return host
}
