// Package events notifies the application. It posts CloudEvents to the event handlers in the hubs' settings, over the network
// or in process, and implements [hub.Application]. It depends on HTTP and on the kernel's events, not on how clients connect.
//
// An event becomes a delivery (request.go). The handler must first agree to accept events from this server (validation.go).
// The delivery is then attempted until a response is final (delivery.go). answer.go and connect.go interpret responses.
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
	Host    string           // the server's host without a port; the origin of events whose connection has no Host
	Keys    func() [2]string // returns the current access keys, which sign events
	Tunnels *tunnel.Tunnels  // reaches the handlers behind the tunnel
}

// Sender is a [hub.Application] that sends events to event handlers.
type Sender struct {
	Options
	hubHandlers
	client  *http.Client
	timeout time.Duration // eventTimeout, except in tests
	records recent.Log[recordKey, Record]
}

// NewSender returns a Sender without handlers.
func NewSender(o Options) *Sender {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if ours, ok := http.DefaultTransport.(*http.Transport); ok { // a test may have replaced it with another type
		transport = ours.Clone()
	}
	transport.DisableCompression = true // the service does not request compression
	transport.MaxIdleConnsPerHost = 256 // many connections may have an event in flight at the same time
	return &Sender{
		Options:     o,
		hubHandlers: hubHandlers{hubs: make(map[string][]*handler)},
		client:      newEventClient(transport),
		timeout:     eventTimeout,
	}
}

// CloseIdleConnections closes the idle connections to handlers on the network.
func (u *Sender) CloseIdleConnections() { u.client.CloseIdleConnections() }

func newEventClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Connect asks the application whether a client may connect, before the server responds to the handshake. c is not in its hub
// yet, and its user is the token's. A *hub.Rejection is passed on to the client. Any other error becomes a 500.
//
// For an MQTT client, the handshake is already complete. The application's response decides the reply to the CONNECT packet.
func (u *Sender) Connect(ctx context.Context, c *hub.Connection, r *hub.ConnectRequest) (hub.ConnectReply, error) {
	id := c.NextEventID() // even if no handler receives the event
	h := u.find(c.Hub.Name, receivesSystem(eventConnect))
	if h == nil {
		return hub.ConnectReply{}, nil
	}
	e := systemEvent(eventConnect, newConnectBody(r))
	e.contentType += "; charset=utf-8"
	d := u.newDelivery(h, c, id, e)
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
	if u.find(c.Hub.Name, receivesSystem(eventConnected)) == nil {
		return // without using up a fault
	}
	e := systemEvent(eventConnected, struct{}{})
	if f := u.Faults.Next(faults.ConnectedEvent); f.Delay > 0 {
		u.notifyLater(c, e, f.Delay)
		return
	}
	u.notify(ctx, c, e)
}

// Disconnected reports that a client has disconnected permanently.
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

// notify sends an event and ignores the response.
func (u *Sender) notify(ctx context.Context, c *hub.Connection, e *event) {
	if h := u.find(c.Hub.Name, receivesSystem(e.name)); h != nil {
		_ = u.send(ctx, u.newDelivery(h, c, c.NextEventID(), e), func(*answer) error { return nil }) // send logs the error
	}
}

// notifyLater is notify after a delay. Later events of the connection do not wait for it.
func (u *Sender) notifyLater(c *hub.Connection, e *event, delay time.Duration) {
	h := u.find(c.Hub.Name, receivesSystem(e.name))
	if h == nil {
		return
	}
	d := u.newDelivery(h, c, c.NextEventID(), e)
	wait := u.Service.StartDelay(delay) // before returning: a test that receives a later event may then advance the clock
	u.Service.Life.Go(func() {
		if ctx := u.Service.Life.Context(); wait(ctx) {
			_ = u.send(ctx, d, func(*answer) error { return nil })
		}
	})
}

// UserEvent sends a client's event to the application. A non-nil reply goes to the client as a message from the server. An
// error means that the event failed:
//
//   - [hub.ErrNoHandler] if no handler receives the event.
//   - A [*hub.Rejection] if the application rejected it. Clients see its content only if their protocol provides for it.
func (u *Sender) UserEvent(ctx context.Context, c *hub.Connection, e *hub.UserEvent) (*hub.Payload, error) {
	h := u.find(c.Hub.Name, receivesUser(e.Name))
	if h == nil {
		return nil, hub.ErrNoHandler
	}
	if detail, ok := e.Detail.(*protocol.MQTTEvent); ok {
		return nil, u.mqttUserEvent(ctx, h, c, e, detail)
	}
	d := u.newDelivery(h, c, c.NextEventID(), userEvent(e))
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

// keepState stores the connection state that the response to a blocking event sets, if any.
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
