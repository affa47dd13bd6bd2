package soak

import (
	"bytes"
	"context"
	"io"
	"strings"

	"github.com/awps-go/webpubsub"
)

// operation is one call of the service client.
type operation struct {
	name  string
	sends bool // whether call sends the message
	call  func(ctx context.Context, client *webpubsub.ServiceClient, message string) error
}

// question adapts a call that returns a bool.
func question(ask func(context.Context, *webpubsub.ServiceClient) (bool, error)) func(context.Context, *webpubsub.ServiceClient, string) error {
	return func(ctx context.Context, client *webpubsub.ServiceClient, _ string) error {
		_, err := ask(ctx, client)
		return err
	}
}

// command adapts a call that does not send the message.
func command(do func(context.Context, *webpubsub.ServiceClient) error) func(context.Context, *webpubsub.ServiceClient, string) error {
	return func(ctx context.Context, client *webpubsub.ServiceClient, _ string) error { return do(ctx, client) }
}

// operations are all operations of the service client. Most of them name users, groups and connections that do not exist. Those
// that send reach all members of the group "soak".
var operations = []operation{
	{"SendToAll", true, func(ctx context.Context, c *webpubsub.ServiceClient, m string) error {
		return c.SendToAll(ctx, webpubsub.Text(m), &webpubsub.SendToAllOptions{Excluded: []string{"nobody"}})
	}},
	{"SendToGroup", true, func(ctx context.Context, c *webpubsub.ServiceClient, m string) error {
		return c.SendToGroup(ctx, "soak", webpubsub.Binary([]byte(m)), nil)
	}},
	{"SendToGroup, a stream", true, func(ctx context.Context, c *webpubsub.ServiceClient, m string) error {
		return c.SendToGroup(ctx, "soak", webpubsub.BinaryStream(bytes.NewReader([]byte(m))), nil)
	}},
	{"SendToGroup, a stream that cannot seek", true, func(ctx context.Context, c *webpubsub.ServiceClient, m string) error {
		return c.SendToGroup(ctx, "soak", webpubsub.BinaryStream(io.MultiReader(strings.NewReader(m))), nil)
	}},
	{"SendToUser", true, func(ctx context.Context, c *webpubsub.ServiceClient, m string) error {
		return c.SendToUser(ctx, "soak", webpubsub.Text(m), &webpubsub.SendToUserOptions{Metadata: map[string]string{"a": "b"}})
	}},
	{"SendToConnection", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.SendToConnection(ctx, "nobody", webpubsub.JSON("hello"), nil)
	})},
	{"ConnectionExists", false, question(func(ctx context.Context, c *webpubsub.ServiceClient) (bool, error) {
		return c.ConnectionExists(ctx, "nobody", nil)
	})},
	{"GroupExists", false, question(func(ctx context.Context, c *webpubsub.ServiceClient) (bool, error) {
		return c.GroupExists(ctx, "soak", nil)
	})},
	{"UserExists", false, question(func(ctx context.Context, c *webpubsub.ServiceClient) (bool, error) {
		return c.UserExists(ctx, "soak", nil)
	})},
	{"HasPermission", false, question(func(ctx context.Context, c *webpubsub.ServiceClient) (bool, error) {
		return c.HasPermission(ctx, webpubsub.PermissionSendToGroup, "nobody", &webpubsub.HasPermissionOptions{TargetName: "soak"})
	})},
	{"GrantPermission", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.GrantPermission(ctx, webpubsub.PermissionSendToGroup, "nobody", &webpubsub.GrantPermissionOptions{TargetName: "soak"})
	})},
	{"RevokePermission", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.RevokePermission(ctx, webpubsub.PermissionSendToGroup, "nobody", &webpubsub.RevokePermissionOptions{TargetName: "soak"})
	})},
	{"AddConnectionToGroup", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.AddConnectionToGroup(ctx, "other", "nobody", nil)
	})},
	{"RemoveConnectionFromGroup", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.RemoveConnectionFromGroup(ctx, "other", "nobody", nil)
	})},
	{"RemoveConnectionFromAllGroups", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.RemoveConnectionFromAllGroups(ctx, "nobody", nil)
	})},
	{"AddUserToGroup", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.AddUserToGroup(ctx, "other", "soak", nil)
	})},
	{"RemoveUserFromGroup", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.RemoveUserFromGroup(ctx, "other", "soak", nil)
	})},
	{"RemoveUserFromAllGroups", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.RemoveUserFromAllGroups(ctx, "nobody", nil)
	})},
	{"AddConnectionsToGroups", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.AddConnectionsToGroups(ctx, []string{"other"}, "userId ne 'nobody'", nil)
	})},
	{"RemoveConnectionsFromGroups", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.RemoveConnectionsFromGroups(ctx, []string{"other"}, "userId ne 'nobody'", nil)
	})},
	{"ListConnectionsInGroup", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		for _, err := range c.ConnectionsInGroup(ctx, "soak", &webpubsub.ListConnectionsInGroupOptions{MaxPageSize: 1}) {
			if err != nil {
				return err
			}
		}
		return nil
	})},
	{"CloseConnection", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.CloseConnection(ctx, "nobody", nil)
	})},
	{"CloseUserConnections", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.CloseUserConnections(ctx, "nobody", nil)
	})},
	{"CloseGroupConnections", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.CloseGroupConnections(ctx, "nobody", &webpubsub.CloseGroupConnectionsOptions{Reason: "bye"})
	})},
	{"GetServiceStatus", false, command(func(ctx context.Context, c *webpubsub.ServiceClient) error {
		return c.GetServiceStatus(ctx, nil)
	})},
}
