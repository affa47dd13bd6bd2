// Package wire has the parts that all network-facing packages of the emulator share: accepted connections and how they end,
// the server's address, the check of origins, and HTTP error responses. It knows nothing of hubs or clients.
package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is an accepted connection. It limits the time that a WebSocket peer has to respond to a close frame, from when the
// frame has been written. The WebSocket library does not report that time.
type Conn struct {
	net.Conn
	conns *Conns

	mu           sync.Mutex    // guards everything below, except the atomic fields
	readDeadline time.Time     // zero = none
	void         net.Conn      // replaces a silent connection that the peer has closed: nothing ever arrives; nil = not silent
	closing      bool          // the close frame has been or is being written
	closeTimeout time.Duration // time for the peer to respond to the close frame
	partTimeout  time.Duration // time for the peer to read one part of a write; 0 = no limit
	lastWrite    time.Time     // time when all writes must be complete; zero = no limit

	silent atomic.Bool // no data passes in either direction
	socket atomic.Bool // it is a WebSocket connection
}

func newConn(c net.Conn, all *Conns) *Conn {
	return &Conn{Conn: c, conns: all, closeTimeout: HandshakeTimeout}
}

// Read reads from the connection. At the end of a WebSocket connection it returns io.ErrUnexpectedEOF, because the WebSocket
// library takes io.EOF within a frame for the end of the message, and would return the beginning as a whole message.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for c.silent.Load() && err == nil {
		n, err = c.Conn.Read(b)
	}
	if !c.silent.Load() || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		if err == io.EOF && c.socket.Load() { //nolint:errorlint // a Reader returns io.EOF itself
			err = io.ErrUnexpectedEOF
		}
		return n, err
	}
	c.mu.Lock() // the peer has closed the connection, which a silent connection does not notice either
	void := c.void
	c.mu.Unlock()
	return void.Read(b)
}

func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.setReadDeadline(t)
}

// setReadDeadline is SetReadDeadline for a caller that holds c.mu.
func (c *Conn) setReadDeadline(t time.Time) error {
	c.readDeadline = t
	if c.void != nil {
		c.void.SetReadDeadline(t)
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *Conn) Close() error {
	err := c.Conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.void != nil {
		c.void.Close()
	}
	return err
}

// PeerCertificates returns the peer's TLS certificates in DER, or nil if there are none.
func (c *Conn) PeerCertificates() [][]byte {
	var all [][]byte
	if t, ok := c.Conn.(*tls.Conn); ok {
		for _, certificate := range t.ConnectionState().PeerCertificates {
			all = append(all, certificate.Raw)
		}
	}
	return all
}

// writePart is the size of the parts that a write is split into, in bytes. The write deadline is renewed before each part, so
// that neither a slow peer that makes progress nor a peer to which nothing was written for a while is cut off.
const writePart = 64 << 10

func (c *Conn) Write(b []byte) (n int, err error) {
	silent := c.silent.Load()
	if silent {
		n, b = len(b), nil
	}
	for first := !silent; err == nil && (first || len(b) > 0); first = false {
		part := b[:min(len(b), writePart)]
		b = b[len(part):]
		c.mu.Lock()
		c.setWriteDeadline()
		c.mu.Unlock()
		var written int
		written, err = c.Conn.Write(part)
		n += written
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		_ = c.setReadDeadline(time.Now().Add(c.closeTimeout))
	}
	return n, err
}

// Silence discards all data in both directions from now on. The connection stays open, even if the peer closes it.
func (c *Conn) Silence() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.void == nil {
		c.void, _ = net.Pipe()
		c.void.SetReadDeadline(c.readDeadline)
	}
	c.silent.Store(true)
}

// LimitWrites cuts off a peer that reads nothing for d. The time starts again before each part of a write, so time without a
// write does not count.
func (c *Conn) LimitWrites(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partTimeout = d
	c.setWriteDeadline()
}

// finishWrites cuts off a peer that has not read everything within d.
func (c *Conn) finishWrites(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastWrite = time.Now().Add(d)
	c.setWriteDeadline()
}

// setWriteDeadline sets the deadline for the next part. The caller holds c.mu.
func (c *Conn) setWriteDeadline() {
	next := c.lastWrite
	if c.partTimeout > 0 {
		if due := time.Now().Add(c.partTimeout); next.IsZero() || due.Before(next) {
			next = due
		}
	}
	if !next.IsZero() {
		c.SetWriteDeadline(next)
	}
}

// StartClosing announces that the close frame is written next.
func (c *Conn) StartClosing() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
}

// limitClosing changes the peer's time to respond to the close frame.
func (c *Conn) limitClosing(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeTimeout = d
	if c.closing {
		_ = c.setReadDeadline(time.Now().Add(d))
	}
}

// CloseGently closes the connection once the peer has stopped sending, or after a second. To close it while data is unread
// would reset it, and the peer might lose the close frame with the reason.
func (c *Conn) CloseGently() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, c.Conn) // the connection is closed next, so errors do not matter
	}
	c.Close()
}
