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

	"golang.org/x/net/http/httpguts"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/internal/metadata"
)

// answer is the HTTP response to an event.
type answer struct {
	status   int
	header   http.Header
	body     io.Reader
	warnings []string // for the log: effects that the application may not expect
}

// faultStatus is the status of the response to an event whose callback returned a response that can never be sent. The
// service does not retry an event after this status, and does not use this status itself.
const faultStatus = http.StatusUnprocessableEntity

// faultError reports a response that can never be sent. Retrying the event would not help.
type faultError struct{ err error }

func (e *faultError) Error() string { return "eventhandler: " + e.err.Error() }
func (e *faultError) Unwrap() error { return e.err }

func fault(format string, args ...any) error { return &faultError{fmt.Errorf(format, args...)} }

// ConnectResponse accepts a client. Its zero value accepts the client as its access token describes it.
//
// A zero field keeps the token's value. Any other value replaces it: nothing is merged. For an MQTT client, the user,
// groups and roles take effect only if the client begins a new session.
//
// An invalid value fails the event with 422: see the package documentation.
type ConnectResponse struct {
	// UserID is the connection's user. Empty keeps the user of the client's token.
	//
	// A user ID must be valid UTF-8 without control characters. It must not begin or end with a space, be only white
	// space, be "." or "..", or have one of these between slashes, because it would reach a client or handler as another
	// ID.
	UserID string

	// NoUser removes the user of the client's token. NoUser and UserID are mutually exclusive.
	NoUser bool

	// Groups are the groups that the connection joins. A non-empty list replaces the groups of the client's token. A
	// nil or empty list keeps them: a connect response cannot remove them. A group name has 1 to 1,024 UTF-16 units,
	// and follows the rules for UserID.
	Groups []string

	// Roles are the roles of the connection: see [webpubsub.RoleSendToGroup] and the other role functions. Nil keeps
	// the roles of the client's token, a list replaces them, and an empty list that is not nil removes all roles.
	//
	// An empty role is invalid, and so is a role that begins with "webpubsub" but is not a role of the service. The
	// service ignores any other role: the handler sends it and logs a warning.
	Roles []string

	// Subprotocol is the WebSocket subprotocol to use: one of those that the client offers. If it is empty, the service
	// chooses the first offered subprotocol that it knows. If the service does not know the subprotocol, it treats the
	// client as one without a subprotocol.
	Subprotocol string

	// SetState changes values of the connection's state by name. A nil value removes its name; other names keep their
	// values. The state, encoded as base64, may have up to 32 KiB.
	//
	// If another handler has set a state in another form (see [Event.RawState]), SetState replaces the whole state and
	// logs a warning.
	SetState map[string]any

	// SetRawState replaces the whole state with a text of up to 32 KiB of printable ASCII that neither begins nor ends
	// with a space. The empty string removes the state, and nil keeps it. SetRawState and SetState are mutually exclusive.
	SetRawState *string

	// MQTTUserProperties are sent to an MQTT 5.0 client with its CONNACK packet.
	MQTTUserProperties []MQTTUserProperty
}

func (c *ConnectResponse) answer(r *ConnectRequest) (*answer, error) {
	if err := c.check(r); err != nil {
		return nil, err
	}
	a := &answer{status: http.StatusNoContent, header: http.Header{}, body: http.NoBody}
	if err := a.setState(&r.Event, "ConnectResponse", c.SetState, c.SetRawState); err != nil {
		return nil, err
	}
	for _, role := range c.Roles {
		if !isServiceRole(role) {
			a.warnings = append(a.warnings, fmt.Sprintf("the service ignores the role %q", role))
		}
	}
	type mqtt struct {
		UserProperties []MQTTUserProperty `json:"userProperties"`
	}
	body := struct {
		UserID      *string  `json:"userId,omitempty"`
		Groups      []string `json:"groups,omitzero"` // omits nil, but not an empty list
		Roles       []string `json:"roles,omitzero"`
		Subprotocol string   `json:"subprotocol,omitempty"`
		MQTT        *mqtt    `json:"mqtt,omitempty"`
	}{nil, c.Groups, c.Roles, c.Subprotocol, nil}
	if c.UserID != "" || c.NoUser {
		body.UserID = &c.UserID
	}
	if len(c.MQTTUserProperties) > 0 && r.MQTT != nil {
		body.MQTT = &mqtt{c.MQTTUserProperties}
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, fault("ConnectResponse: %w", err)
	}
	if string(data) != "{}" {
		a.status, a.body = http.StatusOK, bytes.NewReader(data)
		a.header.Set("Content-Type", ContentTypeJSON+"; charset=utf-8")
	}
	return a, nil
}

// check returns a fault if the response can never be sent.
func (c *ConnectResponse) check(r *ConnectRequest) error {
	if problem := nameProblem(c.UserID); problem != "" {
		return fault("ConnectResponse.UserID %q %s", c.UserID, problem)
	}
	if c.NoUser && c.UserID != "" {
		return fault("ConnectResponse.NoUser and UserID cannot both be set")
	}
	for i, group := range c.Groups {
		if problem := groupProblem(group); problem != "" {
			return fault("ConnectResponse.Groups[%d] %s", i, problem)
		}
	}
	for i, role := range c.Roles {
		if problem := roleProblem(role); problem != "" {
			return fault("ConnectResponse.Roles[%d] %q %s", i, role, problem)
		}
	}
	if c.Subprotocol != "" && !slices.Contains(r.Subprotocols, c.Subprotocol) {
		return fault("ConnectResponse.Subprotocol %q is not offered by the client", c.Subprotocol)
	}
	return nil
}

// UserEventResponse is a response to a user event. Its zero value reports success without a message.
type UserEventResponse struct {
	// Message is sent to the client that sent the event, as a message from the server. The zero Message sends nothing.
	// An empty message is delivered only if it has metadata, and then as an empty text.
	//
	// An MQTT client receives a response to each event, even without a message.
	Message webpubsub.Message

	// Metadata is delivered with the message to clients of the JSON and protobuf subprotocols. It has the limits of
	// [webpubsub.SendToAllOptions]. Keys arrive in lower case. A value with a comma is invalid because the service
	// would deliver only the part after the comma. With the zero Message, the metadata is not sent, and a warning is
	// logged.
	Metadata map[string]string

	// SetState changes values of the connection's state, as in [ConnectResponse].
	SetState map[string]any

	// SetRawState replaces the whole state, as in [ConnectResponse].
	SetRawState *string

	// MQTTUserProperties are sent to an MQTT 5.0 client with the response. They travel in HTTP headers: a name must be
	// an HTTP token, and its case is not preserved. A value must be printable ASCII that neither begins nor ends with a
	// space.
	MQTTUserProperties []MQTTUserProperty
}

func (u *UserEventResponse) answer(r *UserEventRequest) (*answer, error) {
	a := &answer{status: http.StatusNoContent, header: http.Header{}, body: http.NoBody}
	if err := a.setState(&r.Event, "UserEventResponse", u.SetState, u.SetRawState); err != nil {
		return nil, err
	}
	if item, problem := metadata.Check(u.Metadata); problem != "" {
		return nil, fault("UserEventResponse.Metadata%s %s", item, problem)
	}
	for i, property := range u.MQTTUserProperties {
		switch {
		case !httpguts.ValidHeaderFieldName(property.Name):
			return nil, fault("UserEventResponse.MQTTUserProperties[%d].Name is not an HTTP token", i)
		case !isHeaderText(property.Value):
			return nil, fault("UserEventResponse.MQTTUserProperties[%d].Value must be printable ASCII that neither begins nor ends with a space", i)
		case r.IsMQTT():
			a.header.Add("mqtt-"+property.Name, property.Value)
		}
	}
	if u.Message.IsZero() {
		if len(u.Metadata) > 0 {
			a.warnings = append(a.warnings, "UserEventResponse.Metadata is not sent without a Message")
		}
		return a, nil
	}
	body, err := u.Message.Reader()
	if err != nil {
		return nil, fault("UserEventResponse.Message: %w", err)
	}
	contentType := u.Message.ContentType()
	if contentType != ContentTypeBinary {
		contentType += "; charset=utf-8"
	}
	a.status, a.body = http.StatusOK, body
	a.header.Set("Content-Type", contentType)
	for key, value := range u.Metadata {
		a.header[metadata.Prefix+key] = []string{value}
	}
	return a, nil
}

// RejectError rejects an event. [Reject] creates one. A callback returns a *RejectError, which may be wrapped.
type RejectError struct {
	// Status is the HTTP status of the response, 400 to 599. A rejected connect event fails the client's WebSocket
	// handshake with this status. The service retries an event only after 408 and 5xx. Zero means the status that fits
	// MQTTCode. Status and MQTTCode must not both be zero.
	Status int

	// Reason is the text of the response. The client receives it only if its connect event is rejected: in the response to
	// the handshake if the status is 4xx, or in the CONNACK packet of MQTT 5.0. After a rejected user event, the client
	// learns only that the event failed.
	Reason string

	// MQTTCode is the code in the CONNACK packet for a rejected connect event: a return code of MQTT 3.1.1 (1 to 5) or
	// a reason code of MQTT 5.0 (0x80 to 0x9F). Zero means the code that fits Status.
	MQTTCode byte

	// MQTTUserProperties are sent to an MQTT 5.0 client with that packet.
	MQTTUserProperties []MQTTUserProperty
}

// Reject returns a *[RejectError] with a status of 400 to 599 and a reason. A callback of [Options] returns it to
// reject an event. Any other status fails the event with 422.
func Reject(status int, reason string) error {
	return &RejectError{Status: status, Reason: reason}
}

// Error returns the status and the reason.
func (e *RejectError) Error() string {
	return fmt.Sprintf("eventhandler: rejected with status %d: %s", e.status(), e.Reason)
}

func (e *RejectError) status() int {
	if e.Status == 0 && e.MQTTCode != 0 {
		return mqttStatus(e.MQTTCode)
	}
	return e.Status
}

// answer returns the response to an event. mqttVersion is 0 except for the connect event of an MQTT client.
func (e *RejectError) answer(mqttVersion int) (*answer, error) {
	if e == nil {
		return nil, &faultError{errors.New("the error is a nil *RejectError")}
	}
	status := e.status()
	if status < 400 || status > 599 {
		return nil, fault("the status of a rejection must be 400 to 599, not %d", status)
	}
	if mqttVersion == 0 {
		return textAnswer(status, e.Reason), nil
	}
	code := e.MQTTCode
	if code == 0 {
		code = mqttCode(status, mqttVersion)
	}
	return mqttAnswer(status, code, e.Reason, e.MQTTUserProperties), nil
}

// textAnswer returns an answer whose text may contain input from a client.
func textAnswer(status int, text string) *answer {
	header := http.Header{"Content-Type": {ContentTypeText + "; charset=utf-8"}, "X-Content-Type-Options": {"nosniff"}}
	return &answer{status: status, header: header, body: strings.NewReader(text)}
}

// setState sets the header for a changed state. response is the name of the response's type.
func (a *answer) setState(event *Event, response string, values map[string]any, raw *string) error {
	const header = "ce-connectionState"
	if raw != nil {
		if len(values) > 0 {
			return fault("%s.SetRawState and SetState cannot both be set", response)
		}
		if problem := rawStateProblem(*raw); problem != "" {
			return fault("%s.SetRawState %s", response, problem)
		}
		a.header.Set(header, *raw)
		return nil
	}
	if len(values) == 0 {
		return nil
	}
	value, err := event.State.with(values)
	if err != nil {
		return fault("%s.%w", response, err)
	}
	if parseState(event.RawState) == nil {
		a.warnings = append(a.warnings, response+".SetState replaces a state that is not base64 of a JSON object")
	}
	a.header.Set(header, value)
	return nil
}
