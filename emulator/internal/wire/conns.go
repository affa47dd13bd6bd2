package wire

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

const (
	// CloseTimeout is the time that a closing server gives the application, and then the running requests and writes, to
	// finish.
	CloseTimeout = time.Second
	// closeHandshakeTimeout is the time that a closing server gives clients to respond to the close frame.
	closeHandshakeTimeout = 50 * time.Millisecond
	// HandshakeTimeout is the time that clients have in all other cases, for example to send an MQTT CONNECT packet or to
	// respond to a close frame.
	HandshakeTimeout = 5 * time.Second
)

// Conns tracks the open connections of the server. It is safe for concurrent use.
type Conns struct {
	life     *hub.Lifetime
	observer hub.Observer

	mu              sync.Mutex            // guards everything below
	socketsRefused  bool                  // no new WebSocket connections
	requestsRefused bool                  // no new HTTP connections
	sockets         map[*Conn]struct{}    // WebSocket connections
	unused          map[net.Conn]struct{} // HTTP connections without a request so far
}

// NewConns returns an empty set of connections. Their goroutines are counted in a lifetime.
func NewConns(life *hub.Lifetime, observer hub.Observer) *Conns {
	return &Conns{life: life, observer: observer, sockets: make(map[*Conn]struct{}), unused: make(map[net.Conn]struct{})}
}

// connKey is the context key of a request's connection.
type connKey struct{}

// ConnOf returns the connection of a request.
func ConnOf(r *http.Request) *Conn { return r.Context().Value(connKey{}).(*Conn) }

// Configure sets the hooks of an HTTP server that track its connections.
func (s *Conns) Configure(server *http.Server) {
	server.ConnState = s.connState
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
}

// Listener returns a listener that wraps the connections of l for this set.
func (s *Conns) Listener(l net.Listener) net.Listener { return listener{l, s} }

type listener struct {
	net.Listener
	conns *Conns
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(c, l.conns), nil
}

// connState counts net/http's goroutines, so that a closing server waits for them. It also keeps the set of connections
// without a request: HTTP clients hold some in reserve, and net/http's Shutdown would wait for them.
func (s *Conns) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.life.Add()
		if s.requestsRefused {
			c.Close()
			return
		}
		s.unused[c] = struct{}{}
	default:
		delete(s.unused, c)
		if state == http.StateClosed || state == http.StateHijacked {
			s.life.Done()
		}
	}
}

// Track counts the goroutine that reads a WebSocket, until Untrack is called. It returns false after RefuseSockets.
func (s *Conns) Track(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socketsRefused {
		return false
	}
	s.sockets[c] = struct{}{}
	c.socket.Store(true)
	s.life.Add()
	return true
}

// Untrack undoes Track. The goroutine that reads the WebSocket calls it at its end.
func (c *Conn) Untrack() {
	s := c.conns
	s.mu.Lock()
	delete(s.sockets, c)
	s.mu.Unlock()
	s.observer.Changed()
	s.life.Done()
}

// Cut closes the connection without a close frame. noticed reports whether the goroutine that reads the WebSocket has ended.
func (c *Conn) Cut() (noticed func() bool) {
	c.Close()
	s := c.conns
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, open := s.sockets[c]
		return !open
	}
}

// ShortenClosing limits the peer's time to respond to the close frame to that of a closing server.
func (c *Conn) ShortenClosing() { c.limitClosing(closeHandshakeTimeout) }

// RefuseSockets prevents new WebSocket connections.
func (s *Conns) RefuseSockets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.socketsRefused = true
}

// ShortenClosings limits the time of every WebSocket peer to read what is written, and to respond to the close frame.
func (s *Conns) ShortenClosings() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sockets {
		c.finishWrites(CloseTimeout)
		c.limitClosing(closeHandshakeTimeout)
	}
}

// CloseUnused closes the HTTP connections without a request, and prevents new ones.
func (s *Conns) CloseUnused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requestsRefused = true
	for c := range s.unused {
		c.Close()
	}
}
