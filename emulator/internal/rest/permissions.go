package rest

import (
	"net/http"

	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// permissionRoutes are the operations on what one connection may do.
func permissionRoutes() []route {
	const path = "hubs/{hub}/permissions/{permission}/connections/{connectionId}"
	return []route{
		newRoute("GrantPermission", http.MethodPut, path, (*call).grantPermission).checked((*call).readTarget),
		newRoute("RevokePermission", http.MethodDelete, path, (*call).revokePermission).checked((*call).readTarget),
		newRoute("HasPermission", http.MethodHead, path, (*call).hasPermission).checked((*call).readTarget),
	}
}

// readTarget reads the group that a permission is about. It is required: no permission is for every group.
func (c *call) readTarget() error {
	c.target = c.parameter("targetName")
	if fault := protocol.CheckGroup(c.target); fault != "" {
		e := wire.BadRequest("Request", invalidGroup)
		e.Hint = "targetName names the group of the permission: " + fault
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

// hasPermission answers a permission that the connection lacks as it does a connection that is not there.
func (c *call) hasPermission() (int, error) {
	id := c.value("connectionId")
	if !c.hub().HasPermission(id, c.permission, c.target) {
		return 0, noConnection("Info", id)
	}
	return http.StatusOK, nil
}

// conflict is the answer to a change that there is no room for.
func conflict(err error) error {
	if err == nil {
		return nil
	}
	return &wire.Error{Status: http.StatusConflict, Code: "Error.Connection.Conflict", Target: "Connection", Message: err.Error()}
}
