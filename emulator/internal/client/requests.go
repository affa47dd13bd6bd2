package client

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// handle does what a client asks for.
func (s *socket) handle(r *protocol.Request) {
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
	}
	if r.AckID != nil && !s.use(*r.AckID) {
		s.answer(r, &protocol.AckError{Name: protocol.AckDuplicate, Message: fmt.Sprintf("the ackId %d was used before", *r.AckID)})
		return
	}
	if fault := r.Check(); fault != "" {
		s.answer(r, &protocol.AckError{Name: protocol.AckBadRequest, Message: fault})
		return
	}
	if r.Kind == protocol.RequestEvent {
		s.raise(r)
		return
	}
	need := hub.JoinLeaveGroup
	if r.Kind == protocol.RequestSend {
		need = hub.SendToGroup
	}
	if !s.Allows(need, r.Group) {
		s.answer(r, &protocol.AckError{Name: protocol.AckForbidden,
			Message: fmt.Sprintf("the client does not have the permission %s for the group %.64q", need, r.Group)})
		return
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
}

// sendToGroup sends a client's message to a group.
func (s *socket) sendToGroup(r *protocol.Request) {
	m := &hub.Message{Payload: r.Payload, Group: r.Group}
	if r.TTLSeconds > 0 {
		m.Expires = s.Hub.Service.Clock.Now().Add(time.Duration(r.TTLSeconds) * time.Second)
	}
	s.Publish(m, r.NoEcho)
}

// raise hands a client's event to the application.
func (s *socket) raise(r *protocol.Request) {
	s.Raise(&hub.UserEvent{Name: r.Event, Payload: r.Payload}, func(reply *hub.Payload, err error) {
		if err != nil {
			s.Hub.Service.Log.Info("event failed", "hub", s.Hub.Name, "connection", s.ID, "event", r.Event, "error", err)
			if s.codec.Encoding() == protocol.EncodingRaw {
				s.fail(protocol.CloseInternalError, "the event failed: "+err.Error())
				return
			}
			s.answer(r, &protocol.AckError{Name: protocol.AckInternal, Message: err.Error()})
			return
		}
		if reply != nil {
			s.Deliver(&hub.Message{Payload: *reply})
		}
		s.answer(r, nil)
	})
}

// trafficKinds are the kinds of traffic that the requests of clients are.
var trafficKinds = [...]string{protocol.RequestJoin: "group", protocol.RequestLeave: "group",
	protocol.RequestSend: "message", protocol.RequestEvent: "event"}

// answer acknowledges a request, if the client asked for that.
func (s *socket) answer(r *protocol.Request, err *protocol.AckError) {
	if err != nil {
		s.Show(trafficKinds[r.Kind], r.Kind.String()+" failed: ", err.Error())
	}
	if r.AckID != nil {
		s.enqueue(s.codec.Ack(*r.AckID, err))
	} else if err != nil {
		s.Hub.Service.Log.Debug("client request failed", "connection", s.ID, "type", r.Kind.String(), "error", err)
	}
}

// use reports whether an ackId is used for the first time.
func (s *socket) use(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked.add(id)
}

// acknowledge forgets the messages up to a sequence id.
func (s *socket) acknowledge(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outbox.Acknowledge(id)
}
