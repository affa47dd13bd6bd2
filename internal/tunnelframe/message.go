package tunnelframe

import (
	"encoding/json"
	"strconv"
)

// Type is the type of a frame.
type Type uint32

// The known frame types.
const (
	TypeRequest   Type = 1
	TypeResponse  Type = 2
	TypeStatus    Type = 5
	TypeReconnect Type = 6
	TypeClose     Type = 7
	TypeRebalance Type = 8
	TypeConnected Type = 10
)

func (t Type) String() string {
	switch t {
	case TypeRequest:
		return "HttpRequest"
	case TypeResponse:
		return "HttpResponse"
	case TypeStatus:
		return "ServiceStatus"
	case TypeReconnect:
		return "ConnectionReconnect"
	case TypeClose:
		return "ConnectionClose"
	case TypeRebalance:
		return "ConnectionRebalance"
	case TypeConnected:
		return "ConnectionConnected"
	}
	return "type " + strconv.FormatUint(uint64(t), 10)
}

// Message is the content of a frame: a pointer to a [Request], [Response], [Status], [Reconnect], [Close], [Rebalance],
// [Connected] or [Unknown].
type Message interface {
	// Type returns the frame type of the message.
	Type() Type
}

// Request is an HTTP request. A request from the service is an event; a request to the service is a call of the REST
// API.
type Request struct {
	// AckID is the number that the sender gave the request. The response has the same AckID.
	AckID int64 `json:"AckId"`

	// LocalRouting and ChannelName are values of the sender that the response repeats unchanged. A nil ChannelName means
	// null or absent.
	LocalRouting bool
	ChannelName  *string

	Method  string              `json:"HttpMethod"`
	URL     string              `json:"Url"` // absolute
	Headers map[string][]string // names in any case; one value per header line

	// TracingID is a JSON value for logs, or nil.
	TracingID json.RawMessage `json:"TracingId,omitempty"`

	Body []byte `json:"-"` // nil means no body
}

// Response is the response to a [Request].
type Response struct {
	AckID        int64 `json:"AckId"` // copied from the request
	LocalRouting bool  // copied from the request
	StatusCode   int
	ChannelName  *string // copied from the request

	// NotCompleted means that more responses with the same AckID follow, with further parts of the body.
	NotCompleted bool

	Headers map[string][]string
	Body    []byte `json:"-"` // nil means no body
}

// Status reports the status of the service.
type Status struct {
	Message string
}

// Reconnect asks the server to replace the connection with one to another instance of the service.
type Reconnect struct {
	TargetID string `json:"TargetId"` // the query parameter target of the new connection; empty means no parameter
	Endpoint string // the service's URL for the new connection; empty means the current one
	Message  string // the reason
}

// Close asks the server to close the connection without replacing it.
type Close struct {
	Message string // the reason
}

// Rebalance asks the server to open another connection. See [Reconnect] for its fields.
type Rebalance struct {
	TargetID string `json:"TargetId"`
	Endpoint string
	Message  string
}

// Connected is the first message that the service sends on a connection.
type Connected struct {
	ConnectionID      string `json:"ConnectionId"`
	UserID            string `json:"UserId,omitempty"`
	ReconnectionToken string `json:"ReconnectionToken,omitempty"`
}

// Unknown is a message whose type this package does not know. [Decode] returns it instead of an error, so that the
// caller can ignore it.
type Unknown struct {
	FrameType Type
	Text      string
	Body      []byte
}

func (*Request) Type() Type   { return TypeRequest }
func (*Response) Type() Type  { return TypeResponse }
func (*Status) Type() Type    { return TypeStatus }
func (*Reconnect) Type() Type { return TypeReconnect }
func (*Close) Type() Type     { return TypeClose }
func (*Rebalance) Type() Type { return TypeRebalance }
func (*Connected) Type() Type { return TypeConnected }
func (u *Unknown) Type() Type { return u.FrameType }

// Answer returns a response with the AckID, LocalRouting and ChannelName of the request.
func (r *Request) Answer(status int, headers map[string][]string, body []byte) *Response {
	return &Response{AckID: r.AckID, LocalRouting: r.LocalRouting, ChannelName: r.ChannelName,
		StatusCode: status, Headers: headers, Body: body}
}
