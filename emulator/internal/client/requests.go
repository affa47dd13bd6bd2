package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// request is a client's request, and the fault to inject into it.
type request struct {
	*protocol.Request
	fault    Fault
	canceled bool // while it is delayed; guarded by socket.mu
}

// requestQueue holds the requests of one client that wait, for example while the application handles an event of the client.
// Requests are executed one after another, in order. Pings, sequence acknowledgements and cancellations never wait.
// socket.mu guards the queue.
type requestQueue struct {
	busy      bool // a request is being executed
	waiting   []*request
	delayed   *request  // waits until its fault's delay has passed; may be nil
	bytes     int       // total size of the waiting payloads
	drained   sync.Cond // signaled when the queue becomes shorter
	whenEmpty func()    // called once no request is left; may be nil
	cut       bool      // the network connection was cut: its reader must end, so it queues its last requests despite the limits
}

const (
	// maxRequests and maxRequestBytes limit the queue. The server stops reading from a client while its queue is full.
	maxRequests     = 10_000
	maxRequestBytes = 16 << 20
)

func (q *requestQueue) full() bool { return len(q.waiting) >= maxRequests || q.bytes > maxRequestBytes }

// remove drops the waiting requests that match accepts.
func (q *requestQueue) remove(match func(*request) bool) {
	q.waiting = slices.DeleteFunc(q.waiting, func(r *request) bool {
		if !match(r) {
			return false
		}
		q.bytes -= len(r.Payload.Data)
		return true
	})
	q.drained.Broadcast()
}

// drop drops the waiting requests.
func (q *requestQueue) drop() {
	q.waiting, q.bytes = nil, 0
	q.drained.Broadcast()
}

// handleOrQueue executes a request immediately, or queues it behind earlier ones. It blocks while the queue is full.
func (s *socket) handleOrQueue(req *protocol.Request) {
	r := &request{Request: req}
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
	if q.drained.L == nil {
		q.drained.L = &s.mu
	}
	for q.busy && q.full() && !q.cut && !s.outbox.Closing() {
		s.outbox.Unheard = true
		q.drained.Wait()
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
		s.handleQueued()
	}
}

// handleQueued executes the queued requests, until the queue is empty or a request has to wait.
func (s *socket) handleQueued() {
	for {
		s.mu.Lock()
		q := &s.requests
		if len(q.waiting) == 0 {
			q.busy, q.waiting = false, nil
			f := q.whenEmpty
			q.whenEmpty = nil
			s.mu.Unlock()
			if f != nil {
				f()
			}
			return
		}
		r := q.waiting[0]
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		q.bytes -= len(r.Payload.Data)
		q.drained.Broadcast()
		s.mu.Unlock()
		if !s.handle(r) {
			return
		}
	}
}

// afterRequests calls f once every request that the client has sent is executed.
func (s *socket) afterRequests(f func()) {
	s.mu.Lock()
	if s.requests.busy {
		s.requests.whenEmpty = f
		f = nil
	}
	s.mu.Unlock()
	if f != nil {
		f()
	}
}

// handle executes a request, with the fault to inject if there is one. It returns false if the request is not complete yet;
// handleQueued is then called on completion.
func (s *socket) handle(r *request) bool {
	r.fault = s.faults.Next(r.Kind.String(), s.ID)
	if r.fault.Delay == 0 {
		return s.execute(r)
	}
	s.mu.Lock()
	s.requests.delayed = r
	s.mu.Unlock()
	s.Hub.Service.Delay(r.fault.Delay, func() {
		s.mu.Lock()
		s.requests.delayed = nil
		canceled := r.canceled || s.outbox.Closing()
		s.mu.Unlock()
		if canceled || s.execute(r) {
			s.handleQueued()
		}
	})
	return false
}

// execute is like handle, after the fault's delay.
func (s *socket) execute(r *request) bool {
	switch {
	case r.fault.CutBeforeEffect:
		s.Drop()
		return true
	case r.fault.Error != "" && s.codec.Encoding() == protocol.EncodingRaw:
		s.closeWithError(protocol.CloseInternalError, internalError)
		return true
	case r.fault.Error != "":
		s.respond(r, &protocol.AckError{Name: r.fault.Error, Message: "A fault that was asked for."})
		return true
	}
	if r.AckID != nil && s.wasExecuted(*r.AckID) {
		s.respond(r, &protocol.AckError{Name: protocol.AckDuplicate,
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
		s.rejectForbidden(r, action)
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
	s.respond(r, nil)
	return true
}

// rejectForbidden rejects a request of a client that lacks the permission. A raw client is closed, because its protocol has
// no acknowledgements.
func (s *socket) rejectForbidden(r *request, action string) {
	if s.codec.Encoding() == protocol.EncodingRaw {
		s.Hub.Service.Log.Info("closing a client that may not send to its group: its token lacks the role", "hub", s.Hub.Name,
			"connection", s.ID, "role", "webpubsub.sendToGroup."+r.Group)
		s.closeWithError(protocol.ClosePolicyViolation, "The connection is not authorized for raw sendToGroup mode.")
		return
	}
	s.respond(r, &protocol.AckError{Name: protocol.AckForbidden,
		Message: forbiddenMessage(action, r.Group)})
}

func forbiddenMessage(action, group string) string {
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

// internalError is the message for a client whose event failed. It does not reveal the application's error.
const internalError = "Internal server error"

// raise sends a client's event to the application.
func (s *socket) raise(r *request) {
	s.Raise(&hub.UserEvent{Name: r.Event, Payload: r.Payload}, func(reply *hub.Payload, err error) {
		defer s.handleQueued()
		if err != nil {
			s.eventFailed(r, err)
			return
		}
		if reply != nil {
			s.Deliver(&hub.Message{Payload: *reply})
		}
		s.respond(r, nil)
	})
}

// eventFailed notifies the client that its event failed. A raw client is closed.
func (s *socket) eventFailed(r *request, err error) {
	s.logFailedEvent(r, err)
	if errors.Is(err, hub.ErrGone) {
		return // the connection is being closed, so the client receives a close frame instead
	}
	if s.codec.Encoding() == protocol.EncodingRaw {
		s.closeWithError(protocol.CloseInternalError, internalError)
		return
	}
	s.respond(r, &protocol.AckError{Name: protocol.AckInternal, Message: internalError})
}

// logFailedEvent logs that an event failed, at Info level only if no handler accepts the event. Package events logs the
// application's response itself.
func (s *socket) logFailedEvent(r *request, err error) {
	level := slog.LevelDebug
	if errors.Is(err, hub.ErrNoHandler) {
		level = slog.LevelInfo
	}
	s.Hub.Service.Log.Log(context.Background(), level, "a client's event failed", "hub", s.Hub.Name, "connection", s.ID,
		"event", r.Event, "error", err)
}

// trafficKinds maps requests to the Kind of their TrafficEvent.
var trafficKinds = [...]string{protocol.RequestJoin: "group", protocol.RequestLeave: "group",
	protocol.RequestSend: "message", protocol.RequestEvent: "event", protocol.RequestInvoke: "event",
	protocol.RequestStreamData: "message", protocol.RequestStreamEnd: "message"}

// respond sends the response to a request, if the client wants one. It remembers the ackId of a request that succeeded.
func (s *socket) respond(r *request, err *protocol.AckError) {
	if err != nil {
		s.Show(trafficKinds[r.Kind], r.Kind.String()+" failed: ", err.Error())
	}
	switch {
	case r.Kind == protocol.RequestInvoke:
		s.answer(r, protocol.InvokeResponse(r.InvocationID, nil, err))
	case r.StreamID != "" && err != nil:
		s.answer(r, s.endStream(r.StreamID, err.Name, err.Message))
	case r.AckID != nil:
		if err == nil {
			s.mu.Lock()
			s.acked.add(*r.AckID)
			s.mu.Unlock()
		}
		s.answer(r, s.codec.Ack(*r.AckID, err))
	case r.fault.CutAfterEffect:
		s.Drop()
	case err != nil && err.Name == protocol.AckForbidden:
		s.Hub.Service.Log.Info("a client's request failed, but the client is not notified because the request has no ackId",
			"hub", s.Hub.Name, "connection", s.ID, "type", r.Kind.String(), "error", err)
	}
}

// answer sends the frame that responds to a request, unless the request's fault loses the response or cuts the connection.
func (s *socket) answer(r *request, frame *hub.Frame) {
	switch {
	case r.fault.CutAfterEffect:
		s.Drop()
	case !r.fault.Unacknowledged:
		s.enqueue(frame)
	}
}

// wasExecuted reports whether a recent request with the same ackId was executed.
func (s *socket) wasExecuted(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked.has(id)
}

// acknowledge handles a sequence acknowledgement: it drops the messages up to and including a sequence id.
func (s *socket) acknowledge(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outbox.Acknowledge(id)
}
