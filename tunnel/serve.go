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
	// maxConnections limits the number of connections, which Rebalance messages increase.
	maxConnections = 32

	// maxTargetFailures is the number of consecutive failures to connect to an instance that the service named. After
	// them, the connection goes to the service's own endpoint.
	maxTargetFailures = 3

	// maxRejections is the number of rejections after which Serve ends, if a connection was up before and none is up
	// now. In that case the credential was valid, and the rejections may come from a proxy or from an instance that is
	// restarting. With the delays between them, ten rejections take about a minute.
	maxRejections = 10

	// pendingOverhead is the estimated memory of a pending event, in addition to its frame.
	pendingOverhead = 8 << 10

	// handlerGrace is how long Serve waits for handlers to return after their contexts have ended.
	handlerGrace = 5 * time.Second
)

// maxPendingBytes limits the memory of events that wait or are being served. It changes only in tests.
var maxPendingBytes int64 = 64 << 20

// Serve connects to the service in the connection string, and serves the events of a hub with handler until ctx ends.
// Connections authenticate with the access key. Nil options mean the defaults.
//
// When ctx ends, Serve responds to new events with 503. After all earlier events are answered, it closes the
// connections and returns nil. If that takes longer than [Options.ShutdownTimeout], Serve ends the contexts of the
// remaining events, waits up to 5 seconds for their handlers, and returns an error.
//
// If the service cannot be reached, even at the start, Serve logs that and retries. To serve several hubs, call Serve
// once for each.
//
// Serve returns other errors only in these cases:
//
//   - [webpubsub.ErrInvalidArgument] if the connection string, the hub or an option is invalid, or the handler or ctx
//     is nil. Nothing was sent. A hub name is a letter, then up to 127 letters, digits and any of _ ` , . [ ].
//   - [*HandshakeError] if the service rejected the first connection, for example with 401 for a wrong key. Once a
//     connection has been up, Serve returns this error only after ten rejections during which no connection was up.
//     With the default delays, that takes about a minute. Serve retries after 408, 425, 429 and 5xx, and does not count
//     them as rejections.
//   - [ErrClosed] if the service closed the last connection with a Close message.
//
// If the access key is regenerated while Serve runs, Serve cannot open a lost connection again. It returns the
// [*HandshakeError] with status 401 after ten rejections, as described above. Then call Serve with the new connection
// string, or let the program end, so that it is started again with the new configuration.
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
	// A service client validates the hub and the reverse proxy by the same rules.
	if _, err := webpubsub.NewClientFromConnectionString(connectionString, hub, clientOptions(&o)); err != nil {
		return fmt.Errorf("tunnel: %s: %w", operation, err)
	}
	return serve(ctx, operation, parsed.Endpoint, hub, handler, &o, keyTokens(parsed.AccessKey))
}

// ServeWithCredential is like [Serve], but connections authenticate with Microsoft Entra ID. The endpoint is
// https://NAME.webpubsub.azure.com. The credential is an [azcore.TokenCredential], such as those of the azidentity
// package. Its identity needs the role Web PubSub Service Owner.
//
// Tokens are sent only over TLS: for an http endpoint or reverse proxy, ServeWithCredential returns
// [webpubsub.ErrInvalidArgument] unless [Options.InsecureAllowCredentialWithHTTP] is set. ServeWithCredential treats a
// non-retriable error of the credential, such as a wrong client secret, like a rejected connection.
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

// httpClient returns the client for handshakes. It does not follow redirects, because the audience of the token is the
// original URL. A redirect is therefore a rejection.
func httpClient(given *http.Client) (client *http.Client, closeIdle func()) {
	if given != nil {
		copied := *given
		client, closeIdle = &copied, func() {}
	} else {
		transport := &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second,
			DisableKeepAlives:   true, // a connection becomes a tunnel or is not needed again
		}
		client, closeIdle = &http.Client{Transport: transport}, transport.CloseIdleConnections
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client, closeIdle
}

// server is the state of one call of Serve.
type server struct {
	ctx    context.Context // ends with Serve's context, or when the server fails
	cancel context.CancelFunc

	endpoints endpoints
	hub       string
	handler   http.Handler
	options   *Options
	token     tokenSource
	client    *http.Client
	log       *slog.Logger

	slots      chan struct{}  // has one element for each event that is being served
	pending    atomic.Int64   // memory of the events that wait or are being served, in bytes
	handlers   sync.WaitGroup // the goroutines that serve events
	unanswered atomic.Int64   // number of events that were not answered before the shutdown timeout

	mu          sync.Mutex
	wasUp       bool           // a connection has been up
	up          int            // number of connections that are up
	rejections  int            // number of rejections since a connection was last up
	connections sync.WaitGroup // the goroutines that keep connections open
	open        int            // number of connections that are kept open
	failure     error          // why the server ended before its context
}

func (s *server) run() error {
	s.keepOpen(destination{}, func() {})
	s.connections.Wait()
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
	if n := s.unanswered.Load(); s.failure == nil && n > 0 {
		return fmt.Errorf("tunnel: the shutdown took longer than %v: %d events were not answered", s.options.ShutdownTimeout, n)
	}
	return s.failure
}

// fail ends the server with an error. It does nothing if the server has already failed or its context has ended.
func (s *server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil && s.ctx.Err() == nil {
		s.failure = err
		s.cancel()
	}
}

// addUp adds n to the number of connections that are up.
func (s *server) addUp(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wasUp = true
	s.up += n
	s.rejections = 0
}

// rejected counts a rejection, and reports whether the server must give up. While another connection is up, the
// server keeps serving events.
func (s *server) rejected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.up > 0 {
		return false
	}
	s.rejections++
	return !s.wasUp || s.rejections >= maxRejections
}

// keepOpen opens a connection in the background, and opens it again whenever it is lost, until the server ends or the
// service closes it with a Close message. It calls ready when the connection is up for the first time, or when it is
// given up. It returns false if there are too many connections.
func (s *server) keepOpen(to destination, ready func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= maxConnections {
		return false
	}
	s.open++
	s.connections.Go(func() {
		defer ready()
		err := s.stayConnected(to, ready)
		s.mu.Lock()
		s.open--
		last := s.open == 0
		s.mu.Unlock()
		switch {
		case !last || err == nil:
		case errors.Is(err, errReplaced): // replaced by a connection that the service has closed
			s.fail(ErrClosed)
		default:
			s.fail(err)
		}
	})
	return true
}

// stayConnected keeps a connection open. It returns the reason why the connection must not be opened again, or nil if
// the server has ended.
func (s *server) stayConnected(to destination, ready func()) error {
	delays := backoff{options: s.options.Reconnect}
	failures := 0 // since the connection was last up
	for {
		c, err := s.dial(to)
		var up time.Duration
		if err == nil {
			failures = 0
			s.addUp(1)
			ready()
			start := time.Now()
			err = c.serve()
			up = time.Since(start)
			s.addUp(-1)
			if errors.Is(err, ErrClosed) || errors.Is(err, errReplaced) {
				return err
			}
		} else {
			failures++
			if isPermanent(err) && to.isOwn() && s.rejected() {
				s.fail(err)
			}
		}
		if s.ctx.Err() != nil {
			return nil //nolint:nilerr // the server has ended, so the error of the connection does not matter
		}
		delay := delays.next(up)
		s.log.Warn("the tunnel's connection is down", slog.Any("error", err), slog.Duration("retryIn", delay))
		if failures >= maxTargetFailures && !to.isOwn() {
			s.log.Warn("the instance named by the service cannot be reached: connecting to the service's own endpoint")
			to, failures = destination{}, 0
		}
		sleep(s.ctx, delay)
	}
}
