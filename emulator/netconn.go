package emulator

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// metadataHeader begins the request headers that carry a message's metadata.
const metadataHeader = "X-Webpubsub-Metadata-"

// cutMetadataHeader returns the key that the name of a metadata header, in any case, ends with.
func cutMetadataHeader(name string) (key string, ok bool) {
	n := len(metadataHeader)
	if len(name) <= n || !strings.EqualFold(name[:n], metadataHeader) {
		return "", false
	}
	return name[n:], true
}

// netConn is an accepted connection. It knows two things that net/http and the WebSocket library keep to themselves:
// the spelling of metadata headers (net/http canonicalises it, but the key's case is the application's), and when the
// last frame of a WebSocket has been written, so that closing waits for the peer only so long.
type netConn struct {
	net.Conn

	mu       sync.Mutex // guards everything below
	names    *headerNames
	leaving  bool          // a close frame is being written, or has been
	patience time.Duration // how long the peer may take to answer it
}

// headerNames finds metadata headers in what is read from a connection.
type headerNames struct {
	line []byte            // the unfinished last line of what was read so far, as far as it may be such a header
	seen map[string]string // lower-case key -> key as sent
}

// maxHeaderNames bounds what a connection may make us remember.
const maxHeaderNames = 256

func newNetConn(c net.Conn) *netConn {
	return &netConn{Conn: c, names: &headerNames{}, patience: handshakeTimeout}
}

func (c *netConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	if c.names != nil {
		c.names.scan(b[:n])
	}
	c.mu.Unlock()
	return n, err
}

func (c *netConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		c.SetReadDeadline(time.Now().Add(c.patience))
	}
	return n, err
}

// leave announces that a close frame is written next.
func (c *netConn) leave() {
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
}

// hurry gives the peer less time to answer the close frame.
func (c *netConn) hurry(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.patience = d
	if c.leaving {
		c.SetReadDeadline(time.Now().Add(d))
	}
}

// linger closes the connection once the peer has stopped sending, or after a second: to close with data unread would
// reset the connection, and the peer might lose the close frame that says why.
func (c *netConn) linger() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.SetReadDeadline(time.Now().Add(time.Second))
		io.Copy(io.Discard, c.Conn)
	}
	c.Close()
}

// hijacked stops looking for headers: from here on the connection carries WebSocket frames.
func (c *netConn) hijacked() {
	c.mu.Lock()
	c.names = nil
	c.mu.Unlock()
}

// metadataKey returns a metadata key as it was sent.
func (c *netConn) metadataKey(key string) string {
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
	const longest = len(metadataHeader) + maxMetadataKey + 1
	h.line = append(h.line, b[:min(len(b), max(0, longest-len(h.line)))]...)
}

func (h *headerNames) note(line []byte) {
	if len(line) <= len(metadataHeader) || !bytes.EqualFold(line[:len(metadataHeader)], []byte(metadataHeader)) {
		return
	}
	name, _, found := bytes.Cut(line, []byte(":"))
	if !found {
		return
	}
	key := string(name[len(metadataHeader):])
	if h.seen == nil || len(h.seen) >= maxHeaderNames {
		h.seen = make(map[string]string)
	}
	h.seen[strings.ToLower(key)] = key
}

// listener hands out netConns.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newNetConn(c), nil
}

// peerCertificates are those a client has shown.
func peerCertificates(r *http.Request) []*x509.Certificate {
	nc := r.Context().Value(netConnKey{}).(*netConn)
	if t, ok := nc.Conn.(*tls.Conn); ok {
		return t.ConnectionState().PeerCertificates
	}
	return nil
}
