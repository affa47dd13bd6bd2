// Command webpubsub operates and debugs applications on Azure Web PubSub from a terminal: it sends messages, manages
// connections, users, groups and permissions, makes tokens, connects as a client, forwards events
// through a tunnel, measures, and runs the emulator.
//
//	export WEBPUBSUB_CONNECTION_STRING='Endpoint=...;AccessKey=...;Version=1.0;' WEBPUBSUB_HUB=chat
//	webpubsub connect --user alice --group room
//	webpubsub send group room 'hello'
//
// It exits with 0 when it has done what it was asked, with 1 when that failed, and with 2 when it was called wrongly.
// Its README shows a session, and how it compares with the Azure CLI.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}
