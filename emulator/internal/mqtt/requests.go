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

// handle does what a client asks for.
func (c *session) handle(n *conn, pk *mqttpacket.Packet) {
	if c.Hub.Service.Log.Enabled(context.Background(), slog.LevelDebug) {
		c.Hub.Service.Log.Debug("MQTT packet", "hub", c.Hub.Name, "connection", c.ID, "type", pk.Type.String(), "topic", pk.Topic)
	}
	switch pk.Type {
	case mqttpacket.Publish:
		c.published(n, pk)
	case mqttpacket.Puback, mqttpacket.Pubrec, mqttpacket.Pubcomp:
		c.acknowledged(n, pk)
	case mqttpacket.Pubrel:
		c.released(n, pk)
	case mqttpacket.Subscribe:
		c.subscribe(n, pk)
	case mqttpacket.Unsubscribe:
		c.unsubscribe(n, pk)
	case mqttpacket.Pingreq:
		c.send(n, &mqttpacket.Packet{Type: mqttpacket.Pingresp})
	case mqttpacket.Disconnect:
		c.disconnect(n, pk)
	case mqttpacket.Connect:
		c.fail(n, mqttpacket.NewFault(mqttpacket.ProtocolError, "a second CONNECT"))
	default:
		c.fail(n, mqttpacket.NewFault(mqttpacket.ProtocolError, "a client does not send %s here", pk.Type))
	}
}

// published sends what a client publishes to the topic's group, or to the application.
func (c *session) published(n *conn, pk *mqttpacket.Packet) {
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
	c.answer(n, pk, fault)
}

// checkPublish returns what no client may publish.
func checkPublish(pk *mqttpacket.Packet) *mqttpacket.Fault {
	switch {
	case pk.Properties.TopicAlias != nil:
		return mqttpacket.NewFault(mqttpacket.TopicAliasInvalid, "the service has no topic aliases")
	case pk.Topic == "":
		return mqttpacket.NewFault(mqttpacket.ProtocolError, "PUBLISH has no topic")
	case strings.ContainsAny(pk.Topic, "+#"):
		return mqttpacket.NewFault(mqttpacket.ProtocolError, "the topic %.64q of PUBLISH has a wildcard", pk.Topic)
	case len(pk.Properties.SubscriptionIDs) > 0:
		return mqttpacket.NewFault(mqttpacket.ProtocolError, "PUBLISH of a client has a subscription identifier")
	case pk.Retain:
		return mqttpacket.NewFault(mqttpacket.RetainNotSupported, "the service does not retain messages")
	}
	return nil
}

// hasReceived reports whether a packet of quality of service 2 has come before: then it is only acknowledged. Otherwise the
// session remembers it until PUBREL comes.
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

// released ends the delivery of a packet of quality of service 2.
func (c *session) released(n *conn, pk *mqttpacket.Packet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := &mqttpacket.Packet{Type: mqttpacket.Pubcomp, PacketID: pk.PacketID}
	if _, known := c.received[pk.PacketID]; !known {
		answer.Code = mqttpacket.PacketIDNotFound
	}
	delete(c.received, pk.PacketID)
	c.queueControl(n, answer)
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

// expiry is when a message that is worth delivering for so many seconds no longer is; nil = for ever.
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

// answer acknowledges what a client has published. If no packet can tell it of a fault, its connection is closed.
func (c *session) answer(n *conn, pk *mqttpacket.Packet, fault *mqttpacket.Fault) {
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
	c.acknowledge(pk, fault)
}

// acknowledge writes PUBACK or PUBREC to the client, if it is not away: it will then send the packet again.
func (c *session) acknowledge(pk *mqttpacket.Packet, fault *mqttpacket.Fault) {
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
			delete(c.received, pk.PacketID) // there is no PUBREL after a fault
		}
	}
	if c.conn != nil {
		c.queueControl(c.conn, ack)
	}
}

// subscribe joins groups.
func (c *session) subscribe(n *conn, pk *mqttpacket.Packet) {
	ack := &mqttpacket.Packet{Type: mqttpacket.Suback, PacketID: pk.PacketID}
	for _, s := range pk.Filters {
		code := s.QoS
		if fault := c.join(s, pk.Properties.SubscriptionIDs); fault != nil {
			c.Show("group", "SUBSCRIBE failed: ", fault.Reason)
			c.Hub.Service.Log.Info("an MQTT client's SUBSCRIBE failed", "hub", c.Hub.Name, "connection", c.ID, "code", fault.Code, "reason", fault.Reason)
			if code = fault.Code; c.version != protocol.MQTT5 {
				code = mqttpacket.UnspecifiedError // the only one there is
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
	if len(ids) > 0 { // one at most, in a SUBSCRIBE packet
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

// unsubscribe leaves groups. Before MQTT 5.0 its answer has no room for a fault.
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
				fault.Code = mqttpacket.TopicFilterInvalid // UNSUBACK has no other
			}
			return 0, fault
		}
		if !c.Allows(hub.JoinLeaveGroup, group) {
			return 0, c.forbidden(hub.JoinLeaveGroup, group)
		}
		existed = c.Leave(group) || existed // it may be in it by the application's doing
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

// disconnect lets a client go.
func (c *session) disconnect(n *conn, pk *mqttpacket.Packet) {
	how := &protocol.MQTTDisconnect{InitiatedByClient: true, DisconnectPacket: &protocol.MQTTDisconnectPacket{Code: pk.Code,
		UserProperties: protocol.ToMQTTUserProperties(pk.Properties.User)}}
	reason := "the client said goodbye"
	if pk.Code != mqttpacket.Success {
		reason += fmt.Sprintf(": reason code 0x%02X", pk.Code)
	}
	if pk.Properties.ReasonString != "" {
		reason += ": " + text.Shorten(pk.Properties.ReasonString, protocol.MaxMQTTReason)
	}
	c.mu.Lock()
	if expiry := pk.Properties.SessionExpiry; expiry != nil {
		if c.lifetime == 0 && *expiry > 0 {
			c.mu.Unlock()
			c.fail(n, mqttpacket.NewFault(mqttpacket.ProtocolError, "DISCONNECT asks to keep a session that CONNECT did not"))
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
	n.impatient = true // the client acknowledges nothing any more
	c.closeConn(n, nil, protocol.CloseNormal, "")
	waiting := c.events.unanswered > 0
	c.mu.Unlock()
	if !waiting {
		c.detach(n, reason, how)
		return
	}
	c.Hub.Service.Life.GoFrom(func() { // what the client has sent before it said goodbye counts
		c.awaitAnswers(n)
		c.detach(n, reason, how)
	})
}
