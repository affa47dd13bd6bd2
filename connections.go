package webpubsub

import (
	"context"
	"net/http"
)

// SendToConnection sends a message to one connection. A connection that does not exist is no error.
//
// REST: POST /api/hubs/{hub}/connections/{connectionId}/:send.
func (c *ServiceClient) SendToConnection(ctx context.Context, connectionID string, message Message, options *SendToConnectionOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("SendToConnection", http.MethodPost).connection(connectionID).literal("/:send")
	r.ttl(o.MessageTTL)
	r.message(message, o.Metadata)
	return r.run(ctx)
}

// ConnectionExists says whether the hub has a connection.
//
// REST: HEAD /api/hubs/{hub}/connections/{connectionId}.
func (c *ServiceClient) ConnectionExists(ctx context.Context, connectionID string, options *ConnectionExistsOptions) (bool, error) {
	return c.newHubRequest("ConnectionExists", http.MethodHead).connection(connectionID).exists(ctx)
}

// CloseConnection closes one connection. A client of the JSON or protobuf subprotocols is told the reason before. A
// connection that does not exist is no error.
//
// REST: DELETE /api/hubs/{hub}/connections/{connectionId}.
func (c *ServiceClient) CloseConnection(ctx context.Context, connectionID string, options *CloseConnectionOptions) error {
	r := c.newHubRequest("CloseConnection", http.MethodDelete).connection(connectionID)
	r.reason(valueOf(options).Reason)
	return r.run(ctx)
}

// RemoveConnectionFromAllGroups takes a connection out of every group that it is in. A connection that does not exist is
// no error.
//
// REST: DELETE /api/hubs/{hub}/connections/{connectionId}/groups.
func (c *ServiceClient) RemoveConnectionFromAllGroups(ctx context.Context, connectionID string, options *RemoveConnectionFromAllGroupsOptions) error {
	return c.newHubRequest("RemoveConnectionFromAllGroups", http.MethodDelete).connection(connectionID).literal("/groups").run(ctx)
}
