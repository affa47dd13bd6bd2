package rest

import (
	"math"
	"net/http"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/odata"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// The names of operations with special rules for the token.
const (
	opGetServiceStatus     = "GetServiceStatus"     // needs no token
	opGetClientAccessToken = "GetClientAccessToken" // needs a token of Microsoft Entra ID
)

// hubRoutes returns the operations on the service and on a whole hub.
func hubRoutes() []route {
	return []route{
		newRoute(opGetServiceStatus, http.MethodHead, "health", func(*call) (int, error) { return http.StatusOK, nil }),
		newRoute(opGetClientAccessToken, http.MethodPost, "hubs/{hub}/:generateToken", (*call).generateToken).checked((*call).readMinutes),
		newRoute("CloseAllConnections", http.MethodPost, "hubs/{hub}/:closeConnections",
			func(c *call) (int, error) { return c.closeConnections(&hub.Target{}) }),
		newRoute("AddConnectionsToGroups", http.MethodPost, "hubs/{hub}/:addToGroups",
			func(c *call) (int, error) { return c.changeGroups((*hub.Hub).AddToGroups) }),
		newRoute("RemoveConnectionsFromGroups", http.MethodPost, "hubs/{hub}/:removeFromGroups",
			func(c *call) (int, error) { return c.changeGroups((*hub.Hub).RemoveFromGroups) }),
	}
}

// clientPaths maps client types, in lower case, to the paths at which such clients connect. Socket.IO clients need another kind
// of resource.
var clientPaths = map[string]string{
	"":        wire.ClientPath,
	"default": wire.ClientPath,
	"mqtt":    wire.MQTTPath,
}

func (c *call) readMinutes() (err error) {
	c.minutes, err = c.integer("minutesToExpire", 60, 1, math.MaxInt32)
	return err
}

func (c *call) generateToken() (int, error) {
	clientType := c.parameter("clientType")
	path, ok := clientPaths[strings.ToLower(clientType)]
	if !ok {
		e := wire.Invalid("clientType", "The value '%.64s' is not valid.", clientType)
		e.Hint = "the client types are Default and MQTT"
		return 0, e
	}
	for _, g := range c.all("group") {
		if fault := protocol.CheckGroup(g); fault != "" {
			return 0, badGroup("group", fault)
		}
	}
	token, err := c.api.Tokens.ForClient(path+strings.ToLower(c.value("hub")), c.parameter("userId"), c.all("role"), c.all("group"), c.minutes)
	if err != nil {
		return 0, err
	}
	c.result = struct {
		Token string `json:"token"`
	}{token}
	return http.StatusOK, nil
}

// closeConnections closes the target's connections, except those that the request excludes.
func (c *call) closeConnections(t *hub.Target) (int, error) {
	t.Excluded = c.all("excluded")
	c.hub().Close(t, c.parameter("reason"))
	return http.StatusNoContent, nil
}

// changeGroups changes the groups of every connection that matches the request's filter.
func (c *call) changeGroups(change func(h *hub.Hub, filter *odata.Expr, groups []string)) (int, error) {
	var body struct {
		Groups []string `json:"groups"`
		Filter string   `json:"filter"`
	}
	if err := c.jsonBody(&body); err != nil {
		return 0, err
	}
	if len(body.Groups) == 0 {
		return 0, badGroup("Groups", "groups must have at least one group")
	}
	for _, g := range body.Groups {
		if fault := protocol.CheckGroup(g); fault != "" {
			return 0, badGroup("Groups", fault)
		}
	}
	filter, err := parseFilter(body.Filter, "Filter")
	if err != nil {
		return 0, err
	}
	change(c.hub(), filter, body.Groups)
	return http.StatusOK, nil
}
