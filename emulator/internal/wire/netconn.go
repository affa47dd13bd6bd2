// Package wire is what the rooms on the network share: accepted connections and their end, the server's address, who may
// ask, and how errors are answered over HTTP. It knows nothing of hubs or clients.
package wire

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

// Conn is an accepted connection. It knows when the last frame of a WebSocket has been written, which the WebSocket library
// keeps to itself, so that closing waits for the peer only so long.
type Conn struct {
	net.Conn
	conns *Conns

	mu       sync.Mutex    // guards everything below
	leaving  bool          // a close frame is being written, or has been
	patience time.Duration // how long the peer may take to answer it
}

func newConn(c net.Conn, all *Conns) *Conn {
	return &Conn{Conn: c, conns: all, patience: HandshakeTimeout}
}

// PeerCertificates returns the DER of the certificates that the peer has shown.
func (c *Conn) PeerCertificates() [][]byte {
	var all [][]byte
	if t, ok := c.Conn.(*tls.Conn); ok {
		for _, certificate := range t.ConnectionState().PeerCertificates {
			all = append(all, certificate.Raw)
		}
	}
	return all
}

func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		c.SetReadDeadline(time.Now().Add(c.patience))
	}
	return n, err
}

// StartClosing announces that a close frame is written next.
func (c *Conn) StartClosing() {
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
}

// LimitClosing gives the peer less time to answer the close frame.
func (c *Conn) LimitClosing(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.patience = d
	if c.leaving {
		c.SetReadDeadline(time.Now().Add(d))
	}
}

// CloseGently closes the connection once the peer has stopped sending, or after a second: to close with data unread would
// reset the connection, and the peer might lose the close frame with the reason.
func (c *Conn) CloseGently() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.SetReadDeadline(time.Now().Add(time.Second))
		io.Copy(io.Discard, c.Conn)
	}
	c.Close()
}
