package emulator

import (
	"net/http"
	"time"
)

// sendRoutes are the sends. A send to nobody succeeds.
func sendRoutes() []route {
	return []route{
		newRoute("SendToAll", http.MethodPost, "hubs/{hub}/:send",
			func(c *call) (int, error) { return c.send(&target{excluded: c.query["excluded"]}) }),
		newRoute("SendToConnection", http.MethodPost, "hubs/{hub}/connections/{connectionId}/:send",
			func(c *call) (int, error) { return c.send(c.targetConnection()) }),
		newRoute("SendToGroup", http.MethodPost, "hubs/{hub}/groups/{group}/:send",
			func(c *call) (int, error) {
				return c.send(&target{group: c.value("group"), excluded: c.query["excluded"]})
			}),
		newRoute("SendToUser", http.MethodPost, "hubs/{hub}/users/{userId}/:send",
			func(c *call) (int, error) { return c.send(&target{user: c.value("userId")}) }),
	}
}

func (c *call) send(t *target) (int, error) {
	ttl, err := c.integer("messageTtlSeconds", 0, 0, maxTTLSeconds)
	if err != nil {
		return 0, err
	}
	if t.connection == "" { // there is nothing to choose among otherwise
		if t.filter, err = parseFilter(c.query.Get("filter")); err != nil {
			return 0, err
		}
	}
	p, err := c.payload()
	if err != nil {
		return 0, err
	}
	m := &message{payload: p, group: t.group}
	if ttl > 0 {
		m.expires = c.clock.now().Add(time.Duration(ttl) * time.Second)
	}
	n := c.hub.send(m, t)
	if c.traffic.on() {
		c.traffic.publish(trafficEvent{Kind: "message", Hub: c.hub.name, Group: t.group,
			ConnectionID: t.connection, UserID: t.user, Data: p.excerpt(),
			Text: c.route.operation + ": " + plural(n, "recipient")})
	}
	return http.StatusAccepted, nil
}
