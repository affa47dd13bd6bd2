package eventhandler

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/internal/metadata"
)

// answer is what the service is told.
type answer struct {
	status int
	header http.Header
	body   io.Reader
}

// ConnectResponse accepts a client. Its zero value accepts it as it is.
type ConnectResponse struct {
	// UserID is the connection's user; empty leaves the user of the client's token.
	UserID string

	// Groups are groups that the connection joins, besides those of the client's token.
	Groups []string

	// Roles are roles that the connection has, besides those of the client's token: see [webpubsub.RoleSendToGroup] and
	// its like.
	Roles []string

	// Subprotocol is the WebSocket subprotocol to speak: one of those that the client offers. Empty leaves the choice
	// to the service, which takes the first that it knows itself. To pick one that the service does not know makes the
	// client one without a subprotocol of the service.
	Subprotocol string

	// SetState changes values of the connection's state: names it does not hold keep their value, and nil removes one.
	// The state takes at most 32 KiB on the wire.
	SetState map[string]any

	// MQTTUserProperties go to an MQTT 5.0 client with its CONNACK packet.
	MQTTUserProperties []MQTTUserProperty
}

func (c *ConnectResponse) answer(r *ConnectRequest) (*answer, error) {
	if c.Subprotocol != "" && !slices.Contains(r.Subprotocols, c.Subprotocol) {
		return nil, fmt.Errorf("eventhandler: ConnectResponse: the client does not offer the subprotocol %q", c.Subprotocol)
	}
	header, err := newHeader(r.State, c.SetState, nil)
	if err != nil {
		return nil, err
	}
	type mqtt struct {
		UserProperties []MQTTUserProperty `json:"userProperties"`
	}
	body := struct {
		UserID      string   `json:"userId,omitempty"`
		Groups      []string `json:"groups,omitempty"`
		Roles       []string `json:"roles,omitempty"`
		Subprotocol string   `json:"subprotocol,omitempty"`
		MQTT        *mqtt    `json:"mqtt,omitempty"`
	}{c.UserID, c.Groups, c.Roles, c.Subprotocol, nil}
	if len(c.MQTTUserProperties) > 0 && r.MQTT != nil {
		body.MQTT = &mqtt{c.MQTTUserProperties}
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("eventhandler: ConnectResponse: %w", err)
	}
	if string(data) == "{}" {
		return &answer{http.StatusNoContent, header, http.NoBody}, nil
	}
	header.Set("Content-Type", ContentTypeJSON+"; charset=utf-8")
	return &answer{http.StatusOK, header, bytes.NewReader(data)}, nil
}

// UserEventResponse is the answer to a user event. Its zero value is success without a message.
type UserEventResponse struct {
	// Message goes to the client that sent the event, as a message from the server; the zero Message sends none, and so
	// does an empty body.
	Message webpubsub.Message

	// Metadata goes with the message to clients of the JSON and protobuf subprotocols; its limits are those of
	// [webpubsub.SendToAllOptions].
	Metadata map[string]string

	// SetState changes values of the connection's state, as in [ConnectResponse].
	SetState map[string]any
}

func (u *UserEventResponse) answer(r *UserEventRequest) (*answer, error) {
	header, err := newHeader(r.State, u.SetState, u.Metadata)
	if err != nil {
		return nil, err
	}
	if u.Message.IsZero() {
		return &answer{http.StatusNoContent, header, http.NoBody}, nil
	}
	body, err := u.Message.Reader()
	if err != nil {
		return nil, fmt.Errorf("eventhandler: UserEventResponse: %w", err)
	}
	contentType := u.Message.ContentType()
	if contentType != ContentTypeBinary {
		contentType += "; charset=utf-8"
	}
	header.Set("Content-Type", contentType)
	return &answer{http.StatusOK, header, body}, nil
}

// RejectError is a decision of the application against an event; see [Reject].
type RejectError struct {
	// Status is the HTTP status of the answer, 400 to 599. For a connect event it is what the client's WebSocket
	// handshake fails with. The service takes 408 and 5xx for a passing failure and sends the event again; of any other
	// it does not. Zero stands for the status that fits MQTTCode.
	Status int

	// Reason is a text that the client sees.
	Reason string

	// MQTTCode is the code of the CONNACK packet that an MQTT client gets for its connect event: a return code of MQTT
	// 3.1.1 (1 to 5) or a reason code of MQTT 5.0 (0x80 to 0x9F). Zero stands for the code that fits Status.
	MQTTCode byte

	// MQTTUserProperties go to an MQTT 5.0 client with that packet.
	MQTTUserProperties []MQTTUserProperty

	forMQTT bool
}

// Reject returns a *[RejectError] with a status from 400 to 599 and a text that the client sees. Returned by a function
// of [Options], it is the answer to the event. With any other status it is an error like any other: a 500.
func Reject(status int, reason string) error {
	return &RejectError{Status: status, Reason: reason}
}

// Error has the status and the reason.
func (e *RejectError) Error() string {
	return fmt.Sprintf("eventhandler: rejected with status %d: %s", e.status(), e.Reason)
}

func (e *RejectError) status() int {
	if e.Status == 0 && e.MQTTCode != 0 {
		return mqttStatus(e.MQTTCode)
	}
	return e.Status
}

func (e *RejectError) answer() (*answer, error) {
	if e == nil {
		return nil, errors.New("eventhandler: the error is a nil *RejectError")
	}
	status := e.status()
	if status < 400 || status > 599 {
		return nil, fmt.Errorf("eventhandler: a rejection's status is 400 to 599, not %d", status)
	}
	if !e.forMQTT {
		header := http.Header{"Content-Type": {ContentTypeText + "; charset=utf-8"}, "X-Content-Type-Options": {"nosniff"}}
		return &answer{status, header, strings.NewReader(e.Reason)}, nil
	}
	type mqtt struct {
		Code           byte               `json:"code"`
		Reason         string             `json:"reason,omitempty"`
		UserProperties []MQTTUserProperty `json:"userProperties,omitempty"`
	}
	data, err := json.Marshal(struct {
		MQTT mqtt `json:"mqtt"`
	}{mqtt{e.MQTTCode, e.Reason, e.MQTTUserProperties}})
	if err != nil {
		return nil, err
	}
	return &answer{status, http.Header{"Content-Type": {ContentTypeJSON + "; charset=utf-8"}}, bytes.NewReader(data)}, nil
}

// newHeader returns the headers for a changed state and for metadata.
func newHeader(state State, set map[string]any, m map[string]string) (http.Header, error) {
	header := http.Header{}
	if len(set) > 0 {
		value, err := state.with(set)
		if err != nil {
			return nil, err
		}
		header.Set("ce-connectionState", value)
	}
	if item, problem := metadata.Check(m); problem != "" {
		return nil, fmt.Errorf("eventhandler: Metadata%s %s", item, problem)
	}
	for key, value := range m {
		header[metadata.Prefix+key] = []string{value}
	}
	return header, nil
}
