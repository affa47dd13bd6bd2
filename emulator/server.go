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

// Options are the settings of a server. The zero value, and nil, are good for tests.
type Options struct {
	// Addr is the TCP address to listen on. The default is "127.0.0.1:0", a free port of the loopback interface. The
	// emulator is not built to face a network: think twice before it listens anywhere else.
	Addr string

	// AccessKey signs the tokens that the server accepts. The default is a random one. It must not hold
	// a semicolon, which would end it in a connection string, a control character, or white space at its ends.
	AccessKey string

	// SecondaryAccessKey is the second key of the resource: it signs events along with AccessKey, and the server accepts
	// tokens that it has signed just as well, so that a test can rotate keys. The default is a random one. What it must not
	// hold is the same.
	SecondaryAccessKey string

	// Hubs says, by a hub's name, which applications are told of the hub's events. A hub that is not in it tells nobody,
	// until SetHubSettings says otherwise.
	Hubs map[string]HubSettings

	// AcceptBearer, if set, is asked about bearer tokens of REST requests, and of servers at the tunnel, that no access key has signed, and reports
	// whether to accept them: for testing service clients that authenticate with Microsoft Entra ID. The default is to
	// accept none. As in the service, only such tokens can ask for a client access token (GetClientAccessToken); with an
	// access key, the service client makes one by itself.
	AcceptBearer func(token string) bool

	// ConnectedAfterRecovery sends a reliable client that has come back a connected message again. The service's
	// specification leaves that open: a client must do with and without. The default is to send none, as Microsoft's
	// emulator does.
	ConnectedAfterRecovery bool

	// TLSConfig, if set, makes the server speak TLS, and its endpoint begin with https. It needs a certificate.
	// Only HTTP/1.1 is spoken.
	TLSConfig *tls.Config

	// Logger receives the server's log: what it refuses at Info, every request and connection at Debug, never a key
	// or a token. The default is to log nothing, and under StartT to log Info to the test.
	Logger *slog.Logger
}

// Server is a running emulator. Its methods may be called by several goroutines at once.
type Server struct {
	endpoint        wire.Endpoint
	keys            *accessKeys
	acceptsKeysOnly bool // no tokens but those that a key has signed

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
	closed       sync.Once

	patience time.Duration // how long a wait takes whose context has no deadline; 0 = for ever
	test     TB            // fails when a fault is refused; nil = none

	handshakes atomic.Int64 // that were answered
}

// Start starts a server. The caller closes it.
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
	s.service.Life.GoFrom(func() { _ = s.http.Serve(s.conns.Listener(listener)) }) // returns when the server closes, with nothing to say
	o.Logger.Info("emulator started", "endpoint", s.Endpoint())
	return s, nil
}

// complete sets what is not set, and checks the rest.
func (o *Options) complete() error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Addr = cmp.Or(o.Addr, "127.0.0.1:0")
	o.AccessKey = cmp.Or(o.AccessKey, rand.Text()+rand.Text())
	o.SecondaryAccessKey = cmp.Or(o.SecondaryAccessKey, rand.Text()+rand.Text())
	for name, key := range map[string]string{"AccessKey": o.AccessKey, "SecondaryAccessKey": o.SecondaryAccessKey} {
		if strings.ContainsFunc(key, func(r rune) bool { return r == ';' || unicode.IsControl(r) }) || strings.TrimSpace(key) != key {
			return fmt.Errorf("emulator: Options.%s has a semicolon, a control character or white space at its ends", name)
		}
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

// newServer puts the parts of a server together.
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
			api:    s.api,
			shook:  s.shookHands,
			client: client.Server{Handshaker: handshaker, RequestFaults: s.clientFaults, ConnectedAfterRecovery: o.ConnectedAfterRecovery},
			mqtt:   mqtt.Server{Handshaker: handshaker},
			tunnel: s.tunnels,
			view: liveview.New(liveview.Options{Service: service, Board: board, Endpoint: s.endpoint,
				Secrets: s.keys.secrets, Tunnels: s.tunnels.Count}),
		},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	s.conns.Configure(s.http)
	return s
}

// shookHands counts a client's handshake that was answered.
func (s *Server) shookHands() {
	s.handshakes.Add(1)
	s.board.Changed()
}

// String names the server; it holds no secret.
func (s *Server) String() string { return "emulator.Server(" + s.Endpoint() + ")" }

// GoString is String, so that %#v does not print the keys.
func (s *Server) GoString() string { return s.String() }

// Endpoint returns the server's base URL, such as "http://127.0.0.1:41234", without a trailing slash.
func (s *Server) Endpoint() string { return s.endpoint.String() }

// Close stops the server: clients get a disconnected message and a close frame, event handlers hear of it, requests that
// are under way are answered, and nothing of the server is left running when it returns. It takes about a second when
// somebody does not read what they are sent, and another when an event handler takes its time. An event that fails is
// not sent again. Closing again does nothing. The error is always nil.
func (s *Server) Close() error {
	s.closed.Do(func() {
		life := s.service.Life
		life.BeginClose()
		s.conns.RefuseSockets()
		s.service.CloseAll()
		s.conns.ShortenClosings()
		s.waitForApplication() // while requests are still served, which an event handler may want to make
		s.tunnels.Close()

		s.conns.CloseUnused()
		ctx, cancel := context.WithTimeout(context.Background(), wire.CloseTimeout)
		defer cancel()
		_ = s.http.Shutdown(ctx) // what does not end in time is cut
		s.http.Close()
		life.Stop()
		life.Wait()
		s.events.CloseIdleConnections()
		s.service.Log.Info("emulator closed", "endpoint", s.Endpoint())
	})
	return nil
}

// waitForApplication waits until the application has heard of everything, for a while.
func (s *Server) waitForApplication() {
	ctx, cancel := context.WithTimeout(context.Background(), wire.CloseTimeout)
	defer cancel()
	_ = s.board.Wait(ctx, nil, 0, "", func() int { return count(s.service.Life.Telling()) })
}
