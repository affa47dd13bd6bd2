package tunnelframe

import (
	"encoding/json"
	"strconv"
)

// Type is the type of a frame.
type Type uint32

// The types of frames that are known.
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

// Message is what a frame holds: a [Request], [Response], [Status], [Reconnect], [Close], [Rebalance], [Connected] or
// [Unknown], each as a pointer.
type Message interface {
	// Type is the type of the message's frame.
	Type() Type
}

// Request is an HTTP request. From the service it is an event; to the service it is a call of the REST API.
type Request struct {
	// AckID is the sender's number for the request. The response carries it back.
	AckID int64 `json:"AckId"`

	// LocalRouting and ChannelName are the sender's own. The response carries them back as they came: a ChannelName that
	// is nil is null or absent.
	LocalRouting bool
	ChannelName  *string

	Method  string              `json:"HttpMethod"`
	URL     string              `json:"Url"` // absolute
	Headers map[string][]string // names in any case; a header has as many values as it has lines

	// TracingID is a JSON value, or nil for none. It is meant for logs.
	TracingID json.RawMessage `json:"TracingId,omitempty"`

	Body []byte `json:"-"` // nil for none
}

// Response answers a [Request].
type Response struct {
	AckID        int64 `json:"AckId"` // that of the request
	LocalRouting bool  // that of the request
	StatusCode   int
	ChannelName  *string // that of the request

	// NotCompleted reports that more responses with the same AckID follow, with more of the body.
	NotCompleted bool

	Headers map[string][]string
	Body    []byte `json:"-"` // nil for none
}

// Status tells how the service is.
type Status struct {
	Message string
}

// Reconnect asks the server to replace the connection by one to another instance of the service.
type Reconnect struct {
	TargetID string `json:"TargetId"` // the query parameter target of the new connection; empty for none
	Endpoint string // the service's URL for the new connection; empty for the one in use
	Message  string // the reason
}

// Close asks the server to close the connection, and to open no other for it.
type Close struct {
	Message string // the reason
}

// Rebalance asks the server to open one more connection. Its fields are those of [Reconnect].
type Rebalance struct {
	TargetID string `json:"TargetId"`
	Endpoint string
	Message  string
}

// Connected is the first message on a connection, from the service.
type Connected struct {
	ConnectionID      string `json:"ConnectionId"`
	UserID            string `json:"UserId,omitempty"`
	ReconnectionToken string `json:"ReconnectionToken,omitempty"`
}

// Unknown is a message of a type that this package does not know. [Decode] returns it so that its reader can ignore it.
type Unknown struct {
	FrameType Type
	Text      string
	Body      []byte
}

// The types of the messages.

func (*Request) Type() Type   { return TypeRequest }
func (*Response) Type() Type  { return TypeResponse }
func (*Status) Type() Type    { return TypeStatus }
func (*Reconnect) Type() Type { return TypeReconnect }
func (*Close) Type() Type     { return TypeClose }
func (*Rebalance) Type() Type { return TypeRebalance }
func (*Connected) Type() Type { return TypeConnected }
func (u *Unknown) Type() Type { return u.FrameType }

// Answer returns a response to the request: it carries the request's AckID, LocalRouting and ChannelName.
func (r *Request) Answer(status int, headers map[string][]string, body []byte) *Response {
	return &Response{AckID: r.AckID, LocalRouting: r.LocalRouting, ChannelName: r.ChannelName,
		StatusCode: status, Headers: headers, Body: body}
}
