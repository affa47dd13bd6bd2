package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/awps-go/webpubsub"
)

func newPermission(p *program) *cobra.Command {
	const arguments = " PERMISSION CONNECTION GROUP"
	cmd := family(&cobra.Command{
		Use:   "permission",
		Short: "Grant, revoke and check what a connection may do in a group",
		Long: `Grant, revoke and check what a connection may do in a group.

PERMISSION is sendToGroup or joinLeaveGroup.`,
	},
		p.operation("grant"+arguments, "Grant a connection a permission in a group",
			func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
				return client.GrantPermission(ctx, webpubsub.Permission(args[0]), args[1], &webpubsub.GrantPermissionOptions{TargetName: args[2]})
			}),
		p.operation("revoke"+arguments, "Revoke a permission of a connection in a group",
			func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
				return client.RevokePermission(ctx, webpubsub.Permission(args[0]), args[1], &webpubsub.RevokePermissionOptions{TargetName: args[2]})
			}),
		p.question("check"+arguments, "Report whether a connection has a permission in a group", "granted",
			func(ctx context.Context, client *webpubsub.ServiceClient, args []string) (bool, error) {
				return client.HasPermission(ctx, webpubsub.Permission(args[0]), args[1], &webpubsub.HasPermissionOptions{TargetName: args[2]})
			}),
	)
	for _, sub := range cmd.Commands() {
		sub.Args = cobra.MatchAll(sub.Args, checkPermission)
		sub.ValidArgs = []string{string(webpubsub.PermissionSendToGroup), string(webpubsub.PermissionJoinLeaveGroup)}
	}
	return cmd
}

// checkPermission checks the argument PERMISSION in the words of the command line. The client's own error names a Go constant.
func checkPermission(_ *cobra.Command, args []string) error {
	switch webpubsub.Permission(args[0]) {
	case webpubsub.PermissionSendToGroup, webpubsub.PermissionJoinLeaveGroup:
		return nil
	}
	return usageErrorf("PERMISSION must be %s or %s, not %q", webpubsub.PermissionSendToGroup, webpubsub.PermissionJoinLeaveGroup, args[0])
}
