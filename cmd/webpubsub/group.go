package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/awps-go/webpubsub"
)

func newGroup(p *program) *cobra.Command {
	return family(&cobra.Command{Use: "group", Short: "Check groups and change their members"},
		p.question("exist GROUP", "Report whether any connection is in a group", "exists",
			func(ctx context.Context, client *webpubsub.ServiceClient, args []string) (bool, error) {
				return client.GroupExists(ctx, args[0], nil)
			}),
		newListConnections(p),
		p.operation("add-connection GROUP CONNECTION", "Add a connection to a group",
			func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
				return client.AddConnectionToGroup(ctx, args[0], args[1], nil)
			}),
		p.operation("remove-connection GROUP CONNECTION", "Remove a connection from a group",
			func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
				return client.RemoveConnectionFromGroup(ctx, args[0], args[1], nil)
			}),
		p.operation("add-user GROUP USER", "Add the current connections of a user to a group",
			func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
				return client.AddUserToGroup(ctx, args[0], args[1], nil)
			}),
		p.operation("remove-user GROUP USER", "Remove the connections of a user from a group",
			func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
				return client.RemoveUserFromGroup(ctx, args[0], args[1], nil)
			}),
		newAddConnections(p),
		newRemoveConnections(p),
		newCloseGroupConnections(p),
	)
}

func newListConnections(p *program) *cobra.Command {
	var asJSON bool
	var top int32
	cmd := p.operation("list-connections GROUP", "List the connections in a group", nil)
	cmd.RunE = action(func(cmd *cobra.Command, args []string) error {
		client, err := p.client(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		members := []webpubsub.GroupMember{}
		for member, err := range client.ConnectionsInGroup(cmd.Context(), args[0], &webpubsub.ListConnectionsInGroupOptions{Top: top}) {
			if err != nil {
				return err
			}
			members = append(members, member)
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), members)
		}
		rows := [][]string{{"CONNECTION", "USER"}}
		for _, member := range members {
			rows = append(rows, []string{member.ConnectionID, member.UserID})
		}
		return printTable(cmd.OutOrStdout(), rows)
	})
	cmd.Flags().Int32Var(&top, "top", 0, "list at most `N` connections (default: all)")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func newAddConnections(p *program) *cobra.Command {
	var filter string
	cmd := p.operation("add-connections GROUP...", "Add every connection that matches a filter to each of the groups",
		func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
			return client.AddConnectionsToGroups(ctx, args, webpubsub.Filter(filter), nil)
		})
	addGroupsFilter(cmd, &filter)
	return cmd
}

func newRemoveConnections(p *program) *cobra.Command {
	var filter string
	cmd := p.operation("remove-connections GROUP...", "Remove every connection that matches a filter from each of the groups",
		func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
			return client.RemoveConnectionsFromGroups(ctx, args, webpubsub.Filter(filter), nil)
		})
	addGroupsFilter(cmd, &filter)
	return cmd
}

func addGroupsFilter(cmd *cobra.Command, filter *string) {
	cmd.Flags().StringVar(filter, "filter", "", "only connections that match an OData `EXPRESSION`, such as \"userId in ('alice', 'bob')\" (default: every connection)")
}

func newCloseGroupConnections(p *program) *cobra.Command {
	var f closeFlags
	cmd := p.operation("close-connections GROUP", "Close every connection in a group",
		func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error {
			return client.CloseGroupConnections(ctx, args[0], &webpubsub.CloseGroupConnectionsOptions{Reason: f.reason, Excluded: f.excluded})
		})
	f.addReason(cmd)
	f.addExclude(cmd)
	return cmd
}
