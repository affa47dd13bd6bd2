package eventhandler_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/eventhandler"
)

// post sends an event to a handler as the service does, for a connection c1, and prints the answer. In a test of your
// own, let the emulator do this.
func post(handler http.Handler, event, contentType, body string, edits ...func(*http.Request)) http.Header {
	server := httptest.NewServer(handler)
	defer server.Close()
	response, err := server.Client().Do(newEvent(server.URL+"/eventhandler/", event, contentType, body, edits...))
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.TrimSpace(fmt.Sprintf("%d %s", response.StatusCode, data)))
	return response.Header
}

// A handler that answers what a client says, mounted with net/http's own router.
func Example() {
	os.Setenv("WEBPUBSUB_CONNECTION_STRING", "Endpoint=https://name.webpubsub.azure.com;AccessKey=the primary key;Version=1.0;")

	handler, err := eventhandler.New(eventhandler.Options{
		Hub:               "chat",
		ConnectionStrings: []string{os.Getenv("WEBPUBSUB_CONNECTION_STRING")},
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			return &eventhandler.UserEventResponse{Message: webpubsub.Text("you said " + r.Text())}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/eventhandler/", handler)

	post(mux, "user.message", "text/plain", "hello")
	post(mux, "user.message", "text/plain", "hello", with("ce-signature", "sha256=forged"))
	// Output:
	// 200 you said hello
	// 401 the header ce-signature has no signature made with a key of this handler
}

// Who may connect, as whom, and with what rights.
func ExampleOptions_onConnect() {
	handler, err := eventhandler.New(eventhandler.Options{
		Hub:        "chat",
		AccessKeys: []string{"the primary key"},
		OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			room := r.Query.Get("room")
			if room == "" {
				return nil, eventhandler.Reject(http.StatusBadRequest, "which room?")
			}
			if r.UserID == "mallory" {
				return nil, eventhandler.Reject(http.StatusForbidden, "not you again")
			}
			return &eventhandler.ConnectResponse{
				Groups:   []string{room},
				Roles:    []string{"webpubsub.sendToGroup." + room},
				SetState: map[string]any{"room": room},
			}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	post(handler, "sys.connect", "application/json", `{"query":{"room":["lobby"]}}`)
	post(handler, "sys.connect", "application/json", `{"query":{"room":["lobby"]}}`, with("ce-userId", "mallory"))
	post(handler, "sys.connect", "application/json", `{}`)
	// Output:
	// 200 {"groups":["lobby"],"roles":["webpubsub.sendToGroup.lobby"]}
	// 403 not you again
	// 400 which room?
}

// The state of a connection is kept by the service, so that any instance of the application can serve the next event.
func ExampleState() {
	handler, err := eventhandler.New(eventhandler.Options{
		Hub:        "chat",
		AccessKeys: []string{"the primary key"},
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			var count int
			if _, err := r.State.Get("count", &count); err != nil {
				return nil, err
			}
			count++
			return &eventhandler.UserEventResponse{
				Message:  webpubsub.Text(fmt.Sprintf("message %d", count)),
				SetState: map[string]any{"count": count},
			}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	answer := post(handler, "user.message", "text/plain", "hello")
	post(handler, "user.message", "text/plain", "hello", with("ce-connectionState", answer.Get("ce-connectionState")))
	// Output:
	// 200 message 1
	// 200 message 2
}

// An event with JSON. JSON that does not fit is the client's fault, and the error says so to the client.
func ExampleUserEventRequest_JSON() {
	type order struct {
		Item  string `json:"item"`
		Count int    `json:"count"`
	}
	handler, err := eventhandler.New(eventhandler.Options{
		Hub:        "shop",
		AccessKeys: []string{"the primary key"},
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			var o order
			if err := r.JSON(&o); err != nil {
				return nil, err
			}
			return &eventhandler.UserEventResponse{Message: webpubsub.JSON(map[string]int{o.Item: o.Count + 1})}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	post(handler, "user.order", "application/json", `{"item":"tea","count":1}`, with("ce-hub", "shop"))
	post(handler, "user.order", "application/json", `{"item":["tea"]}`, with("ce-hub", "shop"))
	// Output:
	// 200 {"tea":2}
	// 400 the JSON of the event order does not have the expected form
}
