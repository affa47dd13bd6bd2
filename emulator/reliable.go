package emulator

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// recoveryWindow is how long a reliable client that was cut off may take to come back.
	recoveryWindow = 30 * time.Second
	// maxUnacknowledged and maxUnacknowledgedBytes bound what a reliable client may leave unacknowledged.
	maxUnacknowledged      = 1000
	maxUnacknowledgedBytes = 16 << 20
)

// reliable is what a socket of a reliable protocol remembers, so that its client can come back after it was cut off
// and miss nothing. It is guarded by socket.mu.
type reliable struct {
	token    string     // the client proves with it that it is the one that was cut off
	sent     []sequence // written, not acknowledged, in order
	last     uint64     // the last sequence id given
	count    int        // messages in sent and in the queue
	bytes    int        // their bytes
	hello    *frame     // what a client that has come back is told first
	resend   int        // where in sent to go on writing again; len(sent) = nowhere
	deadline *timer     // ends the wait for a client that was cut off; nil while there is a socket

	attaching sync.Mutex // held while a socket takes over from another
	reading   sync.Mutex // held as long as a socket is read
}

// sequence is a message that was written under a sequence id.
type sequence struct {
	id    uint64
	frame *frame
}

func newReliable() *reliable { return &reliable{token: rand.Text()} }

// reserve makes room for a message, or says why the client must go. The caller holds s.mu.
func (r *reliable) reserve(s *socket, f *frame) string {
	full := func() bool { return r.count >= maxUnacknowledged || r.bytes+len(f.data) > maxUnacknowledgedBytes }
	if full() {
		r.dropExpired(s)
	}
	if full() {
		return fmt.Sprintf("the client left %d messages, %d bytes unacknowledged", r.count, r.bytes)
	}
	r.count++
	r.bytes += len(f.data)
	return ""
}

// release forgets a message. The caller holds s.mu.
func (r *reliable) release(f *frame) {
	r.count--
	r.bytes -= len(f.data)
}

// dropExpired forgets messages whose time is over. The caller holds s.mu.
func (r *reliable) dropExpired(s *socket) {
	resend := r.resend
	kept := r.sent[:0]
	for i, q := range r.sent {
		if q.frame.expired(&s.server.clock) {
			r.release(q.frame)
			if i < r.resend {
				resend--
			}
		} else {
			kept = append(kept, q)
		}
	}
	clear(r.sent[len(kept):])
	r.sent, r.resend = kept, resend
	s.dropExpired()
}

// first gives a message its sequence id. The caller holds s.mu.
func (r *reliable) first(c codec, f *frame) []byte {
	r.last++
	r.sent = append(r.sent, sequence{r.last, f})
	r.resend = len(r.sent)
	return c.sequenced(f.data, r.last)
}

// again returns what a client that has come back must be told before anything new. The caller holds s.mu.
func (r *reliable) again(s *socket) (*frame, []byte) {
	if f := r.hello; f != nil {
		r.hello = nil
		return f, f.data
	}
	for r.resend < len(r.sent) {
		q := r.sent[r.resend]
		if q.frame.expired(&s.server.clock) {
			r.sent = slices.Delete(r.sent, r.resend, r.resend+1)
			r.release(q.frame)
			continue
		}
		r.resend++
		return q.frame, s.codec.sequenced(q.frame.data, q.id)
	}
	return nil, nil
}

// giveUp forgets everything: the client is closed for good. The caller holds s.mu.
func (r *reliable) giveUp() {
	if r.deadline != nil {
		r.deadline.stop()
	}
	r.sent, r.resend = nil, 0
}

// acknowledge forgets the messages up to a sequence id.
func (s *socket) acknowledge(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.reliable
	if r == nil {
		return
	}
	n := 0
	for n < len(r.sent) && r.sent[n].id <= id {
		r.release(r.sent[n].frame)
		n++
	}
	r.sent = slices.Delete(r.sent, 0, n)
	r.resend = max(0, r.resend-n)
}

// detach keeps a connection whose socket is gone, for as long as its client may come back. It reports false when the
// connection is closed already.
func (s *socket) detach() bool {
	defer s.hub.notifier.notify()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.ws, s.nc, s.writing = nil, nil, false
	s.queue = slices.DeleteFunc(s.queue, func(f *frame) bool { return !f.sequenced }) // acks are not kept
	s.queuedBytes = 0
	for _, f := range s.queue {
		s.queuedBytes += len(f.data)
	}
	s.reliable.deadline = s.server.clock.afterFunc(recoveryWindow, func() {
		s.server.log.Debug("client did not come back", "hub", s.hub.name, "connection", s.id)
		s.end("the client did not come back in time")
	})
	return true
}

// attach gives a socket to a client that has come back, or says why it cannot have one.
func (s *socket) attach(ws *websocket.Conn, nc *netConn, subprotocol, token string) string {
	if s.subprotocol != subprotocol {
		return "the subprotocol is not the connection's"
	}
	if subtle.ConstantTimeCompare([]byte(s.reliable.token), []byte(token)) == 0 {
		return "the reconnection token is wrong"
	}
	defer s.hub.notifier.notify()
	s.reliable.attaching.Lock()
	defer s.reliable.attaching.Unlock()
	s.drop()                  // the server may not have noticed yet that the old socket is dead
	s.reliable.reading.Lock() // from here on nobody reads it
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.reliable.deadline == nil || !s.reliable.deadline.stop() {
		s.reliable.reading.Unlock()
		return "the connection is closed"
	}
	r := s.reliable
	r.deadline = nil
	r.hello, r.resend = s.codec.connected(&s.connection, r.token), 0
	s.ws, s.nc = ws, nc
	s.wake()
	return ""
}

// recoverClient answers a reliable client that comes back with the id and the token of its connection. If there is
// nothing to come back to, the handshake succeeds and the socket is closed with 1008: that is how a client learns that
// trying again is of no use.
func (s *Server) recoverClient(w http.ResponseWriter, r *http.Request, hubName string) *restError {
	var chosen string
	for _, p := range offeredSubprotocols(r) {
		if subprotocols[p].reliable {
			chosen = p
			break
		}
	}
	ws, nc := s.upgrade(w, r, chosen)
	if ws == nil {
		return nil
	}
	query := r.URL.Query()
	id, token := query.Get("awps_connection_id"), query.Get("awps_reconnection_token")
	h := s.hub(hubName)
	h.mu.RLock()
	c := h.connections[id]
	h.mu.RUnlock()
	fault := "there is no such connection"
	if c != nil {
		if sock, ok := c.link.(*socket); ok && sock.reliable != nil {
			if fault = sock.attach(ws, nc, chosen, token); fault == "" {
				s.log.Debug("client came back", "hub", hubName, "connection", id)
				c.show("connection", "came back", "")
				go sock.read(ws, nc)
				return nil
			}
		}
	}
	s.log.Info("client could not come back", "hub", hubName, "connection", id, "reason", fault)
	go func() {
		defer s.untrack(nc)
		nc.leave()
		ws.Close(websocket.StatusPolicyViolation, fault)
		nc.Close()
	}()
	return nil
}
