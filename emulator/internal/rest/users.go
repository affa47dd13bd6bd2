package rest

import (
	"fmt"
	"net/http"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// userRoutes are the operations on all connections of one user.
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

// targetUser is the connections of the user that the path names.
func (c *call) targetUser() *hub.Target { return &hub.Target{User: c.value("userId")} }

// noUser is the answer about a user without connections.
func noUser(id string) *wire.Error {
	return &wire.Error{Status: http.StatusNotFound, Code: "Warning.User.NotExisted", Target: "User",
		Message: fmt.Sprintf("User `%s` is not found.", id)}
}
