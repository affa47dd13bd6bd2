// Quickstart connects a client to a hub, sends messages to it like an application server, and receives them. It runs on
// an emulator in the same process, unless WEBPUBSUB_CONNECTION_STRING is set.
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

	// A WebSocket client connects with a URL that the application server creates for it.
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
	return deliver(ctx, client) // the other ways to send: see deliveries.go
}
