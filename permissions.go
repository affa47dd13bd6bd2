package webpubsub

import (
	"context"
	"net/http"
)

// Permission is what a connection may do to groups, as [ServiceClient.GrantPermission] gives it.
type Permission string

const (
	// PermissionSendToGroup lets a connection send to a group.
	PermissionSendToGroup Permission = "sendToGroup"
	// PermissionJoinLeaveGroup lets a connection join and leave a group.
	PermissionJoinLeaveGroup Permission = "joinLeaveGroup"
)

// The roles that a client access token can give for every group; see [ClientAccessTokenOptions].
const (
	// RoleSendToAnyGroup lets a connection send to every group.
	RoleSendToAnyGroup = "webpubsub.sendToGroup"
	// RoleJoinLeaveAnyGroup lets a connection join and leave every group.
	RoleJoinLeaveAnyGroup = "webpubsub.joinLeaveGroup"
)

// RoleSendToGroup is the role that lets a connection send to one group.
func RoleSendToGroup(group string) string { return RoleSendToAnyGroup + "." + group }

// RoleJoinLeaveGroup is the role that lets a connection join and leave one group.
func RoleJoinLeaveGroup(group string) string { return RoleJoinLeaveAnyGroup + "." + group }

// RoleSendToGroups is the role that lets a connection send to the groups that match a pattern. In it * stands for any
// characters but a dot, ** for any characters, ? for one character but a dot, and \ before one of these for itself.
func RoleSendToGroups(pattern string) string { return "webpubsub.sendToGroups." + pattern }

// RoleJoinLeaveGroups is the role that lets a connection join and leave the groups that match a pattern, which is as in
// [RoleSendToGroups].
func RoleJoinLeaveGroups(pattern string) string { return "webpubsub.joinLeaveGroups." + pattern }

// GrantPermission gives a connection a permission. A connection that does not exist is an [ErrNotFound]; one that has as
// many permissions as it can have is an [ErrConflict].
//
// REST: PUT /api/hubs/{hub}/permissions/{permission}/connections/{connectionId}.
func (c *ServiceClient) GrantPermission(ctx context.Context, permission Permission, connectionID string, options *GrantPermissionOptions) error {
	return c.permission("GrantPermission", http.MethodPut, permission, connectionID, valueOf(options).TargetName).run(ctx)
}

// RevokePermission takes a permission from a connection. For a group that a role with a pattern, or one for every group,
// allows, this is a denial until the permission is granted again. It takes the connection out of no group.
//
// REST: DELETE /api/hubs/{hub}/permissions/{permission}/connections/{connectionId}.
func (c *ServiceClient) RevokePermission(ctx context.Context, permission Permission, connectionID string, options *RevokePermissionOptions) error {
	return c.permission("RevokePermission", http.MethodDelete, permission, connectionID, valueOf(options).TargetName).run(ctx)
}

// HasPermission says whether a connection has a permission. It is false for a connection that does not exist.
//
// REST: HEAD /api/hubs/{hub}/permissions/{permission}/connections/{connectionId}.
func (c *ServiceClient) HasPermission(ctx context.Context, permission Permission, connectionID string, options *HasPermissionOptions) (bool, error) {
	return c.permission("HasPermission", http.MethodHead, permission, connectionID, valueOf(options).TargetName).exists(ctx)
}

func (c *ServiceClient) permission(operation, method string, permission Permission, connectionID, target string) *request {
	r := c.newHubRequest(operation, method)
	if permission != PermissionSendToGroup && permission != PermissionJoinLeaveGroup {
		r.refuse("permission", "is neither PermissionSendToGroup nor PermissionJoinLeaveGroup")
	}
	r.literal("/permissions/").escaped(string(permission)).connection(connectionID)
	if target != "" {
		r.checkGroup("options.TargetName", target)
		r.param("targetName", target)
	}
	return r
}
