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
	// CloseTimeout is how long the end of the server lets the application, and then requests and writes that are under
	// way, finish.
	CloseTimeout = time.Second
	// closeHandshakeTimeout is how long the end of the server waits for a client to answer the close frame.
	closeHandshakeTimeout = 50 * time.Millisecond
	// HandshakeTimeout is how long a client may take otherwise.
	HandshakeTimeout = 5 * time.Second
)

// Conns are the connections of the server that are open.
type Conns struct {
	life     *hub.Lifetime
	observer hub.Observer

	mu      sync.Mutex            // guards everything below
	closing bool                  // no new sockets
	shut    bool                  // no new requests
	sockets map[*Conn]struct{}    // which became WebSocket connections
	unused  map[net.Conn]struct{} // without a request yet
}

// NewConns makes a set of connections that are counted in a lifetime.
func NewConns(life *hub.Lifetime, observer hub.Observer) *Conns {
	return &Conns{life: life, observer: observer, sockets: make(map[*Conn]struct{}), unused: make(map[net.Conn]struct{})}
}

// connKey is the context key of a request's connection.
type connKey struct{}

// ConnOf returns the connection that a request came in on.
func ConnOf(r *http.Request) *Conn { return r.Context().Value(connKey{}).(*Conn) }

// Configure makes an HTTP server use these connections.
func (s *Conns) Configure(server *http.Server) {
	server.ConnState = s.connState
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
}

// Listener makes a listener hand out connections of this set.
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

// connState keeps net/http's goroutines in the count of those that the end of the server waits for, and the connections
// on which nothing was asked yet, which net/http would wait for: HTTP clients keep some in reserve.
func (s *Conns) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.life.Add()
		if s.shut {
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

// Track counts the goroutine that reads a WebSocket, until Untrack is called. It reports false when the server is closing.
func (s *Conns) Track(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.sockets[c] = struct{}{}
	s.life.Add()
	return true
}

// Untrack ends what Track began.
func (c *Conn) Untrack() {
	s := c.conns
	s.mu.Lock()
	delete(s.sockets, c)
	s.mu.Unlock()
	s.observer.Changed()
	s.life.Done()
}

// Tracked reports whether somebody reads the connection as a WebSocket.
func (c *Conn) Tracked() bool {
	c.conns.mu.Lock()
	defer c.conns.mu.Unlock()
	_, open := c.conns.sockets[c]
	return open
}

// ShortenClosing gives the peer no more time to answer the close frame than there is when the server closes.
func (c *Conn) ShortenClosing() { c.LimitClosing(closeHandshakeTimeout) }

// RefuseSockets lets no more WebSocket connections in.
func (s *Conns) RefuseSockets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
}

// ShortenClosings gives every WebSocket connection little time to answer the close frame.
func (s *Conns) ShortenClosings() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sockets {
		c.FinishWrites(CloseTimeout)
		c.LimitClosing(closeHandshakeTimeout)
	}
}

// CloseUnused closes the connections without a request, and lets no more in.
func (s *Conns) CloseUnused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	for c := range s.unused {
		c.Close()
	}
}
