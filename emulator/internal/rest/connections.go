package rest

import (
	"net/http"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// connectionRoutes are the operations on one connection.
func connectionRoutes() []route {
	return []route{
		newRoute("ConnectionExists", http.MethodHead, "hubs/{hub}/connections/{connectionId}",
			func(c *call) (int, error) { return c.exists(c.targetConnection()) }),
		newRoute("CloseConnection", http.MethodDelete, "hubs/{hub}/connections/{connectionId}",
			func(c *call) (int, error) {
				c.hub.Close(c.targetConnection(), c.query.Get("reason"))
				return http.StatusNoContent, nil
			}),
		newRoute("RemoveConnectionFromAllGroups", http.MethodDelete, "hubs/{hub}/connections/{connectionId}/groups",
			func(c *call) (int, error) { return c.leaveAllGroups(c.targetConnection()) }),
	}
}

// exists answers whether there is any connection that is meant.
func (c *call) exists(t *hub.Target) (int, error) {
	if c.hub.Count(t) == 0 {
		return 0, wire.NotFound("there is none")
	}
	return http.StatusOK, nil
}

func (c *call) leaveAllGroups(t *hub.Target) (int, error) {
	c.hub.RemoveFromAllGroups(t)
	return http.StatusNoContent, nil
}
