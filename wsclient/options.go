package wsclient

import (
	"log/slog"
	"net/http"
	"time"
)

// Protocol is a subprotocol of the service.
type Protocol int

// The protocols. The reliable ones recover a connection that broke: the service keeps a client's messages for 30
// seconds, and this package asks for those that are missing.
const (
	JSONReliable     Protocol = iota // json.reliable.webpubsub.azure.v1, the default
	JSONPlain                        // json.webpubsub.azure.v1: messages may be lost when a connection breaks
	ProtobufReliable                 // protobuf.reliable.webpubsub.azure.v1
	ProtobufPlain                    // protobuf.webpubsub.azure.v1
)

// subprotocols are the names that a handshake offers.
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

// Options are the settings of a [Conn]. The zero value and nil are the defaults.
//
// The hooks run one after the other, in the order of what they report, on a goroutine of their own. A hook may call the
// Conn and may block; it delays only later hooks. After Close no hook starts; one that runs may outlive Close.
type Options struct {
	// Protocol is the subprotocol. The default is JSONReliable.
	Protocol Protocol

	// HTTPClient makes the handshakes: set its Transport for a proxy, a root certificate or a client certificate. The
	// default is http.DefaultClient. A browser (GOOS=js) ignores it.
	HTTPClient *http.Client

	// Header is sent with each handshake, recoveries included. A browser (GOOS=js) ignores it.
	Header http.Header

	// Anonymous allows URLs without an access token, for hubs whose anonymousConnectPolicy is allow. By default Dial
	// rejects such a URL, unless Header has an Authorization.
	Anonymous bool

	// Logger receives what happens to the connection: what was lost at Warn, changes of state at Info, and what was
	// ignored at Debug. No record holds a token or the data of a message. The default is not to log.
	Logger *slog.Logger

	// RetryInitial makes Dial try until it connects or its context ends, with the delays of Reconnect, for devices that
	// boot before their network. By default the first failure is returned. A URL that cannot be used is returned anyway.
	RetryInitial bool

	// Reconnect is when a new connection is made in place of one that ended.
	Reconnect ReconnectOptions

	// KeepAlive is how a dead connection is found.
	KeepAlive KeepAliveOptions

	// Buffer is how many received messages may wait for Receive.
	Buffer BufferOptions

	// NoRejoin leaves it to the application to join groups again on a new connection.
	NoRejoin bool

	// OnConnected is called when the connection is there: the first one, one that was recovered (after OnRecovered), and a
	// new one.
	OnConnected func(ConnectedEvent)

	// OnDisconnected is called when a connection ended for good: it is not being recovered, or recovery failed. It is not
	// called for Close.
	OnDisconnected func(DisconnectedEvent)

	// OnRecovering is called when a reliable connection broke and the attempts to recover it begin.
	OnRecovering func(RecoveringEvent)

	// OnRecovered is called when the connection was recovered: the first frame has come, and nothing was lost.
	OnRecovered func(ConnectedEvent)

	// OnRejoinFailed is called when a group could not be joined again on a new connection, for example because the
	// permission is lacking now. The group stays wanted: the next new connection tries again.
	OnRejoinFailed func(RejoinFailedEvent)

	// OnSlowConsumer is called when a protocol that is not reliable begins to drop messages, because Buffer is full: once,
	// until Receive has emptied the buffer. Stats counts what is dropped.
	OnSlowConsumer func(SlowConsumerEvent)

	// OnServerClose decides what follows when the service closed the connection on purpose (code 1000), as an application
	// server does with CloseConnection. The reason is the service's text, such as "Application server closed the
	// connection. Reason: bye". True makes a new connection; false ends the Conn with a *CloseError. The default is true.
	OnServerClose func(reason string) bool
}

// ReconnectOptions is when a new connection is made in place of one that ended. The delay before an attempt is random,
// between 0 and a limit that doubles from MinDelay to MaxDelay with each attempt, so that many clients do not come
// back at once. The limit starts again at MinDelay after 30 seconds of being connected.
type ReconnectOptions struct {
	// Disabled ends the Conn instead. Recovery of a reliable connection still takes place.
	Disabled bool

	// MinDelay is the limit of the first delay. The default is 0.5 seconds.
	MinDelay time.Duration

	// MaxDelay is the largest limit. The default is 30 seconds.
	MaxDelay time.Duration

	// MaxAttempts is how many attempts in a row may fail before the Conn ends. 0 means no limit.
	MaxAttempts int
}

// KeepAliveOptions is how a dead connection is found.
type KeepAliveOptions struct {
	// Interval is how long nothing may arrive before a ping is sent. The default is 10 seconds.
	Interval time.Duration

	// Timeout is how long nothing may arrive before the connection is cut. The default is twice Interval. A service keeps a
	// broken connection for 30 seconds; a larger Timeout may find out too late to recover it.
	Timeout time.Duration
}

// BufferOptions is how many received messages may wait for Receive.
//
// With a reliable protocol, messages beyond the buffer are still received and kept, but not acknowledged. The service
// ends a connection with 1,000 messages or 16 MiB that are not acknowledged. The Conn then ends with [ErrSlowConsumer],
// and Receive still returns all that arrived. With the other protocols, messages beyond the buffer are dropped and counted.
type BufferOptions struct {
	// Messages is the number of messages. The default is 4,096.
	Messages int

	// Bytes is the size of their frames. The default is 32 MiB.
	Bytes int
}

// ConnectedEvent is a connection that is there.
type ConnectedEvent struct {
	Conn *Conn

	// ConnectionID is the id that the service gave the connection. A recovered connection keeps its id.
	ConnectionID string

	// UserID is the user of the connection, or empty.
	UserID string

	// Resumed is true if the connection goes on where it broke, without loss. If it is false, it is a new connection, and
	// messages may be missing: fetch the application's state anew.
	Resumed bool

	// First is true for the connection that Dial made.
	First bool
}

// DisconnectedEvent is a connection that ended for good.
type DisconnectedEvent struct {
	Conn *Conn

	// ConnectionID is the id of the connection that ended.
	ConnectionID string

	// Err is why it ended.
	Err *CloseError
}

// RecoveringEvent is a reliable connection that broke.
type RecoveringEvent struct {
	Conn *Conn

	// ConnectionID is the id of the connection that broke.
	ConnectionID string

	// Err is why it broke.
	Err *CloseError
}

// RejoinFailedEvent is a group that could not be joined again.
type RejoinFailedEvent struct {
	Conn *Conn

	// Group is the group's name.
	Group string

	// Err is an *AckError, or why the group was not joined.
	Err error
}

// SlowConsumerEvent is a buffer that is full.
type SlowConsumerEvent struct {
	Conn *Conn

	// Queued is how many messages wait for Receive.
	Queued int
}

// withDefaults checks the options and fills in the defaults.
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
