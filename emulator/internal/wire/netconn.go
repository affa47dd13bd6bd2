// Package wire is what the rooms on the network share: accepted connections and their end, the server's address, who may
// ask, and how errors are answered over HTTP. It knows nothing of hubs or clients.
package wire

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"sync/atomic"
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
	progress time.Duration // how long it may take for a part of what is written; 0 = as long as it likes
	last     time.Time     // when all must be written, if that is not zero

	silent atomic.Bool // nothing passes any more
}

func newConn(c net.Conn, all *Conns) *Conn {
	return &Conn{Conn: c, conns: all, patience: HandshakeTimeout}
}

func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for c.silent.Load() && err == nil {
		n, err = c.Conn.Read(b)
	}
	return n, err
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

// writePart is how much is written at once, in bytes: a peer that reads slowly, but reads, makes progress by as much.
const writePart = 64 << 10

func (c *Conn) Write(b []byte) (n int, err error) {
	if c.silent.Load() {
		return len(b), nil
	}
	for first := true; err == nil && (first || len(b) > 0); first = false {
		part := b[:min(len(b), writePart)]
		b = b[len(part):]
		var written int
		written, err = c.Conn.Write(part)
		n += written
		c.mu.Lock()
		c.setWriteDeadline()
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		c.SetReadDeadline(time.Now().Add(c.patience))
	}
	return n, err
}

// Silence lets nothing more pass in either direction, while the connection stays open.
func (c *Conn) Silence() { c.silent.Store(true) }

// LimitWrites cuts off a peer that does not read for so long. The time begins anew with each part of what is written.
func (c *Conn) LimitWrites(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress = d
	c.setWriteDeadline()
}

// FinishWrites cuts off a peer that has not read everything by then.
func (c *Conn) FinishWrites(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now().Add(d)
	c.setWriteDeadline()
}

// setWriteDeadline sets when the next part must be written. The caller holds c.mu.
func (c *Conn) setWriteDeadline() {
	next := c.last
	if c.progress > 0 {
		if due := time.Now().Add(c.progress); next.IsZero() || due.Before(next) {
			next = due
		}
	}
	if !next.IsZero() {
		c.SetWriteDeadline(next)
	}
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
		_, _ = io.Copy(io.Discard, c.Conn) // the connection is closed next, however it ended
	}
	c.Close()
}
