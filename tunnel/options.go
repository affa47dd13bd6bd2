package tunnel

import (
	"cmp"
	"log/slog"
	"net/http"
	"time"
)

// Options are the options of [Serve] and [ServeWithCredential]. The zero value is right for most applications.
type Options struct {
	// Logger receives a record of each connection that is opened or lost, of each panic of the handler, and of each answer
	// that could not be sent. At level Debug it receives one of each event, with its path but not its query. Keys, tokens and
	// bodies are not in them. Nil means slog.Default().
	Logger *slog.Logger

	// MaxConcurrent is how many events are served at once, over all connections. More events wait. Zero means 256.
	MaxConcurrent int

	// MaxFrameBytes is the size of the largest frame that is read; a larger one ends its connection. Zero means 2 MiB: the
	// official package declares 1 MiB but reads larger ones.
	MaxFrameBytes int

	// ShutdownTimeout is how long events under way may take to finish once the context of Serve has ended, or once the service
	// has asked to close or replace their connection. Then their contexts end. Zero means 30 seconds.
	ShutdownTimeout time.Duration

	// Reconnect are the delays before a connection is opened again.
	Reconnect ReconnectOptions

	// KeepAlive decides when a connection that is silent is given up.
	KeepAlive KeepAliveOptions

	// HTTPClient makes the connections: its Transport has the proxy, the TLS configuration and client certificates. Redirects are
	// not followed. Nil means a client that uses the proxy of the environment.
	HTTPClient *http.Client

	// ReverseProxyEndpoint is the URL of a reverse proxy before the service, such as API Management. Connections go to it, below
	// its path if it has one. Tokens still name the service's own URL. Connections to another endpoint that the service names
	// do not go to the proxy. Empty means no reverse proxy.
	ReverseProxyEndpoint string

	// TokenScope is the scope of tokens from a TokenCredential. Empty means https://webpubsub.azure.com/.default, which is
	// right for the public cloud.
	TokenScope string

	// InsecureAllowCredentialWithHTTP allows tokens from a TokenCredential to be sent to an http endpoint, in clear text.
	InsecureAllowCredentialWithHTTP bool
}

// ReconnectOptions are the delays before a connection is opened again. The delay is random, from zero to a bound that starts at
// MinDelay and doubles with each failure up to MaxDelay. The bound starts again once a connection has been up for 30 seconds.
type ReconnectOptions struct {
	MinDelay time.Duration // zero means 500 milliseconds
	MaxDelay time.Duration // zero means 30 seconds, or MinDelay if that is longer
}

// KeepAliveOptions decide when a connection is given up. A dead connection is noticed after at most the sum of the interval and
// the timeout.
type KeepAliveOptions struct {
	Interval time.Duration // between WebSocket pings; zero means 15 seconds
	Timeout  time.Duration // to wait for the pong; zero means 15 seconds
}

// maxMaxFrameBytes bounds Options.MaxFrameBytes to what the length of a frame can hold everywhere.
const maxMaxFrameBytes = 1 << 30

// withDefaults returns the options with their defaults, or what is wrong with them.
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
		o.Logger = slog.Default()
	}
	o.MaxConcurrent = cmp.Or(o.MaxConcurrent, 256)
	o.MaxFrameBytes = cmp.Or(o.MaxFrameBytes, 2<<20)
	o.ShutdownTimeout = cmp.Or(o.ShutdownTimeout, 30*time.Second)
	o.Reconnect.MinDelay = cmp.Or(o.Reconnect.MinDelay, 500*time.Millisecond)
	o.Reconnect.MaxDelay = max(cmp.Or(o.Reconnect.MaxDelay, 30*time.Second), o.Reconnect.MinDelay)
	o.KeepAlive.Interval = cmp.Or(o.KeepAlive.Interval, 15*time.Second)
	o.KeepAlive.Timeout = cmp.Or(o.KeepAlive.Timeout, 15*time.Second)
	if o.TokenScope == "" {
		o.TokenScope = "https://webpubsub.azure.com/.default"
	}
	return o, "", ""
}
