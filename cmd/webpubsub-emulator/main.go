// Command webpubsub-emulator is Azure Web PubSub on your own machine: the REST API and the WebSocket clients, for
// development and tests in any language. It keeps everything in memory, and it is not built to face a network.
//
//	go run github.com/awps-go/webpubsub/cmd/webpubsub-emulator -addr 127.0.0.1:8080
//
// Its only line on standard output is the connection string that service clients take, with the port it is bound to:
//
//	connection string: Endpoint=http://127.0.0.1:8080;AccessKey=...;Version=1.0;
//
// Everything else goes to standard error. SIGINT and SIGTERM end it: clients get a disconnected message, and it exits
// with 0; with 1 when it cannot start, with 2 when it was called wrongly.
//
// A browser that opens the endpoint sees the live view: hubs, connections, groups, and the traffic as it passes, without
// keys and tokens. Whoever reaches the endpoint may look.
//
// The file of -hubs says, by a hub's name, which applications are told of its clients' events:
//
//	{"chat": {"eventHandlers": [{
//	    "urlTemplate": "http://localhost:3000/eventhandler/{event}",
//	    "systemEvents": ["connect", "connected", "disconnected"],
//	    "userEventPattern": "*"}]}}
//
// Run it with -help for its flags. Each can be given as an environment variable, too: WEBPUBSUB_EMULATOR_ADDR for
// -addr, WEBPUBSUB_EMULATOR_ACCESS_KEY for -access-key, and so on. A flag wins over its variable.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/awps-go/webpubsub/emulator"
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
	cfg, err := parse(args, env, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "webpubsub-emulator: %v (-help lists the flags)\n", err)
		return exitUsage
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: cfg.logLevel}))
	srv, err := emulator.Start(&emulator.Options{
		Addr: cfg.addr, AccessKey: cfg.accessKey, TLSConfig: cfg.tls, Hubs: cfg.hubs, Logger: log,
	})
	if err != nil {
		fmt.Fprintf(stderr, "webpubsub-emulator: %v\n", err)
		return exitFailed
	}
	defer srv.Close()
	log.Info("for local development only")
	log.Info("watch it in a browser", "url", srv.Endpoint()+"/")
	if !isLoopback(cfg.addr) {
		log.Warn("other machines may reach this emulator, which is not built for that", "addr", cfg.addr)
	}
	if _, err := fmt.Fprintf(stdout, "connection string: %s\n", srv.ConnectionString()); err != nil {
		fmt.Fprintf(stderr, "webpubsub-emulator: printing the connection string: %v\n", err)
		return exitFailed
	}
	<-ctx.Done()
	return exitOK
}

// config is what the flags and the environment say.
type config struct {
	addr      string
	accessKey string
	logLevel  slog.Level
	hubs      map[string]emulator.HubSettings
	tls       *tls.Config // nil without a certificate
}

// parse reads the flags, and the environment where a flag is not given. It prints nothing but the help that was asked for.
func parse(args []string, env func(string) string, help io.Writer) (*config, error) {
	var cfg config
	var hubs, cert, key string
	fs := flag.NewFlagSet("webpubsub-emulator", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&cfg.addr, "addr", "127.0.0.1:8080", "the `HOST:PORT` to listen on; no host is 127.0.0.1, port 0 is a free port")
	fs.StringVar(&cfg.accessKey, "access-key", "", "the access `KEY` that signs tokens (default: a new one each time)")
	fs.TextVar(&cfg.logLevel, "log-level", slog.LevelInfo, "the least `LEVEL` to log to standard error: debug, info, warn or error")
	fs.StringVar(&hubs, "hubs", "", "the JSON `FILE` that says which event handlers each hub has (default: none has any)")
	fs.StringVar(&cert, "tls-cert", "", "the PEM `FILE` of a certificate: speak TLS with it (default: speak plain HTTP)")
	fs.StringVar(&key, "tls-key", "", "the PEM `FILE` of the certificate's private key")

	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		printHelp(help, fs)
		return nil, err
	case err != nil:
		return nil, err
	case fs.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var err error
	fs.VisitAll(func(f *flag.Flag) {
		if value := env(variable(f)); value != "" && !given[f.Name] && err == nil {
			if setErr := f.Value.Set(value); setErr != nil {
				err = fmt.Errorf("the environment variable %s: %w", variable(f), setErr)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(cfg.addr)
	if err != nil {
		return nil, fmt.Errorf("-addr: %w", err)
	}
	if host == "" { // every interface, for net.Listen: more than somebody who left it out has asked for
		cfg.addr = net.JoinHostPort("127.0.0.1", port)
	}
	if hubs != "" {
		if cfg.hubs, err = readHubs(hubs); err != nil {
			return nil, fmt.Errorf("-hubs: %w", err)
		}
	}
	switch {
	case (cert == "") != (key == ""):
		return nil, errors.New("-tls-cert and -tls-key go together")
	case cert != "":
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("-tls-cert, -tls-key: %w", err)
		}
		cfg.tls = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	return &cfg, nil
}

// readHubs reads a file of hub settings. A name that no setting has is a mistake, not to be passed over.
func readHubs(file string) (map[string]emulator.HubSettings, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var hubs map[string]emulator.HubSettings
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&hubs); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: there is more after the settings", file)
	}
	return hubs, nil
}

// variable is the environment variable of a flag.
func variable(f *flag.Flag) string {
	return "WEBPUBSUB_EMULATOR_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

func printHelp(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprint(w, usage)
	fs.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if f.DefValue != "" {
			text += " (default: " + f.DefValue + ")"
		}
		fmt.Fprintf(w, "  -%s %s\n        %s\n        %s\n", f.Name, value, text, variable(f))
	})
}

// isLoopback tells whether only this machine reaches an address.
func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
