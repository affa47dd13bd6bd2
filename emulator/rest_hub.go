package emulator

import (
	"net/http"
	"time"
)

// opGetServiceStatus is the name of the operation that needs no token.
const opGetServiceStatus = "GetServiceStatus"

// hubRoutes are the operations on the service and on a hub as a whole.
func hubRoutes() []route {
	return []route{
		newRoute(opGetServiceStatus, http.MethodHead, "health", func(*call) (int, error) { return http.StatusOK, nil }),
		newRoute("GetClientAccessToken", http.MethodPost, "hubs/{hub}/:generateToken", (*call).generateToken),
		newRoute("CloseAllConnections", http.MethodPost, "hubs/{hub}/:closeConnections",
			func(c *call) (int, error) { return c.closeConnections(&target{}) }),
		newRoute("AddConnectionsToGroups", http.MethodPost, "hubs/{hub}/:addToGroups",
			func(c *call) (int, error) { return c.changeGroups((*hub).join) }),
		newRoute("RemoveConnectionsFromGroups", http.MethodPost, "hubs/{hub}/:removeFromGroups",
			func(c *call) (int, error) { return c.changeGroups((*hub).leave) }),
	}
}

// clientPaths are where clients of each type connect.
var clientPaths = map[string]string{
	"default":  "/client/hubs/",
	"mqtt":     "/clients/mqtt/hubs/",
	"socketio": "/clients/socketio/hubs/",
}

// maxTokenMinutes is how long a client's token may live: a year.
const maxTokenMinutes = 365 * 24 * 60

func (c *call) generateToken() (int, error) {
	minutes, err := c.integer("minutesToExpire", 60, 1, maxTokenMinutes)
	if err != nil {
		return 0, err
	}
	clientType := c.query.Get("clientType")
	path, ok := clientPaths[lowerOr(clientType, "default")]
	if !ok {
		return 0, badRequest("clientType", "the clientType %.32q is none of Default, MQTT, SocketIO", clientType)
	}
	for _, g := range c.query["group"] {
		if fault := checkGroup(g); fault != "" {
			return 0, badRequest("group", "%s", fault)
		}
	}
	token, err := c.clientToken(path+c.value("hub"), c.query.Get("userId"), c.query["role"], c.query["group"],
		time.Duration(minutes)*time.Minute)
	if err != nil {
		return 0, err
	}
	c.result = struct {
		Token string `json:"token"`
	}{token}
	return http.StatusOK, nil
}

// closeConnections closes those of t that the request does not exclude.
func (c *call) closeConnections(t *target) (int, error) {
	t.excluded = c.query["excluded"]
	c.hub.close(t, c.query.Get("reason"))
	return http.StatusNoContent, nil
}

// changeGroups changes the groups of every connection that passes a filter.
func (c *call) changeGroups(change func(h *hub, member *connection, group string)) (int, error) {
	var body struct {
		Groups []string `json:"groups"`
		Filter string   `json:"filter"`
	}
	if err := c.jsonBody(&body); err != nil {
		return 0, err
	}
	if len(body.Groups) == 0 {
		return 0, badRequest("groups", "groups is empty")
	}
	for _, g := range body.Groups {
		if fault := checkGroup(g); fault != "" {
			return 0, badRequest("groups", "%s", fault)
		}
	}
	filter, err := parseFilter(body.Filter)
	if err != nil {
		return 0, err
	}
	// The filter may look at the groups, so all is decided before anything changes.
	var chosen []*connection
	defer c.hub.notifier.notify()
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.hub.each(&target{filter: filter}, func(member *connection) { chosen = append(chosen, member) })
	for _, member := range chosen {
		for _, g := range body.Groups {
			change(c.hub, member, g)
		}
	}
	return http.StatusOK, nil
}
