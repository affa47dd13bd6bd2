package mqtt

import (
	"slices"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// maxInflight is the maximum number of messages of quality of service 1 or 2 that are written and not acknowledged. A client may
// set a lower limit.
const maxInflight = 1000

// backlog holds the messages that a session has not delivered completely.
type backlog struct {
	queue    []delivery // not written yet
	inflight []delivery // written at quality of service 1 or 2, with an acknowledgement outstanding, in order
	resend   int        // the index in inflight of the next message to write again; len(inflight) = none
	bytes    int        // the size of queue and inflight
	lastID   uint16
}

// delivery is a message on its way to one client.
type delivery struct {
	frame        *hub.Frame // shared by all clients; see mqttpacket.Copy
	qos          byte
	subscription uint32 // the subscription identifier; 0 = none
	id           uint16 // set when the message is written at quality of service 1 or 2
	received     bool   // quality of service 2: the client has the message, and PUBREL is the next step
}

// size returns the number of bytes that a message adds to a backlog.
func (d *delivery) size() int {
	if d.received {
		return 0
	}
	return len(d.frame.Data)
}

// Deliver queues a message.
func (c *session) Deliver(m *hub.Message) {
	topic, ok := protocol.MQTTTopic(m.Group)
	if !ok {
		c.Hub.Service.Log.Info("a message was not delivered: the group's name is not a valid MQTT topic", "hub", c.Hub.Name, "connection", c.ID, "group", m.Group)
		return
	}
	d := delivery{frame: m.FrameFor(c.version), qos: 1} // as documented for messages that are not from MQTT clients
	if o, ok := m.Origin.(*protocol.MQTTOrigin); ok {
		d.qos = o.QoS
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.subscriptions[topic]; ok {
		d.qos, d.subscription = min(d.qos, s.QoS), s.id
	} else { // the application added the client to the group
		d.qos = min(d.qos, 1)
	}
	c.deliver(d)
}

// deliver queues a message. The caller holds c.mu.
func (c *session) deliver(d delivery) {
	gone := c.conn == nil || c.conn.closing
	if c.closing || gone && (d.qos == 0 || c.lifetime == 0) { // quality of service 0: not kept for a client that is away
		return
	}
	waiting := func() int { return len(c.queue) + len(c.inflight) }
	full := func() bool {
		return waiting() >= hub.MaxQueuedFrames || waiting() > 0 && c.bytes+d.size() > hub.MaxQueuedBytes
	}
	if full() {
		c.dropExpired()
	}
	if full() {
		c.overflow(hub.TooSlow(waiting(), c.bytes))
		return
	}
	c.queue = append(c.queue, d)
	c.bytes += d.size()
	c.startWriter(c.conn)
}

// dropExpired removes the expired messages from the queue. The caller holds c.mu.
func (c *session) dropExpired() {
	now := c.Hub.Service.Clock.Now()
	c.dropQueued(func(d delivery) bool { return d.frame.ExpiredAt(now) })
}

// dropQueued removes the messages for which drop returns true from the queue. The caller holds c.mu.
func (c *session) dropQueued(drop func(d delivery) bool) {
	c.queue = slices.DeleteFunc(c.queue, func(d delivery) bool {
		if !drop(d) {
			return false
		}
		c.bytes -= d.size()
		return true
	})
}

// overflow ends the session of a client that does not keep up, and drops everything that waits for it. The caller holds c.mu.
func (c *session) overflow(reason string) {
	c.backlog = backlog{lastID: c.lastID}
	if c.conn != nil {
		c.conn.control = nil
	}
	c.endSession(mqttpacket.QuotaExceeded, protocol.ClosePolicyViolation, reason)
	c.GiveUp(reason, reason)
}

// nextMessage removes and returns the next packet to write: a message to resend, or a queued message that has not expired. It
// returns nil if there is none or if the client must acknowledge others first. The caller holds c.mu.
func (c *session) nextMessage(n *conn) []byte {
	for c.resend < len(c.inflight) {
		if c.resend >= n.window() { // lower than that of the previous connection
			return nil
		}
		d := c.inflight[c.resend]
		if d.received {
			c.resend++
			return c.encode(n, &mqttpacket.Packet{Type: mqttpacket.Pubrel, PacketID: d.id})
		}
		if data := c.copyOf(d, true); c.fits(n, data) {
			c.resend++
			return data
		}
		c.forget(c.resend)
	}
	for len(c.queue) > 0 {
		d := c.queue[0]
		if d.qos > 0 && len(c.inflight) >= n.window() {
			return nil // until the client acknowledges others
		}
		c.queue[0] = delivery{}
		c.queue = c.queue[1:]
		if d.frame.Expired(c.Hub.Service.Clock) {
			c.bytes -= d.size()
			continue
		}
		if d.qos > 0 {
			d.id = c.newID()
		}
		data := c.copyOf(d, false)
		fits := c.fits(n, data)
		if fits && d.qos > 0 {
			c.inflight = append(c.inflight, d)
			c.resend = len(c.inflight)
		} else {
			c.bytes -= d.size()
		}
		if fits {
			return data
		}
	}
	c.queue = nil
	return nil
}

// blocked reports whether messages wait for acknowledgements of the client. The caller holds c.mu.
func (c *session) blocked(n *conn) bool {
	return c.conn == n && (len(c.queue) > 0 || c.resend < len(c.inflight))
}

// copyOf returns this client's copy of a message's packet. The caller holds c.mu.
func (c *session) copyOf(d delivery, dup bool) []byte {
	return mqttpacket.Copy{QoS: d.qos, PacketID: d.id, Dup: dup, SubscriptionID: d.subscription,
		MessageExpiry: protocol.MQTTExpiry(d.frame, c.Hub.Service.Clock)}.Of(d.frame.Data, byte(c.version))
}

// fits reports whether a packet is within the client's maximum packet size. MQTT requires the server to drop a larger packet.
func (c *session) fits(n *conn, data []byte) bool {
	if n.maxPacket == 0 || len(data) <= n.maxPacket {
		return true
	}
	c.Hub.Service.Log.Info("a message was dropped: it exceeds the client's maximum packet size", "hub", c.Hub.Name, "connection", c.ID,
		"bytes", len(data), "maximum", n.maxPacket)
	return false
}

// newID returns a packet id that no message in flight uses. The caller holds c.mu.
func (c *session) newID() uint16 {
	for {
		c.lastID++
		if c.lastID != 0 && c.inflightIndex(c.lastID) < 0 {
			return c.lastID
		}
	}
}

func (c *session) inflightIndex(id uint16) int {
	return slices.IndexFunc(c.inflight, func(d delivery) bool { return d.id == id })
}

// forget removes a message from inflight. The caller holds c.mu.
func (c *session) forget(i int) {
	c.bytes -= c.inflight[i].size()
	c.inflight = slices.Delete(c.inflight, i, i+1)
	if i < c.resend {
		c.resend--
	}
}

// handleAck handles PUBACK, PUBREC and PUBCOMP.
func (c *session) handleAck(n *conn, pk *mqttpacket.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != n {
		return
	}
	messages, bytes := len(c.inflight), c.bytes
	i := c.inflightIndex(pk.PacketID)
	switch {
	case pk.Type == mqttpacket.Pubrec && i < 0:
		pubrel := &mqttpacket.Packet{Type: mqttpacket.Pubrel, PacketID: pk.PacketID}
		if pk.Code < mqttpacket.UnspecifiedError { // otherwise the exchange has ended
			pubrel.Code = mqttpacket.PacketIDNotFound
			c.queueControl(n, pubrel)
		}
	case i < 0:
	case pk.Type == mqttpacket.Pubrec && c.inflight[i].qos == 2 && pk.Code < mqttpacket.UnspecifiedError:
		d := &c.inflight[i]
		c.bytes -= d.size()
		d.received, d.frame = true, nil
		c.queueControl(n, &mqttpacket.Packet{Type: mqttpacket.Pubrel, PacketID: d.id})
	case pk.Type == mqttpacket.Puback && c.inflight[i].qos == 1,
		pk.Type == mqttpacket.Pubrec && c.inflight[i].qos == 2,
		pk.Type == mqttpacket.Pubcomp && c.inflight[i].received:
		c.forget(i)
	}
	if len(c.inflight) != messages || c.bytes != bytes {
		select {
		case n.acked <- struct{}{}:
		default:
		}
	}
	c.startWriter(n)
}
