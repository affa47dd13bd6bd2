package mqtt

import (
	"cmp"
	"sync"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// session is the session of an MQTT client, and its [hub.Link]. A session may outlive its network connection and continue over
// another one.
type session struct {
	hub.Connection
	version   protocol.MQTTVersion
	sessionID string // the session's id in events
	tokenUser string // the user of the first connection's token, even if the application set another user

	// handling is held while a packet is handled, so that a new connection's packets come after the old connection's. It is
	// acquired before mu.
	handling sync.Mutex

	mu            sync.Mutex    // guards everything below, and the guarded fields of conns
	conn          *conn         // nil while the client is away
	physicalID    string        // the physicalID of conn, or of the last conn
	lifetime      time.Duration // how long the session outlives a connection
	deadline      *hub.Timer    // ends the session of a client that is away
	subscriptions map[string]subscription
	backlog
	received map[uint16]bool // packet ids of quality of service 2 without PUBREL yet; true = a duplicate gets PUBREC immediately
	events   eventQueue
	will     *will
	ending   *protocol.MQTTDisconnect // how the last network connection ended
	closing  bool                     // the session has ended
}

// subscription is a client's subscription to a topic.
type subscription struct {
	mqttpacket.Subscription
	id uint32 // the subscription identifier; 0 = none
}

const sessionTakenOver = "the session was taken over by another connection"

// Close ends the session and closes the connection after everything queued has been written.
func (c *session) Close(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endSession(c.closeReasonCode(), protocol.CloseNormal, reason)
}

// closeReasonCode returns the reason code for a session that the service ends.
func (c *session) closeReasonCode() byte {
	if c.Hub.Service.Life.IsClosing() {
		return mqttpacket.ServerShuttingDown
	}
	return mqttpacket.AdministrativeAction
}

// Drop cuts the network connection. noticed reports whether the server has noticed the cut. It is nil if the client is away.
func (c *session) Drop() (noticed func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	return c.conn.nc.Cut()
}

// Silence stops all traffic in both directions, and keeps the network connection open. It returns false if there is none.
func (c *session) Silence() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return false
	}
	c.conn.nc.Silence()
	return true
}

// endSession ends the session. The caller holds c.mu, and removes the client from its hub.
func (c *session) endSession(code byte, closeCode int, reason string) {
	if c.closing {
		return
	}
	c.closing = true
	if c.ending == nil {
		c.ending = byService(c.version, code)
	}
	c.events.changed.Broadcast()
	if c.deadline != nil {
		c.deadline.Stop()
	}
	c.sendWill()
	if c.conn != nil {
		c.closeConn(c.conn, &mqttpacket.Packet{Code: code, Properties: mqttpacket.Properties{ReasonString: reason}},
			closeCode, reason)
	}
}

// byService describes, for the disconnected event, an end that the service initiated.
func byService(version protocol.MQTTVersion, code byte) *protocol.MQTTDisconnect {
	if version != protocol.MQTT5 { // a 3.1.1 server does not send DISCONNECT
		return &protocol.MQTTDisconnect{}
	}
	return &protocol.MQTTDisconnect{DisconnectPacket: &protocol.MQTTDisconnectPacket{Code: code}}
}

// fail closes a connection because of a protocol violation or a keep-alive timeout. The session may outlive the connection.
func (c *session) fail(n *conn, fault *mqttpacket.Fault) {
	if c.isClosing(n) {
		return
	}
	c.Hub.Service.Log.Info("closing an MQTT client", "hub", c.Hub.Name, "connection", c.ID, "code", fault.Code, "reason", fault.Reason)
	c.mu.Lock()
	c.closeConn(n, &mqttpacket.Packet{Code: fault.Code, Properties: mqttpacket.Properties{ReasonString: fault.Reason}},
		protocol.ClosePolicyViolation, fault.Reason)
	c.mu.Unlock()
	c.detach(n, fault.Reason, byService(c.version, fault.Code))
}

// detach separates the session from a connection that has ended or is closing. The session ends, or waits for the client to
// return.
func (c *session) detach(n *conn, reason string, how *protocol.MQTTDisconnect) {
	c.mu.Lock()
	if c.conn != n || c.closing {
		c.mu.Unlock()
		return
	}
	c.ending = how
	if c.lifetime == 0 { // if the connection is still closing, queued messages are written first
		c.endSession(mqttpacket.Success, protocol.CloseNormal, reason)
		c.mu.Unlock()
		c.Left(reason)
		return
	}
	c.conn = nil
	c.dropQueued(func(d delivery) bool { return d.qos == 0 })
	// As documented, the application receives the reason of the last disconnection.
	c.deadline = c.Hub.Service.Clock.AfterFunc(c.lifetime, func() { c.End(reason) })
	c.startWill()
	c.mu.Unlock()
	c.Hub.Service.Observer.Changed()
	c.Show("connection", "cut off: it may come back", "")
}

// resume continues the session over the connection n of a client that has returned. back is the new client's session, whose
// settings it adopts. If the previous connection still exists, resume closes it. resume returns false if the session has ended.
func (c *session) resume(back *session, n *conn, announce func(resumed bool)) bool {
	defer c.Hub.Service.Observer.Changed()
	c.handling.Lock()
	defer c.handling.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.deadline != nil && !c.deadline.Stop() {
		return false
	}
	if old := c.conn; old != nil {
		c.closeConn(old, &mqttpacket.Packet{Code: mqttpacket.SessionTakenOver}, protocol.ClosePolicyViolation, sessionTakenOver)
		old.closeNow = true
		if c.will != nil && c.will.delay == 0 {
			c.sendWill()
		}
		c.dropQueued(func(d delivery) bool { return d.qos == 0 })
	}
	c.dropWill()
	c.conn, c.physicalID, c.ending, c.deadline = n, n.physicalID, nil, nil
	c.lifetime, c.will, c.resend = back.lifetime, back.will, 0
	c.AdoptState(&back.Connection)
	c.events.changed.Broadcast()
	announce(true)
	c.startWriter(n)
	return true
}

// takeOver ends the session because the client begins a new one.
func (c *session) takeOver() {
	c.mu.Lock()
	c.endSession(mqttpacket.SessionTakenOver, protocol.ClosePolicyViolation, sessionTakenOver)
	c.mu.Unlock()
	c.Left(sessionTakenOver)
}

// Away reports whether the client is disconnected and may return to the session.
func (c *session) Away() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn == nil && !c.closing
}

// Identity returns the ids for the headers of the connection's events.
func (c *session) Identity() (physicalID, sessionID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.physicalID, c.sessionID
}

// Disconnection describes the end of the connection for the disconnected event. Without another cause, the service ended it.
func (c *session) Disconnection() *protocol.MQTTDisconnect {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cmp.Or(c.ending, byService(c.version, c.closeReasonCode()))
}

// lifetime returns how long a session outlives its connection, for the expiry interval that a client requests. The maximum is
// hub.RecoveryWindow, like for reliable clients.
func lifetime(seconds *uint32) time.Duration {
	if seconds == nil {
		return 0
	}
	return min(time.Duration(*seconds)*time.Second, hub.RecoveryWindow)
}
