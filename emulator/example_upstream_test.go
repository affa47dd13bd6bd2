package emulator_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

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

// The event handler fails once. The service repeats the event after a second, which a test skips with Advance.
func ExampleServer_WaitForDelayed() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	srv, client := start(nil)
	defer srv.Close()
	failures := 1
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub: "chat", ConnectionStrings: []string{srv.ConnectionString()},
		OnUserEvent: func(context.Context, *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			if failures > 0 {
				failures--
				return nil, errors.New("the database is down")
			}
			return nil, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := srv.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{Handler: handler, UserEventPattern: "order"}}}); err != nil {
		log.Fatal(err)
	}
	conn, err := connect(ctx, client, webpubsub.ClientAccessTokenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	go func() { _ = conn.SendEvent(ctx, "order", wsclient.Text("tea"), nil) }() // returns after the retry
	if err := srv.WaitForDelayed(ctx, 1); err != nil {
		log.Fatal(err)
	}
	srv.Advance(time.Second)
	if err := srv.WaitForEvents(ctx, "chat", "order", 1); err != nil {
		log.Fatal(err)
	}
	order := srv.Events()[0]
	fmt.Println(order.Name, string(order.Body), order.Attempts, order.Status)
	// Output: order tea 2 204
}
