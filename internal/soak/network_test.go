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

// network is the network of one client. A test can cut, silence or slow down its connection.
type network struct {
	mu   sync.Mutex // guards everything below
	conn *socket    // the newest connection
	lost bool       // dialing fails
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
		return nil, errors.New("the network is down")
	}
	n.conn = s
	return s, nil
}

func (n *network) current() *socket {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conn
}

// cut closes the connection without a close frame.
func (n *network) cut() { _ = n.current().Close() }

// forbid makes dialing fail from now on.
func (n *network) forbid() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost = true
}

// silence makes the connection half-open: it stays open, but passes no data in either direction.
func (n *network) silence() { n.current().silent.Store(true) }

// slow delays incoming data for a duration.
func (n *network) slow(d time.Duration) { n.current().until.Store(time.Now().Add(d).UnixNano()) }

// socket is a client's end of a connection.
type socket struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
	silent atomic.Bool
	until  atomic.Int64 // the Unix time in nanoseconds until which incoming data is delayed
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
