package webpubsub

import "log/slog"

// GroupMember is a connection in a group. [ServiceClient.ConnectionsInGroup] yields it.
type GroupMember struct {
	// ConnectionID is the connection's ID.
	ConnectionID string `json:"connectionId"`

	// UserID is the connection's user. It is empty if the connection has no user.
	UserID string `json:"userId,omitempty"`
}

// ListConnectionsInGroupPage is one page of the connections in a group.
type ListConnectionsInGroupPage struct {
	// Members are the connections of the page, in no particular order. A page may be empty even if it is not the last.
	Members []GroupMember

	// ContinuationToken resumes the list after this page if it is set in [ListConnectionsInGroupOptions]. It is empty
	// on the last page. The token is opaque.
	ContinuationToken string

	nextLink string
}

// ClientProtocol is a kind of client. It determines the path of the URL that the client connects to.
type ClientProtocol string

const (
	// ClientProtocolDefault is a WebSocket client with any subprotocol except MQTT and Socket.IO. It is the zero value.
	ClientProtocolDefault ClientProtocol = ""
	// ClientProtocolMQTT is an MQTT client over WebSocket.
	ClientProtocolMQTT ClientProtocol = "MQTT"
	// ClientProtocolSocketIO is a Socket.IO client. It requires a resource of the kind Web PubSub for Socket.IO. With a
	// TokenCredential, other resources respond with 400, "The value 'socketio' is not valid".
	ClientProtocolSocketIO ClientProtocol = "SocketIO"
)

// ClientAccessToken lets a client connect until the token expires. [ServiceClient.GetClientAccessToken] returns it.
//
// Its JSON contains the token, in the form that clients of the other SDKs expect from a negotiate endpoint. The token
// is omitted when a ClientAccessToken is printed or logged with log/slog.
type ClientAccessToken struct {
	// Token is the JWT.
	Token string `json:"token"`

	// BaseURL is the WebSocket URL to connect to, without the token.
	BaseURL string `json:"baseUrl"`

	// URL is BaseURL with the token in the query parameter access_token. A client needs nothing else to connect.
	URL string `json:"url"`
}

// String returns the base URL, without the token.
func (t ClientAccessToken) String() string {
	return "ClientAccessToken(" + t.BaseURL + ")"
}

// GoString returns the same text as String, so that %#v does not print the token.
func (t ClientAccessToken) GoString() string { return t.String() }

// LogValue returns the same text as String, because log/slog's JSON handler would print the token.
func (t ClientAccessToken) LogValue() slog.Value { return slog.StringValue(t.String()) }
