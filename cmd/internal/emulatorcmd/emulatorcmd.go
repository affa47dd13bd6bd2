// Package emulatorcmd runs the emulator as a program. The programs webpubsub-emulator and webpubsub share it: each reads
// the flags in its own way, and both then do the same.
package emulatorcmd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/awps-go/webpubsub/emulator"
)

// Run starts an emulator, prints its connection string to stdout as the only line there, and serves until ctx ends. The
// log goes to stderr.
func Run(ctx context.Context, config *Config, stdout, stderr io.Writer) error {
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: config.logLevel}))
	server, err := emulator.Start(&emulator.Options{
		Addr: config.addr, AccessKey: config.accessKey, TLSConfig: config.tls, Hubs: config.hubs, Logger: log,
	})
	if err != nil {
		return err
	}
	defer server.Close()
	log.Info("for local development only")
	log.Info("watch it in a browser", "url", server.Endpoint()+"/")
	if !isLoopback(config.addr) {
		log.Warn("other machines may reach this emulator, which is not built for that", "addr", config.addr)
	}
	if _, err := fmt.Fprintf(stdout, "connection string: %s\n", server.ConnectionString()); err != nil {
		return fmt.Errorf("printing the connection string: %w", err)
	}
	<-ctx.Done()
	return nil
}

// isLoopback reports whether only this machine reaches an address.
func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
