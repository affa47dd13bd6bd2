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

// Options are the settings of a server. The zero value and nil are good for tests.
type Options struct {
	// Addr is the TCP address to listen on. The default is "127.0.0.1:0", a free port of the loopback interface. The
	// emulator is not built to face a network: think twice before you let it listen anywhere else.
	Addr string

	// AccessKey is the primary access key: it signs tokens and events. The default is a random key. The key must not contain
	// a semicolon (which ends it in a connection string) or a control character, or have white space at its ends.
	AccessKey string

	// SecondaryAccessKey is the secondary access key. The server accepts tokens that either key has signed, and signs events
	// with both. The default is a random key. The rules are those of AccessKey.
	SecondaryAccessKey string

	// Hubs has the settings of hubs by their names, in any case. Events of other hubs are sent to nobody. SetHubSettings
	// changes the settings later.
	Hubs map[string]HubSettings

	// AcceptBearer reports whether to accept a bearer token that no access key has signed. It is for service clients that
	// authenticate with Microsoft Entra ID. The server calls it for REST requests and for connections to the tunnel. If nil,
	// such tokens are rejected.
	//
	// As in the service, only a request with such a token can get a client access token (OperationGetClientAccessToken). With
	// an access key, a service client makes the token by itself.
	AcceptBearer func(token string) bool

	// ConnectedAfterRecovery makes the server send a reliable client another connected message when the client comes back. The
	// service's specification allows both, so a client must work with either. Microsoft's emulator sends none.
	ConnectedAfterRecovery bool

	// TLS makes the server speak TLS, with HTTP/1.1 only. Its endpoint then begins with https. The server makes its own
	// certificate, for localhost and the loopback addresses, and [Server.HTTPClient] trusts the certificate.
	TLS bool

	// TLSConfig, if set, makes the server speak TLS with the caller's certificate. The configuration must have one. It cannot
	// be set along with TLS.
	TLSConfig *tls.Config

	// Logger receives the server's log: what the server rejects at Info, every request and connection at Debug, and never a
	// key or a token. If nil, the server logs nothing; under StartT it then logs Info to the test.
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
	httpClient   *http.Client
	closed       sync.Once

	patience time.Duration // how long a wait takes whose context has no deadline; 0 = for ever
	test     TB            // fails when a fault is refused; nil = none

	handshakes atomic.Int64 // that were answered
}

// Start starts a server. The caller must close it. Start returns an error if an option is not valid or the address cannot be
// listened on.
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

// String returns the server's name with its endpoint. It contains no secret.
func (s *Server) String() string { return "emulator.Server(" + s.Endpoint() + ")" }

// GoString returns what String returns, so that %#v does not print the keys.
func (s *Server) GoString() string { return s.String() }

// Endpoint returns the server's base URL, such as "http://127.0.0.1:41234", without a trailing slash.
func (s *Server) Endpoint() string { return s.endpoint.String() }

// Close stops the server. Clients receive a disconnected message and a close frame, event handlers are notified, and requests
// under way are answered. When Close returns, nothing of the server is still running.
//
//   - Close takes about a second longer if a client does not read what it is sent, and another second if an event handler is
//     slow.
//   - Events that fail during Close are not retried.
//   - Closing again does nothing. The error is always nil.
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
		s.httpClient.CloseIdleConnections()
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
