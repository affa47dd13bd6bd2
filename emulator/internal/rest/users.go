package rest

import (
	"fmt"
	"net/http"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// userRoutes returns the operations on all connections of one user.
func userRoutes() []route {
	const user = "hubs/{hub}/users/{userId}"
	return []route{
		newRoute("UserExists", http.MethodHead, user,
			func(c *call) (int, error) { return c.exists(c.targetUser(), noUser(c.value("userId"))) }),
		newRoute("CloseUserConnections", http.MethodPost, user+"/:closeConnections",
			func(c *call) (int, error) { return c.closeConnections(c.targetUser()) }),
		newRoute("AddUserToGroup", http.MethodPut, user+"/groups/{group}",
			func(c *call) (int, error) { return c.joinGroup(c.targetUser(), noUser(c.value("userId"))) }),
		newRoute("RemoveUserFromGroup", http.MethodDelete, user+"/groups/{group}",
			func(c *call) (int, error) { return c.leaveGroup(c.targetUser()) }),
		newRoute("RemoveUserFromAllGroups", http.MethodDelete, user+"/groups",
			func(c *call) (int, error) { return c.leaveAllGroups(c.targetUser()) }),
	}
}

// targetUser returns the target for the connections of the user in the path.
func (c *call) targetUser() *hub.Target { return &hub.Target{User: c.value("userId")} }

// noUser returns the error for a user without connections.
func noUser(id string) *wire.Error {
	return &wire.Error{Status: http.StatusNotFound, Code: "Warning.User.NotExisted", Target: "User",
		Message: fmt.Sprintf("User `%s` is not found.", id)}
}
