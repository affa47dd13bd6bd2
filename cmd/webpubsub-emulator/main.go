// Command webpubsub-emulator is Azure Web PubSub on your own machine, for development and tests in any language: the
// REST API and the WebSocket clients. It keeps everything in memory. It is not built for untrusted networks.
//
//	go run github.com/awps-go/webpubsub/cmd/webpubsub-emulator -addr 127.0.0.1:8080
//
// It prints one line to standard output: the connection string for service clients, with the port that it listens on.
//
//	connection string: Endpoint=http://127.0.0.1:8080;AccessKey=...;Version=1.0;
//
// Everything else goes to standard error. SIGINT and SIGTERM stop the program: clients receive a disconnected message.
// The exit code is 0, or 1 if the program cannot start, or 2 if it was called incorrectly.
//
// Open the endpoint in a browser for the live view: hubs, connections, groups, and the traffic, without keys and
// tokens. Anybody who can reach the endpoint can open the live view.
//
// The -hubs file configures, for each hub, the event handlers that are notified of its clients' events:
//
//	{"chat": {"eventHandlers": [{
//	    "urlTemplate": "http://localhost:3000/eventhandler/{event}",
//	    "systemEvents": ["connect", "connected", "disconnected"],
//	    "userEventPattern": "*"}]}}
//
// The program reloads the file within two seconds of a change. If the new file is invalid, the last good settings still
// apply and the error is logged.
//
// Each run has a new access key unless -access-key sets one. With a fixed key and a fixed port in -addr, the connection
// string stays the same after a restart. With -accept-bearer, REST requests may also carry any other bearer token,
// which is not verified. Use it to test an application that authenticates with Microsoft Entra ID. Most SDKs send such
// tokens only over TLS: see -tls-cert.
//
// The program webpubsub has the same emulator as its command "webpubsub emulator"; this program is smaller.
//
// Run it with -help for its flags. Each flag can also be set by an environment variable: WEBPUBSUB_EMULATOR_ADDR for
// -addr, WEBPUBSUB_EMULATOR_ACCESS_KEY for -access-key, and so on. The flag takes precedence.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/awps-go/webpubsub/cmd/internal/emulatorcmd"
	"github.com/awps-go/webpubsub/internal/redact"
)

const usage = `webpubsub-emulator is Azure Web PubSub for local development. Do not expose it to a network:
anybody who can reach it can fill its memory. It does not replace the service.

Flags, each with its environment variable. The flag takes precedence.

`

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program immediately
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run runs the program until ctx ends or an error occurs, and returns the exit code.
func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) int {
	wrongUsage := func(err error) int {
		fmt.Fprintf(stderr, "webpubsub-emulator: %s (-help lists the flags)\n", redact.Text(err.Error())) // quotes arguments
		return exitUsage
	}
	config, err := parse(args, env, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return wrongUsage(err)
	}
	err = emulatorcmd.Run(ctx, config, stdout, stderr)
	if _, ok := errors.AsType[*emulatorcmd.UsageError](err); ok {
		return wrongUsage(err)
	}
	if err != nil {
		fmt.Fprintf(stderr, "webpubsub-emulator: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// parse reads the flags, and the environment for flags that are not given. It prints the help if it was requested, and
// nothing else.
func parse(args []string, env func(string) string, help io.Writer) (*emulatorcmd.Config, error) {
	var config emulatorcmd.Config
	flags := flag.NewFlagSet("webpubsub-emulator", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	config.Register(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		printHelp(help, flags)
		return nil, err
	case err != nil:
		return nil, err
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if err := config.Complete(flags, func(name string) bool { return given[name] }, env); err != nil {
		return nil, err
	}
	return &config, nil
}

func printHelp(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprint(w, usage)
	flags.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if f.DefValue != "" {
			text += " (default: " + f.DefValue + ")"
		}
		fmt.Fprintf(w, "  -%s %s\n        %s\n        %s\n", f.Name, value, text, emulatorcmd.Variable(f.Name))
	})
}
