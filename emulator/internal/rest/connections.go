package rest

import (
	"fmt"
	"net/http"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// connectionRoutes are the operations on one connection.
func connectionRoutes() []route {
	return []route{
		newRoute("ConnectionExists", http.MethodHead, "hubs/{hub}/connections/{connectionId}",
			func(c *call) (int, error) {
				return c.exists(c.targetConnection(), noConnection("Warning", c.value("connectionId")))
			}),
		newRoute("CloseConnection", http.MethodDelete, "hubs/{hub}/connections/{connectionId}",
			func(c *call) (int, error) {
				c.hub().Close(c.targetConnection(), c.parameter("reason"))
				return http.StatusNoContent, nil
			}),
		newRoute("RemoveConnectionFromAllGroups", http.MethodDelete, "hubs/{hub}/connections/{connectionId}/groups",
			func(c *call) (int, error) { return c.leaveAllGroups(c.targetConnection()) }),
	}
}

// targetConnection is the connection that the path names.
func (c *call) targetConnection() *hub.Target {
	return &hub.Target{Connection: c.value("connectionId")}
}

// noConnection is the answer about a connection that is not there. How severe that is depends on the operation.
func noConnection(severity, id string) *wire.Error {
	return &wire.Error{Status: http.StatusNotFound, Code: severity + ".Connection.NotExisted", Target: "Connection",
		Message: fmt.Sprintf("Connection `%s` is not found.", id)}
}

// exists reports whether there is any connection that is meant; if not, the answer is nobody.
func (c *call) exists(t *hub.Target, nobody *wire.Error) (int, error) {
	if c.hub().Count(t) == 0 {
		return 0, nobody
	}
	return http.StatusOK, nil
}

func (c *call) leaveAllGroups(t *hub.Target) (int, error) {
	c.hub().RemoveFromAllGroups(t)
	return http.StatusNoContent, nil
}
