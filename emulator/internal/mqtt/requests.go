package mqtt

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// handle does what a client asks for.
func (c *session) handle(n *conn, pk *packets.Packet) {
	if c.Hub.Service.Log.Enabled(context.Background(), slog.LevelDebug) {
		c.Hub.Service.Log.Debug("MQTT packet", "hub", c.Hub.Name, "connection", c.ID, "type",
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
		c.send(n, &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingresp}})
	case packets.Disconnect:
		c.disconnect(n, pk)
	default: // CONNECT: protocol.ReadMQTT lets no others pass
		c.fail(n, protocol.NewMQTTFault(packets.ErrProtocolViolation, "a second CONNECT"))
	}
}

// acknowledge forgets a message that the client has got.
func (c *session) acknowledge(id uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.inflight, func(d delivery) bool { return d.id == id }); i >= 0 {
		c.forget(i)
		c.wake(c.conn)
	}
}

// published sends what a client publishes to the topic's group, or to the application.
func (c *session) published(n *conn, pk *packets.Packet) {
	if code := pk.PublishValidate(0); code != packets.CodeSuccess {
		c.fail(n, protocol.NewMQTTFault(code, "%s", code.Reason))
		return
	}
	switch {
	case pk.FixedHeader.Qos > maxQoS:
		c.fail(n, protocol.NewMQTTFault(packets.ErrQosNotSupported, "the quality of service is %d at most", maxQoS))
		return
	case pk.FixedHeader.Retain:
		c.fail(n, protocol.NewMQTTFault(packets.ErrRetainNotSupported, "no message is retained"))
		return
	}
	p, fault := protocol.MQTTPayload(&pk.Properties, pk.Payload)
	if fault != nil {
		c.answer(n, pk, fault)
	} else if name, ok := strings.CutPrefix(pk.TopicName, protocol.MQTTServerEvents); ok {
		c.raise(n, pk, &hub.UserEvent{Name: name, Payload: p})
	} else {
		c.answer(n, pk, c.sendToGroup(pk, p))
	}
}

func (c *session) sendToGroup(pk *packets.Packet, p hub.Payload) *protocol.MQTTFault {
	group, fault := protocol.MQTTGroup(pk.TopicName)
	if fault != nil {
		fault.Code = packets.ErrTopicNameInvalid.Code
		return fault
	}
	if !c.Allows(hub.SendToGroup, group) {
		return c.forbidden(hub.SendToGroup, group)
	}
	m := &hub.Message{Payload: p, Group: group, Origin: &protocol.MQTTOrigin{QoS: pk.FixedHeader.Qos, Properties: protocol.MQTTForwarded(&pk.Properties)}}
	m.Expires = c.expiry(time.Duration(pk.Properties.MessageExpiryInterval) * time.Second)
	c.mu.Lock()
	noLocal := c.subscriptions[group].NoLocal
	c.mu.Unlock()
	c.Publish(m, noLocal)
	return nil
}

// expiry is when a message that is worth delivering for so long, or for ever if that is 0, no longer is.
func (c *session) expiry(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return c.Hub.Service.Clock.Now().Add(d)
}

func (c *session) forbidden(p hub.Permission, group string) *protocol.MQTTFault {
	return protocol.NewMQTTFault(packets.ErrNotAuthorized, "the client does not have the permission %s for the group %.64q",
		p, group)
}

// raise hands an event to the application. The packet is acknowledged when the application has answered.
func (c *session) raise(n *conn, pk *packets.Packet, e *hub.UserEvent) {
	if !protocol.EventPattern.MatchString(e.Name) {
		c.answer(n, pk, protocol.NewMQTTFault(packets.ErrTopicNameInvalid,
			"the event name %.64q does not match %s", e.Name, protocol.EventPattern))
		return
	}
	c.Raise(e, func(reply *hub.Payload, err error) {
		if err != nil {
			c.answer(n, pk, protocol.NewMQTTFault(packets.ErrImplementationSpecificError, "the event failed: %v", err))
			return
		}
		if reply != nil {
			c.Deliver(&hub.Message{Payload: *reply})
		}
		c.answer(n, pk, nil)
	})
}

// answer acknowledges what a client has published. If no packet can tell it of a fault, its connection is closed.
func (c *session) answer(n *conn, pk *packets.Packet, fault *protocol.MQTTFault) {
	ack := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID}
	if fault != nil {
		c.Show("message", "PUBLISH failed: ", fault.Reason)
		if c.version != protocol.MQTT5 || pk.FixedHeader.Qos == 0 {
			c.fail(n, fault)
			return
		}
		ack.ReasonCode, ack.Properties.ReasonString = fault.Code, fault.Reason
	}
	if pk.FixedHeader.Qos > 0 {
		c.send(n, ack)
	}
}

// subscribe joins groups.
func (c *session) subscribe(n *conn, pk *packets.Packet) {
	if code := pk.SubscribeValidate(); code != packets.CodeSuccess {
		c.fail(n, protocol.NewMQTTFault(code, "%s", code.Reason))
		return
	}
	if len(pk.Properties.SubscriptionIdentifier) > 0 {
		c.fail(n, protocol.NewMQTTFault(packets.ErrSubscriptionIdentifiersNotSupported, "there are no subscription identifiers"))
		return
	}
	ack := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Suback}, PacketID: pk.PacketID}
	for _, s := range pk.Filters {
		s.Qos = min(s.Qos, maxQoS)
		code := s.Qos
		if fault := c.join(s); fault != nil {
			c.Show("group", "SUBSCRIBE failed: ", fault.Reason)
			if code = fault.Code; c.version != protocol.MQTT5 {
				code = packets.ErrUnspecifiedError.Code // the only one there is
			}
			ack.Properties.ReasonString = cmp.Or(ack.Properties.ReasonString, fault.Reason)
		}
		ack.ReasonCodes = append(ack.ReasonCodes, code)
	}
	c.send(n, ack)
}

func (c *session) join(s packets.Subscription) *protocol.MQTTFault {
	if s.Filter != protocol.MQTTServerMessages {
		if group, fault := protocol.MQTTGroup(s.Filter); fault != nil {
			return fault
		} else if !c.Allows(hub.JoinLeaveGroup, group) {
			return c.forbidden(hub.JoinLeaveGroup, group)
		}
	}
	c.mu.Lock()
	c.subscriptions[s.Filter] = s
	c.mu.Unlock()
	if s.Filter != protocol.MQTTServerMessages {
		c.Join(s.Filter)
		c.Show("group", "joined ", s.Filter)
	}
	return nil
}

// unsubscribe leaves groups. Before MQTT 5.0 its answer has no room for a fault.
func (c *session) unsubscribe(n *conn, pk *packets.Packet) {
	if code := pk.UnsubscribeValidate(); code != packets.CodeSuccess {
		c.fail(n, protocol.NewMQTTFault(code, "%s", code.Reason))
		return
	}
	ack := &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsuback}, PacketID: pk.PacketID}
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
		ack.ReasonCodes = append(ack.ReasonCodes, code)
	}
	c.send(n, ack)
}

func (c *session) leave(topic string) (code byte, fault *protocol.MQTTFault) {
	c.mu.Lock()
	_, existed := c.subscriptions[topic]
	c.mu.Unlock()
	if topic != protocol.MQTTServerMessages {
		group, fault := protocol.MQTTGroup(topic)
		if fault != nil {
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
		return packets.CodeNoSubscriptionExisted.Code, nil
	}
	return packets.CodeSuccess.Code, nil
}

// disconnect lets a client go.
func (c *session) disconnect(n *conn, pk *packets.Packet) {
	how := &protocol.MQTTDisconnect{InitiatedByClient: true, DisconnectPacket: &protocol.MQTTDisconnectPacket{Code: pk.ReasonCode,
		UserProperties: protocol.ToMQTTUserProperties(pk.Properties.User)}}
	reason := "the client said goodbye"
	if pk.ReasonCode != packets.CodeDisconnect.Code {
		reason += fmt.Sprintf(": reason code 0x%02X", pk.ReasonCode)
	}
	if pk.Properties.ReasonString != "" {
		reason += ": " + text.Shorten(pk.Properties.ReasonString, protocol.MaxMQTTReason)
	}
	c.mu.Lock()
	if pk.Properties.SessionExpiryIntervalFlag {
		if c.lifetime == 0 && pk.Properties.SessionExpiryInterval > 0 {
			c.mu.Unlock()
			c.fail(n, protocol.NewMQTTFault(packets.ErrProtocolViolation, "DISCONNECT asks to keep a session that CONNECT did not"))
			return
		}
		c.lifetime = lifetime(pk.Properties.SessionExpiryInterval)
	}
	if pk.ReasonCode == packets.CodeDisconnect.Code && c.conn == n {
		c.dropWill()
	}
	c.closeConn(n, nil, protocol.CloseNormal, "")
	c.mu.Unlock()
	c.detach(n, reason, how)
}
