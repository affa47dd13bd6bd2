package webpubsub

import (
	"context"
	"net/http"
)

// SendToUser sends a message to every connection of a user. A user without connections is no error.
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

// UserExists says whether a user has a connection to the hub.
//
// REST: HEAD /api/hubs/{hub}/users/{userId}.
func (c *ServiceClient) UserExists(ctx context.Context, userID string, options *UserExistsOptions) (bool, error) {
	return c.newHubRequest("UserExists", http.MethodHead).user(userID).exists(ctx)
}

// CloseUserConnections closes every connection of a user. Clients of the JSON and protobuf subprotocols are told the
// reason before.
//
// REST: POST /api/hubs/{hub}/users/{userId}/:closeConnections.
func (c *ServiceClient) CloseUserConnections(ctx context.Context, userID string, options *CloseUserConnectionsOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("CloseUserConnections", http.MethodPost).user(userID).literal("/:closeConnections")
	r.excluded(o.Excluded)
	r.reason(o.Reason)
	return r.run(ctx)
}

// AddUserToGroup adds the connections that a user has now to a group. A user without connections is an [ErrNotFound].
//
// REST: PUT /api/hubs/{hub}/users/{userId}/groups/{group}.
func (c *ServiceClient) AddUserToGroup(ctx context.Context, group, userID string, options *AddUserToGroupOptions) error {
	return c.newHubRequest("AddUserToGroup", http.MethodPut).user(userID).group(group).run(ctx)
}

// RemoveUserFromGroup takes every connection of a user out of a group. A user without connections is no error.
//
// REST: DELETE /api/hubs/{hub}/users/{userId}/groups/{group}.
func (c *ServiceClient) RemoveUserFromGroup(ctx context.Context, group, userID string, options *RemoveUserFromGroupOptions) error {
	return c.newHubRequest("RemoveUserFromGroup", http.MethodDelete).user(userID).group(group).run(ctx)
}

// RemoveUserFromAllGroups takes every connection of a user out of every group. A user without connections is no error.
//
// REST: DELETE /api/hubs/{hub}/users/{userId}/groups.
func (c *ServiceClient) RemoveUserFromAllGroups(ctx context.Context, userID string, options *RemoveUserFromAllGroupsOptions) error {
	return c.newHubRequest("RemoveUserFromAllGroups", http.MethodDelete).user(userID).literal("/groups").run(ctx)
}
