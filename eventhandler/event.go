package eventhandler

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Event is what every event tells: which connection it is about, and when what happened.
type Event struct {
	// Hub is the connection's hub, as the service writes it.
	Hub string

	// ConnectionID is the connection's id.
	ConnectionID string

	// UserID is the connection's user; empty means that it has none. Of a connect event it is the user that the
	// client's token names.
	UserID string

	// Subprotocol is the WebSocket subprotocol that the connection speaks; empty means none, or none yet.
	Subprotocol string

	// EventName is connect, connected or disconnected, or the name of the user event.
	EventName string

	// EventID tells the events of one connection apart. The service counts them: 0 is connect.
	EventID string

	// Time is when the event happened.
	Time time.Time

	// Origin is the host of the service that sent the event.
	Origin string

	// State is the connection's state, as the answer to an earlier event has set it. It is never nil.
	State State

	// PhysicalConnectionID and SessionID are the ids of an MQTT client's network connection and MQTT session; the
	// second is empty before there is a session. Of other clients both are empty.
	PhysicalConnectionID string
	SessionID            string
}

// IsMQTT says whether the event is of an MQTT client.
func (e *Event) IsMQTT() bool { return e.PhysicalConnectionID != "" }

// ConnectRequest is the question whether a client may connect.
type ConnectRequest struct {
	Event

	// Claims are the claims of the client's access token.
	Claims map[string][]string

	// Query is the query of the URL that the client connects to. The service leaves its own access_token out.
	Query url.Values

	// Header holds the headers of the client's WebSocket handshake. Get finds them in any case.
	Header http.Header

	// Subprotocols are the WebSocket subprotocols that the client offers, the ones it likes best first.
	Subprotocols []string

	// ClientCertificates are the TLS certificates that the client has shown.
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

// UnmarshalJSON reads the body of a connect event.
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

// ConnectedRequest tells that a client has connected.
type ConnectedRequest struct {
	Event `json:"-"`
}

// DisconnectedRequest tells that a connection has ended for good.
type DisconnectedRequest struct {
	Event `json:"-"`

	// Reason is why, in the service's words; it may be empty.
	Reason string `json:"reason"`

	// MQTT says how an MQTT client's connection ended; nil for other clients.
	MQTT *MQTTDisconnect `json:"mqtt"`
}

// GroupRequest tells that a connection has joined or left a group.
type GroupRequest struct {
	Event `json:"-"`

	// Group is the group's name.
	Group string `json:"group"`
}

// The content types of user events.
const (
	ContentTypeText     = "text/plain"
	ContentTypeJSON     = "application/json"
	ContentTypeBinary   = "application/octet-stream"
	ContentTypeProtobuf = "application/x-protobuf"
)

// UserEventRequest is an event that a client has sent.
type UserEventRequest struct {
	Event

	// ContentType is one of the constants above, without parameters. Text is valid UTF-8, and JSON is valid JSON.
	ContentType string

	// Data is what the client has sent.
	Data []byte

	// Metadata is the metadata of the message; nil if it has none. Keys are in lower case.
	Metadata map[string]string
}

// Text returns the data as a string, whatever its type.
func (r *UserEventRequest) Text() string { return string(r.Data) }

// JSON decodes the data into value, as json.Unmarshal does. Data of another type than JSON is a [RejectError] with the
// status 415, and JSON that does not fit the value one with 400: a function may return either as it is.
func (r *UserEventRequest) JSON(value any) error {
	if r.ContentType != ContentTypeJSON {
		return Reject(http.StatusUnsupportedMediaType, fmt.Sprintf("the event %s takes JSON", r.EventName))
	}
	if err := json.Unmarshal(r.Data, value); err != nil {
		return fmt.Errorf("eventhandler: the JSON of event %s: %w: %w", r.EventName, err,
			Reject(http.StatusBadRequest, fmt.Sprintf("the JSON of the event %s has not the expected form", r.EventName)))
	}
	return nil
}
