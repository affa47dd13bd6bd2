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

// answer is the answer to an event.
type answer struct {
	status   int
	header   http.Header
	body     io.Reader
	warnings []string // for the log: what the answer does that its maker may not expect
}

// faultStatus is the status of the answer to an event whose function returned something that can never be sent. The
// service does not retry it. The status is one that the service itself does not use.
const faultStatus = http.StatusUnprocessableEntity

// faultError is an answer that can never be sent. To send the event again would not help.
type faultError struct{ err error }

func (e *faultError) Error() string { return "eventhandler: " + e.err.Error() }
func (e *faultError) Unwrap() error { return e.err }

func fault(format string, args ...any) error { return &faultError{fmt.Errorf(format, args...)} }

// ConnectResponse accepts a client. Its zero value accepts the client as its access token describes it.
//
// A field that is absent leaves what the token says, and a field that is set replaces it: it does not add. For an MQTT
// client, the user, the groups and the roles count only if the client begins a new session.
//
// A response that the service cannot carry out is a fault of the application: see the package's documentation.
type ConnectResponse struct {
	// UserID is the connection's user. Empty leaves the user of the client's token.
	//
	// A user id is refused if it would reach somebody as another one: if it begins or ends with a space, contains a
	// control character, is only white space, is not valid UTF-8, or is a dot segment.
	UserID string

	// NoUser makes the connection one without a user, whatever the client's token says. UserID must be empty then.
	NoUser bool

	// Groups are the groups that the connection joins. A list that is not empty replaces the groups of the client's token.
	// Nil and an empty list leave them: the service has no way to remove them here. The name of a group has 1 to 1,024
	// UTF-16 units, and follows the rules for UserID.
	Groups []string

	// Roles are the roles of the connection: see [webpubsub.RoleSendToGroup] and its like. Nil leaves the roles of the
	// client's token; a list replaces them, and an empty list that is not nil takes all roles away.
	//
	// A role that begins as the service's do but is not one of them is refused. Any other unknown role is sent and logged
	// as a warning, as the service ignores it.
	Roles []string

	// Subprotocol is the WebSocket subprotocol to speak: one of those that the client offers. Empty leaves the choice to
	// the service, which takes the first one offered that it knows. With a subprotocol that the service does not know, the
	// client is one without a subprotocol of the service.
	Subprotocol string

	// SetState changes values of the connection's state by name. Names that SetState does not hold keep their values, and
	// a nil value removes its name. The state has a limit of 32 KiB on the wire.
	//
	// A state that another handler has set in another form (see [Event.RawState]) has no names. SetState replaces it as a
	// whole, and a warning is logged.
	SetState map[string]any

	// SetRawState replaces the whole state with a text of any form, up to 32 KiB of printable ASCII; empty removes the
	// state, and nil leaves it. SetState must be empty then.
	SetRawState *string

	// MQTTUserProperties go to an MQTT 5.0 client with its CONNACK packet.
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
		Groups      []string `json:"groups,omitzero"` // nil is absent, which an empty list is not
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

// check returns a fault if the service cannot carry out the response.
func (c *ConnectResponse) check(r *ConnectRequest) error {
	if problem := nameProblem(c.UserID); problem != "" {
		return fault("ConnectResponse.UserID %q %s", c.UserID, problem)
	}
	if c.NoUser && c.UserID != "" {
		return fault("ConnectResponse.NoUser is set, and so is UserID")
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
		return fault("ConnectResponse.Subprotocol %q is not one that the client offers", c.Subprotocol)
	}
	return nil
}

// UserEventResponse answers a user event. Its zero value is success without a message.
type UserEventResponse struct {
	// Message goes to the client that sent the event, as a message from the server. The zero Message sends none. An empty
	// message arrives only with metadata, and then as an empty text.
	//
	// An MQTT client receives an answer to each event, also without a message.
	Message webpubsub.Message

	// Metadata goes with the message to clients of the JSON and protobuf subprotocols. Its limits are those of
	// [webpubsub.SendToAllOptions]. Keys arrive in lower case. A value with a comma is refused, as the service would
	// deliver only what follows the comma.
	Metadata map[string]string

	// SetState changes values of the connection's state, as in [ConnectResponse].
	SetState map[string]any

	// SetRawState replaces the whole state, as in [ConnectResponse].
	SetRawState *string

	// MQTTUserProperties go to an MQTT 5.0 client with the answer. They travel in HTTP headers: a name must be an HTTP
	// token, whose case is not kept, and a value printable ASCII that neither begins nor ends with a space.
	MQTTUserProperties []MQTTUserProperty
}

func (u *UserEventResponse) answer(r *UserEventRequest) (*answer, error) {
	a := &answer{status: http.StatusNoContent, header: http.Header{}, body: http.NoBody}
	if err := a.setState(&r.Event, "UserEventResponse", u.SetState, u.SetRawState); err != nil {
		return nil, err
	}
	if err := a.setMetadata(u.Metadata); err != nil {
		return nil, err
	}
	for i, property := range u.MQTTUserProperties {
		switch {
		case !httpguts.ValidHeaderFieldName(property.Name):
			return nil, fault("UserEventResponse.MQTTUserProperties[%d].Name is not an HTTP token", i)
		case !isHeaderText(property.Value):
			return nil, fault("UserEventResponse.MQTTUserProperties[%d].Value is not printable ASCII that neither begins nor ends with a space", i)
		case r.IsMQTT():
			a.header.Add("mqtt-"+property.Name, property.Value)
		}
	}
	if u.Message.IsZero() {
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
	return a, nil
}

// RejectError is a decision of the application against an event; see [Reject].
type RejectError struct {
	// Status is the HTTP status of the answer, 400 to 599. For a connect event it is the status that the client's WebSocket
	// handshake fails with. The service retries an event after 408 and 5xx, and after no other status. Zero stands for the
	// status that fits MQTTCode.
	Status int

	// Reason is a text that the client sees.
	Reason string

	// MQTTCode is the code of the CONNACK packet that an MQTT client receives for its connect event: a return code of MQTT
	// 3.1.1 (1 to 5) or a reason code of MQTT 5.0 (0x80 to 0x9F). Zero stands for the code that fits Status.
	MQTTCode byte

	// MQTTUserProperties go to an MQTT 5.0 client with that packet.
	MQTTUserProperties []MQTTUserProperty
}

// Reject returns a *[RejectError] with a status from 400 to 599 and a text that the client sees. If a function of
// [Options] returns the error, it is the answer to the event. Any other status is a fault of the application.
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

// answer returns the answer to an event. mqttVersion is 0 unless the event is the connect event of an MQTT client.
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

// textAnswer is an answer with a text that may have a client's words in it.
func textAnswer(status int, text string) *answer {
	header := http.Header{"Content-Type": {ContentTypeText + "; charset=utf-8"}, "X-Content-Type-Options": {"nosniff"}}
	return &answer{status: status, header: header, body: strings.NewReader(text)}
}

// setState sets the header for a changed state. response is the name of the type that the values come from.
func (a *answer) setState(event *Event, response string, values map[string]any, raw *string) error {
	const header = "ce-connectionState"
	if raw != nil {
		if len(values) > 0 {
			return fault("%s.SetRawState is set, and so is SetState", response)
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

// setMetadata sets the headers for metadata.
func (a *answer) setMetadata(m map[string]string) error {
	if item, problem := metadata.Check(m); problem != "" {
		return fault("UserEventResponse.Metadata%s %s", item, problem)
	}
	for key, value := range m {
		if strings.Contains(value, ",") {
			return fault("UserEventResponse.Metadata[%q] contains a comma: the service delivers only what follows the last one", key)
		}
		a.header[metadata.Prefix+key] = []string{value}
	}
	return nil
}
