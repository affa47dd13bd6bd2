package emulator

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/mochi-mqtt/server/v2/packets"
)

// handle does what a client asks for.
func (c *mqttClient) handle(n *mqttConn, pk *packets.Packet) {
	if c.server.log.Enabled(context.Background(), slog.LevelDebug) {
		c.server.log.Debug("MQTT packet", "hub", c.hub.name, "connection", c.id, "type",
			packets.PacketNames[pk.FixedHeader.Type], "topic", pk.TopicName)
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		c.published(n, pk)
	case packets.Puback:
		c.acknowledge(pk.PacketID)
	case packets.Subscribe:
		c.subscribe(n, pk)
	case packets.Unsubscribe:
		c.unsubscribe(n, pk)
	case packets.Pingreq:
		c.tell(n, &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingresp}})
	case packets.Disconnect:
		c.disconnect(n, pk)
	default: // CONNECT: readMQTT lets no others pass
		c.fail(n, newMQTTFault(packets.ErrProtocolViolation, "a second CONNECT"))
	}
}

// acknowledge forgets a message that the client has got.
func (c *mqttClient) acknowledge(id uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.inflight, func(d mqttDelivery) bool { return d.id == id }); i >= 0 {
		c.forget(i)
		c.wake(c.conn)
	}
}

// published sends what a client publishes to the topic's group, or to the application.
func (c *mqttClient) published(n *mqttConn, pk *packets.Packet) {
	if code := pk.PublishValidate(0); code != packets.CodeSuccess {
		c.fail(n, newMQTTFault(code, "%s", code.Reason))
		return
	}
	switch {
	case pk.FixedHeader.Qos > maxMQTTQoS:
		c.fail(n, newMQTTFault(packets.ErrQosNotSupported, "the quality of service is %d at most", maxMQTTQoS))
		return
	case pk.FixedHeader.Retain:
		c.fail(n, newMQTTFault(packets.ErrRetainNotSupported, "no message is retained"))
		return
	}
	p, fault := mqttPayload(&pk.Properties, pk.Payload)
	if fault != nil {
		c.answer(n, pk, fault)
	} else if name, ok := strings.CutPrefix(pk.TopicName, mqttServerEvents); ok {
		c.raise(n, pk, &userEvent{name, p})
	} else {
		c.answer(n, pk, c.sendToGroup(pk, p))
	}
}

func (c *mqttClient) sendToGroup(pk *packets.Packet, p payload) *mqttFault {
	group, fault := mqttGroup(pk.TopicName)
	if fault != nil {
		fault.code = packets.ErrTopicNameInvalid.Code
		return fault
	}
	if !c.allows(permissionSendToGroup, group) {
		return c.forbidden(permissionSendToGroup, group)
	}
	m := &message{payload: p, group: group, mqtt: &mqttOrigin{pk.FixedHeader.Qos, mqttForwarded(&pk.Properties)}}
	m.expires = c.expiry(time.Duration(pk.Properties.MessageExpiryInterval) * time.Second)
	c.mu.Lock()
	noLocal := c.subscriptions[group].NoLocal
	c.mu.Unlock()
	c.publish(m, noLocal)
	return nil
}

// expiry is when a message that is worth delivering for so long, or for ever if that is 0, no longer is.
func (c *mqttClient) expiry(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return c.server.clock.now().Add(d)
}

func (c *mqttClient) forbidden(p permission, group string) *mqttFault {
	return newMQTTFault(packets.ErrNotAuthorized, "the client does not have the permission %s for the group %.64q",
		permissionNames[p], group)
}

// raise hands an event to the application. The packet is acknowledged when the application has answered.
func (c *mqttClient) raise(n *mqttConn, pk *packets.Packet, e *userEvent) {
	if !eventPattern.MatchString(e.name) {
		c.answer(n, pk, newMQTTFault(packets.ErrTopicNameInvalid,
			"the event name %.64q does not match %s", e.name, eventPattern))
		return
	}
	c.event(e, func(reply *payload, err error) {
		if err != nil {
			c.answer(n, pk, newMQTTFault(packets.ErrImplementationSpecificError, "the event failed: %v", err))
			return
		}
		if reply != nil {
			c.deliver(&message{payload: *reply})
		}
		c.answer(n, pk, nil)
	})
}

// answer acknowledges what a client has published. If no packet can tell it of a fault, its connection is closed.
func (c *mqttClient) answer(n *mqttConn, pk *packets.Packet, fault *mqttFault) {
	ack := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID}
	if fault != nil {
		c.show("message", "PUBLISH failed: ", fault.reason)
		if c.version != mqtt5 || pk.FixedHeader.Qos == 0 {
			c.fail(n, fault)
			return
		}
		ack.ReasonCode, ack.Properties.ReasonString = fault.code, fault.reason
	}
	if pk.FixedHeader.Qos > 0 {
		c.tell(n, ack)
	}
}

// subscribe joins groups.
func (c *mqttClient) subscribe(n *mqttConn, pk *packets.Packet) {
	if code := pk.SubscribeValidate(); code != packets.CodeSuccess {
		c.fail(n, newMQTTFault(code, "%s", code.Reason))
		return
	}
	if len(pk.Properties.SubscriptionIdentifier) > 0 {
		c.fail(n, newMQTTFault(packets.ErrSubscriptionIdentifiersNotSupported, "there are no subscription identifiers"))
		return
	}
	ack := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Suback}, PacketID: pk.PacketID}
	for _, s := range pk.Filters {
		s.Qos = min(s.Qos, maxMQTTQoS)
		code := s.Qos
		if fault := c.join(s); fault != nil {
			c.show("group", "SUBSCRIBE failed: ", fault.reason)
			if code = fault.code; c.version != mqtt5 {
				code = packets.ErrUnspecifiedError.Code // the only one there is
			}
			ack.Properties.ReasonString = cmp.Or(ack.Properties.ReasonString, fault.reason)
		}
		ack.ReasonCodes = append(ack.ReasonCodes, code)
	}
	c.tell(n, ack)
}

func (c *mqttClient) join(s packets.Subscription) *mqttFault {
	if s.Filter != mqttServerMessages {
		if group, fault := mqttGroup(s.Filter); fault != nil {
			return fault
		} else if !c.allows(permissionJoinLeaveGroup, group) {
			return c.forbidden(permissionJoinLeaveGroup, group)
		}
	}
	c.mu.Lock()
	c.subscriptions[s.Filter] = s
	c.mu.Unlock()
	if s.Filter != mqttServerMessages {
		c.joinGroup(s.Filter)
		c.show("group", "joined ", s.Filter)
	}
	return nil
}

// unsubscribe leaves groups. Before MQTT 5.0 its answer has no room for a fault.
func (c *mqttClient) unsubscribe(n *mqttConn, pk *packets.Packet) {
	if code := pk.UnsubscribeValidate(); code != packets.CodeSuccess {
		c.fail(n, newMQTTFault(code, "%s", code.Reason))
		return
	}
	ack := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsuback}, PacketID: pk.PacketID}
	for _, s := range pk.Filters {
		code, fault := c.leave(s.Filter)
		if fault != nil {
			c.show("group", "UNSUBSCRIBE failed: ", fault.reason)
			if c.version != mqtt5 {
				c.fail(n, fault)
				return
			}
			code = fault.code
			ack.Properties.ReasonString = cmp.Or(ack.Properties.ReasonString, fault.reason)
		}
		ack.ReasonCodes = append(ack.ReasonCodes, code)
	}
	c.tell(n, ack)
}

func (c *mqttClient) leave(topic string) (code byte, fault *mqttFault) {
	c.mu.Lock()
	_, existed := c.subscriptions[topic]
	c.mu.Unlock()
	if topic != mqttServerMessages {
		group, fault := mqttGroup(topic)
		if fault != nil {
			return 0, fault
		}
		if !c.allows(permissionJoinLeaveGroup, group) {
			return 0, c.forbidden(permissionJoinLeaveGroup, group)
		}
		existed = c.leaveGroup(group) || existed // it may be in it by the application's doing
		c.show("group", "left ", group)
	}
	c.mu.Lock()
	delete(c.subscriptions, topic)
	c.mu.Unlock()
	if !existed {
		return packets.CodeNoSubscriptionExisted.Code, nil
	}
	return packets.CodeSuccess.Code, nil
}

// disconnect lets a client go.
func (c *mqttClient) disconnect(n *mqttConn, pk *packets.Packet) {
	how := &mqttDisconnect{InitiatedByClient: true, DisconnectPacket: &mqttDisconnectPacket{pk.ReasonCode,
		toMQTTUserProperties(pk.Properties.User)}}
	reason := "the client said goodbye"
	if pk.ReasonCode != packets.CodeDisconnect.Code {
		reason += fmt.Sprintf(": reason code 0x%02X", pk.ReasonCode)
	}
	if pk.Properties.ReasonString != "" {
		reason += ": " + shorten(pk.Properties.ReasonString, maxMQTTReason)
	}
	c.mu.Lock()
	if pk.Properties.SessionExpiryIntervalFlag {
		if c.lifetime == 0 && pk.Properties.SessionExpiryInterval > 0 {
			c.mu.Unlock()
			c.fail(n, newMQTTFault(packets.ErrProtocolViolation, "DISCONNECT asks to keep a session that CONNECT did not"))
			return
		}
		c.lifetime = mqttLifetime(pk.Properties.SessionExpiryInterval)
	}
	if pk.ReasonCode == packets.CodeDisconnect.Code && c.conn == n {
		c.dropWill()
	}
	c.bye(n, nil, websocket.StatusNormalClosure, "")
	c.mu.Unlock()
	c.depart(n, reason, how)
}
