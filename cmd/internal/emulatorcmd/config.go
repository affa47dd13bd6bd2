package emulatorcmd

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/awps-go/webpubsub/emulator"
)

// Config is the configuration by flags and environment variables. Register its flags, parse them, then call Complete.
type Config struct {
	addr      string
	accessKey string
	logLevel  slog.Level
	hubsFile  string
	certFile  string
	keyFile   string

	hubs map[string]emulator.HubSettings // set by Complete
	tls  *tls.Config                     // set by Complete; nil without a certificate
}

// Register defines the flags of the emulator.
func (c *Config) Register(flags *flag.FlagSet) {
	flags.StringVar(&c.addr, "addr", "127.0.0.1:8080", "the `HOST:PORT` to listen on; no host is 127.0.0.1, port 0 is a free port")
	flags.StringVar(&c.accessKey, "access-key", "", "the access `KEY` that signs tokens (default: a new one each time)")
	flags.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "the lowest `LEVEL` to log to standard error: debug, info, warn or error")
	flags.StringVar(&c.hubsFile, "hubs", "", "the JSON `FILE` with the event handlers of each hub (default: no hub has any)")
	flags.StringVar(&c.certFile, "tls-cert", "", "the PEM `FILE` of a certificate: speak TLS with it (default: speak plain HTTP)")
	flags.StringVar(&c.keyFile, "tls-key", "", "the PEM `FILE` of the certificate's private key")
}

// Complete reads the environment variables of the flags that were not given, and the files that the flags name. Every
// error is that of a program called wrongly.
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
		return errors.New("--tls-cert and --tls-key go together")
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

// readHubs reads a file of hub settings. A name that no setting has is an error, so that a mistyped one is noticed.
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
