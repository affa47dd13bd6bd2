// Quickstart connects a client to a hub, sends messages to it as an application server does, and receives them. It runs
// on the emulator, in this process, unless WEBPUBSUB_CONNECTION_STRING names a service.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/wsclient"
)

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatalln("quickstart failed:", err)
	}
}

func run(ctx context.Context) error {
	connectionString := os.Getenv("WEBPUBSUB_CONNECTION_STRING")
	if connectionString == "" {
		server, err := emulator.Start(nil)
		if err != nil {
			return err
		}
		defer server.Close()
		connectionString = server.ConnectionString()
		fmt.Println("WEBPUBSUB_CONNECTION_STRING is not set: running on the emulator, at", server.Endpoint())
	}
	client, err := webpubsub.NewClientFromConnectionString(connectionString, "quickstart", nil) // for the application server
	if err != nil {
		return err
	}

	// A WebSocket client connects with a URL that the application server made for it.
	conn, err := wsclient.Dial(ctx, func(ctx context.Context) (string, error) {
		access, err := client.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: "alice"})
		return access.URL, err
	}, nil)
	if err != nil {
		return err
	}
	defer conn.Close()

	hello := "Hello, alice"
	if err := client.SendToConnection(ctx, conn.ConnectionID(), webpubsub.Text(hello), nil); err != nil {
		return err
	}
	message, err := conn.Receive(ctx)
	if err != nil {
		return err
	}
	fmt.Println("alice received:", message.Text())
	if message.Text() != hello {
		return fmt.Errorf("alice received %q, not %q", message.Text(), hello)
	}
	return deliver(ctx, client) // every other way to send, and who receives what: see deliveries.go
}
