package webpubsub

import "log/slog"

// GroupMember is a connection in a group, as [ServiceClient.ConnectionsInGroup] lists it.
type GroupMember struct {
	// ConnectionID is the connection's id.
	ConnectionID string `json:"connectionId"`

	// UserID is the connection's user; empty means that it has none.
	UserID string `json:"userId,omitempty"`
}

// ListConnectionsInGroupPage is one page of the connections in a group.
type ListConnectionsInGroupPage struct {
	// Members are the page's connections, ordered by connection id. A page may be empty and yet not the last.
	Members []GroupMember

	// ContinuationToken resumes the listing after this page, by [ListConnectionsInGroupOptions]; empty means that this is
	// the last page.
	ContinuationToken string

	nextLink string
}

// ClientProtocol is a kind of client, which decides the path that it connects to.
type ClientProtocol string

const (
	// ClientProtocolDefault is a WebSocket client, of any subprotocol but MQTT and Socket.IO. It is the zero value.
	ClientProtocolDefault ClientProtocol = ""
	// ClientProtocolMQTT is an MQTT client over WebSocket.
	ClientProtocolMQTT ClientProtocol = "MQTT"
	// ClientProtocolSocketIO is a Socket.IO client.
	ClientProtocolSocketIO ClientProtocol = "SocketIO"
)

// ClientAccessToken lets one client connect, as [ServiceClient.GetClientAccessToken] returns it. Its JSON form is what
// clients of the other SDKs expect of a negotiate endpoint, token and all. Printing one, or logging it as an attribute of
// log/slog, leaves the token out.
type ClientAccessToken struct {
	// Token is the JWT.
	Token string `json:"token"`

	// BaseURL is the WebSocket URL to connect to, without the token.
	BaseURL string `json:"baseUrl"`

	// URL is BaseURL with the token in access_token: all that a client needs to connect.
	URL string `json:"url"`
}

// String returns the base URL and leaves the token out.
func (t ClientAccessToken) String() string {
	return "ClientAccessToken(" + t.BaseURL + ")"
}

// GoString is String, so that %#v does not print the token either.
func (t ClientAccessToken) GoString() string { return t.String() }

// LogValue is String, for log/slog, whose JSON handler would print the token.
func (t ClientAccessToken) LogValue() slog.Value { return slog.StringValue(t.String()) }
