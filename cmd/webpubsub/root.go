package main

import (
	"context"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// run executes the command that the arguments name, and returns the exit code.
func run(ctx context.Context, args []string, env func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot(&program{env: env})
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	checkDefaultCommands(root)
	if err := rejectConnectionStrings(args); err != nil {
		return report(stderr, root, err)
	}
	cmd, err := root.ExecuteContextC(ctx)
	return report(stderr, cmd, err)
}

func newRoot(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:   "webpubsub",
		Short: "Operate and debug applications on Azure Web PubSub",
		Long: `webpubsub operates and debugs applications on Azure Web PubSub. It works with the service and with the emulator.

Which service:
  WEBPUBSUB_CONNECTION_STRING     the connection string from the portal, or from "webpubsub emulator"
  --connection-string-file FILE   a file with the connection string, instead of the variable
  --endpoint URL                  the URL of the service, to authenticate with Microsoft Entra ID instead: with environment
                                  variables, a managed identity, the Azure CLI, ...

The hub is the one of --hub, otherwise of WEBPUBSUB_HUB. The exit code is 0 for success, 1 for a failure, and 2 for a
usage error. The commands exist and check print true or false; their exit code is 0 in both cases.`,
		Version:       version(),
		SilenceErrors: true, // report prints them
		SilenceUsage:  true,

		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if p.retries < 0 {
				return usageErrorf("--retries must be at least 0")
			}
			return rejectEmptyFlags(cmd.Flags())
		},
	}
	p.addFlags(root.PersistentFlags())
	family(root,
		newConnect(p), newListen(p), newSend(p), newToken(p), newHealth(p),
		newConnection(p), newUser(p), newGroup(p), newPermission(p), newRequest(p),
		newBench(p), newEmulator(p),
	)
	return root
}

// checkDefaultCommands makes cobra's own commands, help and completion, fail if they are called wrongly, like the others. The
// output of root must be set already.
func checkDefaultCommands(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				found, rest, err := root.Find(args)
				if err == nil && len(rest) > 0 {
					err = unknownCommand(found, rest[0])
				}
				return err
			}
		case "completion":
			family(cmd)
		}
	}
}

// rejectEmptyFlags rejects flags that were given without a value, for example because a shell variable is not set. An
// empty filter would select every connection.
func rejectEmptyFlags(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if err == nil && f.Value.Type() == "string" && f.Value.String() == "" {
			err = usageErrorf("--%s is empty", f.Name)
		}
	})
	return err
}

// family makes a command the parent of others. Without a subcommand it prints the help, and the exit code is that of a
// usage error.
func family(parent *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	parent.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return nil
	}
	parent.RunE = func(cmd *cobra.Command, args []string) error {
		cmd.SetOut(cmd.ErrOrStderr())
		if err := cmd.Help(); err != nil {
			return err
		}
		return errHelpShown
	}
	parent.DisableFlagsInUseLine = true
	parent.AddCommand(commands...)
	return parent
}

func unknownCommand(parent *cobra.Command, name string) error {
	return usageErrorf("unknown command %q", parent.CommandPath()+" "+name)
}

// version returns the version of the module that contains the program.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
