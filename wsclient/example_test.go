package wsclient_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/wsclient"
)

// startService starts an emulator and returns a URLProvider for its hub "chat". An application would get the URL from
// its own server: see [wsclient.Negotiate].
func startService() (*emulator.Server, wsclient.URLProvider) {
	server, err := emulator.Start(nil)
	if err != nil {
		log.Fatal(err)
	}
	service, err := webpubsub.NewClientFromConnectionString(server.ConnectionString(), "chat", nil)
	if err != nil {
		log.Fatal(err)
	}
	return server, func(ctx context.Context) (string, error) {
		access, err := service.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{
			UserID: "ada",
			Roles:  []string{webpubsub.RoleSendToGroup("room"), webpubsub.RoleJoinLeaveGroup("room")},
		})
		return access.URL, err
	}
}

func ExampleDial() {
	server, provider := startService()
	defer server.Close()
	ctx := context.Background()

	conn, err := wsclient.Dial(ctx, provider, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	if err := conn.JoinGroup(ctx, "room"); err != nil {
		log.Fatal(err)
	}
	if err := conn.SendToGroup(ctx, "room", wsclient.Text("Hello, room"), nil); err != nil {
		log.Fatal(err)
	}
	m, err := conn.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s in %s: %s\n", m.FromUserID, m.Group, m.Text())
	// Output: ada in room: Hello, room
}

func ExampleConn_Messages() {
	server, provider := startService()
	defer server.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	conn, err := wsclient.Dial(ctx, provider, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := conn.JoinGroup(ctx, "room"); err != nil {
		log.Fatal(err)
	}
	for _, city := range []string{"Oslo", "Lima"} {
		if err := conn.SendToGroup(ctx, "room", wsclient.JSON(map[string]string{"city": city}), nil); err != nil {
			log.Fatal(err)
		}
	}

	for m, err := range conn.Messages(ctx) {
		if err != nil {
			fmt.Println(err)
			break
		}
		var v struct{ City string }
		if err := m.JSON(&v); err != nil {
			log.Fatal(err)
		}
		fmt.Println(v.City)
		if v.City == "Lima" {
			cancel() // ends the loop; the connection stays open
		}
	}
	fmt.Println(conn.State())
	// Output:
	// Oslo
	// Lima
	// context canceled
	// connected
}

// The client recovers a broken connection, and receives a message that was sent in the meantime.
func ExampleOptions_recovery() {
	server, provider := startService()
	defer server.Close()
	ctx := context.Background()
	recovered := make(chan wsclient.ConnectedEvent, 1)
	conn, err := wsclient.Dial(ctx, provider, &wsclient.Options{
		OnConnected: func(e wsclient.ConnectedEvent) {
			if !e.Resumed {
				// This is a new connection: fetch the application's state.
				return
			}
			recovered <- e
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	id := conn.ConnectionID()

	server.DropConnection("chat", id)
	service, err := webpubsub.NewClientFromConnectionString(server.ConnectionString(), "chat", nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := service.SendToUser(ctx, "ada", webpubsub.Text("while you were away"), nil); err != nil {
		log.Fatal(err)
	}
	m, err := conn.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Text())
	fmt.Println("same connection:", (<-recovered).ConnectionID == id)
	// Output:
	// while you were away
	// same connection: true
}

// OnServerClose decides whether the client reconnects after an application server closed its connection.
func ExampleOptions_serverClose() {
	server, provider := startService()
	defer server.Close()
	ctx := context.Background()
	conn, err := wsclient.Dial(ctx, provider, &wsclient.Options{
		OnServerClose: func(reason string) bool {
			return !strings.Contains(reason, "banned") // do not reconnect if banned
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	service, err := webpubsub.NewClientFromConnectionString(server.ConnectionString(), "chat", nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := service.CloseUserConnections(ctx, "ada", &webpubsub.CloseUserConnectionsOptions{Reason: "banned"}); err != nil {
		log.Fatal(err)
	}
	<-conn.Done()
	var closed *wsclient.CloseError
	fmt.Println(errors.As(conn.Err(), &closed), closed.Code)
	// Output: true 1000
}

func ExampleConn_SendToGroup() {
	server, provider := startService()
	defer server.Close()
	conn, err := wsclient.Dial(context.Background(), provider, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel() // the timeout applies to the call, not to the connection
	err = conn.SendToGroup(ctx, "room", wsclient.Binary([]byte{1, 2, 3}), &wsclient.SendToGroupOptions{
		NoEcho:     true,
		TTL:        30 * time.Second,
		Metadata:   map[string]string{"priority": "high"},
		AtMostOnce: true,
	})
	fmt.Println(err)
	err = conn.SendToGroup(ctx, "another room", wsclient.Text("hello"), nil)
	fmt.Println("forbidden:", errors.Is(err, wsclient.ErrForbidden))
	// Output:
	// <nil>
	// forbidden: true
}

func ExampleNegotiate() {
	server, provider := startService()
	defer server.Close()
	// The application server, which knows the user.
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		url, err := provider(r.Context())
		if err != nil {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, `{"url":%q}`, url)
	}))
	defer app.Close()

	conn, err := wsclient.Dial(context.Background(), wsclient.Negotiate(app.URL+"/negotiate", nil), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(conn.UserID())
	// Output: ada
}
