package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/awps-go/webpubsub"
)

func newSend(p *program) *cobra.Command {
	return family(&cobra.Command{
		Use:   "send",
		Short: "Send a message to all, a group, a user or a connection",
		Long: `Send a message to all connections of the hub, to a group, a user or one connection.

The message is the argument, or the content of --file, or standard input. It is sent as text unless --json or --binary is
given.`,
		Example: `  webpubsub send all 'the service restarts in 5 minutes'
  webpubsub send group room --json '{"price": 12}' --filter "userId ne 'bob'"
  date | webpubsub send user alice`,
	},
		sendTo{
			use: "all [MESSAGE]", short: "Send a message to every connection of the hub", filter: true, exclude: true,
			send: func(ctx context.Context, client *webpubsub.ServiceClient, _ string, message webpubsub.Message, f *sendFlags) error {
				return client.SendToAll(ctx, message, &webpubsub.SendToAllOptions{
					Excluded: f.excluded, Filter: webpubsub.Filter(f.filter), MessageTTL: f.ttl, Metadata: f.metadata,
				})
			},
		}.command(p),
		sendTo{
			use: "group GROUP [MESSAGE]", short: "Send a message to every connection in a group", filter: true, exclude: true,
			send: func(ctx context.Context, client *webpubsub.ServiceClient, group string, message webpubsub.Message, f *sendFlags) error {
				return client.SendToGroup(ctx, group, message, &webpubsub.SendToGroupOptions{
					Excluded: f.excluded, Filter: webpubsub.Filter(f.filter), MessageTTL: f.ttl, Metadata: f.metadata,
				})
			},
		}.command(p),
		sendTo{
			use: "user USER [MESSAGE]", short: "Send a message to every connection of a user", filter: true,
			send: func(ctx context.Context, client *webpubsub.ServiceClient, user string, message webpubsub.Message, f *sendFlags) error {
				return client.SendToUser(ctx, user, message, &webpubsub.SendToUserOptions{
					Filter: webpubsub.Filter(f.filter), MessageTTL: f.ttl, Metadata: f.metadata,
				})
			},
		}.command(p),
		sendTo{
			use: "connection CONNECTION [MESSAGE]", short: "Send a message to one connection",
			send: func(ctx context.Context, client *webpubsub.ServiceClient, id string, message webpubsub.Message, f *sendFlags) error {
				return client.SendToConnection(ctx, id, message, &webpubsub.SendToConnectionOptions{MessageTTL: f.ttl, Metadata: f.metadata})
			},
		}.command(p),
	)
}

// sendTo describes a command that sends to one kind of target.
type sendTo struct {
	use, short      string // use includes the target's argument, except for all
	filter, exclude bool   // whether the command has these flags
	send            func(ctx context.Context, client *webpubsub.ServiceClient, target string, message webpubsub.Message, f *sendFlags) error
}

func (s sendTo) command(p *program) *cobra.Command {
	var f sendFlags
	targets := len(strings.Fields(s.use)) - 2 // 0 or 1: without the command's name and the message
	cmd := &cobra.Command{Use: s.use, Short: s.short, Args: argumentsOf(s.use), RunE: action(func(cmd *cobra.Command, args []string) error {
		client, message, err := f.prepare(p, cmd, args[targets:])
		if err != nil {
			return err
		}
		target := strings.Join(args[:targets], "")
		return s.send(cmd.Context(), client, target, message, &f)
	})}
	f.addFlags(cmd)
	if s.filter {
		f.addFilter(cmd)
	}
	if s.exclude {
		f.addExclude(cmd)
	}
	return cmd
}

// sendFlags are the flags of the send commands.
type sendFlags struct {
	asJSON, asBinary bool
	file             string
	filter           string
	excluded         []string
	ttl              time.Duration
	pairs            []string

	metadata map[string]string // parsed from pairs
}

func (f *sendFlags) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.asJSON, "json", false, "the message is JSON")
	flags.BoolVar(&f.asBinary, "binary", false, "the message is binary")
	flags.StringVar(&f.file, "file", "", "read the message from `FILE`; - is standard input")
	flags.DurationVar(&f.ttl, "ttl", 0, "how long the service may hold the message for a connection that cannot receive it yet: whole seconds, at most 5m (default: no limit)")
	flags.StringArrayVar(&f.pairs, "metadata", nil, "metadata of the message as `KEY=VALUE`; may be repeated")
	cmd.MarkFlagsMutuallyExclusive("json", "binary")
}

func (f *sendFlags) addFilter(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.filter, "filter", "", "send only to connections that match an OData `EXPRESSION`, such as \"userId ne 'bob'\"")
}

func (f *sendFlags) addExclude(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.excluded, "exclude", nil, "do not send to this `CONNECTION`; may be repeated")
}

// prepare returns the client and the message. args holds the message or is empty.
func (f *sendFlags) prepare(p *program, cmd *cobra.Command, args []string) (*webpubsub.ServiceClient, webpubsub.Message, error) {
	client, err := p.client(cmd.ErrOrStderr()) // before reading standard input, so that nobody types a message in vain
	if err != nil {
		return nil, webpubsub.Message{}, err
	}
	if f.metadata, err = parsePairs("metadata", f.pairs); err != nil {
		return nil, webpubsub.Message{}, err
	}
	data, err := f.read(cmd, args)
	if err != nil {
		return nil, webpubsub.Message{}, err
	}
	message, err := f.message(data)
	return client, message, err
}

func (f *sendFlags) read(cmd *cobra.Command, args []string) ([]byte, error) {
	switch {
	case len(args) > 0 && f.file != "":
		return nil, usageErrorf("the message and --file cannot be used together")
	case len(args) > 0:
		return []byte(args[0]), nil
	case f.file == "":
		return readFile(cmd, "-")
	}
	return readFile(cmd, f.file)
}

func (f *sendFlags) message(data []byte) (webpubsub.Message, error) {
	switch {
	case f.asBinary:
		return webpubsub.Binary(data), nil
	case f.asJSON:
		if err := checkJSON(data); err != nil {
			return webpubsub.Message{}, err
		}
		return webpubsub.JSON(json.RawMessage(data)), nil
	case !utf8.Valid(data):
		return webpubsub.Message{}, usageErrorf("the message is not UTF-8 text: use --binary to send it unchanged")
	}
	return webpubsub.Text(string(data)), nil
}

func checkJSON(data []byte) error {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return usageErrorf("the message is not JSON: %v", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return usageErrorf("the message is not JSON: unexpected data after the first value")
	}
	return nil
}

// parsePairs parses the KEY=VALUE pairs of a repeated flag.
func parsePairs(flag string, pairs []string) (map[string]string, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	values := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		key, value, found := strings.Cut(pair, "=")
		if _, twice := values[key]; !found || twice {
			return nil, usageErrorf("--%s: %q must be KEY=VALUE, with each key only once", flag, pair)
		}
		values[key] = value
	}
	return values, nil
}
