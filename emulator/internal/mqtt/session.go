package mqtt

import (
	"cmp"
	"sync"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// session is the link of an MQTT client. It is the client's session: it may outlive the network connection, and be
// given another.
type session struct {
	hub.Connection
	version   protocol.MQTTVersion
	sessionID string // for the application
	tokenUser string // the user of the token that the session began with, whatever the application made of it

	mu            sync.Mutex // guards everything below, and the mqttConns
	conn          *conn      // nil while the client is away
	physicalID    string     // of conn, or of the last one
	lifetime      time.Duration
	deadline      *hub.Timer // ends the session of a client that is away
	subscriptions map[string]subscription
	backlog
	received map[uint16]bool // packets of quality of service 2 that PUBREL has not released: whether PUBREC is due at once
	events   eventQueue
	will     *will
	ending   *protocol.MQTTDisconnect // how the last network connection ended
	closing  bool                     // the session has ended
}

// subscription is what a client has subscribed to.
type subscription struct {
	mqttpacket.Subscription
	id uint32 // its identifier; 0 = none
}

const sessionTakenOver = "the session was taken over by another connection"

// Close ends the session and closes the connection after everything that was queued before.
func (c *session) Close(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endSession(c.goodbyeCode(), protocol.CloseNormal, reason)
}

// goodbyeCode is the reason code with which the service ends a session.
func (c *session) goodbyeCode() byte {
	if c.Hub.Service.Life.IsClosing() {
		return mqttpacket.ServerShuttingDown
	}
	return mqttpacket.AdministrativeAction
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

// byService is an end that the service has decided on, for the application.
func byService(version protocol.MQTTVersion, code byte) *protocol.MQTTDisconnect {
	if version != protocol.MQTT5 { // which has no DISCONNECT packet of servers
		return &protocol.MQTTDisconnect{}
	}
	return &protocol.MQTTDisconnect{DisconnectPacket: &protocol.MQTTDisconnectPacket{Code: code}}
}

// fail closes a connection whose client did something it must not, or nothing for too long. The session may outlive it.
func (c *session) fail(n *conn, fault *mqttpacket.Fault) {
	if c.leaving(n) {
		return
	}
	c.Hub.Service.Log.Info("closing an MQTT client", "hub", c.Hub.Name, "connection", c.ID, "code", fault.Code, "reason", fault.Reason)
	c.mu.Lock()
	c.closeConn(n, &mqttpacket.Packet{Code: fault.Code, Properties: mqttpacket.Properties{ReasonString: fault.Reason}},
		protocol.ClosePolicyViolation, fault.Reason)
	c.mu.Unlock()
	c.detach(n, fault.Reason, byService(c.version, fault.Code))
}

// detach tells that a connection is gone, or is about to be. The session ends with it, or waits for the client.
func (c *session) detach(n *conn, reason string, how *protocol.MQTTDisconnect) {
	c.mu.Lock()
	if c.conn != n || c.closing {
		c.mu.Unlock()
		return
	}
	c.ending = how
	if c.lifetime == 0 { // what was queued before is still written to a connection that is only about to be gone
		c.endSession(mqttpacket.Success, protocol.CloseNormal, reason)
		c.mu.Unlock()
		c.Left(reason)
		return
	}
	c.conn = nil
	c.dropQueued(func(d delivery) bool { return d.qos == 0 })
	c.deadline = c.Hub.Service.Clock.AfterFunc(c.lifetime, func() { c.End("the client did not come back in time: " + reason) })
	c.startWill()
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
	if old := c.conn; old != nil {
		c.closeConn(old, &mqttpacket.Packet{Code: mqttpacket.SessionTakenOver}, protocol.ClosePolicyViolation, sessionTakenOver)
		old.impatient = true
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
	c.wake(n)
	return true
}

// takeOver ends the session for a client that wants a new one.
func (c *session) takeOver() {
	c.mu.Lock()
	c.endSession(mqttpacket.SessionTakenOver, protocol.ClosePolicyViolation, sessionTakenOver)
	c.mu.Unlock()
	c.Left(sessionTakenOver)
}

// Away reports whether the client is gone and may come back.
func (c *session) Away() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn == nil && !c.closing
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
	return cmp.Or(c.ending, byService(c.version, c.goodbyeCode()))
}

// lifetime is how long a session outlives its connection, of the seconds that a client asks for: at most as long as
// a reliable client's.
func lifetime(seconds *uint32) time.Duration {
	if seconds == nil {
		return 0
	}
	return min(time.Duration(*seconds)*time.Second, hub.RecoveryWindow)
}
