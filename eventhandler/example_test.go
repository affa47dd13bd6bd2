package eventhandler_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/wsclient"
)

// A handler that replies to each message of a client, mounted with net/http's router. Here the emulator plays the
// service and posts the events.
func Example() {
	service, err := emulator.Start(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close()

	handler, err := eventhandler.New(&eventhandler.Options{
		Hub:               "chat",
		ConnectionStrings: []string{service.ConnectionString()},
		Logger:            slog.Default(),
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			return &eventhandler.UserEventResponse{Message: webpubsub.Text("you said " + r.Text())}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/eventhandler", handler)  // for a URL template without {event}: prevents a redirect
	mux.Handle("/eventhandler/", handler) // for a URL template with {event}: each event has its own path
	app := httptest.NewServer(mux)
	defer app.Close()

	err = service.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{
		{URLTemplate: app.URL + "/eventhandler/{event}", UserEventPattern: "*"},
	}})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	client, err := webpubsub.NewClientFromConnectionString(service.ConnectionString(), "chat", nil)
	if err != nil {
		log.Fatal(err)
	}
	access, err := client.GetClientAccessToken(ctx, nil)
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
	answer, err := conn.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Text())
	// Output: you said hello
}

// OnConnect decides who may connect, as which user and with which roles.
func ExampleOptions_onConnect() {
	service, err := emulator.Start(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close()

	handler, err := eventhandler.New(&eventhandler.Options{
		Hub:               "chat",
		ConnectionStrings: []string{service.ConnectionString()},
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
				Roles:    []string{webpubsub.RoleSendToGroup(room)},
				SetState: map[string]any{"room": room},
			}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	err = service.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{
		{Handler: handler, SystemEvents: []string{"connect"}},
	}})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	client, err := webpubsub.NewClientFromConnectionString(service.ConnectionString(), "chat", nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, who := range []struct{ user, query string }{{"ann", "&room=lobby"}, {"mallory", "&room=lobby"}, {"bob", ""}} {
		access, err := client.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: who.user})
		if err != nil {
			log.Fatal(err)
		}
		conn, err := wsclient.Dial(ctx, wsclient.StaticURL(access.URL+who.query), nil)
		if refused, ok := errors.AsType[*wsclient.HandshakeError](err); ok {
			fmt.Println(who.user, refused.StatusCode)
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(who.user, "is connected")
		conn.Close()
	}
	// Output:
	// ann is connected
	// mallory 403
	// bob 400
}

// The service keeps the state of a connection, so any instance of the application can handle the next event.
func ExampleState() {
	service, err := emulator.Start(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close()

	handler, err := eventhandler.New(&eventhandler.Options{
		Hub:               "chat",
		ConnectionStrings: []string{service.ConnectionString()},
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
	err = service.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{
		{Handler: handler, UserEventPattern: "*"},
	}})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	client, err := webpubsub.NewClientFromConnectionString(service.ConnectionString(), "chat", nil)
	if err != nil {
		log.Fatal(err)
	}
	access, err := client.GetClientAccessToken(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	conn, err := wsclient.Dial(ctx, wsclient.StaticURL(access.URL), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	for range 2 {
		if err := conn.SendEvent(ctx, "say", wsclient.Text("hello"), nil); err != nil {
			log.Fatal(err)
		}
		answer, err := conn.Receive(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(answer.Text())
	}
	// Output:
	// message 1
	// message 2
}

// UserEventRequest.JSON decodes the data of an event. If the JSON does not fit, the error is a rejection with status
// 400, which the callback can return unchanged.
func ExampleUserEventRequest_JSON() {
	type order struct {
		Item  string `json:"item"`
		Count int    `json:"count"`
	}
	options := eventhandler.Options{OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
		var o order
		if err := r.JSON(&o); err != nil {
			return nil, err
		}
		fmt.Println(o.Count, o.Item)
		return nil, nil
	}}

	request := &eventhandler.UserEventRequest{ContentType: eventhandler.ContentTypeJSON}
	request.EventName = "order"
	request.Data = []byte(`{"item":"tea","count":2}`)
	_, err := options.OnUserEvent(context.Background(), request)
	fmt.Println(err)
	request.Data = []byte(`{"item":["tea"]}`)
	_, err = options.OnUserEvent(context.Background(), request)
	rejection, _ := errors.AsType[*eventhandler.RejectError](err)
	fmt.Println("rejected with", rejection.Status)
	// Output:
	// 2 tea
	// <nil>
	// rejected with 400
}

// UserEventRequest.Message forwards an event to a group as the client sent it.
func ExampleUserEventRequest_Message() {
	service, err := emulator.Start(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Close()
	client, err := webpubsub.NewClientFromConnectionString(service.ConnectionString(), "chat", nil)
	if err != nil {
		log.Fatal(err)
	}
	options := eventhandler.Options{OnUserEvent: func(ctx context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
		return nil, client.SendToGroup(ctx, "lobby", r.Message(), nil)
	}}

	request := &eventhandler.UserEventRequest{ContentType: eventhandler.ContentTypeText, Data: []byte("hello")}
	_, err = options.OnUserEvent(context.Background(), request)
	fmt.Println(request.Message().ContentType(), err)
	// Output: text/plain <nil>
}
