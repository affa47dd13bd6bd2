package mqtt

import (
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// maxWillPayload is the service's limit for the payload of a will, in bytes.
const maxWillPayload = 2000

// will is the message that is published if the connection ends without a normal DISCONNECT.
type will struct {
	message *hub.Message
	expiry  *uint32       // the message expiry interval, in seconds; nil = none
	delay   time.Duration // how long the client may take to return before the will is published
	due     *hub.Timer
}

// newWill returns the will of a CONNECT packet. Its faults have codes that are valid in a CONNACK packet.
func newWill(w *mqttpacket.Will) (*will, *mqttpacket.Fault) {
	if w.Retain {
		return nil, mqttpacket.NewFault(mqttpacket.RetainNotSupported, "the service does not retain messages")
	}
	group, fault := protocol.MQTTGroup(w.Topic)
	if fault != nil {
		return nil, mqttpacket.NewFault(mqttpacket.TopicNameInvalid, "the topic of the will: %s", fault.Reason)
	}
	if topic := w.Properties.ResponseTopic; strings.ContainsAny(topic, "+#") {
		return nil, mqttpacket.NewFault(mqttpacket.ProtocolError, "the response topic %.64q of the will has a wildcard", topic)
	}
	if len(w.Payload) > maxWillPayload {
		return nil, mqttpacket.NewFault(mqttpacket.QuotaExceeded, "the payload of the will is longer than %d bytes", maxWillPayload)
	}
	payload, fault := protocol.MQTTPayload(&w.Properties, w.Payload)
	if fault != nil {
		return nil, fault
	}
	out := &will{
		message: &hub.Message{Payload: payload, Group: group,
			Origin: &protocol.MQTTOrigin{QoS: w.QoS, Properties: protocol.MQTTForwarded(&w.Properties)}},
		expiry: w.Properties.MessageExpiry,
	}
	if delay := w.Properties.WillDelay; delay != nil {
		out.delay = time.Duration(*delay) * time.Second
	}
	return out, nil
}

// sendWill publishes the will, if there is one. The caller holds c.mu.
func (c *session) sendWill() {
	w := c.dropWill()
	if w == nil {
		return
	}
	c.Hub.Service.Life.Go(func() { // in another goroutine because the caller may hold hub.mu
		if !c.Allows(hub.SendToGroup, w.message.Group) {
			c.Hub.Service.Log.Info("an MQTT client may no longer send its will", "connection", c.ID, "group", w.message.Group)
			return
		}
		w.message.Expires = c.expiry(w.expiry)
		c.Publish(w.message, false)
	})
}

// dropWill removes and returns the will. The caller holds c.mu.
func (c *session) dropWill() *will {
	w := c.will
	if w != nil && w.due != nil {
		w.due.Stop()
	}
	c.will = nil
	return w
}

// startWill publishes the will of a client that is away, after the will's delay but no later than the end of the session. The
// caller holds c.mu.
func (c *session) startWill() {
	w := c.will
	if w == nil {
		return
	}
	if w.delay == 0 {
		c.sendWill()
		return
	}
	w.due = c.Hub.Service.Clock.AfterFunc(min(w.delay, c.lifetime), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.will == w {
			c.sendWill()
		}
	})
}
