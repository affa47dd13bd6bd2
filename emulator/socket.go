package emulator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// maxQueuedFrames and maxQueuedBytes bound what may wait to be written to one client. A client that is further
	// behind is closed, with a reason: it delays nobody, and nothing it should have had is lost silently.
	maxQueuedFrames = 10_000
	maxQueuedBytes  = 16 << 20

	// maxCloseReason is what fits into a close frame, in bytes.
	maxCloseReason = 123
)

// socket is the link of a WebSocket client. One goroutine reads it; another writes to it, but only while there is
// something to write, so that an idle client costs one goroutine.
type socket struct {
	connection
	server *Server
	codec  codec

	mu          sync.Mutex // guards everything below
	ws          *websocket.Conn
	nc          *netConn
	queue       []*frame // waits to be written
	queuedBytes int
	writing     bool // a goroutine writes
	closing     bool // the queue is written, then goodbye is said
	dropped     bool // it was to be cut before it had a socket
	closeCode   websocket.StatusCode
	closeReason string
	acked       idSet     // ackIds that were used
	reliable    *reliable // nil unless the protocol is
}

// deliver queues a message.
func (s *socket) deliver(m *message) { s.enqueue(m.frameFor(s.codec)) }

// enqueue queues a frame. A nil frame is what a protocol has no word for.
func (s *socket) enqueue(f *frame) {
	if f == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	full := func() bool { return len(s.queue) >= maxQueuedFrames || s.queuedBytes+len(f.data) > maxQueuedBytes }
	if full() {
		s.dropExpired()
	}
	if full() {
		s.overflow(fmt.Sprintf("the client is too slow: %d messages, %d bytes wait for it", len(s.queue), s.queuedBytes))
		return
	}
	if s.reliable != nil && f.sequenced {
		if fault := s.reliable.reserve(s, f); fault != "" {
			s.overflow(fault)
			return
		}
	}
	s.queue = append(s.queue, f)
	s.queuedBytes += len(f.data)
	s.wake()
}

// dropExpired forgets messages that wait and whose time is over. The caller holds s.mu.
func (s *socket) dropExpired() {
	now := s.server.clock.now()
	s.queue = slices.DeleteFunc(s.queue, func(f *frame) bool {
		expired := f.expiredAt(now)
		if expired {
			s.queuedBytes -= len(f.data)
			if s.reliable != nil && f.sequenced {
				s.reliable.release(f)
			}
		}
		return expired
	})
}

// overflow gives up a client that does not keep up. What waited for it is dropped; it is told why, if it still reads,
// and cut off after a while if it does not. The caller holds s.mu.
func (s *socket) overflow(reason string) {
	s.queue, s.queuedBytes = nil, 0
	s.goodbye(websocket.StatusPolicyViolation, reason)
	s.server.leaveBehind(&s.connection, reason)
}

// wake starts the writer if it does not run. The caller holds s.mu.
func (s *socket) wake() {
	if !s.writing && s.ws != nil {
		s.writing = true
		ws, nc := s.ws, s.nc
		s.server.wg.Go(func() { s.write(ws, nc) }) // the reader is counted already
	}
}

// write writes what waits, and says goodbye if that is what comes last.
func (s *socket) write(ws *websocket.Conn, nc *netConn) {
	for {
		s.mu.Lock()
		if s.ws != ws { // the client has a new socket, or none: what waits is not for this one
			s.mu.Unlock()
			return
		}
		f, data := s.next()
		if f == nil {
			s.writing = s.closing // nothing is written after goodbye
			closing, code, reason := s.closing, s.closeCode, s.closeReason
			s.mu.Unlock()
			if closing {
				s.writeGoodbye(ws, nc, code, reason)
			}
			return
		}
		s.mu.Unlock()
		if ws.Write(context.Background(), f.typ, data) != nil {
			nc.Close() // the reader notices
			return
		}
	}
}

func (s *socket) writeGoodbye(ws *websocket.Conn, nc *netConn, code websocket.StatusCode, reason string) {
	if f := s.codec.disconnected(reason); f != nil {
		ws.Write(context.Background(), f.typ, f.data)
	}
	nc.leave()
	ws.Close(code, shorten(reason, maxCloseReason)) // waits for the answer, which the reader reads
	nc.Close()
}

// next takes the next frame that is still worth writing out of the queue. The caller holds s.mu.
func (s *socket) next() (*frame, []byte) {
	if s.reliable != nil {
		if f, data := s.reliable.again(s); f != nil {
			return f, data
		}
	}
	for len(s.queue) > 0 {
		f := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		s.queuedBytes -= len(f.data)
		expired := f.expired(&s.server.clock)
		if s.reliable != nil && f.sequenced {
			if expired {
				s.reliable.release(f)
			} else {
				return f, s.reliable.first(s.codec, f)
			}
		} else if !expired {
			return f, f.data
		}
	}
	s.queue = nil
	return nil, nil
}

// close says goodbye after everything that was queued before.
func (s *socket) close(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.goodbye(websocket.StatusNormalClosure, reason)
}

// fail says goodbye to a client that did something it must not.
func (s *socket) fail(code websocket.StatusCode, reason string) {
	s.left(reason)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.goodbye(code, reason)
}

// open gives the connection its socket.
func (s *socket) open(ws *websocket.Conn, nc *netConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ws, s.nc = ws, nc
	if s.dropped {
		nc.Close()
	}
	if s.closing {
		nc.SetWriteDeadline(time.Now().Add(handshakeTimeout))
	}
	if s.closing || len(s.queue) > 0 {
		s.wake()
	}
}

// goodbye closes the socket once everything before is written. The caller holds s.mu.
func (s *socket) goodbye(code websocket.StatusCode, reason string) {
	if s.closing {
		return
	}
	s.closing, s.closeCode, s.closeReason = true, code, strings.ToValidUTF8(reason, "\uFFFD")
	if s.reliable != nil {
		s.reliable.giveUp()
	}
	if s.ws != nil {
		s.nc.SetWriteDeadline(time.Now().Add(handshakeTimeout)) // a client that reads nothing is cut off
		s.wake()
	}
}

// drop cuts the connection, now or as soon as its handshake is through.
func (s *socket) drop() *netConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nc != nil {
		s.nc.Close()
	} else if s.reliable == nil || s.reliable.deadline == nil {
		s.dropped = true
	}
	return s.nc
}

// read reads the client until its connection ends.
func (s *socket) read(ws *websocket.Conn, nc *netConn) {
	defer s.server.untrack(nc)
	if s.reliable != nil {
		defer s.reliable.reading.Unlock()
	}
	ws.SetReadLimit(maxMessageSize)
	for {
		typ, data, err := ws.Read(context.Background())
		if err != nil {
			if !s.isClosing() {
				s.lost(err)
				nc.linger()
			}
			nc.Close()
			ws.CloseNow()
			return
		}
		r, err := s.codec.decode(typ, data)
		var bad *frameError
		if errors.As(err, &bad) {
			s.server.log.Info("closing a client for a bad frame", "connection", s.id, "reason", bad.reason)
			s.fail(bad.code, bad.reason)
			continue // until the client has answered the close frame
		}
		if !s.isClosing() {
			s.handle(&r)
		}
	}
}

func (s *socket) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// lost ends a connection whose socket is gone.
func (s *socket) lost(err error) {
	reason := lostReason(err)
	s.server.log.Debug("client gone", "hub", s.hub.name, "connection", s.id, "reason", reason)
	if websocket.CloseStatus(err) < 0 && s.reliable != nil && !errors.Is(err, websocket.ErrMessageTooBig) && s.detach() {
		s.show("connection", "cut off: it may come back", "")
		return
	}
	s.left(reason)
}

// lostReason is why a socket could not be read any more.
func lostReason(err error) string {
	if ce, ok := errors.AsType[websocket.CloseError](err); ok {
		return strings.TrimSpace(fmt.Sprintf("the client closed the connection: %d %s", ce.Code, ce.Reason))
	}
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return fmt.Sprintf("the client sent a message of more than %d bytes", maxMessageSize)
	}
	return "the connection was lost"
}

// handle does what a client asks for.
func (s *socket) handle(r *clientRequest) {
	if s.server.log.Enabled(context.Background(), slog.LevelDebug) {
		s.server.log.Debug("client request", "hub", s.hub.name, "connection", s.id, "type", r.kind.String(),
			"group", r.group, "event", r.event)
	}
	switch r.kind {
	case requestPing:
		s.enqueue(s.codec.pong())
		return
	case requestSequenceAck:
		s.acknowledge(r.sequenceID)
		return
	}
	if r.ackID != nil && !s.use(*r.ackID) {
		s.answer(r, &ackError{ackDuplicate, fmt.Sprintf("the ackId %d was used before", *r.ackID)})
		return
	}
	if fault := r.check(); fault != "" {
		s.answer(r, &ackError{ackBadRequest, fault})
		return
	}
	if r.kind == requestEvent {
		s.event(r)
		return
	}
	need := permissionJoinLeaveGroup
	if r.kind == requestSend {
		need = permissionSendToGroup
	}
	if !s.allows(need, r.group) {
		s.answer(r, &ackError{ackForbidden, fmt.Sprintf("the client does not have the permission %s for the group %.64q",
			permissionNames[need], r.group)})
		return
	}
	switch r.kind {
	case requestJoin:
		s.joinGroup(r.group)
		s.show("group", "joined ", r.group)
	case requestLeave:
		s.leaveGroup(r.group)
		s.show("group", "left ", r.group)
	case requestSend:
		s.publish(r)
	}
	s.answer(r, nil)
}

// check returns what is wrong with a request, or "".
func (r *clientRequest) check() string {
	if r.invalid != "" {
		return r.invalid
	}
	if r.kind == requestEvent {
		if !eventPattern.MatchString(r.event) {
			return fmt.Sprintf("the event name %.64q does not match %s", r.event, eventPattern)
		}
	} else if fault := checkGroup(r.group); fault != "" {
		return fault
	}
	if r.ttlSeconds > maxTTLSeconds {
		return fmt.Sprintf("ttlSeconds is more than %d", maxTTLSeconds)
	}
	return checkMetadata(r.payload.metadata)
}

// publish sends a client's message to a group.
func (s *socket) publish(r *clientRequest) {
	m := &message{payload: r.payload, group: r.group}
	if r.ttlSeconds > 0 {
		m.expires = s.server.clock.now().Add(time.Duration(r.ttlSeconds) * time.Second)
	}
	s.connection.publish(m, r.noEcho)
}

// event hands a client's event to the application.
func (s *socket) event(r *clientRequest) {
	s.connection.event(&userEvent{name: r.event, payload: r.payload}, func(reply *payload, err error) {
		if err != nil {
			s.server.log.Info("event failed", "hub", s.hub.name, "connection", s.id, "event", r.event, "error", err)
			if s.codec.kind() == codecRaw {
				s.fail(websocket.StatusInternalError, "the event failed: "+err.Error())
				return
			}
			s.answer(r, &ackError{ackInternal, err.Error()})
			return
		}
		if reply != nil {
			s.deliver(&message{payload: *reply})
		}
		s.answer(r, nil)
	})
}

// answer acknowledges a request, if the client asked for that.
func (s *socket) answer(r *clientRequest, err *ackError) {
	if err != nil {
		s.show(trafficKinds[r.kind], r.kind.String()+" failed: ", err.Error())
	}
	if r.ackID != nil {
		s.enqueue(s.codec.ack(*r.ackID, err))
	} else if err != nil {
		s.server.log.Debug("client request failed", "connection", s.id, "type", r.kind.String(), "error", err)
	}
}

// use reports whether an ackId is used for the first time.
func (s *socket) use(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked.add(id)
}

// idSet is a set of numbers that mostly come one after the other: it remembers those as one range.
type idSet struct {
	low, high uint64 // every number from low up to, not including, high
	others    map[uint64]struct{}
}

// add adds a number and reports whether it was new.
func (s *idSet) add(id uint64) bool {
	if s.low <= id && id < s.high {
		return false
	}
	if _, ok := s.others[id]; ok {
		return false
	}
	if s.low == s.high {
		s.low, s.high = id, id
	}
	if id != s.high || id+1 == 0 {
		if s.others == nil {
			s.others = make(map[uint64]struct{})
		}
		s.others[id] = struct{}{}
		return true
	}
	for ok := true; ok && s.high+1 != 0; _, ok = s.others[s.high] { // the largest number of all stays among the others
		delete(s.others, s.high)
		s.high++
	}
	return true
}
