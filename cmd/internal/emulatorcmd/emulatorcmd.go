// Package emulatorcmd runs the emulator as a program. The programs webpubsub-emulator and webpubsub share it; only
// their flag parsing differs.
package emulatorcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"github.com/awps-go/webpubsub/emulator"
)

// UsageError is an error of Run for a setting that is not valid.
type UsageError struct{ error }

// Run starts an emulator, prints its connection string as the only line on stdout, and serves until ctx ends. It logs
// to stderr. It returns a *UsageError if a setting is not valid.
func Run(ctx context.Context, config *Config, stdout, stderr io.Writer) error {
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: config.logLevel}))
	options := emulator.Options{
		Addr: config.addr, AccessKey: config.accessKey, TLSConfig: config.tls, Hubs: config.hubs, Logger: log,
		ConnectedAfterRecovery: config.connected,
	}
	if config.bearer {
		options.AcceptBearer = func(string) bool { return true }
	}
	server, err := emulator.Start(&options)
	_, isNetwork := errors.AsType[*net.OpError](err)
	_, isAddress := errors.AsType[*net.AddrError](err) // such as an invalid port
	switch {
	case isNetwork && !isAddress:
		return err
	case err != nil:
		return &UsageError{err}
	}
	defer server.Close()
	if config.hubsFile != "" {
		watcher := newHubsWatcher(config.hubsFile, config.hubs, server, log)
		watching, stop := context.WithCancel(ctx)
		var done sync.WaitGroup
		done.Go(func() { watcher.run(watching) })
		defer done.Wait()
		defer stop()
	}
	log.Info("for local development only")
	log.Info("live view in a browser", "url", server.Endpoint()+"/")
	if !isLoopback(config.addr) {
		log.Warn("other machines can reach this emulator, which is for local use only", "addr", config.addr)
	}
	if _, err := fmt.Fprintf(stdout, "connection string: %s\n", server.ConnectionString()); err != nil {
		return fmt.Errorf("printing the connection string: %w", err)
	}
	<-ctx.Done()
	return nil
}

// isLoopback reports whether an address can be reached from this machine only.
func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
