package wsclient

import (
	"log/slog"
	"net/http"
	"time"
)

// Protocol is a WebSocket subprotocol of the service.
type Protocol int

// The subprotocols. With a reliable one, a broken connection can be recovered without losing messages, because the
// service keeps the client's messages for 30 seconds. With a plain one, messages may be lost when a connection breaks.
const (
	JSONReliable     Protocol = iota // json.reliable.webpubsub.azure.v1, the default
	JSONPlain                        // json.webpubsub.azure.v1
	ProtobufReliable                 // protobuf.reliable.webpubsub.azure.v1
	ProtobufPlain                    // protobuf.webpubsub.azure.v1
)

// subprotocols are the names of the protocols in a handshake.
var subprotocols = [...]string{
	JSONReliable:     "json.reliable.webpubsub.azure.v1",
	JSONPlain:        "json.webpubsub.azure.v1",
	ProtobufReliable: "protobuf.reliable.webpubsub.azure.v1",
	ProtobufPlain:    "protobuf.webpubsub.azure.v1",
}

// String returns the name of the subprotocol.
func (p Protocol) String() string {
	if !p.valid() {
		return "unknown protocol"
	}
	return subprotocols[p]
}

func (p Protocol) valid() bool    { return p >= 0 && int(p) < len(subprotocols) }
func (p Protocol) reliable() bool { return p == JSONReliable || p == ProtobufReliable }
func (p Protocol) protobuf() bool { return p == ProtobufReliable || p == ProtobufPlain }

// Options are the settings of a [Conn]. Nil and the zero value mean the defaults.
//
// Hooks run one at a time, in the order of their events, on a separate goroutine. A hook may call methods of the Conn
// and may block: it delays only the hooks after it. OnServerClose is the exception: the Conn waits for its result, but
// it does not wait for other hooks. No hook starts after Close, but a running hook may outlive Close.
type Options struct {
	// Protocol is the subprotocol. The default is JSONReliable.
	Protocol Protocol

	// HTTPClient makes the handshakes. Set its Transport to use a proxy, a root certificate or a client certificate. The
	// default is http.DefaultClient. A redirect is a *HandshakeError, unless its CheckRedirect is set. HTTPClient is
	// ignored in a browser (GOOS=js).
	HTTPClient *http.Client

	// Header is added to each handshake, including those of recoveries. It is ignored in a browser (GOOS=js).
	Header http.Header

	// Anonymous allows URLs without an access token, for hubs whose anonymousConnectPolicy is allow. By default, such a
	// URL is invalid unless Header contains Authorization.
	Anonymous bool

	// Logger receives records about the connection:
	//
	//   - Warn: the end of a connection, a failed recovery or rejoin, dropped messages;
	//   - Info: an established connection, a failed attempt to connect, the end of the Conn;
	//   - Debug: a failed attempt to recover, an ignored frame.
	//
	// Records contain no tokens and no message data. Nil means no logging.
	Logger *slog.Logger

	// RetryInitial makes Dial retry, with the delays of Reconnect, until it connects or its context ends. It is meant for
	// devices that boot before their network is up. Dial still returns an error for an invalid URL, after too many
	// rejected URLs (see [Conn.Err]), and after Reconnect.MaxAttempts attempts.
	RetryInitial bool

	// Reconnect controls new connections after a connection has ended.
	Reconnect ReconnectOptions

	// KeepAlive controls how a dead connection is detected.
	KeepAlive KeepAliveOptions

	// Buffer limits the received messages that wait for Receive.
	Buffer BufferOptions

	// NoRejoin disables rejoining groups on a new connection.
	NoRejoin bool

	// OnConnected is called after each connection is established: the first one, a recovered one (after OnRecovered), and
	// a new one.
	OnConnected func(ConnectedEvent)

	// OnDisconnected is called when a connection has ended for good: no recovery was possible, or it failed. It is not
	// called after Close.
	OnDisconnected func(DisconnectedEvent)

	// OnRecovering is called when a reliable connection broke, before the first attempt to recover it.
	OnRecovering func(RecoveringEvent)

	// OnRecovered is called when a connection was recovered without losing messages.
	OnRecovered func(ConnectedEvent)

	// OnRejoinFailed is called when a group could not be rejoined on a new connection, for example because the client no
	// longer has the permission. The next new connection tries again.
	OnRejoinFailed func(RejoinFailedEvent)

	// OnSlowConsumer is called when the Conn starts to drop messages because Buffer is full. This happens only with the
	// plain protocols. OnSlowConsumer is called again only after Receive has emptied the buffer. Stats counts the dropped
	// messages.
	OnSlowConsumer func(SlowConsumerEvent)

	// OnServerClose is called when the service closed the connection on purpose (code 1000), for example because an
	// application server called CloseConnection. The reason is the service's text, such as "Application server closed the
	// connection. Reason: bye".
	//
	// If the service did not send such a text, the close may not have been on purpose. With a reliable protocol, the Conn
	// then tries to recover the connection first, and calls OnServerClose only if that fails.
	//
	// If OnServerClose is nil or returns true, the Conn makes a new connection. If it returns false, the Conn ends with a
	// *CloseError.
	//
	// The Conn waits for the result, so OnServerClose must not wait for the connection. It runs on a goroutine of its own,
	// possibly at the same time as another hook.
	OnServerClose func(reason string) bool
}

// ReconnectOptions control new connections after a connection has ended.
//
// The delay before each attempt is random, between 0 and a bound, so that many clients do not reconnect at the same
// time. The bound starts at MinDelay and doubles with each attempt up to MaxDelay. It starts at MinDelay again after a
// connection has been up for 30 seconds.
//
// If the server rejects a handshake with a Retry-After header, the delay is longer by that time, but at most by MaxDelay.
// Recoveries ignore the header, because the service keeps a broken connection only for 30 seconds.
type ReconnectOptions struct {
	// Disabled ends the Conn instead of making a new connection. A broken reliable connection is still recovered.
	Disabled bool

	// MinDelay is the bound of the first delay. The default is 0.5 seconds.
	MinDelay time.Duration

	// MaxDelay is the largest bound. The default is 30 seconds, or MinDelay if that is longer. It must not be less than
	// MinDelay.
	MaxDelay time.Duration

	// MaxAttempts is the number of consecutive failed attempts after which the Conn ends. 0 means no limit.
	MaxAttempts int
}

// KeepAliveOptions control how a dead connection is detected.
type KeepAliveOptions struct {
	// Interval is the time without a received frame after which a ping is sent. The default is 10 seconds.
	Interval time.Duration

	// Timeout is the time without a received frame after which the connection is closed. It must be longer than Interval.
	// The default is twice Interval.
	//
	// A Timeout of 30 seconds or more may prevent recoveries, because the service keeps a broken connection only that
	// long.
	Timeout time.Duration
}

// BufferOptions limit the received messages that wait for Receive. Messages beyond the limits are treated as follows:
//
//   - With a reliable protocol, they are kept but not acknowledged. The service closes a connection that has 1,000
//     messages or 16 MiB unacknowledged. The Conn then ends with [ErrSlowConsumer], and Receive still returns all
//     messages that arrived before.
//   - With a plain protocol, they are dropped. Stats.Dropped counts them.
type BufferOptions struct {
	// Messages is the maximum number of messages. The default is 4,096.
	Messages int

	// Bytes is the maximum total size of the messages' frames. The default is 32 MiB.
	Bytes int
}

// ConnectedEvent describes an established connection.
type ConnectedEvent struct {
	Conn *Conn

	// ConnectionID is the ID that the service gave the connection. A recovered connection keeps its ID.
	ConnectionID string

	// UserID is the user ID of the connection, or empty.
	UserID string

	// Resumed is true if the connection was recovered without losing messages. It is false for a new connection: messages
	// may have been lost, so the application should fetch its state again.
	Resumed bool

	// First is true for the connection that Dial made.
	First bool
}

// DisconnectedEvent describes a connection that has ended and will not be recovered.
type DisconnectedEvent struct {
	Conn *Conn

	// ConnectionID is the ID of the connection.
	ConnectionID string

	// Err is the reason why the connection ended.
	Err *CloseError
}

// RecoveringEvent describes a reliable connection that broke.
type RecoveringEvent struct {
	Conn *Conn

	// ConnectionID is the ID of the connection.
	ConnectionID string

	// Err is the reason why the connection broke.
	Err *CloseError
}

// RejoinFailedEvent describes a group that could not be rejoined.
type RejoinFailedEvent struct {
	Conn *Conn

	// Group is the name of the group.
	Group string

	// Err is the reason. It wraps an *AckError if the service rejected the request.
	Err error
}

// SlowConsumerEvent describes a full buffer.
type SlowConsumerEvent struct {
	Conn *Conn

	// Queued is the number of messages waiting for Receive.
	Queued int
}

// withDefaults validates the options and returns them with the defaults filled in.
func (o *Options) withDefaults() (Options, error) {
	var r Options
	if o != nil {
		r = *o
	}
	const operation = "Dial"
	if !r.Protocol.valid() {
		return r, invalid(operation, "options.Protocol", "is unknown")
	}
	for _, setting := range []struct {
		name     string
		negative bool
	}{
		{"Reconnect.MinDelay", r.Reconnect.MinDelay < 0},
		{"Reconnect.MaxDelay", r.Reconnect.MaxDelay < 0},
		{"Reconnect.MaxAttempts", r.Reconnect.MaxAttempts < 0},
		{"KeepAlive.Interval", r.KeepAlive.Interval < 0},
		{"KeepAlive.Timeout", r.KeepAlive.Timeout < 0},
		{"Buffer.Messages", r.Buffer.Messages < 0},
		{"Buffer.Bytes", r.Buffer.Bytes < 0},
	} {
		if setting.negative {
			return r, invalid(operation, "options."+setting.name, "is negative")
		}
	}
	setDefault(&r.Reconnect.MinDelay, 500*time.Millisecond)
	setDefault(&r.Reconnect.MaxDelay, max(30*time.Second, r.Reconnect.MinDelay))
	setDefault(&r.KeepAlive.Interval, 10*time.Second)
	setDefault(&r.KeepAlive.Timeout, 2*r.KeepAlive.Interval)
	setDefault(&r.Buffer.Messages, 4096)
	setDefault(&r.Buffer.Bytes, 32<<20)
	switch {
	case r.Reconnect.MaxDelay < r.Reconnect.MinDelay:
		return r, invalid(operation, "options.Reconnect.MaxDelay", "is less than MinDelay")
	case r.KeepAlive.Timeout <= r.KeepAlive.Interval:
		return r, invalid(operation, "options.KeepAlive.Timeout", "must be longer than Interval")
	}
	if r.HTTPClient == nil {
		r.HTTPClient = http.DefaultClient
	}
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	r.Header = r.Header.Clone()
	return r, nil
}

func setDefault[T time.Duration | int](value *T, otherwise T) {
	if *value == 0 {
		*value = otherwise
	}
}
