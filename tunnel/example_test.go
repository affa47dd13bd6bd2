package tunnel_test

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/tunnel"
)

// This program responds to the events of clients without a public endpoint. In the service, the URL template of the
// hub's event handler is tunnel:///eventhandler/.
func ExampleServe() {
	connectionString := os.Getenv("WEBPUBSUB_CONNECTION_STRING")
	events, err := eventhandler.New(&eventhandler.Options{
		Hub:               "chat",
		ConnectionStrings: []string{connectionString},
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			return &eventhandler.UserEventResponse{Message: webpubsub.Text("thank you")}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/eventhandler/", events)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := tunnel.Serve(ctx, connectionString, "chat", mux, &tunnel.Options{Logger: slog.Default()}); err != nil {
		log.Fatal(err)
	}
}

// ServeWithCredential uses Microsoft Entra ID. The identity needs the role Web PubSub Service Owner.
func ExampleServeWithCredential() {
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		log.Fatal(err)
	}
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub:        "chat",
		AccessKeys: []string{os.Getenv("WEBPUBSUB_ACCESS_KEY")}, // the service signs events with its access keys
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err = tunnel.ServeWithCredential(ctx, "https://NAME.webpubsub.azure.com", "chat", credential, handler, nil)
	if err != nil {
		log.Fatal(err)
	}
}
