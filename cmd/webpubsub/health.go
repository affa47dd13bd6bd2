package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newHealth(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Report whether the service is reachable and healthy",
		Long:  "Report whether the service is reachable and healthy. The command needs no hub.",
		Args:  argumentsOf("health"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			client, err := p.clientForHub(cmd.ErrOrStderr(), "health") // a client needs a hub, but this request does not
			if err != nil {
				return err
			}
			if err := client.GetServiceStatus(cmd.Context(), nil); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]bool{"healthy": true})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "healthy")
			return err
		}),
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}
