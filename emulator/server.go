package emulator

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/awps-go/webpubsub/emulator/internal/client"
	"github.com/awps-go/webpubsub/emulator/internal/events"
	"github.com/awps-go/webpubsub/emulator/internal/faults"
	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	kernel "github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/liveview"
	"github.com/awps-go/webpubsub/emulator/internal/mqtt"
	"github.com/awps-go/webpubsub/emulator/internal/rest"
	"github.com/awps-go/webpubsub/emulator/internal/token"
	"github.com/awps-go/webpubsub/emulator/internal/tunnel"
	"github.com/awps-go/webpubsub/emulator/internal/watch"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// Options are the settings of a server. Tests can use the zero value or nil.
type Options struct {
	// Addr is the TCP address to listen on. The default is "127.0.0.1:0", a free port of the loopback interface. Another
	// interface exposes the server to a network, for which it is not hardened.
	Addr string

	// AccessKey is the primary access key, which signs tokens and events. The default is a random key. The key must not
	// contain semicolons, which separate the parts of a connection string, or control characters, and must not have leading or
	// trailing white space.
	AccessKey string

	// SecondaryAccessKey is the secondary access key. The server accepts tokens signed with either key, and signs events with
	// both. The default is a random key. The rules of AccessKey apply.
	SecondaryAccessKey string

	// Hubs maps hub names, which are case-insensitive, to settings. Other hubs have the zero HubSettings: no event handlers,
	// and no anonymous clients. SetHubSettings changes settings later.
	Hubs map[string]HubSettings

	// AcceptBearer reports whether to accept a bearer token that is not signed with an access key, for example of a service
	// client that authenticates with Microsoft Entra ID. The server calls AcceptBearer for REST requests and tunnel
	// connections, also concurrently. If nil, such tokens are rejected.
	//
	// As in the service, OperationGetClientAccessToken requires such a token. A service client with an access key signs client
	// access tokens itself.
	AcceptBearer func(token string) bool

	// ConnectedAfterRecovery makes the server send another connected message to a reliable client that has recovered. The
	// service's specification allows this message but does not require it, so a client must work with and without it.
	// Microsoft's emulator does not send it.
	ConnectedAfterRecovery bool

	// TLS makes the server use TLS, with HTTP/1.1 only. The endpoint then begins with https. The server creates a certificate
	// for localhost and the loopback addresses, which [Server.HTTPClient] trusts.
	TLS bool

	// TLSConfig, if set, makes the server use TLS with this configuration, which must have a certificate, and with HTTP/1.1
	// only. TLS and TLSConfig are mutually exclusive.
	TLSConfig *tls.Config

	// Logger receives the server's log: rejected requests and frames at Info, all requests and connections at Debug. The log
	// never contains keys or tokens. If nil, Start logs nothing, and StartT logs to the test at Info.
	Logger *slog.Logger
}

// Server is a running emulator. Its methods are safe for concurrent use.
type Server struct {
	endpoint        wire.Endpoint
	keys            *accessKeys
	acceptsKeysOnly bool // whether all tokens must be signed with a key

	service      *kernel.Service
	board        *watch.Board
	tokens       *token.Authority
	events       *events.Sender
	faults       *faults.List
	clientFaults *client.FaultList
	api          *rest.API
	conns        *wire.Conns
	tunnels      *tunnel.Tunnels
	http         *http.Server
	httpClient   *http.Client
	closed       sync.Once

	waitTimeout time.Duration // bounds a wait whose context has no deadline; 0 = no limit
	test        TB            // fails when a fault is rejected; nil = none

	handshakes atomic.Int64 // that have ended
}

// Start starts a server. The caller must call [Server.Close]. Nil opts mean the defaults. Start returns an error if an option
// is not valid, or if the server cannot listen on Options.Addr.
func Start(opts *Options) (*Server, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("emulator: Options.Addr: %w", err)
	}
	s := newServer(&o, listener.Addr())
	s.httpClient = newHTTPClient(o.TLSConfig)
	for hub, settings := range o.Hubs {
		if err := s.SetHubSettings(hub, settings); err != nil {
			listener.Close()
			return nil, err
		}
	}
	if o.TLSConfig != nil {
		config := o.TLSConfig.Clone()
		config.NextProtos = []string{"http/1.1"}
		listener = tls.NewListener(listener, config)
	}
	s.service.Life.GoFrom(func() { _ = s.http.Serve(s.conns.Listener(listener)) }) // returns http.ErrServerClosed on Close
	o.Logger.Info("emulator started", "endpoint", s.Endpoint())
	return s, nil
}

// complete sets defaults and validates the options.
func (o *Options) complete() error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Addr = cmp.Or(o.Addr, "127.0.0.1:0")
	o.AccessKey = cmp.Or(o.AccessKey, rand.Text()+rand.Text())
	o.SecondaryAccessKey = cmp.Or(o.SecondaryAccessKey, rand.Text()+rand.Text())
	for name, key := range map[string]string{"AccessKey": o.AccessKey, "SecondaryAccessKey": o.SecondaryAccessKey} {
		if strings.ContainsFunc(key, func(r rune) bool { return r == ';' || unicode.IsControl(r) }) || strings.TrimSpace(key) != key {
			return fmt.Errorf("emulator: Options.%s must not contain semicolons or control characters, or have leading or trailing white space", name)
		}
	}
	if o.TLS {
		if o.TLSConfig != nil {
			return errors.New("emulator: Options.TLS and Options.TLSConfig are both set")
		}
		certificate, err := newCertificate()
		if err != nil {
			return fmt.Errorf("emulator: Options.TLS: %w", err)
		}
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
	}
	if c := o.TLSConfig; c != nil && len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil {
		return errors.New("emulator: Options.TLSConfig has no certificate")
	}
	names := make(map[string]bool)
	for hub := range o.Hubs {
		key := strings.ToLower(hub)
		if names[key] {
			return fmt.Errorf("emulator: Options.Hubs has the hub %q twice, in different case", key)
		}
		names[key] = true
	}
	return nil
}

// newServer connects the parts of a server.
func newServer(o *Options, addr net.Addr) *Server {
	scheme := "http"
	if o.TLSConfig != nil {
		scheme = "https"
	}
	clock := &kernel.Clock{}
	board := watch.NewBoard(clock)
	service := kernel.NewService(o.Logger, clock, board)
	s := &Server{
		endpoint: wire.NewEndpoint(scheme, addr), keys: newAccessKeys(o.AccessKey, o.SecondaryAccessKey), acceptsKeysOnly: o.AcceptBearer == nil,
		service: service, board: board,
		faults: faults.NewList(service), clientFaults: &client.FaultList{}, conns: wire.NewConns(service.Life, board),
	}
	s.tokens = token.New(token.Options{Key: o.AccessKey, SecondaryKey: o.SecondaryAccessKey, Endpoint: s.endpoint, Now: clock.Now,
		AcceptBearer: o.AcceptBearer})
	handshaker := &handshake.Handshaker{Service: service, Conns: s.conns, Endpoint: s.endpoint, Tokens: s.tokens, Faults: s.faults}
	s.tunnels = tunnel.New(handshaker)
	s.events = events.NewSender(events.Options{Service: service, Faults: s.faults, Host: handshake.WithoutPort(s.endpoint.Host),
		Keys: s.keys.current, Tunnels: s.tunnels})
	service.Application = s.events
	s.api = rest.New(rest.Options{Service: service, Endpoint: s.endpoint, Tokens: s.tokens, Faults: s.faults})
	s.http = &http.Server{
		Handler: &router{
			api:           s.api,
			handshakeDone: s.countHandshake,
			client:        client.Server{Handshaker: handshaker, RequestFaults: s.clientFaults, ConnectedAfterRecovery: o.ConnectedAfterRecovery},
			mqtt:          mqtt.Server{Handshaker: handshaker},
			tunnel:        s.tunnels,
			view: liveview.New(liveview.Options{Service: service, Board: board, Endpoint: s.endpoint,
				Secrets: s.keys.secrets, Tunnels: s.tunnels.Count}),
		},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	s.conns.Configure(s.http)
	return s
}

// countHandshake counts a client's handshake that has ended.
func (s *Server) countHandshake() {
	s.handshakes.Add(1)
	s.board.Changed()
}

// String returns the server's name with its endpoint. It contains no secret.
func (s *Server) String() string { return "emulator.Server(" + s.Endpoint() + ")" }

// GoString returns what String returns, so that %#v does not print the keys.
func (s *Server) GoString() string { return s.String() }

// Endpoint returns the server's base URL, such as "http://127.0.0.1:41234", without a trailing slash.
func (s *Server) Endpoint() string { return s.endpoint.String() }

// Close stops the server. Clients receive a disconnected message and a close frame, event handlers receive the disconnected
// events, and pending requests are completed. When Close returns, all goroutines of the server have ended, except those of an
// [EventHandler].Handler that ignores its context.
//
//   - Close takes about a second longer if a client does not read, and another second if an event handler is slow.
//   - Events that fail during Close are not retried.
//   - Further calls do nothing. The error is always nil.
func (s *Server) Close() error {
	s.closed.Do(func() {
		s.logPendingFaults()
		life := s.service.Life
		life.BeginClose()
		s.conns.RefuseSockets()
		s.service.CloseAll()
		s.conns.ShortenClosings()
		s.waitForApplication() // while the server still serves REST requests, because an event handler may make some
		s.tunnels.Close()

		s.conns.CloseUnused()
		ctx, cancel := context.WithTimeout(context.Background(), wire.CloseTimeout)
		defer cancel()
		_ = s.http.Shutdown(ctx) // http.Close cuts the rest
		s.http.Close()
		life.Stop()
		life.Wait()
		s.events.CloseIdleConnections()
		s.httpClient.CloseIdleConnections()
		s.service.Log.Info("emulator closed", "endpoint", s.Endpoint())
	})
	return nil
}

// waitForApplication waits until all events have ended, for at most wire.CloseTimeout.
func (s *Server) waitForApplication() {
	ctx, cancel := context.WithTimeout(context.Background(), wire.CloseTimeout)
	defer cancel()
	_ = s.board.Wait(ctx, nil, 0, "", func() int { return count(s.service.Life.Telling()) })
}
