package rest

import (
	"net/http"

	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// permissionRoutes returns the operations on the permissions of one connection.
func permissionRoutes() []route {
	const path = "hubs/{hub}/permissions/{permission}/connections/{connectionId}"
	return []route{
		newRoute("GrantPermission", http.MethodPut, path, (*call).grantPermission).checked((*call).readTarget),
		newRoute("RevokePermission", http.MethodDelete, path, (*call).revokePermission).checked((*call).readTarget),
		newRoute("HasPermission", http.MethodHead, path, (*call).hasPermission).checked((*call).readTarget),
	}
}

// readTarget reads the group of a permission. The group is required because the service has no permission for all groups.
func (c *call) readTarget() error {
	c.target = c.parameter("targetName")
	if fault := protocol.CheckGroup(c.target); fault != "" {
		e := wire.BadRequest("Request", invalidGroup)
		e.Hint = "targetName must be the permission's group: " + fault
		return e
	}
	return nil
}

func (c *call) grantPermission() (int, error) {
	id := c.value("connectionId")
	exists, err := c.hub().Grant(id, c.permission, c.target)
	if !exists {
		return 0, noConnection("Info", id)
	}
	return http.StatusOK, conflict(err)
}

func (c *call) revokePermission() (int, error) {
	return http.StatusNoContent, conflict(c.hub().Revoke(c.value("connectionId"), c.permission, c.target))
}

// hasPermission responds with the same error if the connection lacks the permission and if it does not exist.
func (c *call) hasPermission() (int, error) {
	id := c.value("connectionId")
	if !c.hub().HasPermission(id, c.permission, c.target) {
		return 0, noConnection("Info", id)
	}
	return http.StatusOK, nil
}

// conflict returns the error for a permission that names too many groups, or nil if err is nil.
func conflict(err error) error {
	if err == nil {
		return nil
	}
	return &wire.Error{Status: http.StatusConflict, Code: "Error.Connection.Conflict", Target: "Connection", Message: err.Error()}
}
