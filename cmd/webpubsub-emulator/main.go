// Command webpubsub-emulator is Azure Web PubSub on your own machine: the REST API and the WebSocket clients, for
// development and tests in any language. It keeps everything in memory, and it is not built to face a network.
//
//	go run github.com/awps-go/webpubsub/cmd/webpubsub-emulator -addr 127.0.0.1:8080
//
// Its only line on standard output is the connection string for service clients, with the port it is bound to:
//
//	connection string: Endpoint=http://127.0.0.1:8080;AccessKey=...;Version=1.0;
//
// Everything else goes to standard error. SIGINT and SIGTERM end it: clients get a disconnected message, and it exits
// with 0; with 1 when it cannot start, with 2 when it was called wrongly.
//
// A browser that opens the endpoint sees the live view: hubs, connections, groups, and the traffic as it passes, without
// keys and tokens. Whoever reaches the endpoint may look.
//
// The file of -hubs names, for each hub, the applications that are notified of its clients' events:
//
//	{"chat": {"eventHandlers": [{
//	    "urlTemplate": "http://localhost:3000/eventhandler/{event}",
//	    "systemEvents": ["connect", "connected", "disconnected"],
//	    "userEventPattern": "*"}]}}
//
// The program webpubsub has the same emulator as its command "webpubsub emulator", beside a client and much else; this one
// is smaller.
//
// Run it with -help for its flags. Each can be given as an environment variable, too: WEBPUBSUB_EMULATOR_ADDR for
// -addr, WEBPUBSUB_EMULATOR_ACCESS_KEY for -access-key, and so on. A flag wins over its variable.
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
)

const usage = `webpubsub-emulator is Azure Web PubSub for local development. Do not let it face a network:
whoever reaches it may fill its memory, and it is no substitute for the service.

Flags, each with its environment variable, over which it wins:

`

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run is the program: it returns the exit code, once ctx ends or something fails.
func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) int {
	config, err := parse(args, env, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "webpubsub-emulator: %v (-help lists the flags)\n", err)
		return exitUsage
	}
	if err := emulatorcmd.Run(ctx, config, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "webpubsub-emulator: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// parse reads the flags, and the environment where a flag is not given. It prints nothing but the help that was asked for.
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
