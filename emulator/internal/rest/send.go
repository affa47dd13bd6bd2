package rest

import (
	"net/http"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// sendRoutes returns the operations that send messages. Sending succeeds even if there is no recipient.
func sendRoutes() []route {
	return []route{
		newRoute("SendToAll", http.MethodPost, "hubs/{hub}/:send",
			func(c *call) (int, error) { return c.send(&hub.Target{Excluded: c.all("excluded")}) }).checked((*call).readTTL),
		newRoute("SendToConnection", http.MethodPost, "hubs/{hub}/connections/{connectionId}/:send",
			func(c *call) (int, error) { return c.send(c.targetConnection()) }).checked((*call).readTTL),
		newRoute("SendToGroup", http.MethodPost, "hubs/{hub}/groups/{group}/:send",
			func(c *call) (int, error) {
				return c.send(&hub.Target{Group: c.value("group"), Excluded: c.all("excluded")})
			}).checked((*call).readTTL),
		newRoute("SendToUser", http.MethodPost, "hubs/{hub}/users/{userId}/:send",
			func(c *call) (int, error) { return c.send(c.targetUser()) }).checked((*call).readTTL),
	}
}

func (c *call) readTTL() error {
	seconds, err := c.integer("messageTtlSeconds", 0, 0, protocol.MaxTTLSeconds)
	c.ttl = time.Duration(seconds) * time.Second
	return err
}

func (c *call) send(t *hub.Target) (status int, err error) {
	if t.Connection == "" { // a send to one connection has no filter
		if t.Filter, err = parseFilter(c.parameter("filter"), "filter"); err != nil {
			return 0, err
		}
	}
	p, err := c.payload()
	if err != nil {
		return 0, err
	}
	m := &hub.Message{Payload: p, Group: t.Group}
	if c.ttl > 0 {
		m.Expires = c.api.Service.Clock.Now().Add(c.ttl)
	}
	h := c.hub()
	n := h.Send(m, t)
	if c.api.Service.Observer.Watched() {
		c.api.Service.Observer.Traffic(hub.TrafficEvent{Kind: "message", Hub: h.Name, Group: t.Group,
			ConnectionID: t.Connection, UserID: t.User, Data: p.Excerpt(),
			Text: c.route.operation + ": " + text.Plural(n, "recipient")})
	}
	return http.StatusAccepted, nil
}
