package main

import (
	"fmt"
	"io"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/spf13/cobra"

	"github.com/awps-go/webpubsub"
)

func newHealth(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Report whether the service is reachable and healthy",
		Long: `Report whether the service is reachable and healthy. The command needs no hub, and no credentials with --endpoint: the
service does not check them.`,
		Args: argumentsOf("health"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			client, err := p.clientForHealth(cmd.ErrOrStderr())
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

// clientForHealth returns a client for the request of health, which needs neither a hub nor credentials. A client needs
// both.
func (p *program) clientForHealth(stderr io.Writer) (*webpubsub.ServiceClient, error) {
	const hub = "health"
	if p.endpoint == "" || p.connectionStringFile != "" {
		return p.clientForHub(stderr, hub)
	}
	return webpubsub.NewClientWithKeyCredential(p.endpoint, hub, azcore.NewKeyCredential("not-checked"), p.clientOptions(stderr))
}
