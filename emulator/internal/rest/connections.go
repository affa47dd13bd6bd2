package rest

import (
	"fmt"
	"net/http"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// connectionRoutes returns the operations on one connection.
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

// targetConnection returns the target for the connection in the path.
func (c *call) targetConnection() *hub.Target {
	return &hub.Target{Connection: c.value("connectionId")}
}

// noConnection returns the error for a connection that does not exist. The severity, the first part of the error code, depends
// on the operation.
func noConnection(severity, id string) *wire.Error {
	return &wire.Error{Status: http.StatusNotFound, Code: severity + ".Connection.NotExisted", Target: "Connection",
		Message: fmt.Sprintf("Connection `%s` is not found.", id)}
}

// exists responds with 200 if the target has a connection, and returns notFound otherwise.
func (c *call) exists(t *hub.Target, notFound *wire.Error) (int, error) {
	if c.hub().Count(t) == 0 {
		return 0, notFound
	}
	return http.StatusOK, nil
}

func (c *call) leaveAllGroups(t *hub.Target) (int, error) {
	c.hub().RemoveFromAllGroups(t)
	return http.StatusNoContent, nil
}
