package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// request is what a client asks for, and what goes wrong with it on purpose.
type request struct {
	*protocol.Request
	fault Fault
}

// requestQueue is the requests of one client that wait because an event of the client is with the application: they are
// carried out one after another, in the order of their coming. Pings and acknowledgements of messages never wait. It is guarded
// by socket.mu.
type requestQueue struct {
	busy    bool // a request is being carried out
	waiting []*request
	bytes   int
	room    sync.Cond // the queue has become shorter
	goodbye func()    // what comes when nothing waits any more; nil = nothing
}

const (
	// maxRequests and maxRequestBytes bound what may wait. A client that sends more is read no further for a while.
	maxRequests     = 10_000
	maxRequestBytes = 16 << 20
)

func (q *requestQueue) full() bool { return len(q.waiting) >= maxRequests || q.bytes > maxRequestBytes }

// drop forgets the requests that wait.
func (q *requestQueue) drop() {
	q.waiting, q.bytes = nil, 0
	q.room.Broadcast()
}

// receivedRequest carries out a request, at once or when those before it have been.
func (s *socket) receivedRequest(asked *protocol.Request) {
	r := &request{Request: asked}
	if s.isClosing() {
		return
	}
	if log := s.Hub.Service.Log; log.Enabled(context.Background(), slog.LevelDebug) {
		log.Debug("client request", "hub", s.Hub.Name, "connection", s.ID, "type", r.Kind.String(), "group", r.Group,
			"event", r.Event)
	}
	switch r.Kind {
	case protocol.RequestPing:
		s.enqueue(s.codec.Pong())
		return
	case protocol.RequestSequenceAck:
		s.acknowledge(r.SequenceID)
		return
	case protocol.RequestCancelInvocation:
		s.cancelInvocation(r.InvocationID)
		return
	}
	s.mu.Lock()
	q := &s.requests
	if q.room.L == nil {
		q.room.L = &s.mu
	}
	for q.busy && q.full() && !s.outbox.Closing() {
		s.outbox.Unheard = true
		q.room.Wait()
	}
	s.outbox.Unheard = false
	if q.busy {
		if !s.outbox.Closing() {
			q.waiting = append(q.waiting, r)
			q.bytes += len(r.Payload.Data)
		}
		s.mu.Unlock()
		return
	}
	q.busy = true
	s.mu.Unlock()
	if s.handle(r) {
		s.handleWaiting()
	}
}

// handleWaiting carries out what waits, until one request has to wait for the application.
func (s *socket) handleWaiting() {
	for {
		s.mu.Lock()
		q := &s.requests
		if len(q.waiting) == 0 {
			q.busy, q.waiting = false, nil
			goodbye := q.goodbye
			q.goodbye = nil
			s.mu.Unlock()
			if goodbye != nil {
				goodbye()
			}
			return
		}
		r := q.waiting[0]
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		q.bytes -= len(r.Payload.Data)
		q.room.Broadcast()
		s.mu.Unlock()
		if !s.handle(r) {
			return
		}
	}
}

// afterRequests calls f when everything that the client has sent has been carried out.
func (s *socket) afterRequests(f func()) {
	s.mu.Lock()
	if s.requests.busy {
		s.requests.goodbye = f
		f = nil
	}
	s.mu.Unlock()
	if f != nil {
		f()
	}
}

// handle does what a client asks for, or what is to go wrong with it on purpose. It reports false if that is not done yet:
// handleWaiting is called when it is.
func (s *socket) handle(r *request) bool {
	r.fault = s.faults.Next(r.Kind.String(), s.ID)
	if r.fault.Delay == 0 {
		return s.carryOut(r)
	}
	s.Hub.Service.Clock.AfterFunc(r.fault.Delay, func() {
		if s.carryOut(r) {
			s.handleWaiting()
		}
	})
	return false
}

// carryOut is handle for a request whose time has come.
func (s *socket) carryOut(r *request) bool {
	switch {
	case r.fault.CutBeforeEffect:
		s.Drop()
		return true
	case r.fault.Error != "" && s.codec.Encoding() == protocol.EncodingRaw:
		s.fail(protocol.CloseInternalError, internalError)
		return true
	case r.fault.Error != "":
		s.answer(r, &protocol.AckError{Name: r.fault.Error, Message: "A fault that was asked for."})
		return true
	}
	if r.AckID != nil && s.executed(*r.AckID) {
		s.answer(r, &protocol.AckError{Name: protocol.AckDuplicate,
			Message: fmt.Sprintf("Message with ack-id: %d has been processed", *r.AckID)})
		return true
	}
	switch {
	case r.Kind == protocol.RequestEvent:
		s.raise(r)
		return false
	case r.Kind == protocol.RequestInvoke:
		s.invoke(r)
		return false
	case r.Kind == protocol.RequestStreamData:
		s.streamData(r)
		return true
	case r.Kind == protocol.RequestStreamEnd:
		s.streamEnd(r)
		return true
	case r.StreamID != "":
		s.openStream(r)
		return true
	}
	need, action := hub.JoinLeaveGroup, "join"
	switch r.Kind {
	case protocol.RequestLeave:
		action = "leave"
	case protocol.RequestSend:
		need, action = hub.SendToGroup, "send to"
	}
	if !s.Allows(need, r.Group) {
		s.forbid(r, action)
		return true
	}
	switch r.Kind {
	case protocol.RequestJoin:
		s.Join(r.Group)
		s.Show("group", "joined ", r.Group)
	case protocol.RequestLeave:
		s.Leave(r.Group)
		s.Show("group", "left ", r.Group)
	case protocol.RequestSend:
		s.sendToGroup(r)
	}
	s.answer(r, nil)
	return true
}

// forbid answers a client that lacks a permission. One without a protocol has no acknowledgements, and is closed.
func (s *socket) forbid(r *request, action string) {
	if s.codec.Encoding() == protocol.EncodingRaw {
		s.Hub.Service.Log.Info("closing a client that may not send to its group: its token lacks the role", "hub", s.Hub.Name,
			"connection", s.ID, "role", "webpubsub.sendToGroup."+r.Group)
		s.fail(protocol.ClosePolicyViolation, "The connection is not authorized for raw sendToGroup mode.")
		return
	}
	s.answer(r, &protocol.AckError{Name: protocol.AckForbidden,
		Message: forbidden(action, r.Group)})
}

func forbidden(action, group string) string {
	return fmt.Sprintf("The client does not have permission to %s group '%s'.", action, group)
}

// sendToGroup sends a client's message to a group.
func (s *socket) sendToGroup(r *request) {
	m := &hub.Message{Payload: r.Payload, Group: r.Group}
	if r.TTLSeconds > 0 {
		m.Expires = s.Hub.Service.Clock.Now().Add(time.Duration(r.TTLSeconds) * time.Second)
	}
	s.Publish(m, r.NoEcho)
}

// internalError is all that a client hears of an event that failed: what the application said is not for it.
const internalError = "Internal server error"

// raise hands a client's event to the application.
func (s *socket) raise(r *request) {
	s.Raise(&hub.UserEvent{Name: r.Event, Payload: r.Payload}, func(reply *hub.Payload, err error) {
		defer s.handleWaiting()
		if err != nil {
			s.eventFailed(r, err)
			return
		}
		if reply != nil {
			s.Deliver(&hub.Message{Payload: *reply})
		}
		s.answer(r, nil)
	})
}

// eventFailed tells the client that its event failed.
func (s *socket) eventFailed(r *request, err error) {
	s.logFailedEvent(r, err)
	if errors.Is(err, hub.ErrGone) {
		return // the connection is being closed, of which the client is told
	}
	if s.codec.Encoding() == protocol.EncodingRaw {
		s.fail(protocol.CloseInternalError, internalError)
		return
	}
	s.answer(r, &protocol.AckError{Name: protocol.AckInternal, Message: internalError})
}

// logFailedEvent logs that an event failed. The room that tells the application has logged what it answered.
func (s *socket) logFailedEvent(r *request, err error) {
	level := slog.LevelDebug
	if errors.Is(err, hub.ErrNoHandler) {
		level = slog.LevelInfo
	}
	s.Hub.Service.Log.Log(context.Background(), level, "a client's event failed", "hub", s.Hub.Name, "connection", s.ID,
		"event", r.Event, "error", err)
}

// trafficKinds are the kinds of traffic that the requests of clients are.
var trafficKinds = [...]string{protocol.RequestJoin: "group", protocol.RequestLeave: "group",
	protocol.RequestSend: "message", protocol.RequestEvent: "event", protocol.RequestInvoke: "event",
	protocol.RequestStreamData: "message", protocol.RequestStreamEnd: "message"}

// answer acknowledges a request, if the client asked for that. Of one that was carried out the ackId is remembered.
func (s *socket) answer(r *request, err *protocol.AckError) {
	if err != nil {
		s.Show(trafficKinds[r.Kind], r.Kind.String()+" failed: ", err.Error())
	}
	switch {
	case r.Kind == protocol.RequestInvoke:
		s.enqueue(protocol.InvokeResponse(r.InvocationID, nil, err))
	case r.AckID != nil:
		if err == nil {
			s.mu.Lock()
			s.acked.add(*r.AckID)
			s.mu.Unlock()
		}
		if r.fault.Unacknowledged || r.fault.CutAfterEffect {
			break
		}
		s.enqueue(s.codec.Ack(*r.AckID, err))
	case err != nil && err.Name == protocol.AckForbidden:
		s.Hub.Service.Log.Info("a client's request failed, and it does not hear of it: it has no ackId", "hub", s.Hub.Name,
			"connection", s.ID, "type", r.Kind.String(), "error", err)
	}
	if r.fault.CutAfterEffect {
		s.Drop()
	}
}

// executed reports whether a request with an ackId was carried out before.
func (s *socket) executed(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked.has(id)
}

// acknowledge forgets the messages up to a sequence id.
func (s *socket) acknowledge(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outbox.Acknowledge(id)
}
