package emulatorcmd

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/awps-go/webpubsub/emulator"
)

// Config holds the configuration from flags and environment variables. Register the flags, parse them, then call
// Complete.
type Config struct {
	addr      string
	accessKey string
	bearer    bool
	connected bool
	logLevel  slog.Level
	hubsFile  string
	certFile  string
	keyFile   string

	hubs map[string]emulator.HubSettings // set by Complete
	tls  *tls.Config                     // set by Complete; nil without a certificate
}

// Register defines the emulator's flags.
func (c *Config) Register(flags *flag.FlagSet) {
	flags.StringVar(&c.addr, "addr", "127.0.0.1:8080", "the `HOST:PORT` to listen on; without a host it is 127.0.0.1, and port 0 is any free port")
	flags.StringVar(&c.accessKey, "access-key", "", "the access `KEY` that signs tokens; set it to keep the same connection string after a restart (default: a new key each time)")
	flags.BoolVar(&c.bearer, "accept-bearer", false, "accept any bearer token in REST requests without verifying it, for example one from Microsoft Entra ID")
	flags.BoolVar(&c.connected, "connected-after-recovery", false, "send another connected message to a reliable client that has recovered; the service may or may not send it")
	flags.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "the lowest `LEVEL` to log to standard error: debug, info, warn or error")
	flags.StringVar(&c.hubsFile, "hubs", "", "a JSON `FILE` with the settings of each hub, such as its event handlers; it is reloaded when it changes (default: no event handlers)")
	flags.StringVar(&c.certFile, "tls-cert", "", "the PEM `FILE` of a TLS certificate (default: plain HTTP)")
	flags.StringVar(&c.keyFile, "tls-key", "", "the PEM `FILE` of the certificate's private key")
}

// Complete sets the flags that were not given from their environment variables, and reads the files that the flags
// name. Every error is a usage error.
func (c *Config) Complete(flags *flag.FlagSet, given func(name string) bool, env func(string) string) error {
	if err := readEnvironment(flags, given, env); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(c.addr)
	if err != nil {
		return fmt.Errorf("--addr: %w", err)
	}
	if host == "" { // net.Listen would listen on every interface
		c.addr = net.JoinHostPort("127.0.0.1", port)
	}
	if c.hubsFile != "" {
		if c.hubs, err = readHubs(c.hubsFile); err != nil {
			return fmt.Errorf("--hubs: %w", err)
		}
	}
	return c.readCertificate()
}

// Variable returns the name of a flag's environment variable.
func Variable(flagName string) string {
	return "WEBPUBSUB_EMULATOR_" + strings.ToUpper(strings.ReplaceAll(flagName, "-", "_"))
}

func readEnvironment(flags *flag.FlagSet, given func(name string) bool, env func(string) string) (err error) {
	flags.VisitAll(func(f *flag.Flag) {
		value := env(Variable(f.Name))
		if value == "" || given(f.Name) || err != nil {
			return
		}
		if setErr := f.Value.Set(value); setErr != nil {
			err = fmt.Errorf("the environment variable %s: %w", Variable(f.Name), setErr)
		}
	})
	return err
}

func (c *Config) readCertificate() error {
	switch {
	case (c.certFile == "") != (c.keyFile == ""):
		return errors.New("--tls-cert and --tls-key must be used together")
	case c.certFile == "":
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	c.tls = &tls.Config{Certificates: []tls.Certificate{pair}}
	return nil
}
