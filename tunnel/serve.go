package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/awps-go/webpubsub"
)

const (
	// maxConnections bounds what Rebalance messages can open.
	maxConnections = 32

	// maxTargetFailures is how often in a row an instance is tried that the service has named.
	maxTargetFailures = 3

	// maxRefusals is how many refusals in a row end Serve once a connection has been up: then the credential was right, and what
	// refuses may be a proxy or an instance that restarts. With the delays between, they take about a minute.
	maxRefusals = 10

	// pendingOverhead is the memory that an event takes besides its frame while it waits or is served.
	pendingOverhead = 8 << 10

	// handlerGrace is how long Serve waits for handlers to return whose contexts have ended.
	handlerGrace = 5 * time.Second
)

// maxPendingBytes bounds the memory of events that wait or are served. Only a test changes it.
var maxPendingBytes int64 = 64 << 20

// Serve connects to the service that the connection string names, and serves the hub's events with the handler until the context
// ends. Connections authenticate with the access key. Options may be nil.
//
// When the context ends, no further events are served: they are answered with 503. Serve closes the connections and returns nil once
// the events under way are answered; if they take longer than [Options.ShutdownTimeout], it ends their contexts and returns an
// error. Other errors are:
//
//   - [webpubsub.ErrInvalidArgument] before anything is sent: the connection string, the hub or an option is wrong, or the
//     handler is nil. The hub is a letter, then up to 127 letters, digits and any of _ ` , . [ ].
//   - [*HandshakeError] if the service refuses the first connection, such as 401 for a wrong key; or, after a connection has been
//     up, if it refuses to connect ten times in a row.
//   - [ErrClosed] if the service has closed the last connection for good.
//
// A service that cannot be reached, also at the start, is not an error: Serve logs it and tries again.
func Serve(ctx context.Context, connectionString, hub string, handler http.Handler, options *Options) error {
	const operation = "Serve"
	parsed, err := webpubsub.ParseConnectionString(connectionString)
	if err != nil {
		return fmt.Errorf("tunnel: %s: %w", operation, err)
	}
	o, argument, problem := withDefaults(options)
	if problem != "" {
		return invalid(operation, argument, problem)
	}
	// A service client has the same rules for the hub and the reverse proxy.
	if _, err := webpubsub.NewClientFromConnectionString(connectionString, hub, clientOptions(&o)); err != nil {
		return fmt.Errorf("tunnel: %s: %w", operation, err)
	}
	return serve(ctx, operation, parsed.Endpoint, hub, handler, &o, keyTokens(parsed.AccessKey))
}

// ServeWithCredential is [Serve] for the service at the endpoint, https://NAME.webpubsub.azure.com. Connections authenticate with
// Microsoft Entra ID: the credential is one of the azidentity package's, or any other [azcore.TokenCredential]. Its identity needs
// the role Web PubSub Service Owner.
//
// Its tokens are sent over TLS only: an http endpoint or reverse proxy is an [webpubsub.ErrInvalidArgument], unless
// [Options.InsecureAllowCredentialWithHTTP] is set. An error of the credential ends ServeWithCredential if it says that it is not
// worth trying again, under the same conditions as a refusal.
func ServeWithCredential(ctx context.Context, endpoint, hub string, credential azcore.TokenCredential, handler http.Handler, options *Options) error {
	const operation = "ServeWithCredential"
	o, argument, problem := withDefaults(options)
	if problem != "" {
		return invalid(operation, argument, problem)
	}
	if _, err := webpubsub.NewClient(endpoint, hub, credential, clientOptions(&o)); err != nil {
		return fmt.Errorf("tunnel: %s: %w", operation, err)
	}
	return serve(ctx, operation, endpoint, hub, handler, &o, credentialTokens(credential, o.TokenScope))
}

func clientOptions(o *Options) *webpubsub.ClientOptions {
	return &webpubsub.ClientOptions{
		ClientOptions:        policy.ClientOptions{InsecureAllowCredentialWithHTTP: o.InsecureAllowCredentialWithHTTP},
		ReverseProxyEndpoint: o.ReverseProxyEndpoint,
	}
}

func serve(ctx context.Context, operation, endpoint, hub string, handler http.Handler, o *Options, token tokenSource) error {
	switch value := reflect.ValueOf(handler); {
	case ctx == nil:
		return invalid(operation, "ctx", "is nil")
	case !value.IsValid(), (value.Kind() == reflect.Pointer || value.Kind() == reflect.Func) && value.IsNil():
		return invalid(operation, "handler", "is nil")
	}
	service, err := parseEndpoint(endpoint)
	if err != nil {
		return invalid(operation, "endpoint", err.Error())
	}
	s := &server{
		endpoints: endpoints{service: service},
		hub:       hub,
		handler:   handler,
		options:   o,
		token:     token,
		log:       o.Logger.With(slog.String("hub", hub)),
		slots:     make(chan struct{}, o.MaxConcurrent),
	}
	if o.ReverseProxyEndpoint != "" {
		if s.endpoints.proxy, err = parseEndpoint(o.ReverseProxyEndpoint); err != nil {
			return invalid(operation, "options.ReverseProxyEndpoint", err.Error())
		}
	}
	var closeIdle func()
	s.client, closeIdle = httpClient(o.HTTPClient)
	defer closeIdle()
	s.ctx, s.cancel = context.WithCancel(ctx)
	defer s.cancel()
	return s.run()
}

// httpClient returns the client of the handshakes. A redirect would not carry the token for another URL: it is a refusal.
func httpClient(given *http.Client) (client *http.Client, closeIdle func()) {
	if given != nil {
		copied := *given
		client, closeIdle = &copied, func() {}
	} else {
		transport := &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			DisableKeepAlives:   true, // a connection is a tunnel, or it was refused
		}
		client, closeIdle = &http.Client{Transport: transport}, transport.CloseIdleConnections
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client, closeIdle
}

// server is one call of Serve: its connections, and the events that they share.
type server struct {
	ctx    context.Context // of Serve; it ends too if the server fails
	cancel context.CancelFunc

	endpoints endpoints
	hub       string
	handler   http.Handler
	options   *Options
	token     tokenSource
	client    *http.Client
	log       *slog.Logger

	slots    chan struct{}  // holds one element for each event that is being served
	pending  atomic.Int64   // bytes of the events that wait or are served
	handlers sync.WaitGroup // the goroutines of events
	cut      atomic.Int64   // events that a shutdown did not wait for

	wasUp atomic.Bool // a connection has been up

	mu      sync.Mutex
	lines   sync.WaitGroup // one for each connection that is kept open
	open    int            // how many of them there are
	failure error          // why the server ended by itself
}

func (s *server) run() error {
	s.keepOpen(destination{}, func() {})
	s.lines.Wait()
	ended := make(chan struct{})
	go func() {
		s.handlers.Wait()
		close(ended)
	}()
	timer := time.NewTimer(handlerGrace)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		s.log.Error("handlers did not return after their contexts had ended")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.cut.Load(); s.failure == nil && n > 0 {
		return fmt.Errorf("tunnel: the shutdown took longer than %v: %d events were not answered", s.options.ShutdownTimeout, n)
	}
	return s.failure
}

// fail ends the server with an error. The first error counts, and none counts once the context has ended.
func (s *server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil && s.ctx.Err() == nil {
		s.failure = err
		s.cancel()
	}
}

// keepOpen opens a connection, and opens it again whenever it is lost, until the server ends or the service closes the connection
// for good. It returns at once; it reports false if there are too many connections. It calls ready when the connection is up for the
// first time, or when it will never be.
func (s *server) keepOpen(to destination, ready func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= maxConnections {
		return false
	}
	s.open++
	s.lines.Go(func() {
		defer ready()
		err := s.stayConnected(to, ready)
		s.mu.Lock()
		s.open--
		last := s.open == 0
		s.mu.Unlock()
		switch {
		case !last || err == nil:
		case errors.Is(err, errReplaced): // by one that the service has closed
			s.fail(ErrClosed)
		default:
			s.fail(err)
		}
	})
	return true
}

// stayConnected is the life of one connection that is kept open. It returns why it is not kept open any longer, or nil if the
// server has ended.
func (s *server) stayConnected(to destination, ready func()) error {
	delays := backoff{options: s.options.Reconnect}
	failures, refusals := 0, 0 // in a row
	for {
		c, err := s.dial(to)
		var up time.Duration
		if err == nil {
			s.wasUp.Store(true)
			failures, refusals = 0, 0
			ready()
			start := time.Now()
			err = c.serve()
			up = time.Since(start)
			if errors.Is(err, ErrClosed) || errors.Is(err, errReplaced) {
				return err
			}
		} else {
			failures++
			if isPermanent(err) && to.isOwn() {
				if refusals++; refusals >= maxRefusals || !s.wasUp.Load() {
					s.fail(err)
				}
			}
		}
		if s.ctx.Err() != nil {
			return nil //nolint:nilerr // the server has ended: it does not matter how the connection did
		}
		delay := delays.next(up)
		s.log.Warn("the tunnel's connection is down", slog.Any("error", err), slog.Duration("retryIn", delay))
		if failures >= maxTargetFailures && !to.isOwn() {
			s.log.Warn("the instance that the service has named cannot be reached: connecting to the service's own endpoint")
			to, failures = destination{}, 0
		}
		sleep(s.ctx, delay)
	}
}
