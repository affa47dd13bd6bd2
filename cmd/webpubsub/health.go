package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newHealth(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Report whether the service is there and well",
		Long:  "Report whether the service is there and well. It is a question to the service, without a hub and without credentials.",
		Args:  argumentsOf("health"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			client, err := p.clientForHub(cmd.ErrOrStderr(), "health") // a client needs a hub, and the question does not
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
