package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/awps-go/webpubsub"
)

func newConnection(p *program) *cobra.Command {
	return family(&cobra.Command{Use: "connection", Short: "Check and close connections"},
		p.question("exist CONNECTION", "Report whether a connection exists", "exists",
			func(ctx context.Context, client *webpubsub.ServiceClient, args []string) (bool, error) {
				return client.ConnectionExists(ctx, args[0], nil)
			}),
		newCloseConnection(p),
		newCloseAllConnections(p),
		p.operation("remove-from-all-groups CONNECTION", "Remove a connection from every group",
			func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
				return client.RemoveConnectionFromAllGroups(ctx, args[0], nil)
			}),
	)
}

func newCloseConnection(p *program) *cobra.Command {
	var f closeFlags
	cmd := p.operation("close CONNECTION", "Close a connection",
		func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
			return client.CloseConnection(ctx, args[0], &webpubsub.CloseConnectionOptions{Reason: f.reason})
		})
	f.addReason(cmd)
	return cmd
}

func newCloseAllConnections(p *program) *cobra.Command {
	var f closeFlags
	cmd := p.operation("close-all", "Close every connection of the hub",
		func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
			return client.CloseAllConnections(ctx, &webpubsub.CloseAllConnectionsOptions{Reason: f.reason, Excluded: f.excluded})
		})
	f.addReason(cmd)
	f.addExclude(cmd)
	return cmd
}

// closeFlags are the flags of the commands that close connections.
type closeFlags struct {
	reason   string
	excluded []string
}

func (f *closeFlags) addReason(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.reason, "reason", "", "a `TEXT` that each client receives before it is disconnected")
}

func (f *closeFlags) addExclude(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.excluded, "exclude", nil, "do not close this `CONNECTION`; may be repeated")
}
