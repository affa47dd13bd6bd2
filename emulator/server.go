package emulator

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"
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

	// AcceptBearer, if set, is asked about bearer tokens of REST requests that the access key has not signed, and
	// says whether to accept them: for testing clients that authenticate with Microsoft Entra ID. The default is to
	// accept none.
	AcceptBearer func(token string) bool

	// TLSConfig, if set, makes the server speak TLS, and its endpoint begin with https. It needs a certificate.
	// Only HTTP/1.1 is spoken.
	TLSConfig *tls.Config

	// Logger receives the server's log: what it refuses at Info, every request and connection at Debug, never a key
	// or a token. The default is to log nothing, and under StartT to log Info to the test.
	Logger *slog.Logger
}

// Server is a running emulator. Its methods may be called by several goroutines at once.
type Server struct {
	endpoint string // http://127.0.0.1:PORT
	host     string // the host and port of endpoint
	scheme   string
	key      string

	secondaryKey string
	hashes       sync.Pool // of hash.Hash: HMACs by the key

	log          *slog.Logger
	acceptBearer func(token string) bool
	clock        clock
	traffic      traffic
	requests     requestLog
	notifier     notifier
	routes       []route

	restTokens, clientTokens *jwt.Validator

	upstream   *httpUpstream
	telling    atomic.Int64 // connections of which the upstream is being told something
	requestIDs atomic.Uint64

	http   *http.Server
	quit   chan struct{}   // closed when the server begins to close
	ctx    context.Context // ends when it has said goodbye to its clients, and the application has heard of it
	cancel context.CancelFunc
	closed sync.Once
	wg     sync.WaitGroup // every goroutine of the server's own

	mu      sync.Mutex            // guards everything below
	closing bool                  // no new clients
	shut    bool                  // no new requests
	stopped bool                  // no new goroutines
	hubs    map[string]*hub       // by lower-case name
	sockets map[*netConn]struct{} // the open WebSocket connections
	unused  map[net.Conn]struct{} // connections without a request yet
	faults  []*fault              // what is to go wrong next
}

// Start starts a server. The caller closes it.
func Start(opts *Options) (*Server, error) {
	if opts == nil {
		opts = &Options{}
	}
	s := &Server{
		scheme:       "http",
		key:          opts.AccessKey,
		log:          opts.Logger,
		acceptBearer: opts.AcceptBearer,
		hubs:         make(map[string]*hub),
		sockets:      make(map[*netConn]struct{}),
		unused:       make(map[net.Conn]struct{}),
		quit:         make(chan struct{}),
	}
	s.traffic.clock = &s.clock
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.key == "" {
		s.key = rand.Text() + rand.Text()
	}
	s.hashes.New = func() any { return hmac.New(sha256.New, []byte(s.key)) }
	s.secondaryKey = cmp.Or(opts.SecondaryAccessKey, rand.Text()+rand.Text())
	for name, key := range map[string]string{"AccessKey": s.key, "SecondaryAccessKey": s.secondaryKey} {
		if strings.ContainsFunc(key, func(r rune) bool { return r == ';' || unicode.IsControl(r) }) || strings.TrimSpace(key) != key {
			return nil, fmt.Errorf("emulator: Options.%s has a semicolon, a control character or white space at its ends", name)
		}
	}
	if c := opts.TLSConfig; c != nil && len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil {
		return nil, errors.New("emulator: Options.TLSConfig has no certificate")
	}
	s.upstream = newHTTPUpstream(s)
	names := make(map[string]bool)
	for hub, settings := range opts.Hubs {
		if key := strings.ToLower(hub); names[key] {
			return nil, fmt.Errorf("emulator: Options.Hubs has the hub %q twice, in different case", key)
		} else {
			names[key] = true
		}
		if err := s.SetHubSettings(hub, settings); err != nil {
			return nil, err
		}
	}
	s.routes = restRoutes()
	s.restTokens, s.clientTokens = s.newValidator(clockSkew), s.newValidator(0)

	addr := opts.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("emulator: Options.Addr: %w", err)
	}
	if opts.TLSConfig != nil {
		config := opts.TLSConfig.Clone()
		config.NextProtos = []string{"http/1.1"}
		ln = tls.NewListener(ln, config)
		s.scheme = "https"
	}
	s.host = reachableHost(ln.Addr())
	s.endpoint = s.scheme + "://" + s.host
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnState:         s.connState,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, netConnKey{}, c)
		},
	}
	s.wg.Go(func() { s.http.Serve(listener{ln}) }) // returns when the server closes, with nothing to say
	s.log.Info("emulator started", "endpoint", s.endpoint)
	return s, nil
}

// netConnKey is the context key of a request's netConn.
type netConnKey struct{}

// connState keeps net/http's goroutines in the count of those that Close waits for, and the connections on which nothing
// was asked yet, which net/http would wait for: HTTP clients keep some in reserve.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.wg.Add(1)
		if s.shut {
			c.Close()
			return
		}
		s.unused[c] = struct{}{}
	default:
		delete(s.unused, c)
		if state == http.StateClosed || state == http.StateHijacked {
			s.wg.Done()
		}
	}
}

// reachableHost is the host and port under which a client on this machine reaches a listener.
func reachableHost(addr net.Addr) string {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// String names the server; it holds no secret.
func (s *Server) String() string { return "emulator.Server(" + s.endpoint + ")" }

// GoString is String, so that %#v does not print the keys.
func (s *Server) GoString() string { return s.String() }

// Endpoint returns the server's base URL, such as "http://127.0.0.1:41234", without a trailing slash.
func (s *Server) Endpoint() string { return s.endpoint }

// AccessKey returns the key that signs the tokens the server accepts.
func (s *Server) AccessKey() string { return s.key }

// ConnectionString returns what a service client connects with: "Endpoint=...;AccessKey=...;Version=1.0;".
func (s *Server) ConnectionString() string {
	return "Endpoint=" + s.endpoint + ";AccessKey=" + s.key + ";Version=1.0;"
}

// SecondaryConnectionString is ConnectionString with the resource's second key.
func (s *Server) SecondaryConnectionString() string {
	return "Endpoint=" + s.endpoint + ";AccessKey=" + s.secondaryKey + ";Version=1.0;"
}

// closeReason is what clients are told when the server closes.
const closeReason = "the server is shutting down"

const (
	// closeTimeout is how long Close lets the application, and then requests and writes that are under way, finish.
	closeTimeout = time.Second
	// closeHandshakeTimeout is how long Close waits for a client to answer the close frame.
	closeHandshakeTimeout = 50 * time.Millisecond
	// handshakeTimeout is how long a client may take otherwise.
	handshakeTimeout = 5 * time.Second
)

// Close stops the server: clients get a disconnected message and a close frame, event handlers hear of it, requests that
// are under way are answered, and nothing of the server is left running when it returns. It takes about a second when
// somebody does not read what they are sent, and another when an event handler takes its time. An event that fails is
// not sent again. Closing again does nothing. The error is always nil.
func (s *Server) Close() error {
	s.closed.Do(func() {
		s.mu.Lock()
		s.closing = true
		hubs := slices.Collect(maps.Values(s.hubs))
		s.mu.Unlock()
		close(s.quit)
		for _, h := range hubs {
			h.close(&target{}, closeReason)
		}
		s.mu.Lock()
		for nc := range s.sockets {
			nc.SetWriteDeadline(time.Now().Add(closeTimeout))
			nc.hurry(closeHandshakeTimeout)
		}
		s.mu.Unlock()
		s.drain() // while requests are still served, which an event handler may want to make

		s.mu.Lock()
		s.shut = true
		for c := range s.unused {
			c.Close()
		}
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		s.http.Shutdown(ctx)
		s.http.Close()
		s.mu.Lock()
		s.stopped = true
		s.mu.Unlock()
		s.cancel()
		s.wg.Wait()
		s.upstream.client.CloseIdleConnections()
		s.log.Info("emulator closed", "endpoint", s.endpoint)
	})
	return nil
}

// drain waits until the application has heard of everything, for a while.
func (s *Server) drain() {
	s.notifier.waiting.Add(1)
	defer s.notifier.waiting.Add(-1)
	patience := time.After(closeTimeout)
	for {
		changed := s.notifier.changes() // before looking, so that no change is missed
		if s.telling.Load() == 0 {
			return
		}
		select {
		case <-changed:
		case <-patience:
			return
		}
	}
}

// spawn runs f in a goroutine that Close waits for. It reports false, and does nothing, when the server is closed.
// Goroutines that are counted already may use s.wg directly.
func (s *Server) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.wg.Go(f)
	return true
}

// leaveBehind takes a client that does not keep up out of its hub. It says so in the log, as the client may be cut off
// before it has read why. The caller may hold any lock but Server.mu.
func (s *Server) leaveBehind(c *connection, reason string) {
	s.spawn(func() {
		s.log.Info("closing a client", "hub", c.hub.name, "connection", c.id, "reason", reason)
		c.left(reason)
	})
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// track counts the goroutine that reads a socket, unless the server is closing.
func (s *Server) track(nc *netConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.sockets[nc] = struct{}{}
	s.wg.Add(1)
	return true
}

func (s *Server) untrack(nc *netConn) {
	s.mu.Lock()
	delete(s.sockets, nc)
	s.mu.Unlock()
	s.notifier.notify()
	s.wg.Done()
}

// hub returns the hub of a name; if there is none, an empty one that nobody else sees.
func (s *Server) hub(name string) *hub {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.hubs[strings.ToLower(name)]; h != nil {
		return h
	}
	return newHub(name, &s.notifier, &s.traffic)
}

// openHub returns the hub of a name and makes it if need be.
func (s *Server) openHub(name string) *hub {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(name)
	h := s.hubs[key]
	if h == nil {
		h = newHub(name, &s.notifier, &s.traffic)
		s.hubs[key] = h
	}
	return h
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if file, ok := liveViewPaths[r.URL.Path]; ok { // for its own page only, whatever others may call
		s.serveLiveView(w, r, file)
		return
	}
	if origin := r.Header.Get("Origin"); loopbackOrigin(origin) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Add("Vary", "Origin")
		h.Set("Access-Control-Expose-Headers", "*, x-ms-error-code, x-ms-request-id, Retry-After")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE")
			h.Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	switch path := r.URL.Path; {
	case path == "/client" || strings.HasPrefix(path, "/client/"):
		s.serveClient(w, r)
	case strings.HasPrefix(path, clientPaths["mqtt"]):
		s.serveMQTT(w, r)
	case strings.HasPrefix(path, "/api/"):
		s.serveREST(w, r)
	default:
		io.Copy(io.Discard, io.LimitReader(r.Body, maxMessageSize))
		writeError(w, r, &restError{http.StatusNotFound, "NotFound", "there is nothing at this path", ""})
	}
}
