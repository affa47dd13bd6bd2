package client

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

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
	codec  protocol.Codec
	faults *FaultList

	mu       sync.Mutex // guards everything below
	ws       *websocket.Conn
	nc       *wire.Conn
	outbox   hub.Outbox
	pongs    [][]byte  // answers to WebSocket pings, which wait to be written
	writing  bool      // a goroutine writes
	dropped  bool      // it was to be cut before it had a socket
	recovery *recovery // nil unless the protocol is reliable
	requests requestQueue

	invocations map[string]context.CancelFunc // that the application has
	streams     map[string]*stream            // that the client sends
	acked       recentIDs                     // ackIds of requests that were carried out
}

// speak sets the client's protocol: that of a subprotocol, or raw if the service has no such subprotocol. A reliable client
// gets a reconnection token.
func (s *socket) speak(subprotocol string, raw protocol.Raw) (reconnectionToken string) {
	s.Subprotocol, s.codec = subprotocol, raw
	var number func([]byte, uint64) []byte
	if p, ok := protocol.FindSubprotocol(subprotocol); ok {
		s.codec = p.Codec
		s.Streams = s.codec.Encoding() == protocol.EncodingJSON
		if p.Reliable {
			s.recovery = &recovery{tokens: []string{rand.Text()}}
			s.recovery.reading.Lock()
			reconnectionToken, number = s.recovery.newest(), s.codec.Sequenced
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
	s.put(f)
}

// put is enqueue for a caller that holds s.mu.
func (s *socket) put(f *hub.Frame) {
	if s.outbox.Closing() {
		return
	}
	if fault := s.outbox.Put(f); fault != nil {
		s.startClose(protocol.ClosePolicyViolation, fault.Reason, fault.Reason)
		s.GiveUp(fault.Reason, fault.Detail)
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
		if pongs := s.pongs; pongs != nil {
			s.pongs = nil
			s.mu.Unlock()
			if _, err := nc.Write(slices.Concat(pongs...)); err != nil {
				nc.Close() // the reader notices
				return
			}
			continue
		}
		f, data := s.outbox.Next()
		if f == nil {
			closing := s.outbox.Closing()
			s.writing = closing // nothing is written after goodbye
			goodbye := s.outbox.Goodbye()
			s.mu.Unlock()
			if closing {
				if f := s.codec.Disconnected(goodbye.Message); f != nil {
					_ = ws.Write(context.Background(), messageType(f), f.Data)
				}
				handshake.CloseSocket(ws, nc, goodbye.Code, goodbye.Description)
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

// maxPongs is how many answers to WebSocket pings may wait. Of more the oldest are dropped, as WebSocket allows.
const maxPongs = 16

// pinged answers a WebSocket ping, once what is being written has been.
func (s *socket) pinged(payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outbox.Closing() {
		return
	}
	if len(s.pongs) == maxPongs {
		s.pongs = s.pongs[1:]
	}
	s.pongs = append(s.pongs, handshake.Pong(payload))
	s.wake()
}

func messageType(f *hub.Frame) websocket.MessageType {
	if f.Text {
		return websocket.MessageText
	}
	return websocket.MessageBinary
}

// Close says goodbye after everything that was queued before. A close frame with the code 1000 has no description: a client
// that speaks a protocol of the service has been told why.
func (s *socket) Close(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	description := ""
	if s.Hub.Service.Life.IsClosing() {
		description = reason
	}
	s.startClose(protocol.CloseNormal, reason, description)
}

// fail closes a client that did something it must not.
func (s *socket) fail(code int, reason string) {
	s.Left(reason)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startClose(code, reason, reason)
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
		nc.LimitWrites(wire.HandshakeTimeout)
	}
	if s.outbox.Closing() || !s.outbox.Empty() {
		s.wake()
	}
}

// startClose closes the socket once everything before is written: message is for a disconnected frame, description for the
// close frame. The caller holds s.mu.
func (s *socket) startClose(code int, message, description string) {
	message, description = strings.ToValidUTF8(message, "\uFFFD"), strings.ToValidUTF8(description, "\uFFFD")
	if !s.outbox.Close(hub.Goodbye{Code: code, Message: message, Description: description}) {
		return
	}
	s.requests.drop()
	s.dropStreams()
	for _, cancel := range s.invocations {
		cancel()
	}
	if s.recovery != nil && s.recovery.deadline != nil {
		s.recovery.deadline.Stop()
	}
	if s.ws != nil {
		s.nc.LimitWrites(wire.HandshakeTimeout) // a client that reads nothing is cut off
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
	ws.SetReadLimit(-1) // receive has a limit, which leaves the words of the close frame to us
	for {
		r, err := s.receive(ws)
		if bad, ok := errors.AsType[*protocol.FrameError](err); ok {
			if !s.isClosing() {
				s.Hub.Service.Log.Info("closing a client for a bad frame", "hub", s.Hub.Name, "connection", s.ID,
					"code", bad.Code, "reason", bad.Detail)
				s.fail(bad.Code, bad.Reason)
			}
			continue // until the client has answered the close frame
		}
		if err != nil {
			if !s.isClosing() {
				s.lost(err)
				nc.CloseGently()
			}
			nc.Close()
			ws.CloseNow()
			return
		}
		s.receivedRequest(r)
	}
}

// receive reads a message and what it asks for. The error of one that breaks the rules is a *protocol.FrameError.
func (s *socket) receive(ws *websocket.Conn) (*protocol.Request, error) {
	typ, message, err := ws.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(message, hub.MaxMessageSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > hub.MaxMessageSize {
		if !s.isClosing() {
			bad := protocol.TooLarge()
			s.Hub.Service.Log.Info("closing a client for a bad frame", "hub", s.Hub.Name, "connection", s.ID,
				"code", bad.Code, "reason", bad.Detail)
			s.fail(bad.Code, bad.Reason)
		}
		if _, err := io.Copy(io.Discard, message); err != nil {
			return nil, err
		}
		return nil, protocol.TooLarge()
	}
	r, err := s.codec.Decode(typ == websocket.MessageText, data)
	return &r, err
}

func (s *socket) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outbox.Closing()
}

// lost ends a connection whose socket is gone. A reliable client may come back, unless it has closed the connection with
// 1000 or broken the protocol. What any other has sent before it said goodbye counts.
func (s *socket) lost(err error) {
	detail := handshake.LostReason(err)
	s.Hub.Service.Log.Debug("client gone", "hub", s.Hub.Name, "connection", s.ID, "reason", detail)
	closed, said := errors.AsType[websocket.CloseError](err)
	broke := handshake.BrokeProtocol(err)
	switch {
	case s.recovery != nil && !broke && closed.Code != websocket.StatusNormalClosure && s.detach():
		s.Show("connection", "cut off: it may come back", "")
	case said:
		s.afterRequests(func() { s.gone(func() { s.Left(closed.Reason) }) })
	case broke:
		s.gone(func() { s.Left("The client frame is invalid.") })
	default:
		s.gone(func() { s.Lost(detail) })
	}
}

// gone ends a connection whose client is gone for good: leave takes it out of its hub.
func (s *socket) gone(leave func()) {
	leave()
	s.mu.Lock()
	s.ws = nil // nobody is there to be told
	s.mu.Unlock()
	s.Close("")
}
