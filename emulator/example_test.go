package emulator_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/wsclient"
)

// start starts an emulator and creates a service client for the hub "chat".
func start(options *webpubsub.ClientOptions) (*emulator.Server, *webpubsub.ServiceClient) {
	srv, err := emulator.Start(nil)
	if err != nil {
		log.Fatal(err)
	}
	client, err := webpubsub.NewClientFromConnectionString(srv.ConnectionString(), "chat", options)
	if err != nil {
		log.Fatal(err)
	}
	return srv, client
}

// connect connects a WebSocket client that does not reconnect.
func connect(ctx context.Context, client *webpubsub.ServiceClient, o webpubsub.ClientAccessTokenOptions) (*wsclient.Conn, error) {
	return wsclient.Dial(ctx, func(ctx context.Context) (string, error) {
		access, err := client.GetClientAccessToken(ctx, &o)
		return access.URL, err
	}, &wsclient.Options{Protocol: wsclient.JSONPlain, Reconnect: wsclient.ReconnectOptions{Disabled: true}})
}

// StartT closes the server when the test ends, and logs to the test.
func ExampleStartT() {
	_ = func(t *testing.T) {
		srv := emulator.StartT(t, nil)
		client, err := webpubsub.NewClientFromConnectionString(srv.ConnectionString(), "chat", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.SendToAll(t.Context(), webpubsub.Text("hello"), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Outside of tests, use Start and close the server.
func ExampleStart() {
	ctx := context.Background()
	srv, err := emulator.Start(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	client, err := webpubsub.NewClientFromConnectionString(srv.ConnectionString(), "chat", nil)
	if err != nil {
		log.Fatal(err)
	}

	conn, err := connect(ctx, client, webpubsub.ClientAccessTokenOptions{UserID: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := client.SendToUser(ctx, "ann", webpubsub.Text("hello, ann"), nil); err != nil {
		log.Fatal(err)
	}
	message, err := conn.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(message.Text())
	// Output: hello, ann
}

// The next two sends fail with 503. The service client retries, and the third attempt succeeds.
func ExampleServer_InjectFault() {
	srv, client := start(&webpubsub.ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry: policy.RetryOptions{RetryDelay: time.Millisecond, MaxRetryDelay: time.Millisecond},
	}})
	defer srv.Close()

	if err := srv.InjectFault(emulator.Fault{Operation: emulator.OperationSendToAll, Times: 2, Status: 503}); err != nil {
		log.Fatal(err)
	}
	err := client.SendToAll(context.Background(), webpubsub.Text("hello"), nil)
	fmt.Println("error:", err)
	for _, r := range srv.Requests() {
		fmt.Println(r.Operation, r.Status)
	}
	// Output:
	// error: <nil>
	// SendToAll 503
	// SendToAll 503
	// SendToAll 202
}

// A service client without retries returns the injected error.
func ExampleServer_InjectFault_throttled() {
	srv, client := start(&webpubsub.ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	defer srv.Close()

	if err := srv.InjectFault(emulator.Fault{Status: 429, RetryAfter: time.Second}); err != nil {
		log.Fatal(err)
	}
	err := client.SendToAll(context.Background(), webpubsub.Text("hello"), nil)
	fmt.Println(errors.Is(err, webpubsub.ErrThrottled))
	// Output: true
}

// The connection breaks after the message was sent. The service client cannot know this and retries, so the message arrives twice.
func ExampleServer_InjectFault_cut() {
	ctx := context.Background()
	srv, client := start(&webpubsub.ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry: policy.RetryOptions{RetryDelay: time.Millisecond, MaxRetryDelay: time.Millisecond},
	}})
	defer srv.Close()
	conn, err := connect(ctx, client, webpubsub.ClientAccessTokenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	if err := srv.InjectFault(emulator.Fault{Operation: emulator.OperationSendToAll, Cut: emulator.CutAfterEffect}); err != nil {
		log.Fatal(err)
	}
	if err := client.SendToAll(ctx, webpubsub.Text("hello"), nil); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		message, err := conn.Receive(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(message.Text())
	}
	// Output:
	// hello
	// hello
}

// The next two handshakes are rejected. Use this to test whether clients retry, and how long they wait.
func ExampleServer_InjectFault_handshakes() {
	ctx := context.Background()
	srv, client := start(nil)
	defer srv.Close()

	if err := srv.InjectFault(emulator.Fault{Operation: emulator.OperationConnect, Times: 2, Status: 503}); err != nil {
		log.Fatal(err)
	}
	for range 3 {
		conn, err := connect(ctx, client, webpubsub.ClientAccessTokenOptions{})
		fmt.Println("connected:", err == nil)
		if err == nil {
			conn.Close()
		}
	}
	// Output:
	// connected: false
	// connected: false
	// connected: true
}

// DropConnection cuts a connection without a close frame, as a failing network does.
func ExampleServer_DropConnection() {
	ctx := context.Background()
	srv, client := start(nil)
	defer srv.Close()
	conn, err := connect(ctx, client, webpubsub.ClientAccessTokenOptions{UserID: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	for _, c := range srv.Connections("chat") {
		fmt.Println("cut off:", c.UserID, srv.DropConnection("chat", c.ID))
	}
	<-conn.Done()
	ended, _ := errors.AsType[*wsclient.CloseError](conn.Err())
	fmt.Println("code:", ended.Code) // 1006: no close frame
	fmt.Println("removed:", srv.WaitForConnections(ctx, "chat", 0) == nil)
	// Output:
	// cut off: ann true
	// code: 1006
	// removed: true
}

// A server with the address and the key of a closed one takes its place, as after a restart of the service. The clients
// connect again. All other state is lost.
func ExampleServer_Close_restart() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	srv, client := start(nil)
	access, err := client.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: "ann"})
	if err != nil {
		log.Fatal(err)
	}
	conn, err := wsclient.Dial(ctx, wsclient.StaticURL(access.URL), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	addr, key := strings.TrimPrefix(srv.Endpoint(), "http://"), srv.AccessKey()
	srv.Close()
	srv, err = emulator.Start(&emulator.Options{Addr: addr, AccessKey: key})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	if err := srv.WaitForUser(ctx, "chat", "ann", 1); err != nil {
		log.Fatal(err)
	}
	if err := client.SendToUser(ctx, "ann", webpubsub.Text("welcome back"), nil); err != nil {
		log.Fatal(err)
	}
	message, err := conn.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(message.Text())
	// Output: welcome back
}

// A test advances the server's clock until the token has expired, instead of sleeping.
func ExampleServer_Advance() {
	ctx := context.Background()
	srv, client := start(nil)
	defer srv.Close()
	access, err := client.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{ExpiresIn: time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	srv.Advance(time.Hour + 6*time.Minute) // the server tolerates clocks that differ by five minutes
	_, err = wsclient.Dial(ctx, wsclient.StaticURL(access.URL), nil)
	rejected, _ := errors.AsType[*wsclient.HandshakeError](err)
	fmt.Println(rejected.StatusCode)
	// Output: 401
}

// A test waits until the client is in the group, instead of sleeping.
func ExampleServer_WaitForGroup() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	srv, client := start(nil)
	defer srv.Close()
	conn, err := connect(ctx, client, webpubsub.ClientAccessTokenOptions{
		UserID: "ann", Roles: []string{webpubsub.RoleJoinLeaveGroup("room")}})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	go func() { _ = conn.JoinGroup(ctx, "room") }() // the program under test joins in the background
	if err := srv.WaitForGroup(ctx, "chat", "room", 1); err != nil {
		log.Fatal(err)
	}
	for _, c := range srv.Connections("chat") {
		fmt.Println(c.UserID, c.Subprotocol, c.Groups)
	}
	// Output: ann json.webpubsub.azure.v1 [room]
}

// The acknowledgement is lost with the connection. The client recovers and repeats its request, which the service executes once.
func ExampleServer_InjectClientFault() {
	ctx := context.Background()
	srv, client := start(nil)
	defer srv.Close()
	access, err := client.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{
		Groups: []string{"room"}, Roles: []string{webpubsub.RoleSendToGroup("room")}})
	if err != nil {
		log.Fatal(err)
	}
	conn, err := wsclient.Dial(ctx, wsclient.StaticURL(access.URL), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	if err := srv.InjectClientFault(emulator.ClientFault{Operation: emulator.ClientSendToGroup, Cut: emulator.CutAfterEffect}); err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		if err := conn.SendToGroup(ctx, "room", wsclient.Text(text), nil); err != nil {
			log.Fatal(err)
		}
		message, err := conn.Receive(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(message.Text())
	}
	// Output:
	// one
	// two
}

// HTTPClient trusts the certificate that Options.TLS creates.
func ExampleServer_HTTPClient() {
	ctx := context.Background()
	srv, err := emulator.Start(&emulator.Options{TLS: true})
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	client, err := webpubsub.NewClientFromConnectionString(srv.ConnectionString(), "chat",
		&webpubsub.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: srv.HTTPClient()}})
	if err != nil {
		log.Fatal(err)
	}
	access, err := client.GetClientAccessToken(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	conn, err := wsclient.Dial(ctx, wsclient.StaticURL(access.URL), &wsclient.Options{HTTPClient: srv.HTTPClient()})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Println(access.URL[:6], client.SendToAll(ctx, webpubsub.Text("hello"), nil))
	// Output: wss:// <nil>
}
