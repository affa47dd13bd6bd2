package client

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// socket is the link of a WebSocket client. One goroutine reads it; another writes to it, but only while there is
// something to write, so that an idle client costs one goroutine.
type socket struct {
	hub.Connection
	codec protocol.Codec

	mu       sync.Mutex // guards everything below
	ws       *websocket.Conn
	nc       *wire.Conn
	outbox   hub.Outbox
	writing  bool      // a goroutine writes
	dropped  bool      // it was to be cut before it had a socket
	acked    idSet     // ackIds that were used
	recovery *recovery // nil unless the protocol is reliable
}

// speak sets the client's protocol: that of a subprotocol, or raw if the service has no such subprotocol. A reliable client
// gets a reconnection token.
func (s *socket) speak(subprotocol string, raw protocol.Raw) (reconnectionToken string) {
	s.Subprotocol, s.codec = subprotocol, raw
	var number func([]byte, uint64) []byte
	if p, ok := protocol.Subprotocols[subprotocol]; ok {
		s.codec = p.Codec
		if p.Reliable {
			s.recovery = &recovery{token: rand.Text()}
			s.recovery.reading.Lock()
			reconnectionToken, number = s.recovery.token, s.codec.Sequenced
		}
	}
	s.outbox = hub.NewOutbox(s.Hub.Service.Clock, number)
	return reconnectionToken
}

// Deliver queues a message.
func (s *socket) Deliver(m *hub.Message) { s.enqueue(m.FrameFor(s.codec)) }

// enqueue queues a frame. A nil frame is what a protocol has no word for. A client that does not keep up is told why, if
// it still reads, and cut off after a while if it does not.
func (s *socket) enqueue(f *hub.Frame) {
	if f == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outbox.Closing() {
		return
	}
	if fault := s.outbox.Put(f); fault != "" {
		s.startClose(protocol.ClosePolicyViolation, fault)
		s.GiveUp(fault)
		return
	}
	s.wake()
}

// wake starts the writer if it does not run. The caller holds s.mu.
func (s *socket) wake() {
	if !s.writing && s.ws != nil {
		s.writing = true
		ws, nc := s.ws, s.nc
		s.Hub.Service.Life.GoFrom(func() { s.write(ws, nc) }) // the reader is counted already
	}
}

// write writes what waits, and closes the socket if that comes last.
func (s *socket) write(ws *websocket.Conn, nc *wire.Conn) {
	for {
		s.mu.Lock()
		if s.ws != ws { // the client has a new socket, or none: what waits is not for this one
			s.mu.Unlock()
			return
		}
		f, data := s.outbox.Next()
		if f == nil {
			closing := s.outbox.Closing()
			s.writing = closing // nothing is written after the close frame
			code, reason := s.outbox.CloseReason()
			s.mu.Unlock()
			if closing {
				if f := s.codec.Disconnected(reason); f != nil {
					_ = ws.Write(context.Background(), messageType(f), f.Data)
				}
				handshake.CloseSocket(ws, nc, code, reason)
			}
			return
		}
		s.mu.Unlock()
		if ws.Write(context.Background(), messageType(f), data) != nil {
			nc.Close() // the reader notices
			return
		}
	}
}

func messageType(f *hub.Frame) websocket.MessageType {
	if f.Text {
		return websocket.MessageText
	}
	return websocket.MessageBinary
}

// Close closes the socket after everything that was queued before.
func (s *socket) Close(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startClose(protocol.CloseNormal, reason)
}

// fail closes a client that did something it must not.
func (s *socket) fail(code int, reason string) {
	s.Left(reason)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startClose(code, reason)
}

// open gives the connection its socket.
func (s *socket) open(ws *websocket.Conn, nc *wire.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ws, s.nc = ws, nc
	if s.dropped {
		nc.Close()
	}
	if s.outbox.Closing() {
		nc.SetWriteDeadline(time.Now().Add(wire.HandshakeTimeout))
	}
	if s.outbox.Closing() || !s.outbox.Empty() {
		s.wake()
	}
}

// startClose closes the socket once everything before is written. The caller holds s.mu.
func (s *socket) startClose(code int, reason string) {
	if !s.outbox.Close(code, strings.ToValidUTF8(reason, "\uFFFD")) {
		return
	}
	if s.recovery != nil && s.recovery.deadline != nil {
		s.recovery.deadline.Stop()
	}
	if s.ws != nil {
		s.nc.SetWriteDeadline(time.Now().Add(wire.HandshakeTimeout)) // a client that reads nothing is cut off
		s.wake()
	}
}

// Drop cuts the connection, now or as soon as its handshake is through.
func (s *socket) Drop() (noticed func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if nc := s.nc; nc != nil {
		nc.Close()
		return func() bool { return !nc.Tracked() }
	}
	s.dropped = s.recovery == nil || s.recovery.deadline == nil
	return nil
}

// Away reports whether the client is cut off and may come back.
func (s *socket) Away() bool {
	if s.recovery == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recovery.deadline != nil
}

// read reads the client until its connection ends.
func (s *socket) read(ws *websocket.Conn, nc *wire.Conn) {
	defer nc.Untrack()
	if s.recovery != nil {
		defer s.recovery.reading.Unlock()
	}
	ws.SetReadLimit(hub.MaxMessageSize)
	for {
		typ, data, err := ws.Read(context.Background())
		if err != nil {
			if !s.isClosing() {
				s.lost(err)
				nc.CloseGently()
			}
			nc.Close()
			ws.CloseNow()
			return
		}
		r, err := s.codec.Decode(typ == websocket.MessageText, data)
		if bad, ok := errors.AsType[*protocol.FrameError](err); ok {
			s.Hub.Service.Log.Info("closing a client for a bad frame", "connection", s.ID, "reason", bad.Reason)
			s.fail(bad.Code, bad.Reason)
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
	return s.outbox.Closing()
}

// lost ends a connection whose socket is gone.
func (s *socket) lost(err error) {
	reason := handshake.LostReason(err)
	s.Hub.Service.Log.Debug("client gone", "hub", s.Hub.Name, "connection", s.ID, "reason", reason)
	if websocket.CloseStatus(err) < 0 && s.recovery != nil && !errors.Is(err, websocket.ErrMessageTooBig) && s.detach() {
		s.Show("connection", "cut off: it may come back", "")
		return
	}
	s.Left(reason)
}
