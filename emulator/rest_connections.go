package emulator

import "net/http"

// connectionRoutes are the operations on one connection.
func connectionRoutes() []route {
	return []route{
		newRoute("ConnectionExists", http.MethodHead, "hubs/{hub}/connections/{connectionId}",
			func(c *call) (int, error) { return c.exists(c.targetConnection()) }),
		newRoute("CloseConnection", http.MethodDelete, "hubs/{hub}/connections/{connectionId}",
			func(c *call) (int, error) {
				c.hub.close(c.targetConnection(), c.query.Get("reason"))
				return http.StatusNoContent, nil
			}),
		newRoute("RemoveConnectionFromAllGroups", http.MethodDelete, "hubs/{hub}/connections/{connectionId}/groups",
			func(c *call) (int, error) { return c.leaveAllGroups(c.targetConnection()) }),
	}
}

// exists answers whether there is any connection that is meant.
func (c *call) exists(t *target) (int, error) {
	if c.hub.count(t) == 0 {
		return 0, notFound("there is none")
	}
	return http.StatusOK, nil
}

func (c *call) leaveAllGroups(t *target) (int, error) {
	c.hub.change(t, c.hub.leaveAll)
	return http.StatusNoContent, nil
}
