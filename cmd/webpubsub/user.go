package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/awps-go/webpubsub"
)

func newUser(p *program) *cobra.Command {
	return family(&cobra.Command{Use: "user", Short: "Check users and close their connections"},
		p.question("exist USER", "Report whether a user has any connection", "exists",
			func(ctx context.Context, client *webpubsub.ServiceClient, args []string) (bool, error) {
				return client.UserExists(ctx, args[0], nil)
			}),
		newCloseUserConnections(p),
		p.operation("remove-from-all-groups USER", "Remove the connections of a user from every group",
			func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
				return client.RemoveUserFromAllGroups(ctx, args[0], nil)
			}),
	)
}

func newCloseUserConnections(p *program) *cobra.Command {
	var f closeFlags
	cmd := p.operation("close-connections USER", "Close every connection of a user",
		func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
			return client.CloseUserConnections(ctx, args[0], &webpubsub.CloseUserConnectionsOptions{Reason: f.reason, Excluded: f.excluded})
		})
	f.addReason(cmd)
	f.addExclude(cmd)
	return cmd
}
