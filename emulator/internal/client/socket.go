package client

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// socket is the link of a WebSocket client. One goroutine reads from it. Another writes to it, but only while there is
// something to write, so an idle client costs one goroutine.
type socket struct {
	hub.Connection
	codec  protocol.Codec
	faults *FaultList

	mu       sync.Mutex // guards everything below
	ws       *websocket.Conn
	nc       *wire.Conn
	outbox   hub.Outbox
	pongs    handshake.Pongs
	writing  bool      // a writer goroutine is running
	dropped  bool      // Drop was called before there was a socket
	recovery *recovery // nil unless the protocol is reliable
	requests requestQueue

	invocations map[string]context.CancelFunc // invocations that the application is handling
	streams     map[string]*stream            // streams that the client sends
	acked       recentIDs                     // ackIds of executed requests
}

// setProtocol sets the client's protocol to a subprotocol, or to raw if the service does not know the subprotocol. For a
// reliable client, it returns a reconnection token.
func (s *socket) setProtocol(subprotocol string, raw protocol.Raw) (reconnectionToken string) {
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

// enqueue queues a frame. It ignores nil, which stands for a frame that the client's protocol does not have. A client that
// does not keep up is closed with a reason, and cut off after a while if it does not read the close frame.
func (s *socket) enqueue(f *hub.Frame) {
	if f == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enqueueLocked(f)
}

// enqueueLocked queues a frame that is not nil. The caller holds s.mu.
func (s *socket) enqueueLocked(f *hub.Frame) {
	if s.outbox.Closing() {
		return
	}
	if fault := s.outbox.Put(f); fault != nil {
		s.startClose(protocol.ClosePolicyViolation, fault.Reason, fault.Reason)
		s.GiveUp(fault.Reason, fault.Detail)
		return
	}
	s.startWriter()
}

// startWriter starts the writer goroutine if there is a socket and the writer is not running. The caller holds s.mu.
func (s *socket) startWriter() {
	if !s.writing && s.ws != nil {
		s.writing = true
		ws, nc := s.ws, s.nc
		s.Hub.Service.Life.GoFrom(func() { s.write(ws, nc) }) // allowed, because the reader is counted
	}
}

// write writes the queued frames. If the outbox is closed, it then closes the socket.
func (s *socket) write(ws *websocket.Conn, nc *wire.Conn) {
	for {
		s.mu.Lock()
		if s.ws != ws { // the client has another socket or none, and the frames are not for this one
			s.mu.Unlock()
			return
		}
		if pongs := s.pongs.Take(); pongs != nil {
			s.mu.Unlock()
			if _, err := nc.Write(pongs); err != nil {
				nc.Close() // the reader then fails and cleans up
				return
			}
			continue
		}
		f, data := s.outbox.Next()
		if f == nil {
			closing := s.outbox.Closing()
			s.writing = closing // stays true after the goodbye, so that no other writer starts
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
			nc.Close() // the reader then fails and cleans up
			return
		}
	}
}

// onPing queues the pong for a WebSocket ping. The pong is written after the current frame.
func (s *socket) onPing(payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outbox.Closing() {
		return
	}
	s.pongs.Add(payload)
	s.startWriter()
}

func messageType(f *hub.Frame) websocket.MessageType {
	if f.Text {
		return websocket.MessageText
	}
	return websocket.MessageBinary
}

// Close closes the connection with code 1000, after everything queued so far has been sent. The close frame has no
// description, because the disconnected frame has the reason. Only when the service closes does it have both.
func (s *socket) Close(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	description := ""
	if s.Hub.Service.Life.IsClosing() {
		description = reason
	}
	s.startClose(protocol.CloseNormal, reason, description)
}

// closeWithError closes the connection with a code and a reason, because of an error.
func (s *socket) closeWithError(code int, reason string) {
	s.Left(reason)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.startClose(code, reason, reason)
}

// setSocket gives a new connection its socket, and starts to write.
func (s *socket) setSocket(ws *websocket.Conn, nc *wire.Conn) {
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
		s.startWriter()
	}
}

// startClose closes the outbox, so that the writer closes the socket after it has written everything queued so far. message
// is for the disconnected frame, and description for the close frame. The caller holds s.mu.
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
		s.nc.LimitWrites(wire.HandshakeTimeout) // cuts off a client that does not read
		s.startWriter()
	}
}

// Drop cuts the network connection, or marks it to be cut as soon as the handshake is complete.
func (s *socket) Drop() (noticed func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nc != nil {
		s.requests.cut = true
		s.requests.drained.Broadcast()
		return s.nc.Cut()
	}
	s.dropped = s.recovery == nil || s.recovery.deadline == nil
	return nil
}

// Away reports whether the client was cut off and may still reconnect.
func (s *socket) Away() bool {
	if s.recovery == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recovery.deadline != nil
}

// read reads and handles the client's requests until the network connection ends.
func (s *socket) read(ws *websocket.Conn, nc *wire.Conn) {
	defer nc.Untrack()
	if s.recovery != nil {
		defer s.recovery.reading.Unlock()
	}
	ws.SetReadLimit(-1) // receive enforces the limit, so that we choose the reason in the close frame
	for {
		r, err := s.receive(ws)
		if bad, ok := errors.AsType[*protocol.FrameError](err); ok {
			s.closeInvalid(bad)
			continue // until the client has responded to the close frame
		}
		if err != nil {
			if !s.isClosing() {
				s.handleReadError(err)
				nc.CloseGently()
			}
			nc.Close()
			ws.CloseNow()
			return
		}
		s.handleOrQueue(r)
	}
}

// receive reads and decodes a message. It returns a *protocol.FrameError if the message breaks the protocol's rules.
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
		bad := protocol.TooLarge()
		s.closeInvalid(bad)
		if _, err := io.Copy(io.Discard, message); err != nil {
			return nil, err
		}
		return nil, bad
	}
	r, err := s.codec.Decode(typ == websocket.MessageText, data)
	return &r, err
}

// closeInvalid closes the connection of a client that sent an invalid frame, unless it is closing already.
func (s *socket) closeInvalid(bad *protocol.FrameError) {
	if s.isClosing() {
		return
	}
	s.Hub.Service.Log.Info("closing a client that sent an invalid frame", "hub", s.Hub.Name, "connection", s.ID,
		"code", bad.Code, "reason", bad.Detail)
	s.closeWithError(bad.Code, bad.Reason)
}

func (s *socket) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outbox.Closing()
}

// handleReadError handles the error that ends the reading of a socket:
//
//   - A reliable client may reconnect, unless it closed the connection with 1000 or broke the WebSocket protocol.
//   - If the client sent a close frame, its earlier requests are executed before the connection leaves its hub.
//   - Otherwise the connection leaves its hub immediately.
func (s *socket) handleReadError(err error) {
	detail := handshake.LostReason(err)
	s.Hub.Service.Log.Debug("client gone", "hub", s.Hub.Name, "connection", s.ID, "reason", detail)
	closed, sentClose := errors.AsType[websocket.CloseError](err)
	broke := handshake.BrokeProtocol(err)
	switch {
	case s.recovery != nil && !broke && closed.Code != websocket.StatusNormalClosure && s.detach():
		s.Show("connection", "cut off: it may come back", "")
	case sentClose:
		s.afterRequests(func() { s.finish(func() { s.Left(closed.Reason) }) })
	case broke:
		s.finish(func() { s.Left("The client frame is invalid.") })
	default:
		s.finish(func() { s.Lost(detail) })
	}
}

// finish ends a connection whose client will not reconnect. leave removes the connection from its hub.
func (s *socket) finish(leave func()) {
	leave()
	s.mu.Lock()
	s.ws = nil // there is no client to write to
	s.mu.Unlock()
	s.Close("")
}
