package main

import (
	"errors"
	"flag"

	"github.com/spf13/cobra"

	"github.com/awps-go/webpubsub/cmd/internal/emulatorcmd"
)

func newEmulator(p *program) *cobra.Command {
	var config emulatorcmd.Config
	flags := flag.NewFlagSet("emulator", flag.ContinueOnError)
	config.Register(flags)
	cmd := &cobra.Command{
		Use:   "emulator",
		Short: "Run the emulator: Azure Web PubSub on this machine, for development and tests",
		Long: `Run the emulator: Azure Web PubSub on this machine, for development and tests. It prints its connection string, logs to
standard error, and ends with Ctrl-C. It keeps everything in memory. Do not expose it to a network.

Each flag has an environment variable, such as WEBPUBSUB_EMULATOR_ACCESS_KEY for --access-key. The flag takes precedence.`,
		Args: argumentsOf("emulator"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			for _, name := range []string{"connection-string-file", "endpoint", "hub", "retries"} {
				if cmd.Flags().Changed(name) { // such as --hub instead of --hubs
					return usageErrorf("--%s is not a flag of the emulator", name)
				}
			}
			if err := config.Complete(flags, cmd.Flags().Changed, p.env); err != nil {
				return usageErrorf("%v", err)
			}
			err := emulatorcmd.Run(cmd.Context(), &config, cmd.OutOrStdout(), cmd.ErrOrStderr())
			if _, ok := errors.AsType[*emulatorcmd.UsageError](err); ok {
				return usageErrorf("%v", err)
			}
			return err
		}),
	}
	cmd.Flags().AddGoFlagSet(flags)
	// Omit the flags that name a service.
	cmd.SetUsageTemplate("Usage:\n  {{.UseLine}}\n\nFlags:\n{{.LocalFlags.FlagUsages}}")
	return cmd
}
