package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// This file serves invocations and group streams.

// invoke hands an event to the application, whose answer is for this invocation. It may be cancelled meanwhile.
func (s *socket) invoke(r *request) {
	ctx, cancel := context.WithCancel(context.Background())
	s.mu.Lock()
	if s.invocations == nil {
		s.invocations = make(map[string]context.CancelFunc)
	}
	s.invocations[r.InvocationID] = cancel
	s.mu.Unlock()
	s.Raise(&hub.UserEvent{Name: r.Event, Payload: r.Payload, Context: ctx}, func(reply *hub.Payload, err error) {
		defer s.handleWaiting()
		s.mu.Lock()
		cancelled := ctx.Err() != nil
		delete(s.invocations, r.InvocationID)
		s.mu.Unlock()
		cancel()
		switch {
		case cancelled, errors.Is(err, hub.ErrGone): // nobody waits
		case err != nil:
			s.logFailedEvent(r, err)
			s.answer(r, &protocol.AckError{Name: protocol.AckInternal, Message: internalError})
		default:
			s.reply(r, reply)
		}
	})
}

// reply answers an invocation that has succeeded.
func (s *socket) reply(r *request, reply *hub.Payload) {
	if !r.fault.Unacknowledged && !r.fault.CutAfterEffect {
		s.enqueue(protocol.InvokeResponse(r.InvocationID, reply, nil))
	}
	if r.fault.CutAfterEffect {
		s.Drop()
	}
}

// cancelInvocation gives up an invocation, whether the application has it already or not.
func (s *socket) cancelInvocation(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.invocations[id]; cancel != nil {
		cancel()
		return
	}
	s.requests.waiting = slices.DeleteFunc(s.requests.waiting, func(r *request) bool {
		return r.Kind == protocol.RequestInvoke && r.InvocationID == id
	})
}

// defaultIdleTimeout is how long a stream on which nothing comes stays open.
const defaultIdleTimeout = 5 * time.Minute

// stream is a group stream that a client sends.
type stream struct {
	id, group string
	noEcho    bool
	metadata  map[string]string
	timeout   time.Duration
	expected  uint64     // the number of the next fragment. Guarded by socket.mu; only the request that is being carried out changes it.
	idle      *hub.Timer // guarded by socket.mu
}

// openStream opens a stream. A client that has been cut off may ask again.
func (s *socket) openStream(r *request) {
	if !s.Allows(hub.SendToGroup, r.Group) {
		s.closeStream(r.StreamID, protocol.StreamForbidden, forbidden("send to", r.Group))
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
		s.closeStream(r.StreamID, protocol.StreamBadRequest, "The stream is open to another group.")
	default:
		s.await(st)
		s.enqueue(protocol.StreamAck(st.id, st.expected))
	}
}

// await gives the client time for the next sign of life.
func (s *socket) await(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.idle != nil {
		st.idle.Stop()
	}
	if s.streams[st.id] == st {
		st.idle = s.Hub.Service.Clock.AfterFunc(st.timeout, func() {
			s.closeStream(st.id, protocol.StreamIdleTimeout, fmt.Sprintf("Nothing has come for %d ms.", st.timeout.Milliseconds()))
		})
	}
}

// closeStream ends a stream with an error, of which the client and the members of the group are told.
func (s *socket) closeStream(id, name, message string) {
	if st, open := s.takeStream(id); open {
		s.publishEnd(st, &hub.StreamFailure{Name: name, Message: message})
	}
	s.enqueue(protocol.StreamClosed(id, &protocol.AckError{Name: name, Message: message}))
}

// takeStream returns a stream, as it stands, and closes it. It reports false if there is none.
func (s *socket) takeStream(id string) (stream, bool) {
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

// publishEnd tells the members of the group that a stream is over.
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
		s.closeStream(r.StreamID, protocol.StreamNotFound, "There is no such stream.")
		return
	case r.Fragment > st.expected:
		s.enqueue(protocol.StreamNack(st.id, st.expected))
	case r.Fragment == 0: // a sign of life
	case r.Fragment < st.expected: // it has come before
		s.enqueue(protocol.StreamAck(st.id, st.expected))
	case !s.Allows(hub.SendToGroup, st.group):
		s.closeStream(st.id, protocol.StreamForbidden, forbidden("send to", st.group))
		return
	default:
		m := &hub.Message{Group: st.group, Payload: r.Payload, Stream: &hub.StreamFragment{ID: st.id, Number: st.expected}}
		m.Metadata = st.metadata
		s.Publish(m, st.noEcho)
		s.mu.Lock()
		st.expected++
		s.mu.Unlock()
		s.enqueue(protocol.StreamAck(st.id, st.expected))
	}
	s.await(st)
}

// streamEnd ends a stream as its sender wants.
func (s *socket) streamEnd(r *request) {
	st, open := s.takeStream(r.StreamID)
	if !open {
		s.closeStream(r.StreamID, protocol.StreamNotFound, "There is no such stream.")
		return
	}
	s.publishEnd(st, r.StreamError)
	s.enqueue(protocol.StreamClosed(st.id, nil))
}

// dropStreams ends the streams of a client that is gone: the members of the groups are told. The caller holds s.mu.
func (s *socket) dropStreams() {
	for id, st := range s.streams {
		delete(s.streams, id)
		if st.idle != nil {
			st.idle.Stop()
		}
		ended := *st
		s.Hub.Service.Life.Go(func() { // not here: Hub.mu comes before s.mu
			s.publishEnd(ended, &hub.StreamFailure{Name: protocol.StreamCancelled, Message: "The sender is gone."})
		})
	}
}
