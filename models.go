package webpubsub

import "log/slog"

// GroupMember is a connection in a group, as [ServiceClient.ConnectionsInGroup] yields it.
type GroupMember struct {
	// ConnectionID is the connection's id.
	ConnectionID string `json:"connectionId"`

	// UserID is the connection's user; it is empty for a connection without a user.
	UserID string `json:"userId,omitempty"`
}

// ListConnectionsInGroupPage is one page of the connections in a group.
type ListConnectionsInGroupPage struct {
	// Members are the page's connections, in no order. A page may be empty and yet not the last.
	Members []GroupMember

	// ContinuationToken resumes the list after this page, in [ListConnectionsInGroupOptions]. It is empty on the last page.
	// Its content is the service's own.
	ContinuationToken string

	nextLink string
}

// ClientProtocol is a kind of client. It decides the path of the URL that the client connects to.
type ClientProtocol string

const (
	// ClientProtocolDefault is a WebSocket client with any subprotocol except MQTT and Socket.IO. It is the zero value.
	ClientProtocolDefault ClientProtocol = ""
	// ClientProtocolMQTT is an MQTT client over WebSocket.
	ClientProtocolMQTT ClientProtocol = "MQTT"
	// ClientProtocolSocketIO is a Socket.IO client, for a resource of the kind Web PubSub for Socket.IO. With a
	// TokenCredential, any other resource answers it with 400, "The value 'socketio' is not valid".
	ClientProtocolSocketIO ClientProtocol = "SocketIO"
)

// ClientAccessToken lets one client connect, as [ServiceClient.GetClientAccessToken] returns it. Its JSON has the token: it
// is what clients of the other SDKs expect from a negotiate endpoint. Printing it, or logging it as an attribute of
// log/slog, omits the token.
type ClientAccessToken struct {
	// Token is the JWT.
	Token string `json:"token"`

	// BaseURL is the WebSocket URL to connect to, without the token.
	BaseURL string `json:"baseUrl"`

	// URL is BaseURL with the token in access_token: all that a client needs to connect.
	URL string `json:"url"`
}

// String returns the base URL, without the token.
func (t ClientAccessToken) String() string {
	return "ClientAccessToken(" + t.BaseURL + ")"
}

// GoString returns the same as String, so that %#v does not print the token either.
func (t ClientAccessToken) GoString() string { return t.String() }

// LogValue returns the same as String, since the JSON handler of log/slog would print the token.
func (t ClientAccessToken) LogValue() slog.Value { return slog.StringValue(t.String()) }
