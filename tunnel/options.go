package tunnel

import (
	"cmp"
	"log/slog"
	"net/http"
	"time"
)

// Options are the options of [Serve] and [ServeWithCredential]. The zero value suits most applications.
type Options struct {
	// Logger receives a record for:
	//
	//   - Debug: each event, with the path but not the query
	//   - Info: each opened connection, and each request of the service to change connections
	//   - Warn: each lost connection, and each event or response that was dropped
	//   - Error: each panic, each invalid response, and each shutdown that took too long
	//
	// Records contain no keys, tokens or bodies. Nil logs nothing.
	Logger *slog.Logger

	// MaxConcurrent is the maximum number of events that are served at the same time, over all connections. Further events
	// wait. Zero means 256.
	MaxConcurrent int

	// MaxFrameBytes is the maximum size of a received frame. A larger frame ends its connection. MaxFrameBytes must not
	// exceed 1 GiB. Zero means 2 MiB: the official package declares a maximum of 1 MiB but accepts larger frames.
	MaxFrameBytes int

	// ShutdownTimeout is how long unanswered events may take after Serve's context has ended, or after the service
	// requested to close or replace their connection. When it expires, the contexts of the events end. Zero means 30
	// seconds.
	ShutdownTimeout time.Duration

	// Reconnect controls the delays before a connection is opened again.
	Reconnect ReconnectOptions

	// KeepAlive controls how a dead connection is detected.
	KeepAlive KeepAliveOptions

	// HTTPClient makes the WebSocket handshakes. Set its Transport to use a proxy, a TLS configuration or a client
	// certificate. Redirects are not followed. Nil means a client that uses the proxy from the environment.
	HTTPClient *http.Client

	// ReverseProxyEndpoint is the URL of a reverse proxy in front of the service, such as API Management. Its path is
	// prepended to the path of each request. The audience of the tokens remains the service's own URL. Connections to
	// another endpoint that the service names bypass the proxy. Empty means no reverse proxy.
	ReverseProxyEndpoint string

	// TokenScope is the scope of tokens from a TokenCredential. Empty means https://webpubsub.azure.com/.default, the
	// scope of the public cloud.
	TokenScope string

	// InsecureAllowCredentialWithHTTP allows tokens from a TokenCredential to be sent unencrypted, to an http endpoint.
	InsecureAllowCredentialWithHTTP bool
}

// ReconnectOptions control the delays before a connection is opened again. Each delay is random, between zero and a
// bound. The bound starts at MinDelay and doubles with each attempt up to MaxDelay. It starts at MinDelay again after a
// connection has been up for 30 seconds.
type ReconnectOptions struct {
	MinDelay time.Duration // zero means 500 milliseconds
	MaxDelay time.Duration // zero means 30 seconds, or MinDelay if that is longer; it must not be less than MinDelay
}

// KeepAliveOptions control how a dead connection is detected. The detection takes at most Interval plus Timeout. While a
// response of more than 64 KiB is sent, a ping may take longer, and a write that takes 30 seconds ends the connection.
type KeepAliveOptions struct {
	Interval time.Duration // between WebSocket pings; zero means 15 seconds
	Timeout  time.Duration // to wait for the pong; zero means 15 seconds
}

// maxMaxFrameBytes is the maximum of Options.MaxFrameBytes, so that sizes fit into an int on every platform.
const maxMaxFrameBytes = 1 << 30

// withDefaults returns the options with the defaults filled in. If an option is invalid, it returns the option's name
// and the problem.
func withDefaults(options *Options) (o Options, argument, problem string) {
	if options != nil {
		o = *options
	}
	for _, check := range []struct {
		argument string
		wrong    bool
	}{
		{"options.MaxConcurrent", o.MaxConcurrent < 0},
		{"options.MaxFrameBytes", o.MaxFrameBytes < 0},
		{"options.ShutdownTimeout", o.ShutdownTimeout < 0},
		{"options.Reconnect.MinDelay", o.Reconnect.MinDelay < 0},
		{"options.Reconnect.MaxDelay", o.Reconnect.MaxDelay < 0},
		{"options.KeepAlive.Interval", o.KeepAlive.Interval < 0},
		{"options.KeepAlive.Timeout", o.KeepAlive.Timeout < 0},
	} {
		if check.wrong {
			return o, check.argument, "is negative"
		}
	}
	if o.MaxFrameBytes > maxMaxFrameBytes {
		return o, "options.MaxFrameBytes", "is more than 1 GiB"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.MaxConcurrent = cmp.Or(o.MaxConcurrent, 256)
	o.MaxFrameBytes = cmp.Or(o.MaxFrameBytes, 2<<20)
	o.ShutdownTimeout = cmp.Or(o.ShutdownTimeout, 30*time.Second)
	o.Reconnect.MinDelay = cmp.Or(o.Reconnect.MinDelay, 500*time.Millisecond)
	o.Reconnect.MaxDelay = cmp.Or(o.Reconnect.MaxDelay, max(30*time.Second, o.Reconnect.MinDelay))
	if o.Reconnect.MaxDelay < o.Reconnect.MinDelay {
		return o, "options.Reconnect.MaxDelay", "is less than MinDelay"
	}
	o.KeepAlive.Interval = cmp.Or(o.KeepAlive.Interval, 15*time.Second)
	o.KeepAlive.Timeout = cmp.Or(o.KeepAlive.Timeout, 15*time.Second)
	if o.TokenScope == "" {
		o.TokenScope = "https://webpubsub.azure.com/.default"
	}
	return o, "", ""
}
