package webpubsub

import (
	"context"
	"net/http"
)

// SendToConnection sends a message to one connection. It succeeds even if the connection does not exist.
//
// REST: POST /api/hubs/{hub}/connections/{connectionId}/:send.
func (c *ServiceClient) SendToConnection(ctx context.Context, connectionID string, message Message, options *SendToConnectionOptions) error {
	o := valueOf(options)
	r := c.newHubRequest("SendToConnection", http.MethodPost).connection(connectionID).literal("/:send")
	r.ttl(o.MessageTTL)
	r.message(message, o.Metadata)
	return r.run(ctx)
}

// ConnectionExists reports whether a connection exists in the hub.
//
// REST: HEAD /api/hubs/{hub}/connections/{connectionId}.
func (c *ServiceClient) ConnectionExists(ctx context.Context, connectionID string, options *ConnectionExistsOptions) (bool, error) {
	return c.newHubRequest("ConnectionExists", http.MethodHead).connection(connectionID).exists(ctx)
}

// CloseConnection closes one connection. A client with a JSON or protobuf subprotocol receives the reason first.
// CloseConnection succeeds even if the connection does not exist.
//
// REST: DELETE /api/hubs/{hub}/connections/{connectionId}.
func (c *ServiceClient) CloseConnection(ctx context.Context, connectionID string, options *CloseConnectionOptions) error {
	r := c.newHubRequest("CloseConnection", http.MethodDelete).connection(connectionID)
	r.reason(valueOf(options).Reason)
	return r.run(ctx)
}

// RemoveConnectionFromAllGroups removes a connection from every group. It succeeds even if the connection does not
// exist.
//
// REST: DELETE /api/hubs/{hub}/connections/{connectionId}/groups.
func (c *ServiceClient) RemoveConnectionFromAllGroups(ctx context.Context, connectionID string, options *RemoveConnectionFromAllGroupsOptions) error {
	return c.newHubRequest("RemoveConnectionFromAllGroups", http.MethodDelete).connection(connectionID).literal("/groups").run(ctx)
}
