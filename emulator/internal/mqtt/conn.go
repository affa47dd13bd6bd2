package mqtt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// conn is one network connection of an MQTT client.
type conn struct {
	ws         *websocket.Conn
	nc         *wire.Conn
	stream     *byteStream
	in         *bufio.Reader // of stream
	physicalID string        // for the application
	session    *session      // nil before CONNECT is answered; the reader's

	limits

	// guarded by session.mu
	pongs            [][]byte // answers to WebSocket pings, before anything else
	control          [][]byte // packets that wait to be written, before any message
	disconnectPacket []byte   // DISCONNECT, after any message
	writing          bool     // a goroutine writes
	closing          bool     // what waits is written, then the connection is closed
	impatient        bool     // messages that wait for acknowledgements are not worth waiting for any longer
	ended            bool     // nobody reads it any more
	closeCode        int
	closeReason      string
}

// limits are what a client has set in CONNECT.
type limits struct {
	receiveMaximum int // 0 = any
	maxPacket      int // 0 = any
	noProblemInfo  bool
	keepAlive      time.Duration // how long it may be silent; 0 = for ever
}

// window is how many messages may be in flight.
func (l *limits) window() int {
	if l.receiveMaximum > 0 {
		return min(maxInflight, l.receiveMaximum)
	}
	return maxInflight
}

// send queues a packet that is not a message.
func (c *session) send(n *conn, pk *mqttpacket.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queueControl(n, pk)
}

// queueControl queues a packet that is not a message. The caller holds c.mu.
func (c *session) queueControl(n *conn, pk *mqttpacket.Packet) {
	if n.closing && pk.Type != mqttpacket.Pubrel || n.ended {
		return
	}
	if len(n.control) >= hub.MaxQueuedFrames {
		c.overflow(fmt.Sprintf("the client is too slow: %d answers wait for it", len(n.control)))
		return
	}
	n.control = append(n.control, c.encode(n, pk))
	c.wake(n)
}

// encode encodes a packet as a connection wants it: without words that the client has not asked for, or that make the packet
// too large for it.
func (c *session) encode(n *conn, pk *mqttpacket.Packet) []byte {
	pk.Version = byte(c.version)
	p := &pk.Properties
	p.ReasonString = protocol.MQTTString(p.ReasonString)
	if n.noProblemInfo && pk.Type != mqttpacket.Disconnect && pk.Type != mqttpacket.Connack {
		p.ReasonString = ""
	}
	data := mqttpacket.Encode(pk)
	if n.maxPacket > 0 && len(data) > n.maxPacket {
		p.ReasonString, p.User = "", nil
		data = mqttpacket.Encode(pk)
	}
	return data
}

// wake starts the writer of a connection if it does not run. The caller holds c.mu.
func (c *session) wake(n *conn) {
	if n != nil && !n.writing && !n.ended {
		n.writing = true
		c.Hub.Service.Life.GoFrom(func() { c.write(n) }) // the reader is counted already
	}
}

// write writes what waits, and closes the socket if that comes last.
func (c *session) write(n *conn) {
	for {
		c.mu.Lock()
		if pongs := n.pongs; pongs != nil {
			n.pongs = nil
			c.mu.Unlock()
			if _, err := n.nc.Write(slices.Concat(pongs...)); err != nil {
				n.nc.Close() // the reader notices
				return
			}
			continue
		}
		data := c.next(n)
		if data == nil {
			closing := n.closing && (n.impatient || !c.blocked(n))
			n.writing = closing // nothing is written after the close frame
			code, reason := n.closeCode, n.closeReason
			c.mu.Unlock()
			if closing {
				n.close(code, reason)
			}
			return
		}
		c.mu.Unlock()
		if n.ws.Write(context.Background(), websocket.MessageBinary, data) != nil {
			n.nc.Close() // the reader notices
			return
		}
	}
}

// maxPongs is how many answers to WebSocket pings may wait. Of more the oldest are dropped, as WebSocket allows.
const maxPongs = 16

// pinged answers a WebSocket ping, once what is being written has been. The reader calls it.
func (n *conn) pinged(payload []byte) {
	c := n.session
	if c == nil { // before CONNECT, when nobody else writes
		if _, err := n.nc.Write(handshake.Pong(payload)); err != nil {
			n.nc.Close()
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.closing || n.ended {
		return
	}
	if len(n.pongs) == maxPongs {
		n.pongs = n.pongs[1:]
	}
	n.pongs = append(n.pongs, handshake.Pong(payload))
	c.wake(n)
}

// close closes the WebSocket.
func (n *conn) close(code int, reason string) { handshake.CloseSocket(n.ws, n.nc, code, reason) }

// next takes what is written next to a connection: answers, then messages, then the DISCONNECT. The caller holds c.mu.
func (c *session) next(n *conn) []byte {
	if len(n.control) > 0 {
		data := n.control[0]
		n.control[0] = nil
		n.control = n.control[1:]
		return data
	}
	n.control = nil
	if c.conn == n {
		if data := c.nextMessage(n); data != nil {
			return data
		}
		if n.closing && !n.impatient && c.blocked(n) {
			return nil // the client still acknowledges
		}
	}
	data := n.disconnectPacket
	n.disconnectPacket = nil
	return data
}

// closeConn closes a connection after what waits for it, with a DISCONNECT packet in a version that has it for servers. The
// caller holds c.mu.
func (c *session) closeConn(n *conn, last *mqttpacket.Packet, code int, reason string) {
	if n.closing || n.ended {
		return
	}
	n.closing, n.closeCode, n.closeReason = true, code, reason
	if last != nil && c.version == protocol.MQTT5 {
		last.Type = mqttpacket.Disconnect
		n.disconnectPacket = c.encode(n, last)
	}
	patience := wire.HandshakeTimeout
	if c.Hub.Service.Life.IsClosing() {
		patience = wire.CloseTimeout / 2
	}
	if c.blocked(n) {
		giveUp := time.AfterFunc(patience, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			n.impatient = true
			c.wake(n)
		})
		n.stream.atEnd = func() { giveUp.Stop() }
	}
	n.nc.LimitWrites(wire.HandshakeTimeout) // a client that reads nothing is cut off
	c.wake(n)
}

// read reads the client until its connection ends.
func (c *session) read(n *conn) {
	if n.keepAlive > 0 {
		// By the machine's clock, not the server's: Advance does not make a client's pings come faster.
		silence := time.AfterFunc(n.keepAlive, func() {
			c.fail(n, mqttpacket.NewFault(mqttpacket.KeepAliveTimeout, "the client was silent for longer than its keep alive allows"))
		})
		defer silence.Stop()
		n.stream.heard = func() { silence.Reset(n.keepAlive) } // also in the middle of a packet that comes slowly
	}
	for {
		pk, err := mqttpacket.Read(n.in, byte(c.version), protocol.MaxMQTTPacket)
		if fault, ok := errors.AsType[*mqttpacket.Fault](err); ok {
			c.fail(n, fault)
			err = n.drain()
		}
		if err != nil {
			c.lost(n, err)
			return
		}
		if !c.leaving(n) {
			c.handle(n, pk)
		} else if isAcknowledgement(pk.Type) { // which what was queued before may wait for
			c.acknowledged(n, pk)
		}
	}
}

func isAcknowledgement(t mqttpacket.Type) bool {
	return t == mqttpacket.Puback || t == mqttpacket.Pubrec || t == mqttpacket.Pubcomp
}

// drain reads on until the client has answered the close frame, after what makes no sense.
func (n *conn) drain() error {
	n.stream.lenient = true
	if _, err := io.Copy(io.Discard, n.in); err != nil {
		return err
	}
	return io.EOF
}

// leaving reports whether a connection is being closed.
func (c *session) leaving(n *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return n.closing
}

// lost ends a connection that cannot be read any more.
func (c *session) lost(n *conn, err error) {
	c.mu.Lock()
	n.ended = true
	expected := n.closing
	atEnd := n.stream.atEnd
	c.mu.Unlock()
	if atEnd != nil {
		atEnd()
	}
	if !expected {
		reason := handshake.LostReason(err)
		c.Hub.Service.Log.Debug("MQTT client gone", "hub", c.Hub.Name, "connection", c.ID, "reason", reason)
		c.detach(n, reason, &protocol.MQTTDisconnect{})
		n.nc.CloseGently()
	}
	n.nc.Close()
	n.ws.CloseNow()
}

// byteStream is the bytes of a WebSocket, in which MQTT packets begin and end anywhere.
type byteStream struct {
	ws      *websocket.Conn
	message io.Reader // what is left of the last one; nil = nothing
	lenient bool      // text will do
	heard   func()    // called when bytes have come; may be nil
	atEnd   func()    // called when nothing more comes; may be nil
}

func (s *byteStream) Read(p []byte) (int, error) {
	for {
		if s.message == nil {
			typ, message, err := s.ws.Reader(context.Background())
			if err != nil {
				return 0, err
			}
			s.message = message
			if typ != websocket.MessageBinary && !s.lenient {
				return 0, mqttpacket.NewFault(mqttpacket.ProtocolError, "MQTT packets come in binary frames")
			}
		}
		n, err := s.message.Read(p)
		if err == io.EOF {
			s.message, err = nil, nil
		}
		if n > 0 && s.heard != nil {
			s.heard()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}
