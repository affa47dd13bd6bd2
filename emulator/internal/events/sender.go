// Package events tells the application what happens, by posting CloudEvents to the event handlers of the hubs' settings, over
// the network or in process: it is the kernel's Application. It knows HTTP and the kernel's events, and nothing of how
// clients are connected.
//
// An event becomes a delivery (request.go), which is tried until it has an answer that counts (delivery.go), once the handler
// has said that it accepts events of this server (validation.go). The meaning of answers is in answer.go and connect.go.
package events

import (
	"context"
	"net/http"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/faults"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/recent"
	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/emulator/internal/tunnel"
)

// Options are the settings of a Sender.
type Options struct {
	Service *hub.Service
	Faults  *faults.List
	Host    string           // of the server, without a port: the origin of clients that came before there was a handler
	Keys    func() [2]string // the access keys at this moment, which sign events
	Tunnels *tunnel.Tunnels  // of the handlers behind the tunnel
}

// Sender is a [hub.Application] that tells event handlers.
type Sender struct {
	Options
	hubHandlers
	client  *http.Client
	timeout time.Duration // eventTimeout, but in tests
	told    recent.Log[recordKey, Record]
}

// NewSender makes a Sender without handlers.
func NewSender(o Options) *Sender {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if ours, ok := http.DefaultTransport.(*http.Transport); ok { // tests may have put something else there
		transport = ours.Clone()
	}
	transport.DisableCompression = true // the service does not ask for it
	transport.MaxIdleConnsPerHost = 256 // one for each of many connections whose events are on their way at once
	return &Sender{
		Options:     o,
		hubHandlers: hubHandlers{hubs: make(map[string][]*handler)},
		client:      newEventClient(transport),
		timeout:     eventTimeout,
	}
}

// CloseIdleConnections closes the connections to handlers on the network.
func (u *Sender) CloseIdleConnections() { u.client.CloseIdleConnections() }

func newEventClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Connect asks whether a client may connect, before its handshake is answered. c is not in its hub yet: its id, hub and
// user are those of the token. A *hub.Rejection is passed on to the client; any other error is a 500. An MQTT client's
// handshake has been answered by then: it is its CONNECT packet that is, by a code of MQTT.
func (u *Sender) Connect(ctx context.Context, c *hub.Connection, r *hub.ConnectRequest) (hub.ConnectReply, error) {
	id := c.NextEventID() // also when nobody hears of it
	h := u.find(c.Hub.Name, takesSystem(eventConnect))
	if h == nil {
		return hub.ConnectReply{}, nil
	}
	e := systemEvent(eventConnect, newConnectBody(r))
	e.contentType += "; charset=utf-8"
	d := u.deliver(h, c, id, e)
	reply := hub.ConnectReply{}
	err := u.send(ctx, d, func(a *answer) (fault error) {
		reply, fault = connectReply(a, r)
		return fault
	})
	if err == nil {
		keepState(c, d.answer)
	}
	return reply, err
}

// Connected reports that a client is connected.
func (u *Sender) Connected(ctx context.Context, c *hub.Connection) {
	e := systemEvent(eventConnected, struct{}{})
	if f := u.Faults.Next(faults.ConnectedEvent); f.Delay > 0 {
		u.notifyLater(c, e, f.Delay)
		return
	}
	u.notify(ctx, c, e)
}

// Disconnected reports that a client is gone for good.
func (u *Sender) Disconnected(ctx context.Context, c *hub.Connection, reason string) {
	body := struct {
		Reason *string                  `json:"reason"`
		MQTT   *protocol.MQTTDisconnect `json:"mqtt,omitempty"`
	}{Reason: &reason}
	if client, ok := c.Link.(protocol.MQTTLink); ok {
		body.MQTT = client.Disconnection()
		if reason == "" {
			body.Reason = nil
		}
	}
	u.notify(ctx, c, systemEvent(eventDisconnected, body))
}

// notify sends an event whose answer means nothing.
func (u *Sender) notify(ctx context.Context, c *hub.Connection, e *event) {
	if h := u.find(c.Hub.Name, takesSystem(e.name)); h != nil {
		_ = u.send(ctx, u.deliver(h, c, c.NextEventID(), e), func(*answer) error { return nil }) // send has logged what went wrong
	}
}

// notifyLater is notify after a delay, which later events of the connection do not wait for.
func (u *Sender) notifyLater(c *hub.Connection, e *event, delay time.Duration) {
	h := u.find(c.Hub.Name, takesSystem(e.name))
	if h == nil {
		return
	}
	d := u.deliver(h, c, c.NextEventID(), e)
	wait := u.alarm(delay) // before the caller goes on, so that whoever sees a later event may advance the clock
	u.Service.Life.Go(func() {
		if ctx := u.Service.Life.Context(); wait(ctx) {
			_ = u.send(ctx, d, func(*answer) error { return nil })
		}
	})
}

// UserEvent tells the application what a client sent. A reply that is not nil goes to the client as a message from the
// server. An error, such as hub.ErrNoHandler, fails the event; a *hub.Rejection is the application's own answer, which
// clients are not shown unless their protocol provides for it.
func (u *Sender) UserEvent(ctx context.Context, c *hub.Connection, e *hub.UserEvent) (*hub.Payload, error) {
	h := u.find(c.Hub.Name, takesUser(e.Name))
	if h == nil {
		return nil, hub.ErrNoHandler
	}
	if detail, ok := e.Detail.(*protocol.MQTTEvent); ok {
		return nil, u.mqttUserEvent(ctx, h, c, e, detail)
	}
	d := u.deliver(h, c, c.NextEventID(), userEvent(e))
	var reply *hub.Payload
	err := u.send(ctx, d, func(a *answer) (fault error) {
		reply, fault = userReply(a)
		return fault
	})
	if err != nil {
		return nil, err
	}
	keepState(c, d.answer)
	return reply, nil
}

// keepState keeps the state that the answer to a blocking event sets, if it does.
func keepState(c *hub.Connection, a *answer) {
	if states := a.header.Values(headerState); len(states) > 0 {
		c.SetState(states[0])
	}
}

func systemEvent(name string, body any) *event {
	return &event{name: name, ceType: "azure.webpubsub.sys." + name, contentType: "application/json", body: text.JSON(body)}
}

func userEvent(e *hub.UserEvent) *event {
	contentType := protocol.ContentTypes[e.Type]
	if e.Type == hub.DataText {
		contentType += "; charset=utf-8"
	}
	return &event{name: e.Name, ceType: "azure.webpubsub.user." + e.Name, contentType: contentType, body: e.Data,
		metadata: e.Metadata}
}
