package webpubsub

import (
	"context"
	"net/http"
	"strings"

	"github.com/awps-go/webpubsub/internal/names"
)

// Permission is something that a connection is allowed to do with one group. See [ServiceClient.GrantPermission].
type Permission string

const (
	// PermissionSendToGroup lets a connection send to a group.
	PermissionSendToGroup Permission = "sendToGroup"
	// PermissionJoinLeaveGroup lets a connection join and leave a group.
	PermissionJoinLeaveGroup Permission = "joinLeaveGroup"
)

// Roles for every group of the hub. A client access token can contain them; see [ClientAccessTokenOptions].
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

// RoleSendToGroups returns the role that lets a connection send to the groups that match a pattern. In a pattern
//   - * matches any sequence of characters without a dot.
//   - ** matches any sequence of characters.
//   - ? matches one character other than a dot.
//   - \ before one of these characters matches the character itself.
//
// A pattern with more than five unescaped asterisks is invalid: the service would ignore the role.
func RoleSendToGroups(pattern string) string { return roleSendToGroups + pattern }

// RoleJoinLeaveGroups returns the role that lets a connection join and leave the groups that match a pattern. See
// [RoleSendToGroups] for patterns.
func RoleJoinLeaveGroups(pattern string) string { return roleJoinLeaveGroups + pattern }

// roleProblem returns the problem with a role, phrased to follow the role's name, or "" if the role is valid. A role is
// invalid if it looks like a role of the service but is misspelt, or if its group is invalid. Any other role is the
// application's own.
func roleProblem(role string) string {
	for _, prefix := range []string{RoleSendToAnyGroup + ".", RoleJoinLeaveAnyGroup + ".", roleSendToGroups, roleJoinLeaveGroups} {
		if name, ok := strings.CutPrefix(role, prefix); ok {
			if problem := groupProblem(name); problem != "" {
				return "has a group or pattern that " + problem
			}
			if (prefix == roleSendToGroups || prefix == roleJoinLeaveGroups) && names.Asterisks(name) > names.MaxAsterisks {
				return "has a pattern with more than 5 asterisks, which the service ignores"
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
			return "is not a role of the service; use RoleSendToGroup, RoleJoinLeaveGroup or similar"
		}
	}
	return nameProblem(role)
}

// GrantPermission grants a connection a permission for one group. options.TargetName, the group, is required.
// TargetName is not a pattern: * is the group with the name *. To allow every group, use a role in the client's access
// token, such as [RoleSendToAnyGroup].
//
// GrantPermission returns [ErrNotFound] if the connection does not exist, and [ErrConflict] if the connection already
// has the maximum number of permissions.
//
// REST: PUT /api/hubs/{hub}/permissions/{permission}/connections/{connectionId}.
func (c *ServiceClient) GrantPermission(ctx context.Context, permission Permission, connectionID string, options *GrantPermissionOptions) error {
	return c.permission("GrantPermission", http.MethodPut, permission, connectionID, valueOf(options).TargetName).run(ctx)
}

// RevokePermission revokes a connection's permission for one group. options.TargetName, the group, is required. If the
// connection has the permission by a role, RevokePermission overrides the role for this group until the permission is
// granted again. The connection does not leave groups that it has joined. RevokePermission succeeds even if the
// connection does not exist.
//
// REST: DELETE /api/hubs/{hub}/permissions/{permission}/connections/{connectionId}.
func (c *ServiceClient) RevokePermission(ctx context.Context, permission Permission, connectionID string, options *RevokePermissionOptions) error {
	return c.permission("RevokePermission", http.MethodDelete, permission, connectionID, valueOf(options).TargetName).run(ctx)
}

// HasPermission reports whether a connection has a permission for one group, by a role or by
// [ServiceClient.GrantPermission]. options.TargetName, the group, is required. HasPermission returns false if the
// connection does not exist.
//
// REST: HEAD /api/hubs/{hub}/permissions/{permission}/connections/{connectionId}.
func (c *ServiceClient) HasPermission(ctx context.Context, permission Permission, connectionID string, options *HasPermissionOptions) (bool, error) {
	return c.permission("HasPermission", http.MethodHead, permission, connectionID, valueOf(options).TargetName).exists(ctx)
}

func (c *ServiceClient) permission(operation, method string, permission Permission, connectionID, target string) *request {
	r := c.newHubRequest(operation, method)
	if permission != PermissionSendToGroup && permission != PermissionJoinLeaveGroup {
		r.reject("permission", "must be PermissionSendToGroup or PermissionJoinLeaveGroup")
	}
	r.literal("/permissions/").escaped(string(permission)).connection(connectionID)
	if target == "" {
		r.reject("options.TargetName", "is empty: a group is required")
	}
	r.check("options.TargetName", groupProblem(target))
	r.param("targetName", target)
	return r
}
