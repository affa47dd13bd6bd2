package mqtt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
	in         *bufio.Reader // reads stream
	physicalID string        // the connection's id in events
	session    *session      // nil before CONNECT is accepted; used by the reader only
	gone       chan struct{} // closed when the reader has ended
	acked      chan struct{} // receives after the client has acknowledged a message; see awaitAcks

	limits

	// guarded by session.mu
	pongs            handshake.Pongs // written first
	control          [][]byte        // packets other than messages; written before messages
	disconnectPacket []byte          // DISCONNECT; written after all messages
	writing          bool            // a writer goroutine runs
	closing          bool            // the writer closes the connection after it has written everything that waits
	closeNow         bool            // when closing, do not wait for acknowledgements
	ended            bool            // the reader has ended
	closeCode        int
	closeReason      string
}

// limits are the limits that a client has set in CONNECT.
type limits struct {
	receiveMaximum int // 0 = no limit
	maxPacket      int // in bytes; 0 = no limit
	noProblemInfo  bool
	keepAlive      time.Duration // how long the client may be silent; 0 = no limit
}

// window returns the maximum number of messages in flight.
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
		c.overflow(fmt.Sprintf("the client is too slow: %d responses wait for it", len(n.control)))
		return
	}
	n.control = append(n.control, c.encode(n, pk))
	c.startWriter(n)
}

// encode encodes a packet for a connection. It omits the reason string if the client does not want it, and the reason string
// and user properties if the packet would exceed the client's limit.
func (c *session) encode(n *conn, pk *mqttpacket.Packet) []byte {
	pk.Version = byte(c.version)
	p := &pk.Properties
	p.ReasonString = protocol.MQTTReason(p.ReasonString)
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

// startWriter starts the writer of a connection unless it is running already. The caller holds c.mu.
func (c *session) startWriter(n *conn) {
	if n != nil && !n.writing && !n.ended {
		n.writing = true
		c.Hub.Service.Life.GoFrom(func() { c.write(n) }) // GoFrom: the reader is counted already
	}
}

// write writes everything that waits. Then it closes the socket if the connection is closing.
func (c *session) write(n *conn) {
	for {
		c.mu.Lock()
		if pongs := n.pongs.Take(); pongs != nil {
			c.mu.Unlock()
			if _, err := n.nc.Write(pongs); err != nil {
				n.nc.Close() // the reader notices
				return
			}
			continue
		}
		data := c.next(n)
		if data == nil {
			closing := n.closing && (n.closeNow || !c.blocked(n))
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

// sendPong responds to a WebSocket ping, after the current write. The reader calls it.
func (n *conn) sendPong(payload []byte) {
	c := n.session
	if c == nil { // before CONNECT is accepted, nothing else writes
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
	n.pongs.Add(payload)
	c.startWriter(n)
}

// close closes the WebSocket.
func (n *conn) close(code int, reason string) { handshake.CloseSocket(n.ws, n.nc, code, reason) }

// next removes and returns the next packet to write: control packets first, then messages, then DISCONNECT. It returns nil if
// there is none. The caller holds c.mu.
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
		if n.closing && !n.closeNow && c.blocked(n) {
			return nil // wait for acknowledgements
		}
	}
	data := n.disconnectPacket
	n.disconnectPacket = nil
	return data
}

// closeConn closes a connection after everything that waits has been written. In MQTT 5.0, last is sent as a DISCONNECT packet,
// which servers do not send in 3.1.1. The caller holds c.mu.
func (c *session) closeConn(n *conn, last *mqttpacket.Packet, code int, reason string) {
	if n.closing || n.ended {
		return
	}
	n.closing, n.closeCode, n.closeReason = true, code, reason
	if last != nil && c.version == protocol.MQTT5 {
		last.Type = mqttpacket.Disconnect
		n.disconnectPacket = c.encode(n, last)
	}
	if c.blocked(n) && !c.Hub.Service.Life.Go(func() { c.awaitAcks(n) }) {
		n.closeNow = true
	}
	n.nc.LimitWrites(wire.HandshakeTimeout) // a client that does not read is cut off
	c.startWriter(n)
}

// awaitAcks waits for the acknowledgements of a client whose connection is closing, and closes the connection if none arrives
// in time.
func (c *session) awaitAcks(n *conn) {
	timer := time.NewTimer(wire.HandshakeTimeout)
	defer timer.Stop()
	closing := c.Hub.Service.Life.Closing()
	for waiting := true; waiting; {
		select {
		case <-n.acked:
			if closing != nil { // a closing server waits for a limited time in total
				timer.Reset(wire.HandshakeTimeout)
			}
		case <-closing:
			closing = nil
			timer.Reset(wire.CloseTimeout / 2)
		case <-timer.C:
			waiting = false
		case <-n.gone:
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n.closeNow = true
	c.startWriter(n)
}

// read handles packets until the connection ends.
func (c *session) read(n *conn) {
	if n.keepAlive > 0 {
		// On the machine's clock, not on the server's: Advance does not make a client send its pings earlier.
		timer := time.AfterFunc(n.keepAlive, func() {
			c.fail(n, mqttpacket.NewFault(mqttpacket.KeepAliveTimeout, "the client was silent for longer than its keep-alive interval allows"))
		})
		defer timer.Stop()
		n.stream.onRead = func() { timer.Reset(n.keepAlive) } // also in the middle of a packet that arrives slowly
	}
	for {
		pk, err := mqttpacket.Read(n.in, byte(c.version), protocol.MaxMQTTPacket)
		if fault, ok := errors.AsType[*mqttpacket.Fault](err); ok {
			c.fail(n, fault)
			err = n.drain()
		}
		if err != nil {
			c.connEnded(n, err)
			return
		}
		c.handling.Lock()
		if !c.isClosing(n) {
			c.handle(n, pk)
		} else if isAcknowledgement(pk.Type) { // queued messages may wait for it
			c.handleAck(n, pk)
		}
		c.handling.Unlock()
	}
}

func isAcknowledgement(t mqttpacket.Type) bool {
	return t == mqttpacket.Puback || t == mqttpacket.Pubrec || t == mqttpacket.Pubcomp
}

// drain discards input after an invalid packet, until the client responds to the close frame. It never returns nil.
func (n *conn) drain() error {
	n.stream.acceptText = true
	if _, err := io.Copy(io.Discard, n.in); err != nil {
		return err
	}
	return io.EOF
}

// isClosing reports whether a connection is being closed.
func (c *session) isClosing(n *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return n.closing
}

// connEnded cleans up after reading a connection has failed.
func (c *session) connEnded(n *conn, err error) {
	c.mu.Lock()
	n.ended = true
	expected := n.closing
	c.mu.Unlock()
	close(n.gone)
	if !expected {
		reason := handshake.LostReason(err)
		c.Hub.Service.Log.Debug("MQTT client connection lost", "hub", c.Hub.Name, "connection", c.ID, "reason", reason)
		c.detach(n, reason, &protocol.MQTTDisconnect{})
		n.nc.CloseGently()
	}
	n.nc.Close()
	n.ws.CloseNow()
}

// byteStream reads the messages of a WebSocket as one stream, because MQTT packets may begin and end anywhere in a message.
type byteStream struct {
	ws         *websocket.Conn
	message    io.Reader // the rest of the current message; nil = none
	acceptText bool      // do not reject text messages
	onRead     func()    // called after bytes have arrived; may be nil
}

func (s *byteStream) Read(p []byte) (int, error) {
	for {
		if s.message == nil {
			typ, message, err := s.ws.Reader(context.Background())
			if err != nil {
				return 0, err
			}
			s.message = message
			if typ != websocket.MessageBinary && !s.acceptText {
				return 0, mqttpacket.NewFault(mqttpacket.ProtocolError, "MQTT packets must be in binary frames")
			}
		}
		n, err := s.message.Read(p)
		if err == io.EOF {
			s.message, err = nil, nil
		}
		if n > 0 && s.onRead != nil {
			s.onRead()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}
