// Command webpubsub operates and debugs applications on Azure Web PubSub from a terminal. It sends messages, manages
// connections, users, groups and permissions, creates tokens, connects as a client, forwards events through a tunnel,
// generates load, and runs the emulator.
//
//	export WEBPUBSUB_CONNECTION_STRING='Endpoint=...;AccessKey=...;Version=1.0;' WEBPUBSUB_HUB=chat
//	webpubsub connect --user alice --group room
//	webpubsub send group room 'hello'
//
// The exit code is 0 for success, 1 for a failure, and 2 for a usage error. The README shows a session and a comparison
// with the Azure CLI.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	log.SetOutput(io.Discard) // net/http logs parts of responses that violate the protocol; these may contain secrets
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program immediately
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}
