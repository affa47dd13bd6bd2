package rest

import (
	"net/http"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/odata"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// opGetServiceStatus is the name of the operation that needs no token.
const opGetServiceStatus = "GetServiceStatus"

// hubRoutes are the operations on the service and on a hub as a whole.
func hubRoutes() []route {
	return []route{
		newRoute(opGetServiceStatus, http.MethodHead, "health", func(*call) (int, error) { return http.StatusOK, nil }),
		newRoute("GetClientAccessToken", http.MethodPost, "hubs/{hub}/:generateToken", (*call).generateToken),
		newRoute("CloseAllConnections", http.MethodPost, "hubs/{hub}/:closeConnections",
			func(c *call) (int, error) { return c.closeConnections(&hub.Target{}) }),
		newRoute("AddConnectionsToGroups", http.MethodPost, "hubs/{hub}/:addToGroups",
			func(c *call) (int, error) { return c.changeGroups(c.hub.AddToGroups) }),
		newRoute("RemoveConnectionsFromGroups", http.MethodPost, "hubs/{hub}/:removeFromGroups",
			func(c *call) (int, error) { return c.changeGroups(c.hub.RemoveFromGroups) }),
	}
}

// clientPaths are where clients of each type connect.
var clientPaths = map[string]string{
	"":         wire.ClientPath,
	"default":  wire.ClientPath,
	"mqtt":     wire.MQTTPath,
	"socketio": wire.SocketIOPath,
}

// maxTokenMinutes is how long a client's token may live: a year.
const maxTokenMinutes = 365 * 24 * 60

func (c *call) generateToken() (int, error) {
	minutes, err := c.integer("minutesToExpire", 60, 1, maxTokenMinutes)
	if err != nil {
		return 0, err
	}
	clientType := c.query.Get("clientType")
	path, ok := clientPaths[strings.ToLower(clientType)]
	if !ok {
		return 0, wire.BadRequest("clientType", "the clientType %.32q is none of Default, MQTT, SocketIO", clientType)
	}
	for _, g := range c.query["group"] {
		if fault := protocol.CheckGroup(g); fault != "" {
			return 0, wire.BadRequest("group", "%s", fault)
		}
	}
	token, err := c.api.tokens.ForClient(path+c.value("hub"), c.query.Get("userId"), c.query["role"], c.query["group"],
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
func (c *call) closeConnections(t *hub.Target) (int, error) {
	t.Excluded = c.query["excluded"]
	c.hub.Close(t, c.query.Get("reason"))
	return http.StatusNoContent, nil
}

// changeGroups changes the groups of every connection that passes a filter.
func (c *call) changeGroups(change func(filter *odata.Expr, groups []string)) (int, error) {
	var body struct {
		Groups []string `json:"groups"`
		Filter string   `json:"filter"`
	}
	if err := c.jsonBody(&body); err != nil {
		return 0, err
	}
	if len(body.Groups) == 0 {
		return 0, wire.BadRequest("groups", "groups is empty")
	}
	for _, g := range body.Groups {
		if fault := protocol.CheckGroup(g); fault != "" {
			return 0, wire.BadRequest("groups", "%s", fault)
		}
	}
	filter, err := parseFilter(body.Filter)
	if err != nil {
		return 0, err
	}
	change(filter, body.Groups)
	return http.StatusOK, nil
}
