package rest

import (
	"net/http"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// sendRoutes are the sends. A send to nobody succeeds.
func sendRoutes() []route {
	return []route{
		newRoute("SendToAll", http.MethodPost, "hubs/{hub}/:send",
			func(c *call) (int, error) { return c.send(&hub.Target{Excluded: c.query["excluded"]}) }),
		newRoute("SendToConnection", http.MethodPost, "hubs/{hub}/connections/{connectionId}/:send",
			func(c *call) (int, error) { return c.send(c.targetConnection()) }),
		newRoute("SendToGroup", http.MethodPost, "hubs/{hub}/groups/{group}/:send",
			func(c *call) (int, error) {
				return c.send(&hub.Target{Group: c.value("group"), Excluded: c.query["excluded"]})
			}),
		newRoute("SendToUser", http.MethodPost, "hubs/{hub}/users/{userId}/:send",
			func(c *call) (int, error) { return c.send(&hub.Target{User: c.value("userId")}) }),
	}
}

func (c *call) send(t *hub.Target) (int, error) {
	ttl, err := c.integer("messageTtlSeconds", 0, 0, protocol.MaxTTLSeconds)
	if err != nil {
		return 0, err
	}
	if t.Connection == "" { // there is nothing to choose among otherwise
		if t.Filter, err = parseFilter(c.query.Get("filter")); err != nil {
			return 0, err
		}
	}
	p, err := c.payload()
	if err != nil {
		return 0, err
	}
	m := &hub.Message{Payload: p, Group: t.Group}
	if ttl > 0 {
		m.Expires = c.api.service.Clock.Now().Add(time.Duration(ttl) * time.Second)
	}
	n := c.hub.Send(m, t)
	if c.api.service.Observer.Watched() {
		c.api.service.Observer.Traffic(hub.TrafficEvent{Kind: "message", Hub: c.hub.Name, Group: t.Group,
			ConnectionID: t.Connection, UserID: t.User, Data: p.Excerpt(),
			Text: c.route.operation + ": " + text.Plural(n, "recipient")})
	}
	return http.StatusAccepted, nil
}
