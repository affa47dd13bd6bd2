package mqtt

import (
	"errors"
	"strconv"
	"sync"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// statusProperty is the user property of an answer that says how the application has answered.
const statusProperty = "azure-status-code"

// eventQueue is the events of a session that wait for the application. The client's reader does not wait for it: pings and
// acknowledgements of a client count while the application is slow.
type eventQueue struct {
	pending    []func() // raise one event each
	bytes      int      // of payloads that are pending
	raising    bool     // a goroutine raises events
	unanswered int      // pending, or with the application
	changed    sync.Cond
}

// raise hands an event to the application. The packet is acknowledged when the application has answered.
func (c *session) raise(n *conn, pk *mqttpacket.Packet, name string) {
	if !protocol.EventPattern.MatchString(name) {
		c.answer(n, pk, mqttpacket.NewFault(mqttpacket.TopicNameInvalid,
			"the event name %.64q does not match %s", name, protocol.EventPattern))
		return
	}
	contentType, ok := protocol.MQTTContentType(&pk.Properties)
	if !ok {
		c.answer(n, pk, mqttpacket.NewFault(mqttpacket.PayloadFormatInvalid,
			"the content type %.64q of an event is not a MIME type", contentType))
		return
	}
	detail := &protocol.MQTTEvent{ContentType: contentType, UserProperties: protocol.ToMQTTUserProperties(pk.Properties.User)}
	e := &hub.UserEvent{Name: name, Payload: hub.Payload{Type: hub.DataBinary, Data: pk.Payload}, Detail: detail}
	if t, ok := protocol.ParseContentType(contentType); ok {
		e.Type = t // for people who look on: the application sees the content type itself
	}
	size := len(pk.Payload)
	q := &c.events
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(q.pending) >= hub.MaxQueuedFrames || len(q.pending) > 0 && q.bytes+size > hub.MaxQueuedBytes {
		c.overflow("the client raises events faster than the application handles them")
		return
	}
	q.unanswered++
	q.bytes += size
	q.pending = append(q.pending, func() {
		c.Raise(e, func(_ *hub.Payload, err error) { c.answered(pk, detail, err) })
		c.mu.Lock()
		q.bytes -= size
		c.mu.Unlock()
	})
	if !q.raising {
		q.raising = true
		c.Hub.Service.Life.GoFrom(c.raiseEvents) // the reader is counted already
	}
}

// raiseEvents raises the events that wait, in order. It waits for the kernel, which has room for some.
func (c *session) raiseEvents() {
	q := &c.events
	for {
		c.mu.Lock()
		if len(q.pending) == 0 {
			q.raising, q.pending = false, nil
			c.mu.Unlock()
			return
		}
		raise := q.pending[0]
		q.pending[0] = nil
		q.pending = q.pending[1:]
		c.mu.Unlock()
		raise()
	}
}

// answered tells the client what has become of an event: with a message on a topic of its own, which needs no subscription,
// and then with the acknowledgement.
func (c *session) answered(pk *mqttpacket.Packet, detail *protocol.MQTTEvent, err error) {
	a := detail.Answer
	var fault *mqttpacket.Fault
	if a == nil { // nobody has answered
		a = &protocol.MQTTAnswer{Status: 500}
		fault = mqttpacket.NewFault(mqttpacket.ImplementationSpecificError, "the event failed")
		if errors.Is(err, hub.ErrNoHandler) {
			fault.Reason += ": " + err.Error()
			c.Hub.Service.Log.Info("no event handler takes an MQTT client's event", "hub", c.Hub.Name, "connection", c.ID,
				"topic", pk.Topic)
		}
		c.Show("message", "PUBLISH failed: ", fault.Reason)
	}
	outcome := "/failed"
	if a.Status/100 == 2 {
		outcome = "/succeeded"
	}
	out := &mqttpacket.Packet{Type: mqttpacket.Publish, Version: byte(c.version), Topic: pk.Topic + outcome, Payload: a.Body}
	out.Properties = mqttpacket.Properties{
		ContentType:     protocol.MQTTString(a.ContentType),
		CorrelationData: pk.Properties.CorrelationData,
		User: append([]mqttpacket.UserProperty{{Key: statusProperty, Value: strconv.Itoa(a.Status)}},
			protocol.FromMQTTUserProperties(a.UserProperties)...),
	}
	frame := &hub.Frame{Data: mqttpacket.Encode(out)}
	c.mu.Lock()
	c.deliver(delivery{frame: frame, qos: pk.QoS})
	c.mu.Unlock()
	c.acknowledge(pk, fault)

	c.mu.Lock()
	c.events.unanswered--
	c.events.changed.Broadcast()
	c.mu.Unlock()
}

// awaitAnswers waits until the application has answered every event that the client has sent, or the session is another
// connection's, or over.
func (c *session) awaitAnswers(n *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.events.unanswered > 0 && c.conn == n && !c.closing {
		c.events.changed.Wait()
	}
}
