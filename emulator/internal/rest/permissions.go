package rest

import (
	"net/http"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// permissionRoutes are the operations on what one connection may do.
func permissionRoutes() []route {
	const path = "hubs/{hub}/permissions/{permission}/connections/{connectionId}"
	return []route{
		newRoute("GrantPermission", http.MethodPut, path, (*call).grantPermission),
		newRoute("RevokePermission", http.MethodDelete, path, (*call).revokePermission),
		newRoute("HasPermission", http.MethodHead, path, (*call).hasPermission),
	}
}

// permission reads the permission and the group it is about; no group means every group.
func (c *call) permission() (hub.Permission, string, error) {
	p, _ := hub.ParsePermission(c.value("permission")) // checked before
	group := c.query.Get("targetName")
	if c.query.Has("targetName") {
		if fault := protocol.CheckGroup(group); fault != "" {
			return 0, "", wire.BadRequest("targetName", "%s", fault)
		}
	}
	return p, group, nil
}

func (c *call) grantPermission() (int, error) {
	p, group, err := c.permission()
	if err != nil {
		return 0, err
	}
	exists, err := c.hub.Grant(c.value("connectionId"), p, group)
	if !exists {
		return 0, wire.NotFound("there is no such connection")
	}
	return http.StatusOK, conflict(err)
}

func (c *call) revokePermission() (int, error) {
	p, group, err := c.permission()
	if err != nil {
		return 0, err
	}
	return http.StatusNoContent, conflict(c.hub.Revoke(c.value("connectionId"), p, group))
}

func (c *call) hasPermission() (int, error) {
	p, group, err := c.permission()
	if err != nil {
		return 0, err
	}
	if !c.hub.HasPermission(c.value("connectionId"), p, group) {
		return 0, wire.NotFound("the connection does not have the permission")
	}
	return http.StatusOK, nil
}

// conflict is the answer to a change that there is no room for.
func conflict(err error) error {
	if err == nil {
		return nil
	}
	return &wire.Error{Status: http.StatusConflict, Code: "Conflict", Message: err.Error()}
}
