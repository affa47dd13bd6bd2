package eventhandler

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/awps-go/webpubsub"
)

// Event holds the fields that all events share.
type Event struct {
	// Hub is the connection's hub, in lower case.
	Hub string

	// ConnectionID identifies the connection. For an MQTT client it is the client ID.
	ConnectionID string

	// UserID is the connection's user; empty if it has none. In a connect event it is the user in the client's token.
	UserID string

	// Subprotocol is the WebSocket subprotocol that the connection uses. It is empty if there is none, and in a connect
	// event. In the events of MQTT clients it is always mqtt.
	Subprotocol string

	// EventName is connect, connected, disconnected, joined or left, or the name of the user event.
	EventName string

	// EventID is the number of the event within its connection, starting with "0" for connect. A retried event has the
	// same EventID.
	EventID string

	// Time is when the event happened, in whole seconds. It is zero if the request has no time, or a time that is not
	// in RFC 3339 form.
	Time time.Time

	// Origin is the host that the client connected to: the service's own host, a custom domain or a replica. It may be
	// a comma-separated list.
	Origin string

	// State holds the named values of the connection's state, as the response to an earlier event set them. It is never
	// nil. It is empty if the connection has no state, or a state that is not base64 of a JSON object.
	State State

	// RawState is the connection's state as the service sends it. It may be any text that an event handler has set.
	RawState string

	// PhysicalConnectionID and SessionID are the IDs of an MQTT client's network connection and MQTT session. SessionID is
	// empty in a connect event. Both are empty for other clients.
	PhysicalConnectionID string
	SessionID            string

	// Header holds all headers of the service's request; do not change it. They include:
	//
	//   - X-Ms-Client-Request-Id, the service's request ID
	//   - the cookies that earlier responses set
	//   - mqtt-NAME for each user property, in a user event of an MQTT client
	//   - Authorization, the service's token, if managed identity is configured for the event handler. This package
	//     does not verify the token.
	//
	// In a [ConnectRequest], these are in r.Event.Header, because r.Header holds the client's headers.
	//
	// The headers may contain secrets, so do not log all of them.
	Header http.Header
}

// IsMQTT reports whether the event is about an MQTT client.
func (e *Event) IsMQTT() bool { return e.PhysicalConnectionID != "" }

// ConnectRequest asks whether a client may connect. Each CONNECT packet of an MQTT client causes a connect event, even
// if the client resumes an existing session.
type ConnectRequest struct {
	Event

	// Claims are the claims of the client's access token.
	Claims map[string][]string

	// Query is the query of the URL that the client connects to, without access_token, which the service omits.
	Query url.Values

	// Header holds the headers of the client's WebSocket handshake, including cookies but not Authorization, which the
	// service omits. The headers of the service's own request are in Event.Header.
	Header http.Header

	// Subprotocols are the WebSocket subprotocols that the client offers, in its order of preference.
	Subprotocols []string

	// ClientCertificates are the TLS certificates that the client presented.
	ClientCertificates []ClientCertificate

	// MQTT holds the fields of an MQTT client's CONNECT packet; nil for other clients.
	MQTT *MQTTConnect
}

// ClientCertificate is a TLS certificate of a client.
type ClientCertificate struct {
	// Thumbprint is the certificate's SHA-1 thumbprint, in hexadecimal.
	Thumbprint string `json:"thumbprint"`

	// Content is the certificate in PEM; empty if the service sends only the thumbprint.
	Content string `json:"content"`
}

// UnmarshalJSON decodes the body of a connect event. It does not change r.Event.
func (r *ConnectRequest) UnmarshalJSON(data []byte) error {
	var body struct {
		Claims             map[string][]string `json:"claims"`
		Query              url.Values          `json:"query"`
		Headers            map[string][]string `json:"headers"`
		Subprotocols       []string            `json:"subprotocols"`
		ClientCertificates []ClientCertificate `json:"clientCertificates"`
		MQTT               *MQTTConnect        `json:"mqtt"`
	}
	if err := json.Unmarshal(data, &body); err != nil {
		return err
	}
	r.Claims, r.Query, r.Subprotocols = body.Claims, body.Query, body.Subprotocols
	r.ClientCertificates, r.MQTT = body.ClientCertificates, body.MQTT
	r.Header = make(http.Header, len(body.Headers))
	for name, values := range body.Headers {
		for _, value := range values {
			r.Header.Add(name, value)
		}
	}
	return nil
}

// ConnectedRequest reports that a client has connected.
type ConnectedRequest struct {
	Event `json:"-"`
}

// DisconnectedRequest reports that a connection has ended permanently. A reliable client's connection ends when the
// time to recover it is over. An MQTT client's connection ends when its session ends.
type DisconnectedRequest struct {
	Event `json:"-"`

	// Reason is the service's reason; it may be empty.
	Reason string `json:"reason"`

	// MQTT describes how an MQTT client's session ended; nil for other clients.
	MQTT *MQTTDisconnect `json:"mqtt"`
}

// GroupRequest reports that a connection has joined or left a group.
type GroupRequest struct {
	Event `json:"-"`

	// Group is the group's name.
	Group string `json:"group"`
}

// The content types of user events. MQTT clients may use others.
const (
	ContentTypeText     = "text/plain"
	ContentTypeJSON     = "application/json"
	ContentTypeBinary   = "application/octet-stream"
	ContentTypeProtobuf = "application/x-protobuf"
)

// UserEventRequest is an event that a client sent.
type UserEventRequest struct {
	Event

	// ContentType is the content type of Data, without parameters:
	//
	//   - ContentTypeText: Data is valid UTF-8
	//   - ContentTypeJSON: Data is valid JSON
	//   - ContentTypeBinary: Data is any bytes
	//   - ContentTypeProtobuf: Data is an encoded google.protobuf.Any; the handler does not check it
	//
	// An MQTT client may send any content type, or none, which means ContentTypeBinary. The handler does not check its
	// Data. Event.Header has the content type with its parameters.
	ContentType string

	// Data is the payload of the event.
	Data []byte

	// Metadata is the metadata of the event; nil if it has none. Keys are in lower case.
	Metadata map[string]string
}

// Text returns the data as a string, regardless of its content type.
func (r *UserEventRequest) Text() string { return string(r.Data) }

// Message returns the data as a message of the same type, ready for a response or for a [webpubsub.ServiceClient]. The
// message is binary unless the content type is text or JSON and the data is valid. It may share memory with r.Data.
func (r *UserEventRequest) Message() webpubsub.Message {
	switch {
	case r.ContentType == ContentTypeText && utf8.Valid(r.Data):
		return webpubsub.Text(string(r.Data))
	case r.isJSON() && utf8.Valid(r.Data) && json.Valid(r.Data):
		return webpubsub.JSON(json.RawMessage(r.Data))
	}
	return webpubsub.Binary(r.Data)
}

// isJSON reports whether the content type is application/json or ends in +json.
func (r *UserEventRequest) isJSON() bool {
	return r.ContentType == ContentTypeJSON || strings.HasSuffix(r.ContentType, "+json")
}

// JSON decodes the data into value like [json.Unmarshal]. It returns a [RejectError] with status 415 if the content
// type is not JSON, or with status 400 if the JSON does not fit value. A callback may return either error unchanged.
func (r *UserEventRequest) JSON(value any) error {
	if !r.isJSON() {
		return Reject(http.StatusUnsupportedMediaType, fmt.Sprintf("the event %s must be JSON", r.EventName))
	}
	if err := json.Unmarshal(r.Data, value); err != nil {
		return fmt.Errorf("eventhandler: the JSON of event %s: %w: %w", r.EventName, err,
			Reject(http.StatusBadRequest, fmt.Sprintf("the JSON of the event %s does not have the expected form", r.EventName)))
	}
	return nil
}
