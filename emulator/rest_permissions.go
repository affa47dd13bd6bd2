package emulator

import "net/http"

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
func (c *call) permission() (permission, string, error) {
	p, _ := parsePermission(c.value("permission")) // checked before
	group := c.query.Get("targetName")
	if c.query.Has("targetName") {
		if fault := checkGroup(group); fault != "" {
			return 0, "", badRequest("targetName", "%s", fault)
		}
	}
	return p, group, nil
}

func (c *call) grantPermission() (int, error) {
	p, group, err := c.permission()
	if err != nil {
		return 0, err
	}
	if c.hub.change(c.targetConnection(), func(member *connection) { err = member.permissions.grant(p, group) }) == 0 {
		return 0, notFound("there is no such connection")
	}
	return http.StatusOK, conflict(err)
}

func (c *call) revokePermission() (int, error) {
	p, group, err := c.permission()
	if err != nil {
		return 0, err
	}
	c.hub.change(c.targetConnection(), func(member *connection) { err = member.permissions.revoke(p, group) })
	return http.StatusNoContent, conflict(err)
}

func (c *call) hasPermission() (int, error) {
	p, group, err := c.permission()
	if err != nil {
		return 0, err
	}
	c.hub.mu.RLock()
	defer c.hub.mu.RUnlock()
	member := c.hub.connections[c.value("connectionId")]
	if member == nil || !member.permissions.allows(p, group) {
		return 0, notFound("the connection does not have the permission")
	}
	return http.StatusOK, nil
}

// conflict is the answer to a change that there is no room for.
func conflict(err error) error {
	if err == nil {
		return nil
	}
	return &restError{http.StatusConflict, "Conflict", err.Error(), ""}
}
