package webpubsub

import (
	"context"
	"net/http"
)

// SendToUser sends a message to every connection of a user. It succeeds even if the user has no connections. It does
// not reach a user whose ID has a /: see Names in the package documentation.
//
// REST: POST /api/hubs/{hub}/users/{userId}/:send.
func (c *ServiceClient) SendToUser(ctx context.Context, userID string, message Message, options *SendToUserOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("SendToUser", http.MethodPost).user(userID).literal("/:send")
	r.filter(o.Filter)
	r.ttl(o.MessageTTL)
	r.message(message, o.Metadata)
	return r.run(ctx)
}

// UserExists reports whether a user has any connection to the hub. It does not find a user whose ID has a /: see Names
// in the package documentation.
//
// REST: HEAD /api/hubs/{hub}/users/{userId}.
func (c *ServiceClient) UserExists(ctx context.Context, userID string, options *UserExistsOptions) (bool, error) {
	return c.newHubRequest("UserExists", http.MethodHead).user(userID).exists(ctx)
}

// CloseUserConnections closes every connection of a user. Clients with a JSON or protobuf subprotocol receive the
// reason first. CloseUserConnections does not reach a user whose ID has a /: see Names in the package documentation.
//
// REST: POST /api/hubs/{hub}/users/{userId}/:closeConnections.
func (c *ServiceClient) CloseUserConnections(ctx context.Context, userID string, options *CloseUserConnectionsOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("CloseUserConnections", http.MethodPost).user(userID).literal("/:closeConnections")
	r.excluded(o.Excluded)
	r.reason(o.Reason)
	return r.run(ctx)
}

// AddUserToGroup adds the current connections of a user to a group. Later connections of the user do not join the
// group. AddUserToGroup returns [ErrNotFound] if the user has no connections. It does not reach names with a /: see
// Names in the package documentation.
//
// REST: PUT /api/hubs/{hub}/users/{userId}/groups/{group}.
func (c *ServiceClient) AddUserToGroup(ctx context.Context, group, userID string, options *AddUserToGroupOptions) error {
	return c.newHubRequest("AddUserToGroup", http.MethodPut).user(userID).group(group).run(ctx)
}

// RemoveUserFromGroup removes every connection of a user from a group. It succeeds even if the user has no connections.
// It does not reach names with a /: see Names in the package documentation.
//
// REST: DELETE /api/hubs/{hub}/users/{userId}/groups/{group}.
func (c *ServiceClient) RemoveUserFromGroup(ctx context.Context, group, userID string, options *RemoveUserFromGroupOptions) error {
	return c.newHubRequest("RemoveUserFromGroup", http.MethodDelete).user(userID).group(group).run(ctx)
}

// RemoveUserFromAllGroups removes every connection of a user from every group. It succeeds even if the user has no
// connections. It does not reach a user whose ID has a /: see Names in the package documentation.
//
// REST: DELETE /api/hubs/{hub}/users/{userId}/groups.
func (c *ServiceClient) RemoveUserFromAllGroups(ctx context.Context, userID string, options *RemoveUserFromAllGroupsOptions) error {
	return c.newHubRequest("RemoveUserFromAllGroups", http.MethodDelete).user(userID).literal("/groups").run(ctx)
}
