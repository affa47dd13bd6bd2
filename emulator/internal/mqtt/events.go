package mqtt

import (
	"errors"
	"strconv"
	"sync"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// statusProperty is the user property of a response message that holds the HTTP status of the application's response.
const statusProperty = "azure-status-code"

// eventQueue holds the events of a session that wait for the application. It decouples the reader, which continues to handle
// pings and acknowledgements while the application is slow.
type eventQueue struct {
	pending     []func() // each function raises one event
	bytes       int      // the size of the pending payloads and properties
	raising     bool     // a goroutine raises events
	outstanding int      // the number of events that are pending or wait for the application's response
	changed     sync.Cond
}

// raise queues an event for the application. The packet is acknowledged when the application has responded.
func (c *session) raise(n *conn, pk *mqttpacket.Packet, name string) {
	if !protocol.EventPattern.MatchString(name) {
		c.publishDone(n, pk, mqttpacket.NewFault(mqttpacket.TopicNameInvalid,
			"the event name %.64q does not match %s", name, protocol.EventPattern))
		return
	}
	contentType, ok := protocol.MQTTContentType(&pk.Properties)
	if !ok {
		c.publishDone(n, pk, mqttpacket.NewFault(mqttpacket.PayloadFormatInvalid,
			"the content type %.64q of the event is not a MIME type", contentType))
		return
	}
	detail := &protocol.MQTTEvent{ContentType: contentType, UserProperties: protocol.ToMQTTUserProperties(pk.Properties.User)}
	e := &hub.UserEvent{Name: name, Payload: hub.Payload{Type: hub.DataBinary, Data: pk.Payload}, Detail: detail}
	if t, ok := protocol.ParseContentType(contentType); ok {
		e.Type = t // for the traffic view; the application receives the content type unchanged
	}
	size := len(pk.Payload) + len(pk.Properties.CorrelationData)
	for _, p := range pk.Properties.User {
		size += len(p.Key) + len(p.Value)
	}
	q := &c.events
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(q.pending) >= hub.MaxQueuedFrames || len(q.pending) > 0 && q.bytes+size > hub.MaxQueuedBytes {
		c.overflow("the client sends events faster than the application handles them")
		return
	}
	q.outstanding++
	q.bytes += size
	q.pending = append(q.pending, func() {
		c.Raise(e, func(_ *hub.Payload, err error) { c.eventDone(n, pk, detail, err) })
		c.mu.Lock()
		q.bytes -= size
		c.mu.Unlock()
	})
	if !q.raising {
		q.raising = true
		c.Hub.Service.Life.GoFrom(c.raiseEvents) // GoFrom: the reader is counted already
	}
}

// raiseEvents raises the pending events in order. It blocks while the kernel's queue of events is full.
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

// eventDone notifies the client of the outcome of an event: by a message on the topic {topic}/succeeded or {topic}/failed, which
// needs no subscription, and then by the acknowledgement.
func (c *session) eventDone(n *conn, pk *mqttpacket.Packet, detail *protocol.MQTTEvent, err error) {
	a := detail.Answer
	var fault *mqttpacket.Fault
	if a == nil { // the application has not responded
		a = &protocol.MQTTAnswer{Status: 500}
		fault = mqttpacket.NewFault(mqttpacket.ImplementationSpecificError, "the event failed")
		if errors.Is(err, hub.ErrNoHandler) {
			fault.Reason += ": " + err.Error()
			c.Hub.Service.Log.Info("no event handler receives an MQTT client's event", "hub", c.Hub.Name, "connection", c.ID,
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
	c.acknowledge(n, pk, fault)

	c.mu.Lock()
	c.events.outstanding--
	c.events.changed.Broadcast()
	c.mu.Unlock()
}

// awaitEvents waits until the application has responded to every event of the client. It returns early if the session ends or
// another connection resumes it.
func (c *session) awaitEvents(n *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.events.outstanding > 0 && c.conn == n && !c.closing {
		c.events.changed.Wait()
	}
}
