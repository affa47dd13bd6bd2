package emulator_test

import (
	"context"
	"fmt"
	"log"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/wsclient"
)

// This example runs a client, the emulator and an event handler in one process, without a second port. The client sends an event
// and receives the handler's response.
func ExampleServer_SetHubSettings() {
	ctx := context.Background()
	srv, err := emulator.Start(nil) // in a test: emulator.StartT(t, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()

	handler, err := eventhandler.New(&eventhandler.Options{
		Hub:               "chat",
		ConnectionStrings: []string{srv.ConnectionString()},
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			return &eventhandler.UserEventResponse{Message: webpubsub.Text(r.UserID + " said " + r.Text())}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	err = srv.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
		Handler:          handler, // or URLTemplate: "http://localhost:3000/eventhandler/{event}"
		SystemEvents:     []string{"connect", "connected", "disconnected"},
		UserEventPattern: "*",
	}}})
	if err != nil {
		log.Fatal(err)
	}

	client, err := webpubsub.NewClientFromConnectionString(srv.ConnectionString(), "chat", nil)
	if err != nil {
		log.Fatal(err)
	}
	access, err := client.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	conn, err := wsclient.Dial(ctx, wsclient.StaticURL(access.URL), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SendEvent(ctx, "say", wsclient.Text("hello"), nil); err != nil {
		log.Fatal(err)
	}
	message, err := conn.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(message.Text())
	// Output: ann said hello
}
