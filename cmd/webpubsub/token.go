package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/awps-go/webpubsub"
)

func newToken(p *program) *cobra.Command {
	var f clientFlags
	var protocol string
	var expiresIn time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Create a client access token and print the URL to connect to",
		Long: `Create a client access token and print the URL that a client connects to. Anyone who has the URL can connect until the
token expires.`,
		Args: argumentsOf("token"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			client, err := p.client(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			options, err := f.tokenOptions()
			if err != nil {
				return err
			}
			if options.Protocol, err = parseClientProtocol(protocol); err != nil {
				return err
			}
			options.ExpiresIn = expiresIn
			access, err := client.GetClientAccessToken(cmd.Context(), options)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), access)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), access.URL)
			return err
		}),
	}
	f.addFlags(cmd)
	cmd.Flags().StringVar(&protocol, "protocol", "default", "the `KIND` of client: default, mqtt or socketio")
	cmd.Flags().DurationVar(&expiresIn, "expires-in", time.Hour, "how long the token is valid for connecting, at least 1m")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON with token, baseUrl and url, like the response of a negotiate endpoint")
	completeFlag(cmd, "protocol", "default", "mqtt", "socketio")
	return cmd
}

func parseClientProtocol(text string) (webpubsub.ClientProtocol, error) {
	switch text {
	case "default":
		return webpubsub.ClientProtocolDefault, nil
	case "mqtt":
		return webpubsub.ClientProtocolMQTT, nil
	case "socketio":
		return webpubsub.ClientProtocolSocketIO, nil
	}
	return "", usageErrorf("--protocol must be default, mqtt or socketio, not %q", text)
}

// clientFlags are the flags for the user, groups and roles of a client.
type clientFlags struct {
	user   string
	groups []string
	roles  []string
}

func (f *clientFlags) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.user, "user", "", "the `ID` of the connection's user (default: no user)")
	flags.StringArrayVar(&f.groups, "group", nil, "a `GROUP` that the connection joins; may be repeated")
	flags.StringArrayVar(&f.roles, "role", nil, "a `ROLE` of the connection, such as webpubsub.sendToGroup or webpubsub.joinLeaveGroup.NAME; may be repeated")
	completeFlag(cmd, "role", webpubsub.RoleSendToAnyGroup, webpubsub.RoleJoinLeaveAnyGroup)
}

func (f *clientFlags) tokenOptions() (*webpubsub.ClientAccessTokenOptions, error) {
	for _, role := range f.roles {
		if !strings.HasPrefix(role, "webpubsub.") { // the service ignores unknown roles
			return nil, usageErrorf("--role: %q must begin with webpubsub., such as %s", role, webpubsub.RoleSendToAnyGroup)
		}
	}
	return &webpubsub.ClientAccessTokenOptions{UserID: f.user, Groups: f.groups, Roles: f.roles}, nil
}

// completeFlag registers the values of a flag for shell completion.
func completeFlag(cmd *cobra.Command, name string, values ...string) {
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
}
