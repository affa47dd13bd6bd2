package rest

import (
	"net/http"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

// userRoutes are the operations on all connections of one user.
func userRoutes() []route {
	const user = "hubs/{hub}/users/{userId}"
	return []route{
		newRoute("UserExists", http.MethodHead, user,
			func(c *call) (int, error) { return c.exists(c.targetUser()) }),
		newRoute("CloseUserConnections", http.MethodPost, user+"/:closeConnections",
			func(c *call) (int, error) { return c.closeConnections(c.targetUser()) }),
		newRoute("AddUserToGroup", http.MethodPut, user+"/groups/{group}",
			func(c *call) (int, error) { return c.joinGroup(c.targetUser(), "the user has no connection") }),
		newRoute("RemoveUserFromGroup", http.MethodDelete, user+"/groups/{group}",
			func(c *call) (int, error) { return c.leaveGroup(c.targetUser()) }),
		newRoute("RemoveUserFromAllGroups", http.MethodDelete, user+"/groups",
			func(c *call) (int, error) { return c.leaveAllGroups(c.targetUser()) }),
	}
}

// targetUser is the connections of the user that the path names.
func (c *call) targetUser() *hub.Target { return &hub.Target{User: c.value("userId")} }
