// Package wire is what the rooms on the network share: accepted connections and their end, the server's address, who may
// ask, and how errors are answered over HTTP. It knows nothing of hubs or clients.
package wire

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// Conn is an accepted connection. It knows two things that net/http and the WebSocket library keep to themselves:
// the spelling of metadata headers (net/http canonicalises it, but the key's case is the application's), and when the
// last frame of a WebSocket has been written, so that closing waits for the peer only so long.
type Conn struct {
	net.Conn
	conns *Conns

	mu       sync.Mutex // guards everything below
	names    *headerNames
	leaving  bool          // a close frame is being written, or has been
	patience time.Duration // how long the peer may take to answer it
	progress time.Duration // how long it may take for a part of what is written; 0 = as long as it likes
	last     time.Time     // when all must be written, if that is not zero

	silent atomic.Bool // nothing passes any more
}

// headerNames finds metadata headers in what is read from a connection.
type headerNames struct {
	line []byte            // the unfinished last line of what was read so far, as far as it may be such a header
	seen map[string]string // lower-case key -> key as sent
}

// maxHeaderNames bounds what a connection may make us remember.
const maxHeaderNames = 256

func newConn(c net.Conn, all *Conns) *Conn {
	return &Conn{Conn: c, conns: all, names: &headerNames{}, patience: HandshakeTimeout}
}

func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for c.silent.Load() && err == nil {
		n, err = c.Conn.Read(b)
	}
	c.mu.Lock()
	if c.names != nil {
		c.names.scan(b[:n])
	}
	c.mu.Unlock()
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
		io.Copy(io.Discard, c.Conn)
	}
	c.Close()
}

// Hijacked stops looking for headers: from here on the connection carries WebSocket frames.
func (c *Conn) Hijacked() {
	c.mu.Lock()
	c.names = nil
	c.mu.Unlock()
}

// MetadataKey returns a metadata key as it was sent.
func (c *Conn) MetadataKey(key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names != nil {
		if sent, ok := c.names.seen[strings.ToLower(key)]; ok {
			return sent
		}
	}
	return key
}

func (h *headerNames) scan(b []byte) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			h.keep(b)
			return
		}
		if len(h.line) > 0 {
			h.keep(b[:i])
			h.note(h.line)
			h.line = h.line[:0]
		} else {
			h.note(b[:i])
		}
		b = b[i+1:]
	}
}

// keep appends to the unfinished line what a header's name can take.
func (h *headerNames) keep(b []byte) {
	const longest = len(protocol.MetadataHeader) + protocol.MaxMetadataKey + 1
	h.line = append(h.line, b[:min(len(b), max(0, longest-len(h.line)))]...)
}

func (h *headerNames) note(line []byte) {
	if len(line) <= len(protocol.MetadataHeader) || !bytes.EqualFold(line[:len(protocol.MetadataHeader)], []byte(protocol.MetadataHeader)) {
		return
	}
	name, _, found := bytes.Cut(line, []byte(":"))
	if !found {
		return
	}
	key := string(name[len(protocol.MetadataHeader):])
	if h.seen == nil || len(h.seen) >= maxHeaderNames {
		h.seen = make(map[string]string)
	}
	h.seen[strings.ToLower(key)] = key
}
