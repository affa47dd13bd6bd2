package tunnel_test

import (
	"context"
	"log"
	"net/http"
	"os"
	"os/signal"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/tunnel"
)

// A program without a public endpoint answers what clients send. In the service, the hub's event handler has the URL template
// tunnel:///eventhandler/.
func ExampleServe() {
	connectionString := os.Getenv("WebPubSubConnectionString")
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
	if err := tunnel.Serve(ctx, connectionString, "chat", mux, nil); err != nil {
		log.Fatal(err)
	}
}

// The same with an identity of Microsoft Entra ID, which has the role Web PubSub Service Owner.
func ExampleServeWithCredential() {
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		log.Fatal(err)
	}
	var handler http.Handler // such as one of package eventhandler

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err = tunnel.ServeWithCredential(ctx, "https://NAME.webpubsub.azure.com", "chat", credential, handler, nil)
	if err != nil {
		log.Fatal(err)
	}
}
