package mqtt

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

const (
	// maxQoS is the best quality of service there is: at least once. CONNACK announces it; who publishes at 2 all the
	// same is closed, who subscribes at 2 is granted 1.
	maxQoS = 1
	// maxInflight is how many messages of quality of service 1 may be written and not acknowledged, unless the
	// client allows less.
	maxInflight = 1000
)

// session is the link of an MQTT client. It is the client's session: it may outlive the network connection, and be
// given another.
type session struct {
	hub.Connection
	version   protocol.MQTTVersion
	sessionID string // for the application

	mu            sync.Mutex // guards everything below, and the mqttConns
	conn          *conn      // nil while the client is away
	physicalID    string     // of conn, or of the last one
	lifetime      time.Duration
	deadline      *hub.Timer // ends the session of a client that is away
	subscriptions map[string]packets.Subscription
	backlog
	will    *will
	ending  *protocol.MQTTDisconnect // how the last network connection ended, if not by the service's will
	closing bool                     // the session has ended
}

// backlog is what a session still has to deliver.
type backlog struct {
	queue    []delivery // not yet written
	inflight []delivery // written at quality of service 1 and not acknowledged, in order
	resend   int        // where in inflight to go on writing again; len(inflight) = nowhere
	bytes    int        // in both
	lastID   uint16
}

// delivery is a message on its way to one client.
type delivery struct {
	frame *hub.Frame // as for all clients; see protocol.MQTTPublish
	qos   byte
	id    uint16 // once it is written, at quality of service 1
}

// conn is one network connection of an MQTT client.
type conn struct {
	ws         *websocket.Conn
	nc         *wire.Conn
	stream     *byteStream
	in         *bufio.Reader // of stream
	physicalID string        // for the application

	limits

	// guarded by session.mu
	control          [][]byte // packets that wait to be written, before any message
	disconnectPacket []byte   // DISCONNECT, after any message
	writing          bool     // a goroutine writes
	closing          bool     // what waits is written, then the connection is closed
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

// will is what is published when the client is gone without having sent DISCONNECT.
type will struct {
	message *hub.Message
	expiry  time.Duration // how long the message is worth delivering; 0 = for ever
	delay   time.Duration // how long the client may take to come back before that
	due     *hub.Timer
}

func newWill(pk *packets.Packet) (*will, *protocol.MQTTFault) {
	p := &pk.Connect
	group, fault := protocol.MQTTGroup(p.WillTopic)
	if fault != nil {
		return nil, fault
	}
	payload, fault := protocol.MQTTPayload(&p.WillProperties, p.WillPayload)
	if fault != nil {
		return nil, fault
	}
	return &will{
		message: &hub.Message{Payload: payload, Group: group,
			Origin: &protocol.MQTTOrigin{QoS: p.WillQos, Properties: protocol.MQTTForwarded(&p.WillProperties)}},
		expiry: time.Duration(p.WillProperties.MessageExpiryInterval) * time.Second,
		delay:  time.Duration(p.WillProperties.WillDelayInterval) * time.Second,
	}, nil
}

// Deliver queues a message.
func (c *session) Deliver(m *hub.Message) {
	topic, ok := protocol.MQTTTopic(m.Group)
	if !ok {
		c.Hub.Service.Log.Info("a group's name is no MQTT topic", "hub", c.Hub.Name, "connection", c.ID, "group", m.Group)
		return
	}
	d := delivery{frame: m.FrameFor(c.version), qos: maxQoS}
	if o, ok := m.Origin.(*protocol.MQTTOrigin); ok {
		d.qos = o.QoS
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	if s, ok := c.subscriptions[topic]; ok { // without, it was the application that put the client into the group
		d.qos = min(d.qos, s.Qos)
	}
	if c.conn == nil && d.qos == 0 {
		return // at most once, and not now
	}
	waiting := func() int { return len(c.queue) + len(c.inflight) }
	full := func() bool { return waiting() >= hub.MaxQueuedFrames || c.bytes+len(d.frame.Data) > hub.MaxQueuedBytes }
	if full() {
		c.dropExpired()
	}
	if full() {
		c.overflow(hub.TooSlow(waiting(), c.bytes))
		return
	}
	c.queue = append(c.queue, d)
	c.bytes += len(d.frame.Data)
	c.wake(c.conn)
}

// send queues a packet that is not a message.
func (c *session) send(n *conn, pk *packets.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.closing || n.ended {
		return
	}
	if len(n.control) >= hub.MaxQueuedFrames {
		c.overflow(fmt.Sprintf("the client is too slow: %d answers wait for it", len(n.control)))
		return
	}
	n.control = append(n.control, c.encode(n, pk))
	c.wake(n)
}

// dropExpired forgets messages that wait and whose time is over. The caller holds c.mu.
func (c *session) dropExpired() {
	now := c.Hub.Service.Clock.Now()
	c.queue = slices.DeleteFunc(c.queue, func(d delivery) bool {
		expired := d.frame.ExpiredAt(now)
		if expired {
			c.bytes -= len(d.frame.Data)
		}
		return expired
	})
}

// overflow gives up a client that does not keep up: what waited for it is dropped. The caller holds c.mu.
func (c *session) overflow(reason string) {
	c.backlog = backlog{lastID: c.lastID}
	if c.conn != nil {
		c.conn.control = nil
	}
	c.endSession(packets.ErrQuotaExceeded, protocol.ClosePolicyViolation, reason)
	c.GiveUp(reason, reason)
}

// encode encodes a packet as a connection wants it.
func (c *session) encode(n *conn, pk *packets.Packet) []byte {
	pk.ProtocolVersion = byte(c.version)
	pk.Properties.ReasonString = protocol.MQTTString(pk.Properties.ReasonString)
	pk.Mods.MaxSize = uint32(n.maxPacket)
	pk.Mods.DisallowProblemInfo = n.noProblemInfo && pk.FixedHeader.Type != packets.Disconnect
	return protocol.EncodeMQTT(pk)
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
		data := c.next(n)
		if data == nil {
			n.writing = n.closing // nothing is written after the close frame
			closing, code, reason := n.closing, n.closeCode, n.closeReason
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
	}
	data := n.disconnectPacket
	n.disconnectPacket = nil
	return data
}

// nextMessage takes the next message that is still worth writing, and that the client has room for. The caller holds
// c.mu.
func (c *session) nextMessage(n *conn) []byte {
	for c.resend < len(c.inflight) {
		d := c.inflight[c.resend]
		data := protocol.MQTTPublish(c.version, d.frame.Data, d.id, true, protocol.MQTTExpiry(d.frame, c.Hub.Service.Clock))
		if c.fits(n, data) {
			c.resend++
			return data
		}
		c.forget(c.resend)
	}
	window := maxInflight
	if n.receiveMaximum > 0 {
		window = min(window, n.receiveMaximum)
	}
	for len(c.queue) > 0 {
		d := c.queue[0]
		if d.qos > 0 && len(c.inflight) >= window {
			return nil // until the client has acknowledged some
		}
		c.queue[0] = delivery{}
		c.queue = c.queue[1:]
		if d.frame.Expired(c.Hub.Service.Clock) {
			c.bytes -= len(d.frame.Data)
			continue
		}
		if d.qos > 0 {
			d.id = c.newID()
		}
		data := protocol.MQTTPublish(c.version, d.frame.Data, d.id, false, protocol.MQTTExpiry(d.frame, c.Hub.Service.Clock))
		fits := c.fits(n, data)
		if fits && d.qos > 0 {
			c.inflight = append(c.inflight, d)
			c.resend = len(c.inflight)
		} else {
			c.bytes -= len(d.frame.Data)
		}
		if fits {
			return data
		}
	}
	c.queue = nil
	return nil
}

// fits reports whether the client accepts a packet of this size. By MQTT the server drops a larger one.
func (c *session) fits(n *conn, data []byte) bool {
	if n.maxPacket == 0 || len(data) <= n.maxPacket {
		return true
	}
	c.Hub.Service.Log.Info("a message is larger than the client takes", "hub", c.Hub.Name, "connection", c.ID,
		"bytes", len(data), "maximum", n.maxPacket)
	return false
}

// newID is a packet id that no message in flight has. The caller holds c.mu.
func (c *session) newID() uint16 {
	for {
		c.lastID++
		if c.lastID != 0 && !slices.ContainsFunc(c.inflight, func(d delivery) bool { return d.id == c.lastID }) {
			return c.lastID
		}
	}
}

// forget drops a message in flight. The caller holds c.mu.
func (c *session) forget(i int) {
	c.bytes -= len(c.inflight[i].frame.Data)
	c.inflight = slices.Delete(c.inflight, i, i+1)
	if i < c.resend {
		c.resend--
	}
}

// Close ends the session and closes the connection after everything that was queued before.
func (c *session) Close(reason string) {
	code := packets.ErrAdministrativeAction
	if c.Hub.Service.Life.IsClosing() {
		code = packets.ErrServerShuttingDown
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endSession(code, protocol.CloseNormal, reason)
}

// Drop cuts the network connection.
func (c *session) Drop() (noticed func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	nc := c.conn.nc
	nc.Close()
	return func() bool { return !nc.Tracked() }
}

// endSession ends the session. The caller holds c.mu, and takes the client out of its hub.
func (c *session) endSession(code packets.Code, closeCode int, reason string) {
	if c.closing {
		return
	}
	c.closing = true
	if c.deadline != nil {
		c.deadline.Stop()
	}
	c.sendWill()
	if c.conn != nil {
		c.closeConn(c.conn, &packets.Packet{ReasonCode: code.Code, Properties: packets.Properties{ReasonString: reason}},
			closeCode, reason)
	}
}

// closeConn closes a connection after what waits for it, with a DISCONNECT packet in a version that has it for servers. The
// caller holds c.mu.
func (c *session) closeConn(n *conn, last *packets.Packet, code int, reason string) {
	if n.closing || n.ended {
		return
	}
	n.closing, n.closeCode, n.closeReason = true, code, reason
	if last != nil && c.version == protocol.MQTT5 {
		last.FixedHeader.Type = packets.Disconnect
		n.disconnectPacket = c.encode(n, last)
	}
	n.nc.LimitWrites(wire.HandshakeTimeout) // a client that reads nothing is cut off
	c.wake(n)
}

// fail closes a connection whose client did something it must not, or nothing for too long. The session may outlive it.
func (c *session) fail(n *conn, fault *protocol.MQTTFault) {
	c.Hub.Service.Log.Info("closing an MQTT client", "hub", c.Hub.Name, "connection", c.ID, "reason", fault.Reason)
	c.mu.Lock()
	c.closeConn(n, &packets.Packet{ReasonCode: fault.Code, Properties: packets.Properties{ReasonString: fault.Reason}},
		protocol.ClosePolicyViolation, fault.Reason)
	c.mu.Unlock()
	how := &protocol.MQTTDisconnect{}
	if c.version == protocol.MQTT5 {
		how.DisconnectPacket = &protocol.MQTTDisconnectPacket{Code: fault.Code, UserProperties: []protocol.MQTTUserProperty{}}
	}
	c.detach(n, fault.Reason, how)
}

// detach tells that a connection is gone, or is about to be. The session ends with it, or waits for the client.
func (c *session) detach(n *conn, reason string, how *protocol.MQTTDisconnect) {
	c.mu.Lock()
	if c.conn != n || c.closing {
		c.mu.Unlock()
		return
	}
	c.conn, c.ending = nil, how
	c.queue = slices.DeleteFunc(c.queue, func(d delivery) bool {
		if d.qos == 0 {
			c.bytes -= len(d.frame.Data)
		}
		return d.qos == 0
	})
	if c.lifetime == 0 {
		c.endSession(packets.CodeDisconnect, protocol.CloseNormal, reason)
		c.mu.Unlock()
		c.Left(reason)
		return
	}
	c.deadline = c.Hub.Service.Clock.AfterFunc(c.lifetime, func() { c.End("the client did not come back in time: " + reason) })
	if w := c.will; w != nil && w.delay == 0 {
		c.sendWill()
	} else if w != nil {
		w.due = c.Hub.Service.Clock.AfterFunc(min(w.delay, c.lifetime), func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.will == w {
				c.sendWill()
			}
		})
	}
	c.mu.Unlock()
	c.Hub.Service.Observer.Changed()
	c.Show("connection", "cut off: it may come back", "")
}

// resume gives the session of a client that is away, or of which nobody has noticed yet that it is, to one that has
// come back. It reports false when the session is over.
func (c *session) resume(back *session, n *conn, announce func(resumed bool)) bool {
	defer c.Hub.Service.Observer.Changed()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.deadline != nil && !c.deadline.Stop() {
		return false
	}
	if c.conn != nil {
		c.closeConn(c.conn, &packets.Packet{ReasonCode: packets.ErrSessionTakenOver.Code}, protocol.ClosePolicyViolation,
			packets.ErrSessionTakenOver.Reason)
		if c.will != nil && c.will.delay == 0 {
			c.sendWill()
		}
	}
	c.dropWill()
	c.conn, c.physicalID, c.ending, c.deadline = n, n.physicalID, nil, nil
	c.lifetime, c.will, c.resend = back.lifetime, back.will, 0
	c.AdoptState(&back.Connection)
	announce(true)
	c.wake(n)
	return true
}

// takeOver ends the session for a client that wants a new one.
func (c *session) takeOver() {
	reason := packets.ErrSessionTakenOver.Reason
	c.Left(reason)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endSession(packets.ErrSessionTakenOver, protocol.ClosePolicyViolation, reason)
}

// Away reports whether the client is gone and may come back.
func (c *session) Away() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn == nil && !c.closing
}

// sendWill publishes the will, if there is one. The caller holds c.mu.
func (c *session) sendWill() {
	w := c.dropWill()
	if w == nil {
		return
	}
	c.Hub.Service.Life.Go(func() { // not here: the caller may hold hub.mu
		if !c.Allows(hub.SendToGroup, w.message.Group) {
			c.Hub.Service.Log.Info("an MQTT client may no longer send its will", "connection", c.ID, "group", w.message.Group)
			return
		}
		w.message.Expires = c.expiry(w.expiry)
		c.Publish(w.message, false)
	})
}

// dropWill forgets the will and returns it. The caller holds c.mu.
func (c *session) dropWill() *will {
	w := c.will
	if w != nil && w.due != nil {
		w.due.Stop()
	}
	c.will = nil
	return w
}

// Identity is what the events of the connection say of it in their headers.
func (c *session) Identity() (physicalID, sessionID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.physicalID, c.sessionID
}

// Disconnection is how the connection ended, for the application. Unless it ended otherwise, it was the service's will.
func (c *session) Disconnection() *protocol.MQTTDisconnect {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != nil || c.version != protocol.MQTT5 {
		return cmp.Or(c.ending, &protocol.MQTTDisconnect{})
	}
	last := &protocol.MQTTDisconnectPacket{Code: packets.ErrAdministrativeAction.Code, UserProperties: []protocol.MQTTUserProperty{}}
	return &protocol.MQTTDisconnect{DisconnectPacket: last}
}

// read reads the client until its connection ends.
func (c *session) read(n *conn) {
	heard := func() {}
	if n.keepAlive > 0 {
		// By the machine's clock, not the server's: Advance does not make a client's pings come faster.
		silence := time.AfterFunc(n.keepAlive, func() {
			c.fail(n, protocol.NewMQTTFault(packets.ErrKeepAliveTimeout, "the client was silent for longer than its keep alive allows"))
		})
		defer silence.Stop()
		heard = func() { silence.Reset(n.keepAlive) }
	}
	for {
		pk, err := protocol.ReadMQTT(n.in, c.version)
		if fault, ok := errors.AsType[*protocol.MQTTFault](err); ok {
			c.fail(n, fault)
			err = n.drain()
		}
		if err != nil {
			c.lost(n, err)
			return
		}
		heard()
		if !c.leaving(n) {
			c.handle(n, pk)
		}
	}
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
	c.mu.Unlock()
	if !expected {
		reason := handshake.LostReason(err)
		c.Hub.Service.Log.Debug("MQTT client gone", "hub", c.Hub.Name, "connection", c.ID, "reason", reason)
		c.detach(n, reason, &protocol.MQTTDisconnect{})
		n.nc.CloseGently()
	}
	n.nc.Close()
	n.ws.CloseNow()
}

// lifetime is how long a session outlives its connection, of the seconds that a client asks for: at most as long as
// a reliable client's.
func lifetime(seconds uint32) time.Duration {
	return min(time.Duration(seconds)*time.Second, hub.RecoveryWindow)
}
