package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// This file serves invocations and group streams.

// invoke sends an invocation's event to the application, and the application's reply to the client. The client may cancel
// the invocation meanwhile.
func (s *socket) invoke(r *request) {
	ctx, cancel := context.WithCancel(context.Background())
	s.mu.Lock()
	if s.invocations == nil {
		s.invocations = make(map[string]context.CancelFunc)
	}
	s.invocations[r.InvocationID] = cancel
	s.mu.Unlock()
	s.Raise(&hub.UserEvent{Name: r.Event, Payload: r.Payload, Context: ctx}, func(reply *hub.Payload, err error) {
		defer s.handleQueued()
		s.mu.Lock()
		canceled := ctx.Err() != nil
		delete(s.invocations, r.InvocationID)
		s.mu.Unlock()
		cancel()
		switch {
		case canceled, errors.Is(err, hub.ErrGone): // nobody waits for the response
		case err != nil:
			s.logFailedEvent(r, err)
			s.respond(r, &protocol.AckError{Name: protocol.AckInternal, Message: internalError})
		default:
			s.answer(r, protocol.InvokeResponse(r.InvocationID, reply, nil))
		}
	})
}

// cancelInvocation cancels an invocation, whether it is queued, delayed by a fault, or the application is handling it.
func (s *socket) cancelInvocation(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.invocations[id]; cancel != nil {
		cancel()
		return
	}
	matches := func(r *request) bool { return r.Kind == protocol.RequestInvoke && r.InvocationID == id }
	if r := s.requests.delayed; r != nil && matches(r) {
		r.canceled = true
		return
	}
	s.requests.remove(matches)
}

// defaultIdleTimeout is how long an idle stream stays open if the client sets no timeout.
const defaultIdleTimeout = 5 * time.Minute

// stream is a group stream that a client sends.
type stream struct {
	id, group string
	noEcho    bool
	metadata  map[string]string
	timeout   time.Duration
	expected  uint64     // number of the next fragment; guarded by socket.mu, and changed only by the request being executed
	idle      *hub.Timer // guarded by socket.mu
}

// openStream opens a stream. If the stream is already open for the same group, openStream only acknowledges it: a client
// that was cut off may repeat its request.
func (s *socket) openStream(r *request) {
	if !s.Allows(hub.SendToGroup, r.Group) {
		s.answer(r, s.endStream(r.StreamID, protocol.StreamForbidden, forbiddenMessage("send to", r.Group)))
		return
	}
	s.mu.Lock()
	st := s.streams[r.StreamID]
	if st == nil && !s.outbox.Closing() {
		st = &stream{id: r.StreamID, group: r.Group, noEcho: r.NoEcho, metadata: r.Payload.Metadata, timeout: r.IdleTimeout, expected: 1}
		if st.timeout == 0 {
			st.timeout = defaultIdleTimeout
		}
		if s.streams == nil {
			s.streams = make(map[string]*stream)
		}
		s.streams[st.id] = st
	}
	s.mu.Unlock()
	switch {
	case st == nil:
	case st.group != r.Group:
		s.answer(r, s.endStream(r.StreamID, protocol.StreamBadRequest, "The stream is already open for another group."))
	default:
		s.restartIdleTimer(st)
		s.answer(r, protocol.StreamAck(st.id, st.expected))
	}
}

// restartIdleTimer starts or restarts the timer that closes an idle stream.
func (s *socket) restartIdleTimer(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.idle != nil {
		st.idle.Stop()
	}
	if s.streams[st.id] == st {
		st.idle = s.Hub.Service.Clock.AfterFunc(st.timeout, func() {
			s.enqueue(s.endStream(st.id, protocol.StreamIdleTimeout, fmt.Sprintf("The stream was idle for %d ms.", st.timeout.Milliseconds())))
		})
	}
}

// endStream ends a stream with an error, if it is open, and notifies the members of the group. It returns the frame that
// notifies the sender.
func (s *socket) endStream(id, name, message string) *hub.Frame {
	if st, open := s.removeStream(id); open {
		s.publishEnd(st, &hub.StreamFailure{Name: name, Message: message})
	}
	return protocol.StreamClosed(id, &protocol.AckError{Name: name, Message: message})
}

// removeStream removes an open stream and returns a copy of it. It returns false if the stream is not open.
func (s *socket) removeStream(id string) (stream, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[id]
	if st == nil {
		return stream{}, false
	}
	delete(s.streams, id)
	if st.idle != nil {
		st.idle.Stop()
	}
	return *st, true
}

// publishEnd notifies the members of the group that a stream has ended. failure is nil if the stream ended normally.
func (s *socket) publishEnd(st stream, failure *hub.StreamFailure) {
	s.Publish(&hub.Message{Group: st.group, Payload: hub.Payload{Metadata: st.metadata},
		Stream: &hub.StreamFragment{ID: st.id, Number: st.expected, End: true, Error: failure}}, st.noEcho)
}

// streamData sends a fragment of a stream to the group.
func (s *socket) streamData(r *request) {
	s.mu.Lock()
	st := s.streams[r.StreamID]
	s.mu.Unlock()
	switch {
	case st == nil:
		s.answer(r, s.endStream(r.StreamID, protocol.StreamNotFound, "There is no such stream."))
		return
	case r.Fragment > st.expected:
		s.answer(r, protocol.StreamNack(st.id, st.expected))
		return // only accepted activity keeps a stream open
	case r.Fragment == 0: // a keep-alive has no response
		if r.fault.CutAfterEffect {
			s.Drop()
		}
	case r.Fragment < st.expected: // a duplicate
		s.answer(r, protocol.StreamAck(st.id, st.expected))
	case !s.Allows(hub.SendToGroup, st.group):
		s.answer(r, s.endStream(st.id, protocol.StreamForbidden, forbiddenMessage("send to", st.group)))
		return
	default:
		m := &hub.Message{Group: st.group, Payload: r.Payload, Stream: &hub.StreamFragment{ID: st.id, Number: st.expected}}
		m.Metadata = st.metadata
		s.Publish(m, st.noEcho)
		s.mu.Lock()
		st.expected++
		s.mu.Unlock()
		s.answer(r, protocol.StreamAck(st.id, st.expected))
	}
	s.restartIdleTimer(st)
}

// streamEnd ends a stream at its sender's request.
func (s *socket) streamEnd(r *request) {
	st, open := s.removeStream(r.StreamID)
	if !open {
		s.answer(r, s.endStream(r.StreamID, protocol.StreamNotFound, "There is no such stream."))
		return
	}
	s.publishEnd(st, r.StreamError)
	s.answer(r, protocol.StreamClosed(st.id, nil))
}

// dropStreams ends all streams of a client that is gone, and notifies the members of the groups. The caller holds s.mu.
func (s *socket) dropStreams() {
	for id, st := range s.streams {
		delete(s.streams, id)
		if st.idle != nil {
			st.idle.Stop()
		}
		ended := *st
		s.Hub.Service.Life.Go(func() { // in a new goroutine, because Hub.mu must be locked before s.mu
			s.publishEnd(ended, &hub.StreamFailure{Name: protocol.StreamCancelled, Message: "The sender is gone."})
		})
	}
}
