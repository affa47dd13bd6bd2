package webpubsub

import (
	"context"
	"net/http"
	"strings"
)

// Permission is a right of a connection to one group, as [ServiceClient.GrantPermission] gives it.
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

const (
	roleSendToGroups    = "webpubsub.sendToGroups."
	roleJoinLeaveGroups = "webpubsub.joinLeaveGroups."
)

// RoleSendToGroup returns the role that lets a connection send to one group.
func RoleSendToGroup(group string) string { return RoleSendToAnyGroup + "." + group }

// RoleJoinLeaveGroup returns the role that lets a connection join and leave one group.
func RoleJoinLeaveGroup(group string) string { return RoleJoinLeaveAnyGroup + "." + group }

// RoleSendToGroups returns the role that lets a connection send to the groups that match a pattern. In the pattern
//   - * stands for any characters except a dot,
//   - ** stands for any characters,
//   - ? stands for one character except a dot,
//   - \ before one of these stands for the character itself.
func RoleSendToGroups(pattern string) string { return roleSendToGroups + pattern }

// RoleJoinLeaveGroups returns the role that lets a connection join and leave the groups that match a pattern. See
// [RoleSendToGroups] for the pattern.
func RoleJoinLeaveGroups(pattern string) string { return roleJoinLeaveGroups + pattern }

// roleProblem returns what is wrong with a role, in words that follow its name: it is a role of the service that is
// misspelt or names no group. It is empty for any other role, which is the application's own.
func roleProblem(role string) string {
	for _, prefix := range []string{RoleSendToAnyGroup + ".", RoleJoinLeaveAnyGroup + ".", roleSendToGroups, roleJoinLeaveGroups} {
		if name, ok := strings.CutPrefix(role, prefix); ok {
			if problem := groupProblem(name); problem != "" {
				return "names a group or a pattern that " + problem
			}
			return ""
		}
	}
	if role == RoleSendToAnyGroup || role == RoleJoinLeaveAnyGroup {
		return ""
	}
	lower := strings.ToLower(role)
	for _, part := range []string{"webpubsub", "sendtogroup", "joinleavegroup"} {
		if strings.Contains(lower, part) {
			return "is not a role of the service: use RoleSendToGroup and the names beside it"
		}
	}
	return nameProblem(role)
}

// GrantPermission gives a connection a permission for one group. options.TargetName, the group, is required: the service
// has no permission for every group here, and * is a group that is called *. A role gives that: see [RoleSendToAnyGroup].
//
// It returns [ErrNotFound] if the connection does not exist, and [ErrConflict] if the connection has as many permissions
// as it can have.
//
// REST: PUT /api/hubs/{hub}/permissions/{permission}/connections/{connectionId}.
func (c *ServiceClient) GrantPermission(ctx context.Context, permission Permission, connectionID string, options *GrantPermissionOptions) error {
	return c.permission("GrantPermission", http.MethodPut, permission, connectionID, valueOf(options).TargetName).run(ctx)
}

// RevokePermission takes a permission for one group from a connection. options.TargetName, the group, is required, as in
// [ServiceClient.GrantPermission]. If a role allows the connection that group, by a pattern or as one of all, revoking
// denies it until the permission is granted again. The connection stays in the groups that it has joined. It succeeds if
// the connection does not exist.
//
// REST: DELETE /api/hubs/{hub}/permissions/{permission}/connections/{connectionId}.
func (c *ServiceClient) RevokePermission(ctx context.Context, permission Permission, connectionID string, options *RevokePermissionOptions) error {
	return c.permission("RevokePermission", http.MethodDelete, permission, connectionID, valueOf(options).TargetName).run(ctx)
}

// HasPermission reports whether a connection has a permission for one group, by a role or by a grant. options.TargetName,
// the group, is required, as in [ServiceClient.GrantPermission]. It is false if the connection does not exist.
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
	if target == "" {
		r.refuse("options.TargetName", "is empty: the service needs a group")
	}
	r.checkGroup("options.TargetName", target)
	r.param("targetName", target)
	return r
}
