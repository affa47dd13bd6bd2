package emulator

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// maxMQTTQoS is the best quality of service there is: at least once. CONNACK says so; who publishes at 2 all the
	// same is closed, who subscribes at 2 is granted 1.
	maxMQTTQoS = 1
	// maxMQTTInflight is how many messages of quality of service 1 may be written and not acknowledged, unless the
	// client allows less.
	maxMQTTInflight = 1000
)

// mqttClient is the link of an MQTT client. It is the client's session: it may outlive the network connection, and be
// given another.
type mqttClient struct {
	connection
	server  *Server
	version mqttVersion

	sessionID string // for the application

	mu            sync.Mutex // guards everything below, and the mqttConns
	conn          *mqttConn  // nil while the client is away
	physicalID    string     // of conn, or of the last one
	lifetime      time.Duration
	deadline      *timer // ends the session of a client that is away
	subscriptions map[string]packets.Subscription
	queue         []mqttDelivery // not yet written
	inflight      []mqttDelivery // written at quality of service 1 and not acknowledged, in order
	resend        int            // where in inflight to go on writing again; len(inflight) = nowhere
	bytes         int            // in both
	lastID        uint16
	will          *mqttWill
	farewell      *mqttDisconnect // how the last network connection ended, if not by the service's will
	closing       bool            // the session has ended
}

// mqttDelivery is a message on its way to one client.
type mqttDelivery struct {
	frame *frame // as for all clients; see mqttPublish
	qos   byte
	id    uint16 // once it is written, at quality of service 1
}

// mqttConn is one network connection of an MQTT client.
type mqttConn struct {
	ws         *websocket.Conn
	nc         *netConn
	stream     *mqttStream
	in         *bufio.Reader // of stream
	physicalID string        // for the application

	// what CONNECT says
	receiveMaximum int // 0 = any
	maxPacket      int // 0 = any
	noProblemInfo  bool
	keepAlive      time.Duration // how long it may be silent; 0 = for ever

	// guarded by mqttClient.mu
	control     [][]byte // packets that wait to be written, before any message
	lastWords   []byte   // DISCONNECT, after any message
	writing     bool     // a goroutine writes
	closing     bool     // what waits is written, then goodbye is said
	ended       bool     // nobody reads it any more
	closeCode   websocket.StatusCode
	closeReason string
}

// mqttWill is what is published when the client is gone without having said goodbye.
type mqttWill struct {
	message *message
	expiry  time.Duration // how long the message is worth delivering; 0 = for ever
	delay   time.Duration // how long the client may take to come back before that
	due     *timer
}

func newMQTTWill(pk *packets.Packet) (*mqttWill, *mqttFault) {
	p := &pk.Connect
	group, fault := mqttGroup(p.WillTopic)
	if fault != nil {
		return nil, fault
	}
	payload, fault := mqttPayload(&p.WillProperties, p.WillPayload)
	if fault != nil {
		return nil, fault
	}
	return &mqttWill{
		message: &message{payload: payload, group: group,
			mqtt: &mqttOrigin{p.WillQos, mqttForwarded(&p.WillProperties)}},
		expiry: time.Duration(p.WillProperties.MessageExpiryInterval) * time.Second,
		delay:  time.Duration(p.WillProperties.WillDelayInterval) * time.Second,
	}, nil
}

// deliver queues a message.
func (c *mqttClient) deliver(m *message) {
	topic, ok := mqttTopic(m.group)
	if !ok {
		c.server.log.Info("a group's name is no MQTT topic", "hub", c.hub.name, "connection", c.id, "group", m.group)
		return
	}
	d := mqttDelivery{frame: m.frameFor(c.version), qos: maxMQTTQoS}
	if m.mqtt != nil {
		d.qos = m.mqtt.qos
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
	full := func() bool { return waiting() >= maxQueuedFrames || c.bytes+len(d.frame.data) > maxQueuedBytes }
	if full() {
		c.dropExpired()
	}
	if full() {
		c.overflow(fmt.Sprintf("the client is too slow: %d messages, %d bytes wait for it", waiting(), c.bytes))
		return
	}
	c.queue = append(c.queue, d)
	c.bytes += len(d.frame.data)
	c.wake(c.conn)
}

// tell queues a packet that is no message.
func (c *mqttClient) tell(n *mqttConn, pk *packets.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.closing || n.ended {
		return
	}
	if len(n.control) >= maxQueuedFrames {
		c.overflow(fmt.Sprintf("the client is too slow: %d answers wait for it", len(n.control)))
		return
	}
	n.control = append(n.control, c.encode(n, pk))
	c.wake(n)
}

// dropExpired forgets messages that wait and whose time is over. The caller holds c.mu.
func (c *mqttClient) dropExpired() {
	now := c.server.clock.now()
	c.queue = slices.DeleteFunc(c.queue, func(d mqttDelivery) bool {
		expired := d.frame.expiredAt(now)
		if expired {
			c.bytes -= len(d.frame.data)
		}
		return expired
	})
}

// overflow gives up a client that does not keep up: what waited for it is dropped. The caller holds c.mu.
func (c *mqttClient) overflow(reason string) {
	c.queue, c.inflight, c.resend, c.bytes = nil, nil, 0, 0
	if c.conn != nil {
		c.conn.control = nil
	}
	c.finish(packets.ErrQuotaExceeded, websocket.StatusPolicyViolation, reason)
	c.server.leaveBehind(&c.connection, reason)
}

// encode encodes a packet as a connection wants it.
func (c *mqttClient) encode(n *mqttConn, pk *packets.Packet) []byte {
	pk.ProtocolVersion = byte(c.version)
	pk.Properties.ReasonString = mqttString(pk.Properties.ReasonString)
	pk.Mods.MaxSize = uint32(n.maxPacket)
	pk.Mods.DisallowProblemInfo = n.noProblemInfo && pk.FixedHeader.Type != packets.Disconnect
	return encodeMQTT(pk)
}

// wake starts the writer of a connection if it does not run. The caller holds c.mu.
func (c *mqttClient) wake(n *mqttConn) {
	if n != nil && !n.writing && !n.ended {
		n.writing = true
		c.server.wg.Go(func() { c.write(n) }) // the reader is counted already
	}
}

// write writes what waits, and says goodbye if that is what comes last.
func (c *mqttClient) write(n *mqttConn) {
	for {
		c.mu.Lock()
		data := c.next(n)
		if data == nil {
			n.writing = n.closing // nothing is written after goodbye
			closing, code, reason := n.closing, n.closeCode, n.closeReason
			c.mu.Unlock()
			if closing {
				n.leave(code, reason)
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

// leave closes the WebSocket.
func (n *mqttConn) leave(code websocket.StatusCode, reason string) {
	n.nc.leave()
	n.ws.Close(code, shorten(strings.ToValidUTF8(reason, "\uFFFD"), maxCloseReason)) // waits for the answer
	n.nc.Close()
}

// next takes what is written next to a connection: answers, then messages, then the last words. The caller holds c.mu.
func (c *mqttClient) next(n *mqttConn) []byte {
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
	data := n.lastWords
	n.lastWords = nil
	return data
}

// nextMessage takes the next message that is still worth writing, and that the client has room for. The caller holds
// c.mu.
func (c *mqttClient) nextMessage(n *mqttConn) []byte {
	for c.resend < len(c.inflight) {
		d := c.inflight[c.resend]
		data := mqttPublish(c.version, d.frame.data, d.id, true, mqttExpiry(d.frame, &c.server.clock))
		if c.fits(n, data) {
			c.resend++
			return data
		}
		c.forget(c.resend)
	}
	window := maxMQTTInflight
	if n.receiveMaximum > 0 {
		window = min(window, n.receiveMaximum)
	}
	for len(c.queue) > 0 {
		d := c.queue[0]
		if d.qos > 0 && len(c.inflight) >= window {
			return nil // until the client has acknowledged some
		}
		c.queue[0] = mqttDelivery{}
		c.queue = c.queue[1:]
		if d.frame.expired(&c.server.clock) {
			c.bytes -= len(d.frame.data)
			continue
		}
		if d.qos > 0 {
			d.id = c.newID()
		}
		data := mqttPublish(c.version, d.frame.data, d.id, false, mqttExpiry(d.frame, &c.server.clock))
		fits := c.fits(n, data)
		if fits && d.qos > 0 {
			c.inflight = append(c.inflight, d)
			c.resend = len(c.inflight)
		} else {
			c.bytes -= len(d.frame.data)
		}
		if fits {
			return data
		}
	}
	c.queue = nil
	return nil
}

// fits reports whether the client takes a packet of this size. MQTT has the server drop what it does not.
func (c *mqttClient) fits(n *mqttConn, data []byte) bool {
	if n.maxPacket == 0 || len(data) <= n.maxPacket {
		return true
	}
	c.server.log.Info("a message is larger than the client takes", "hub", c.hub.name, "connection", c.id,
		"bytes", len(data), "maximum", n.maxPacket)
	return false
}

// newID is a packet id that no message in flight has. The caller holds c.mu.
func (c *mqttClient) newID() uint16 {
	for {
		c.lastID++
		if c.lastID != 0 && !slices.ContainsFunc(c.inflight, func(d mqttDelivery) bool { return d.id == c.lastID }) {
			return c.lastID
		}
	}
}

// forget drops a message in flight. The caller holds c.mu.
func (c *mqttClient) forget(i int) {
	c.bytes -= len(c.inflight[i].frame.data)
	c.inflight = slices.Delete(c.inflight, i, i+1)
	if i < c.resend {
		c.resend--
	}
}

// close ends the session and says goodbye after everything that was queued before.
func (c *mqttClient) close(reason string) {
	code := packets.ErrAdministrativeAction
	if c.server.isClosing() {
		code = packets.ErrServerShuttingDown
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finish(code, websocket.StatusNormalClosure, reason)
}

// drop cuts the network connection.
func (c *mqttClient) drop() *netConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	c.conn.nc.Close()
	return c.conn.nc
}

// finish ends the session. The caller holds c.mu, and takes the client out of its hub.
func (c *mqttClient) finish(code packets.Code, closeCode websocket.StatusCode, reason string) {
	if c.closing {
		return
	}
	c.closing = true
	if c.deadline != nil {
		c.deadline.stop()
	}
	c.sendWill()
	if c.conn != nil {
		c.bye(c.conn, &packets.Packet{ReasonCode: code.Code, Properties: packets.Properties{ReasonString: reason}},
			closeCode, reason)
	}
}

// bye closes a connection after what waits for it, with a DISCONNECT packet in a version that has it for servers. The
// caller holds c.mu.
func (c *mqttClient) bye(n *mqttConn, last *packets.Packet, code websocket.StatusCode, reason string) {
	if n.closing || n.ended {
		return
	}
	n.closing, n.closeCode, n.closeReason = true, code, reason
	if last != nil && c.version == mqtt5 {
		last.FixedHeader.Type = packets.Disconnect
		n.lastWords = c.encode(n, last)
	}
	n.nc.SetWriteDeadline(time.Now().Add(handshakeTimeout)) // a client that reads nothing is cut off
	c.wake(n)
}

// fail closes a connection whose client did something it must not, or nothing for too long. The session may outlive it.
func (c *mqttClient) fail(n *mqttConn, fault *mqttFault) {
	c.server.log.Info("closing an MQTT client", "hub", c.hub.name, "connection", c.id, "reason", fault.reason)
	c.mu.Lock()
	c.bye(n, &packets.Packet{ReasonCode: fault.code, Properties: packets.Properties{ReasonString: fault.reason}},
		websocket.StatusPolicyViolation, fault.reason)
	c.mu.Unlock()
	how := &mqttDisconnect{}
	if c.version == mqtt5 {
		how.DisconnectPacket = &mqttDisconnectPacket{fault.code, []mqttUserProperty{}}
	}
	c.depart(n, fault.reason, how)
}

// depart tells that a connection is gone, or is about to be. The session ends with it, or waits for the client.
func (c *mqttClient) depart(n *mqttConn, reason string, how *mqttDisconnect) {
	c.mu.Lock()
	if c.conn != n || c.closing {
		c.mu.Unlock()
		return
	}
	c.conn, c.farewell = nil, how
	c.queue = slices.DeleteFunc(c.queue, func(d mqttDelivery) bool {
		if d.qos == 0 {
			c.bytes -= len(d.frame.data)
		}
		return d.qos == 0
	})
	if c.lifetime == 0 {
		c.finish(packets.CodeDisconnect, websocket.StatusNormalClosure, reason)
		c.mu.Unlock()
		c.left(reason)
		return
	}
	c.deadline = c.server.clock.afterFunc(c.lifetime, func() { c.end("the client did not come back in time: " + reason) })
	if w := c.will; w != nil && w.delay == 0 {
		c.sendWill()
	} else if w != nil {
		w.due = c.server.clock.afterFunc(min(w.delay, c.lifetime), func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.will == w {
				c.sendWill()
			}
		})
	}
	c.mu.Unlock()
	c.hub.notifier.notify()
	c.show("connection", "cut off: it may come back", "")
}

// resume gives the session of a client that is away, or of which nobody has noticed yet that it is, to one that has
// come back. It reports false when the session is over.
func (c *mqttClient) resume(back *mqttClient, n *mqttConn, announce func(resumed bool)) bool {
	defer c.hub.notifier.notify()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.deadline != nil && !c.deadline.stop() {
		return false
	}
	if c.conn != nil {
		c.bye(c.conn, &packets.Packet{ReasonCode: packets.ErrSessionTakenOver.Code}, websocket.StatusPolicyViolation,
			packets.ErrSessionTakenOver.Reason)
		if c.will != nil && c.will.delay == 0 {
			c.sendWill()
		}
	}
	c.dropWill()
	c.conn, c.physicalID, c.farewell, c.deadline = n, n.physicalID, nil, nil
	c.lifetime, c.will, c.resend = back.lifetime, back.will, 0
	if c.events != nil && back.events != nil && back.events.state != "" {
		c.events.add(func(context.Context) { c.events.state = back.events.state })
	}
	announce(true)
	c.wake(n)
	return true
}

// takeOver ends the session for a client that wants a new one.
func (c *mqttClient) takeOver() {
	reason := packets.ErrSessionTakenOver.Reason
	c.left(reason)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finish(packets.ErrSessionTakenOver, websocket.StatusPolicyViolation, reason)
}

// away reports whether the client is gone and may come back.
func (c *mqttClient) away() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn == nil && !c.closing
}

// sendWill publishes the will, if there is one. The caller holds c.mu.
func (c *mqttClient) sendWill() {
	w := c.dropWill()
	if w == nil {
		return
	}
	c.server.spawn(func() { // not here: the caller may hold hub.mu
		if !c.allows(permissionSendToGroup, w.message.group) {
			c.server.log.Info("an MQTT client may no longer send its will", "connection", c.id, "group", w.message.group)
			return
		}
		w.message.expires = c.expiry(w.expiry)
		c.publish(w.message, false)
	})
}

// dropWill forgets the will and returns it. The caller holds c.mu.
func (c *mqttClient) dropWill() *mqttWill {
	w := c.will
	if w != nil && w.due != nil {
		w.due.stop()
	}
	c.will = nil
	return w
}

// identity is what the events of the connection say of it in their headers.
func (c *mqttClient) identity() (physicalID, sessionID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.physicalID, c.sessionID
}

// disconnection is how the connection ended, for the application. Unless it ended otherwise, it was the service's will.
func (c *mqttClient) disconnection() *mqttDisconnect {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.farewell != nil || c.version != mqtt5 {
		return cmp.Or(c.farewell, &mqttDisconnect{})
	}
	last := &mqttDisconnectPacket{packets.ErrAdministrativeAction.Code, []mqttUserProperty{}}
	return &mqttDisconnect{DisconnectPacket: last}
}

// read reads the client until its connection ends.
func (c *mqttClient) read(n *mqttConn) {
	heard := func() {}
	if n.keepAlive > 0 {
		// By the machine's clock, not the server's: Advance does not make a client's pings come faster.
		silence := time.AfterFunc(n.keepAlive, func() {
			c.fail(n, newMQTTFault(packets.ErrKeepAliveTimeout, "the client was silent for longer than its keep alive allows"))
		})
		defer silence.Stop()
		heard = func() { silence.Reset(n.keepAlive) }
	}
	for {
		pk, err := readMQTT(n.in, c.version)
		if fault, ok := errors.AsType[*mqttFault](err); ok {
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
func (n *mqttConn) drain() error {
	n.stream.lenient = true
	if _, err := io.Copy(io.Discard, n.in); err != nil {
		return err
	}
	return io.EOF
}

// leaving reports whether goodbye is being said on a connection.
func (c *mqttClient) leaving(n *mqttConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return n.closing
}

// lost ends a connection that cannot be read any more.
func (c *mqttClient) lost(n *mqttConn, err error) {
	c.mu.Lock()
	n.ended = true
	expected := n.closing
	c.mu.Unlock()
	if !expected {
		reason := lostReason(err)
		c.server.log.Debug("MQTT client gone", "hub", c.hub.name, "connection", c.id, "reason", reason)
		c.depart(n, reason, &mqttDisconnect{})
		n.nc.linger()
	}
	n.nc.Close()
	n.ws.CloseNow()
}

// mqttLifetime is how long a session outlives its connection, of the seconds that a client asks for: at most as long as
// a reliable client's.
func mqttLifetime(seconds uint32) time.Duration {
	return min(time.Duration(seconds)*time.Second, recoveryWindow)
}
