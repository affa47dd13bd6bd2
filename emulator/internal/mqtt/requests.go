package mqtt

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// handle handles a packet.
func (c *session) handle(n *conn, pk *mqttpacket.Packet) {
	if c.Hub.Service.Log.Enabled(context.Background(), slog.LevelDebug) {
		c.Hub.Service.Log.Debug("MQTT packet", "hub", c.Hub.Name, "connection", c.ID, "type", pk.Type.String(), "topic", pk.Topic)
	}
	switch pk.Type {
	case mqttpacket.Publish:
		c.handlePublish(n, pk)
	case mqttpacket.Puback, mqttpacket.Pubrec, mqttpacket.Pubcomp:
		c.handleAck(n, pk)
	case mqttpacket.Pubrel:
		c.handlePubrel(n, pk)
	case mqttpacket.Subscribe:
		c.subscribe(n, pk)
	case mqttpacket.Unsubscribe:
		c.unsubscribe(n, pk)
	case mqttpacket.Pingreq:
		c.send(n, &mqttpacket.Packet{Type: mqttpacket.Pingresp})
	case mqttpacket.Disconnect:
		c.handleDisconnect(n, pk)
	case mqttpacket.Connect:
		c.fail(n, mqttpacket.NewFault(mqttpacket.ProtocolError, "the client sent a second CONNECT"))
	default:
		c.fail(n, mqttpacket.NewFault(mqttpacket.ProtocolError, "a client must not send %s here", pk.Type))
	}
}

// handlePublish sends a client's message to the topic's group, or to the application.
func (c *session) handlePublish(n *conn, pk *mqttpacket.Packet) {
	if fault := checkPublish(pk); fault != nil {
		c.fail(n, fault)
		return
	}
	if pk.QoS == 2 && c.hasReceived(n, pk) {
		return
	}
	if name, ok := strings.CutPrefix(pk.Topic, protocol.MQTTServerEvents); ok {
		c.raise(n, pk, name)
		return
	}
	p, fault := protocol.MQTTPayload(&pk.Properties, pk.Payload)
	if fault == nil {
		fault = c.sendToGroup(pk, p)
	}
	c.publishDone(n, pk, fault)
}

// checkPublish returns the fault of a PUBLISH packet that no client may send, or nil.
func checkPublish(pk *mqttpacket.Packet) *mqttpacket.Fault {
	switch {
	case pk.Properties.TopicAlias != nil:
		return mqttpacket.NewFault(mqttpacket.TopicAliasInvalid, "the service does not support topic aliases")
	case pk.Topic == "":
		return mqttpacket.NewFault(mqttpacket.ProtocolError, "PUBLISH has no topic")
	case strings.ContainsAny(pk.Topic, "+#"):
		return mqttpacket.NewFault(mqttpacket.ProtocolError, "the topic %.64q of PUBLISH has a wildcard", pk.Topic)
	case strings.ContainsAny(pk.Properties.ResponseTopic, "+#"):
		return mqttpacket.NewFault(mqttpacket.ProtocolError, "the response topic %.64q of PUBLISH has a wildcard", pk.Properties.ResponseTopic)
	case len(pk.Properties.SubscriptionIDs) > 0:
		return mqttpacket.NewFault(mqttpacket.ProtocolError, "PUBLISH from a client must not have a subscription identifier")
	case pk.Retain:
		return mqttpacket.NewFault(mqttpacket.RetainNotSupported, "the service does not retain messages")
	}
	return nil
}

// hasReceived reports whether a packet of quality of service 2 is a duplicate. A duplicate is only acknowledged again. The session
// keeps the id of a new packet until PUBREL arrives.
func (c *session) hasReceived(n *conn, pk *mqttpacket.Packet) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	due, known := c.received[pk.PacketID]
	if due {
		c.queueControl(n, &mqttpacket.Packet{Type: mqttpacket.Pubrec, PacketID: pk.PacketID})
	} else if !known {
		c.received[pk.PacketID] = false
	}
	return known
}

// handlePubrel completes the delivery of a packet of quality of service 2.
func (c *session) handlePubrel(n *conn, pk *mqttpacket.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pubcomp := &mqttpacket.Packet{Type: mqttpacket.Pubcomp, PacketID: pk.PacketID}
	if _, known := c.received[pk.PacketID]; !known {
		pubcomp.Code = mqttpacket.PacketIDNotFound
	}
	delete(c.received, pk.PacketID)
	c.queueControl(n, pubcomp)
}

func (c *session) sendToGroup(pk *mqttpacket.Packet, p hub.Payload) *mqttpacket.Fault {
	group, fault := protocol.MQTTGroup(pk.Topic)
	if fault != nil {
		fault.Code = mqttpacket.TopicNameInvalid
		return fault
	}
	if !c.Allows(hub.SendToGroup, group) {
		return c.forbidden(hub.SendToGroup, group)
	}
	m := &hub.Message{Payload: p, Group: group, Origin: &protocol.MQTTOrigin{QoS: pk.QoS, Properties: protocol.MQTTForwarded(&pk.Properties)}}
	m.Expires = c.expiry(pk.Properties.MessageExpiry)
	c.mu.Lock()
	noLocal := c.subscriptions[group].NoLocal
	c.mu.Unlock()
	c.Publish(m, noLocal)
	return nil
}

// expiry returns the time at which a message with an expiry interval expires. It returns the zero time, for never, if seconds is
// nil.
func (c *session) expiry(seconds *uint32) time.Time {
	if seconds == nil {
		return time.Time{}
	}
	return c.Hub.Service.Clock.Now().Add(time.Duration(*seconds) * time.Second)
}

func (c *session) forbidden(p hub.Permission, group string) *mqttpacket.Fault {
	return mqttpacket.NewFault(mqttpacket.NotAuthorized, "the client does not have the permission %s for the group %.64q",
		p, group)
}

// publishDone acknowledges a PUBLISH packet. If there is a fault that no acknowledgement can carry, it closes the connection.
func (c *session) publishDone(n *conn, pk *mqttpacket.Packet, fault *mqttpacket.Fault) {
	if fault != nil {
		c.Show("message", "PUBLISH failed: ", fault.Reason)
		if c.version != protocol.MQTT5 || pk.QoS == 0 {
			c.mu.Lock()
			delete(c.received, pk.PacketID)
			c.mu.Unlock()
			c.fail(n, fault)
			return
		}
		c.Hub.Service.Log.Info("an MQTT client's PUBLISH failed", "hub", c.Hub.Name, "connection", c.ID, "code", fault.Code, "reason", fault.Reason)
	}
	c.acknowledge(n, pk, fault)
}

// acknowledge sends PUBACK or PUBREC, as the quality of service requires. It sends nothing to a client that is away, which will
// send its packet again. If the client has returned, it has already done so: a PUBACK for the packet of the old connection n
// would be a second one, which acknowledges whatever packet has the id by then.
func (c *session) acknowledge(n *conn, pk *mqttpacket.Packet, fault *mqttpacket.Fault) {
	if pk.QoS == 0 {
		return
	}
	ack := &mqttpacket.Packet{Type: mqttpacket.Puback, PacketID: pk.PacketID}
	if fault != nil && c.version == protocol.MQTT5 {
		ack.Code, ack.Properties.ReasonString = fault.Code, fault.Reason
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if pk.QoS == 2 {
		ack.Type = mqttpacket.Pubrec
		if _, waiting := c.received[pk.PacketID]; waiting && ack.Code == 0 {
			c.received[pk.PacketID] = true
		} else {
			delete(c.received, pk.PacketID) // no PUBREL follows a fault
		}
	}
	if c.conn != nil && (c.conn == n || pk.QoS == 2) {
		c.queueControl(c.conn, ack)
	}
}

// subscribe handles SUBSCRIBE: the client joins the groups.
func (c *session) subscribe(n *conn, pk *mqttpacket.Packet) {
	ack := &mqttpacket.Packet{Type: mqttpacket.Suback, PacketID: pk.PacketID}
	for _, s := range pk.Filters {
		code := s.QoS
		if fault := c.join(s, pk.Properties.SubscriptionIDs); fault != nil {
			c.Show("group", "SUBSCRIBE failed: ", fault.Reason)
			c.Hub.Service.Log.Info("an MQTT client's SUBSCRIBE failed", "hub", c.Hub.Name, "connection", c.ID, "code", fault.Code, "reason", fault.Reason)
			if code = fault.Code; c.version != protocol.MQTT5 {
				code = mqttpacket.UnspecifiedError // the only failure code of MQTT 3.1.1
			}
			ack.Properties.ReasonString = cmp.Or(ack.Properties.ReasonString, fault.Reason)
		}
		ack.Codes = append(ack.Codes, code)
	}
	c.send(n, ack)
}

func (c *session) join(s mqttpacket.Subscription, ids []uint32) *mqttpacket.Fault {
	if s.Filter != protocol.MQTTServerMessages {
		if group, fault := protocol.MQTTGroup(s.Filter); fault != nil {
			return fault
		} else if !c.Allows(hub.JoinLeaveGroup, group) {
			return c.forbidden(hub.JoinLeaveGroup, group)
		}
	}
	made := subscription{Subscription: s}
	if len(ids) > 0 { // a SUBSCRIBE packet has at most one
		made.id = ids[0]
	}
	c.mu.Lock()
	c.subscriptions[s.Filter] = made
	c.mu.Unlock()
	if s.Filter != protocol.MQTTServerMessages {
		c.Join(s.Filter)
		c.Show("group", "joined ", s.Filter)
	}
	return nil
}

// unsubscribe handles UNSUBSCRIBE: the client leaves the groups. In MQTT 3.1.1, UNSUBACK cannot carry a fault, so a fault closes
// the connection.
func (c *session) unsubscribe(n *conn, pk *mqttpacket.Packet) {
	ack := &mqttpacket.Packet{Type: mqttpacket.Unsuback, PacketID: pk.PacketID}
	for _, s := range pk.Filters {
		code, fault := c.leave(s.Filter)
		if fault != nil {
			c.Show("group", "UNSUBSCRIBE failed: ", fault.Reason)
			if c.version != protocol.MQTT5 {
				c.fail(n, fault)
				return
			}
			code = fault.Code
			ack.Properties.ReasonString = cmp.Or(ack.Properties.ReasonString, fault.Reason)
		}
		ack.Codes = append(ack.Codes, code)
	}
	c.send(n, ack)
}

func (c *session) leave(topic string) (code byte, fault *mqttpacket.Fault) {
	c.mu.Lock()
	_, existed := c.subscriptions[topic]
	c.mu.Unlock()
	if topic != protocol.MQTTServerMessages {
		group, fault := protocol.MQTTGroup(topic)
		if fault != nil {
			if fault.Code != mqttpacket.NotAuthorized {
				fault.Code = mqttpacket.TopicFilterInvalid // the only other code that UNSUBACK may have
			}
			return 0, fault
		}
		if !c.Allows(hub.JoinLeaveGroup, group) {
			return 0, c.forbidden(hub.JoinLeaveGroup, group)
		}
		existed = c.Leave(group) || existed // the application may have added the client to the group
		c.Show("group", "left ", group)
	}
	c.mu.Lock()
	delete(c.subscriptions, topic)
	c.mu.Unlock()
	if !existed {
		return mqttpacket.NoSubscriptionExisted, nil
	}
	return mqttpacket.Success, nil
}

// handleDisconnect closes the connection of a client that has sent DISCONNECT.
func (c *session) handleDisconnect(n *conn, pk *mqttpacket.Packet) {
	how := &protocol.MQTTDisconnect{InitiatedByClient: true, DisconnectPacket: &protocol.MQTTDisconnectPacket{Code: pk.Code,
		UserProperties: protocol.ToMQTTUserProperties(pk.Properties.User)}}
	reason := "the client said goodbye"
	switch {
	case pk.Properties.ReasonString != "":
		reason = text.Shorten(pk.Properties.ReasonString, protocol.MaxMQTTReason)
	case pk.Code != mqttpacket.Success:
		reason += fmt.Sprintf(": reason code 0x%02X", pk.Code)
	}
	c.mu.Lock()
	if expiry := pk.Properties.SessionExpiry; expiry != nil && c.conn == n {
		if c.lifetime == 0 && *expiry > 0 {
			c.mu.Unlock()
			c.fail(n, mqttpacket.NewFault(mqttpacket.ProtocolError, "DISCONNECT must not set a session expiry interval if CONNECT's was 0"))
			return
		}
		c.lifetime = lifetime(expiry)
	}
	if c.conn == n {
		if pk.Code == mqttpacket.Success {
			c.dropWill()
		}
		if c.lifetime == 0 {
			c.backlog = backlog{}
		}
	}
	n.closeNow = true // the client will not acknowledge anything
	c.closeConn(n, nil, protocol.CloseNormal, "")
	waiting := c.events.outstanding > 0
	c.mu.Unlock()
	if !waiting {
		c.detach(n, reason, how)
		return
	}
	c.Hub.Service.Life.GoFrom(func() { // events that the client sent before DISCONNECT still reach the application
		c.awaitEvents(n)
		c.detach(n, reason, how)
	})
}
