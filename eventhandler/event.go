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

// Event holds what all events have: which connection the event is about, and when it happened.
type Event struct {
	// Hub is the connection's hub, in lower case.
	Hub string

	// ConnectionID is the connection's id. The id of an MQTT client's connection is the client id.
	ConnectionID string

	// UserID is the connection's user; empty if it has none. In a connect event it is the user that the client's token
	// names.
	UserID string

	// Subprotocol is the WebSocket subprotocol that the connection speaks; empty for none, and in a connect event, except
	// that it is mqtt in all events of MQTT clients.
	Subprotocol string

	// EventName is connect, connected, disconnected, joined or left, or the name of the user event.
	EventName string

	// EventID tells the events of one connection apart. The service counts them: 0 is connect. An event that the service
	// sends again has the same id.
	EventID string

	// Time is when the event happened; the service sends whole seconds. It is zero if the request has no time, or one that is not as in
	// RFC 3339.
	Time time.Time

	// Origin is the host that the client connected to: the service's own, a custom domain or a replica. It may be a list
	// with commas.
	Origin string

	// State holds the named values of the connection's state, as the answer to an earlier event has set them. It is never
	// nil. It is empty if the connection has no state, or one that is not base64 of a JSON object.
	State State

	// RawState is the connection's state as the service sends it: the text that some event handler has set, of any form.
	RawState string

	// PhysicalConnectionID and SessionID are the ids of an MQTT client's network connection and MQTT session. SessionID is
	// empty in a connect event. Both are empty for other clients.
	PhysicalConnectionID string
	SessionID            string

	// Header holds all headers of the service's request; do not change it. Among them are the request id of the service
	// (X-Ms-Client-Request-Id), the cookies that earlier answers set, an MQTT client's user properties of a user event
	// (each as mqtt-NAME), and, if the event handler's setting in the service has managed identity, the service's token
	// (Authorization). This package does not check that token. In a [ConnectRequest] the name Header alone means the
	// client's headers: write r.Event.Header for these.
	//
	// The header may hold secrets. Do not log it as a whole.
	Header http.Header
}

// IsMQTT reports whether the event is about an MQTT client.
func (e *Event) IsMQTT() bool { return e.PhysicalConnectionID != "" }

// ConnectRequest asks whether a client may connect. An MQTT client causes one with each CONNECT packet, also when it
// comes back to a session that exists.
type ConnectRequest struct {
	Event

	// Claims are the claims of the client's access token.
	Claims map[string][]string

	// Query is the query of the URL that the client connects to. The service omits its own access_token.
	Query url.Values

	// Header holds the headers of the client's WebSocket handshake, also its cookies. The service omits Authorization.
	// The headers of the service's own request are in Event.Header.
	Header http.Header

	// Subprotocols are the WebSocket subprotocols that the client offers, in its order of preference.
	Subprotocols []string

	// ClientCertificates are the TLS certificates that the client presented.
	ClientCertificates []ClientCertificate

	// MQTT holds what an MQTT client sent in its CONNECT packet; nil for other clients.
	MQTT *MQTTConnect
}

// ClientCertificate is a TLS certificate of a client.
type ClientCertificate struct {
	// Thumbprint is the certificate's SHA-1 thumbprint, in hexadecimal.
	Thumbprint string `json:"thumbprint"`

	// Content is the certificate in PEM; empty if the service sends the thumbprint alone.
	Content string `json:"content"`
}

// UnmarshalJSON decodes the body of a connect event.
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

// DisconnectedRequest reports that a connection has ended for good. A reliable client's connection has ended when the
// time to recover it is over, an MQTT client's when its session has ended.
type DisconnectedRequest struct {
	Event `json:"-"`

	// Reason is the reason in the service's words; it may be empty.
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

// The content types of user events of clients that are not MQTT clients.
const (
	ContentTypeText     = "text/plain"
	ContentTypeJSON     = "application/json"
	ContentTypeBinary   = "application/octet-stream"
	ContentTypeProtobuf = "application/x-protobuf"
)

// UserEventRequest is an event that a client has sent.
type UserEventRequest struct {
	Event

	// ContentType is one of the constants above, without parameters. Text is valid UTF-8 then, and JSON is valid JSON.
	//
	// An MQTT client may send any content type. It is here without its parameters (the whole is in Event.Header), or
	// application/octet-stream if there is none. The data is not checked against it.
	ContentType string

	// Data is what the client has sent.
	Data []byte

	// Metadata is the metadata of the message; nil if it has none. Keys are in lower case.
	Metadata map[string]string
}

// Text returns the data as a string, whatever its type.
func (r *UserEventRequest) Text() string { return string(r.Data) }

// Message returns the data as a message of the same type, to answer with or to send on with a
// [webpubsub.ServiceClient]. Text and JSON stay what they are; data of any other type, and data that is not what its type
// says, is binary. The message shares r.Data.
func (r *UserEventRequest) Message() webpubsub.Message {
	switch {
	case r.ContentType == ContentTypeText && utf8.Valid(r.Data):
		return webpubsub.Text(string(r.Data))
	case r.isJSON() && utf8.Valid(r.Data) && json.Valid(r.Data):
		return webpubsub.JSON(json.RawMessage(r.Data))
	}
	return webpubsub.Binary(r.Data)
}

// isJSON reports whether the content type is JSON, or the JSON of some vendor.
func (r *UserEventRequest) isJSON() bool {
	return r.ContentType == ContentTypeJSON || strings.HasSuffix(r.ContentType, "+json")
}

// JSON decodes the data into value, as json.Unmarshal does. It returns a [RejectError] with status 415 if the data is not
// JSON by its content type, and one with status 400 if the JSON does not fit the value. A function may return either as
// it is.
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
