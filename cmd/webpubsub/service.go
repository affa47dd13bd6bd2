package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/awps-go/webpubsub"
)

// program holds the flags and settings that the commands share: the service, the hub, retries and logging.
type program struct {
	env func(string) string

	connectionStringFile string
	endpoint             string
	hub                  string
	retries              int32
	logLevel             logLevel
}

func (p *program) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&p.connectionStringFile, "connection-string-file", "",
		"the `FILE` with the connection string (default: the connection string in WEBPUBSUB_CONNECTION_STRING)")
	flags.StringVar(&p.endpoint, "endpoint", "", "the `URL` of the service, to authenticate with Microsoft Entra ID")
	flags.StringVar(&p.hub, "hub", "", "the `NAME` of the hub (default: WEBPUBSUB_HUB)")
	flags.Int32Var(&p.retries, "retries", 3, "retry a request up to `N` times after a transient failure")
	p.logLevel.Level = slog.LevelError
	flags.Var(&p.logLevel, "log-level", "the lowest `LEVEL` to log to standard error: debug, info, warn or error; debug shows the HTTP traffic")

	// The flag is defined only to give a helpful error: see rejectConnectionStrings.
	flags.String("connection-string", "", "")
	cobra.CheckErr(flags.MarkHidden("connection-string"))
}

// logLevel is a slog.Level that can be a flag.
type logLevel struct{ slog.Level }

func (l *logLevel) Set(text string) error { return l.UnmarshalText([]byte(text)) }
func (l *logLevel) String() string        { return strings.ToLower(l.Level.String()) }
func (l *logLevel) Type() string          { return "LEVEL" }

// rejectConnectionStrings rejects a connection string on the command line: other users of the machine can see command
// lines, and the shell remembers them. The error does not repeat the connection string.
func rejectConnectionStrings(args []string) error {
	for _, arg := range args {
		text := strings.ReplaceAll(strings.ToLower(arg), " ", "")
		name, _, _ := strings.Cut(text, "=")
		if name == "--connection-string" || strings.Contains(text, "endpoint=") && strings.Contains(text, "accesskey=") {
			return usageErrorf("other users of this machine can see a connection string on the command line: " +
				"set WEBPUBSUB_CONNECTION_STRING, or use --connection-string-file FILE")
		}
	}
	return nil
}

// client returns a client for the hub.
func (p *program) client(stderr io.Writer) (*webpubsub.ServiceClient, error) {
	hub, err := p.hubName()
	if err != nil {
		return nil, err
	}
	return p.clientForHub(stderr, hub)
}

func (p *program) hubName() (string, error) {
	if p.hub != "" {
		return p.hub, nil
	}
	if hub := p.env("WEBPUBSUB_HUB"); hub != "" {
		return hub, nil
	}
	return "", usageErrorf("the hub is missing: use --hub NAME, or set WEBPUBSUB_HUB")
}

func (p *program) clientForHub(stderr io.Writer, hub string) (*webpubsub.ServiceClient, error) {
	options := p.clientOptions(stderr)
	if p.endpoint != "" {
		credential, err := p.credential()
		if err != nil {
			return nil, err
		}
		return webpubsub.NewClient(p.endpoint, hub, credential, options)
	}
	connectionString, err := p.connectionString()
	if err != nil {
		return nil, err
	}
	return webpubsub.NewClientFromConnectionString(connectionString, hub, options)
}

func (p *program) clientOptions(stderr io.Writer) *webpubsub.ClientOptions {
	options := &webpubsub.ClientOptions{
		ClientOptions: azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: p.retries}},
		Logger:        p.logger(stderr),
	}
	if p.retries == 0 {
		options.Retry.MaxRetries = -1 // azcore's value for no retries
	}
	return options
}

// credential returns the credential for --endpoint.
func (p *program) credential() (azcore.TokenCredential, error) {
	if p.connectionStringFile != "" {
		return nil, usageErrorf("--endpoint and --connection-string-file cannot be used together")
	}
	return azidentity.NewDefaultAzureCredential(nil)
}

func (p *program) connectionString() (string, error) {
	text, err := p.givenConnectionString()
	if lower := strings.ToLower(text); strings.Contains(lower, "endpoint") && !strings.Contains(lower, "accesskey") {
		return "", usageErrorf("AccessKey is missing in the connection string; for Microsoft Entra ID, use --endpoint URL")
	}
	return text, err
}

func (p *program) givenConnectionString() (string, error) {
	if p.connectionStringFile != "" {
		text, err := os.ReadFile(p.connectionStringFile)
		if err != nil {
			return "", usageErrorf("--connection-string-file: %v", err)
		}
		connectionString := strings.TrimSpace(strings.TrimPrefix(string(text), "\ufeff")) // some editors add the mark
		if connectionString == "" {
			return "", usageErrorf("--connection-string-file: %s is empty", p.connectionStringFile)
		}
		return connectionString, nil
	}
	if text := p.env("WEBPUBSUB_CONNECTION_STRING"); text != "" {
		return text, nil
	}
	return "", usageErrorf("the service is missing: set WEBPUBSUB_CONNECTION_STRING, or use --connection-string-file FILE, " +
		"or --endpoint URL for Microsoft Entra ID")
}

func (p *program) logger(stderr io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: p.logLevel.Level}))
}

// operation returns a command that makes one call to the service. The words of use after the first are its arguments.
func (p *program) operation(use, short string, run func(ctx context.Context, client *webpubsub.ServiceClient, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: argumentsOf(use), RunE: action(func(cmd *cobra.Command, args []string) error {
		client, err := p.client(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return run(cmd.Context(), client, args)
	})}
}

// question returns a command that makes one yes-or-no call to the service. It prints true or false, or with --json an
// object with the answer under the key.
func (p *program) question(use, short, key string, ask func(ctx context.Context, client *webpubsub.ServiceClient, args []string) (bool, error)) *cobra.Command {
	var asJSON bool
	long := short + ". Print true or false; the exit code is 0 in both cases."
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: argumentsOf(use), RunE: action(func(cmd *cobra.Command, args []string) error {
		client, err := p.client(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		yes, err := ask(cmd.Context(), client, args)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), map[string]bool{key: yes})
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), yes)
		return err
	})}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// argumentsOf returns the check of a command's arguments. An argument in brackets is optional, and one that ends in
// dots may be repeated; only the last argument may have either.
func argumentsOf(use string) cobra.PositionalArgs {
	names := strings.Fields(use)[1:]
	least, most := len(names), len(names)
	if least > 0 {
		last := names[least-1]
		if strings.HasPrefix(last, "[") {
			least--
		}
		if strings.HasSuffix(strings.TrimSuffix(last, "]"), "...") {
			most = int(^uint(0) >> 1)
		}
	}
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usageErrorf("the argument %s is missing", names[len(args)])
		case len(args) > most:
			return usageErrorf("unexpected argument %q", args[most])
		}
		return nil
	}
}
