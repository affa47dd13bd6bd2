package soak

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// network is one client's way to the service: a test cuts it, makes it silent, or slows it down.
type network struct {
	mu   sync.Mutex // guards everything below
	conn *socket    // the newest
	lost bool
}

// client returns an HTTP client that dials through the network.
func (n *network) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: n.dial, DisableKeepAlives: true}}
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: conn, closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lost {
		conn.Close()
		return nil, errors.New("the network is lost")
	}
	n.conn = s
	return s, nil
}

func (n *network) current() *socket {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conn
}

// cut breaks the connection.
func (n *network) cut() { _ = n.current().Close() }

// forbid lets no new connection be made.
func (n *network) forbid() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost = true
}

// silence makes the connection half-open: nothing passes any more, and neither end is told.
func (n *network) silence() { n.current().silent.Store(true) }

// slow lets nothing arrive for a while.
func (n *network) slow(d time.Duration) { n.current().until.Store(time.Now().Add(d).UnixNano()) }

// socket is a client's end of a connection.
type socket struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
	silent atomic.Bool
	until  atomic.Int64 // nothing arrives before
}

func (s *socket) Read(b []byte) (int, error) {
	for {
		n, err := s.Conn.Read(b)
		if wait := time.Until(time.Unix(0, s.until.Load())); wait > 0 {
			select {
			case <-time.After(wait):
			case <-s.closed:
			}
		}
		switch {
		case !s.silent.Load():
			return n, err
		case err != nil:
			<-s.closed
			return 0, err
		}
	}
}

func (s *socket) Write(b []byte) (int, error) {
	if s.silent.Load() {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

func (s *socket) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}
