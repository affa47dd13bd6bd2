package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/wsclient"
)

// connectFlags are the flags of connect.
type connectFlags struct {
	client      clientFlags
	protocol    string
	negotiate   string
	toGroup     string
	event       string
	input       string
	noReconnect bool
	count       int
	asJSON      bool
}

func newConnect(p *program) *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use:   "connect",
		Short: "Connect as a client: print messages, send typed lines",
		Long: `Connect to the hub as a client. Print each message with its time, origin and type, and print changes of the connection.
A broken connection is recovered or replaced by a new one. Ctrl-C ends the command.

With --to-group, each line of standard input is sent to the group. The client receives the role that this requires, unless
--role or --negotiate is given. With --event, each line is sent as the event. The client stays connected after the end of
standard input.

Messages go to standard output, and changes of the connection to standard error. With --json, both go to standard output,
one JSON object a line. The member "event" is message, connected, recovering, recovered, disconnected or not-sent.`,
		Example: `  webpubsub connect --user alice --group room --to-group room
  webpubsub connect --group room --json | jq 'select(.event == "message") | .data'`,
		Args: argumentsOf("connect"),
		RunE: action(func(cmd *cobra.Command, args []string) error { return f.run(p, cmd) }),
	}
	f.addFlags(cmd)
	return cmd
}

func (f *connectFlags) addFlags(cmd *cobra.Command) {
	f.client.addFlags(cmd)
	flags := cmd.Flags()
	addProtocolFlag(cmd, &f.protocol)
	flags.StringVar(&f.negotiate, "negotiate", "", "request the connection URL from an application server at `URL`, instead of creating a token")
	flags.StringVar(&f.toGroup, "to-group", "", "send typed lines to this `GROUP`")
	flags.StringVar(&f.event, "event", "", "send typed lines to the event handler as the event `NAME`")
	flags.StringVar(&f.input, "input", "text", "the `TYPE` of typed lines: text or json")
	flags.BoolVar(&f.noReconnect, "no-reconnect", false, "end when the connection ends and cannot be recovered")
	flags.IntVar(&f.count, "count", 0, "end after `N` messages (default: no limit)")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON object a line")
	cmd.MarkFlagsMutuallyExclusive("to-group", "event")
	for _, name := range []string{"user", "group", "role"} {
		cmd.MarkFlagsMutuallyExclusive("negotiate", name)
	}
	completeFlag(cmd, "input", "text", "json")
}

// protocols maps the protocol names of the command line.
var protocols = map[string]wsclient.Protocol{
	"json-reliable":     wsclient.JSONReliable,
	"json":              wsclient.JSONPlain,
	"protobuf-reliable": wsclient.ProtobufReliable,
	"protobuf":          wsclient.ProtobufPlain,
}

func addProtocolFlag(cmd *cobra.Command, protocol *string) {
	cmd.Flags().StringVar(protocol, "protocol", "json-reliable", "the protocol `NAME`: json-reliable, json, protobuf-reliable or protobuf")
	completeFlag(cmd, "protocol", "json-reliable", "json", "protobuf-reliable", "protobuf")
}

func parseProtocol(name string) (wsclient.Protocol, error) {
	protocol, ok := protocols[name]
	if !ok {
		return 0, usageErrorf("--protocol must be json-reliable, json, protobuf-reliable or protobuf, not %q", name)
	}
	return protocol, nil
}

func (f *connectFlags) run(p *program, cmd *cobra.Command) error {
	if f.input != "text" && f.input != "json" {
		return usageErrorf("--input must be text or json, not %q", f.input)
	}
	if f.count < 0 {
		return usageErrorf("--count must be at least 0")
	}
	protocol, err := parseProtocol(f.protocol)
	if err != nil {
		return err
	}
	provider, err := f.provider(p, cmd)
	if err != nil {
		return err
	}
	var out display = &textDisplay{messages: cmd.OutOrStdout(), events: cmd.ErrOrStderr()}
	if f.asJSON {
		out = &jsonDisplay{w: cmd.OutOrStdout()}
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	printed := make(chan struct{}) // closed when the end of a connection has been printed
	options := f.options(protocol, out, p, cmd)
	options.OnDisconnected = func(e wsclient.DisconnectedEvent) {
		out.disconnected(e)
		if f.noReconnect { // there is only one connection
			close(printed)
		}
	}
	conn, err := wsclient.Dial(ctx, provider, options)
	switch {
	case err != nil && ctx.Err() != nil: // Ctrl-C
		return nil
	case err != nil && f.negotiate != "" && errors.Is(err, wsclient.ErrInvalidArgument):
		return fmt.Errorf("connect: --negotiate: %v", err) //nolint:errorlint // not wrapped: a wrong URL of the application is not a usage error
	case err != nil:
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	// The OnConnected hook runs on another goroutine, so its line could come after the first message.
	out.connected(wsclient.ConnectedEvent{ConnectionID: conn.ConnectionID(), UserID: conn.UserID(), First: true}, protocol)
	if f.toGroup != "" || f.event != "" {
		go f.sendLines(ctx, conn, cmd.InOrStdin(), out)
	}
	return f.receive(ctx, conn, out, printed)
}

// provider returns the source of connection URLs: the application server, or a token created here.
func (f *connectFlags) provider(p *program, cmd *cobra.Command) (wsclient.URLProvider, error) {
	if f.negotiate != "" {
		if u, err := url.Parse(f.negotiate); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return nil, usageErrorf("--negotiate must be a URL such as http://localhost:8080/negotiate")
		}
		return wsclient.Negotiate(f.negotiate, nil), nil
	}
	client, err := p.client(cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	options, err := f.client.tokenOptions()
	if err != nil {
		return nil, err
	}
	if f.toGroup != "" && len(options.Roles) == 0 {
		options.Roles = []string{webpubsub.RoleSendToGroup(f.toGroup)}
	}
	return tokenProvider(client, options), nil
}

// tokenProvider returns a provider that creates a new token for each connection.
func tokenProvider(client *webpubsub.ServiceClient, options *webpubsub.ClientAccessTokenOptions) wsclient.URLProvider {
	return func(ctx context.Context) (string, error) {
		access, err := client.GetClientAccessToken(ctx, options)
		return access.URL, err
	}
}

func (f *connectFlags) options(protocol wsclient.Protocol, out display, p *program, cmd *cobra.Command) *wsclient.Options {
	return &wsclient.Options{
		Protocol:      protocol,
		Logger:        p.logger(cmd.ErrOrStderr()),
		Reconnect:     wsclient.ReconnectOptions{Disabled: f.noReconnect},
		OnServerClose: func(string) bool { return !f.noReconnect },
		OnConnected: func(e wsclient.ConnectedEvent) {
			if !e.First && !e.Resumed { // run prints the first connection, and OnRecovered prints recoveries
				out.connected(e, protocol)
			}
		},
		OnRecovering: out.recovering,
		OnRecovered:  out.recovered,
	}
}

// receive prints messages until there are enough, ctx ends, or the connection has ended. With --no-reconnect, printed is closed
// when the end of the connection has been printed.
func (f *connectFlags) receive(ctx context.Context, conn *wsclient.Conn, out display, printed <-chan struct{}) error {
	n := 0
	for message, err := range conn.Messages(ctx) {
		switch {
		case err != nil && ctx.Err() != nil: // Ctrl-C
			return nil
		case err != nil:
			if f.noReconnect { // the error is the last line
				select {
				case <-printed:
				case <-ctx.Done():
				}
			}
			return fmt.Errorf("connect: %w", err)
		}
		if err := out.message(message); err != nil {
			return err // the output is closed
		}
		if n++; n == f.count {
			return nil
		}
	}
	return nil
}

// maxLine limits a line of standard input: the service accepts frames of at most 1 MiB.
const maxLine = 1 << 20

// sendLines sends the lines of standard input in sequence, until its end.
func (f *connectFlags) sendLines(ctx context.Context, conn *wsclient.Conn, stdin io.Reader, out display) {
	lines := bufio.NewReader(stdin)
	for {
		line, err := readLine(lines)
		switch {
		case errors.Is(err, errLongLine):
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			if ctx.Err() == nil {
				out.notSent(fmt.Errorf("reading standard input: %w", err))
			}
			return
		default:
			err = f.sendLine(ctx, conn, line)
		}
		if err != nil && ctx.Err() == nil {
			out.notSent(err)
		}
	}
}

var errLongLine = errors.New("the line is longer than 1 MiB")

// readLine reads a line and returns it without its end. It skips a line that is longer than maxLine and returns
// errLongLine.
func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line) <= maxLine {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && (!errors.Is(err, io.EOF) || len(line) == 0):
			return "", err
		}
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if len(line) > maxLine {
			return "", errLongLine
		}
		return string(line), nil
	}
}

func (f *connectFlags) sendLine(ctx context.Context, conn *wsclient.Conn, line string) error {
	payload := wsclient.Text(line)
	if f.input == "json" {
		if !json.Valid([]byte(line)) {
			return errors.New("the line is not JSON")
		}
		payload = wsclient.JSON(json.RawMessage(line))
	}
	if f.event != "" {
		return conn.SendEvent(ctx, f.event, payload, nil)
	}
	return conn.SendToGroup(ctx, f.toGroup, payload, nil)
}
