package webpubsub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/tracing"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/wsclient"
)

// The examples run on the emulator. exampleClient starts an emulator and returns a client for its hub "chat".
func exampleClient() (client *webpubsub.ServiceClient, stop func()) {
	server, err := emulator.Start(nil)
	if err != nil {
		log.Fatal(err)
	}
	client, err = webpubsub.NewClientFromConnectionString(server.ConnectionString(), "chat", nil)
	if err != nil {
		log.Fatal(err)
	}
	return client, func() { server.Close() }
}

// exampleJoin connects a WebSocket client with an access token for the options. The WebSocket client does not reconnect.
func exampleJoin(client *webpubsub.ServiceClient, options *webpubsub.ClientAccessTokenOptions) *wsclient.Conn {
	conn, err := wsclient.Dial(context.Background(), func(ctx context.Context) (string, error) {
		access, err := client.GetClientAccessToken(ctx, options)
		return access.URL, err
	}, &wsclient.Options{Protocol: wsclient.JSONPlain, Reconnect: wsclient.ReconnectOptions{Disabled: true}})
	if err != nil {
		log.Fatal(err)
	}
	return conn
}

// exampleReceive returns the text of the next message.
func exampleReceive(conn *wsclient.Conn) string {
	message, err := conn.Receive(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	return message.Text()
}

func Example() {
	server, err := emulator.Start(nil) // in a test: emulator.StartT(t, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	connectionString := server.ConnectionString() // in production: os.Getenv("WEBPUBSUB_CONNECTION_STRING")

	client, err := webpubsub.NewClientFromConnectionString(connectionString, "chat", nil)
	if err != nil {
		log.Fatal(err)
	}
	browser := exampleJoin(client, nil)
	err = client.SendToAll(context.Background(), webpubsub.JSON(map[string]string{"from": "user1", "data": "Hello world"}), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(exampleReceive(browser))
	// Output: {"data":"Hello world","from":"user1"}
}

func ExampleNewClientFromConnectionString() {
	client, err := webpubsub.NewClientFromConnectionString(
		"Endpoint=https://contoso.webpubsub.azure.com;AccessKey=KEY;Version=1.0;", "chat", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(client)
	// Output: webpubsub.ServiceClient(https://contoso.webpubsub.azure.com, hub chat)
}

func ExampleNewClientWithKeyCredential() {
	credential := azcore.NewKeyCredential("primary key")
	client, err := webpubsub.NewClientWithKeyCredential("https://contoso.webpubsub.azure.com", "chat", credential, nil)
	if err != nil {
		log.Fatal(err)
	}
	credential.Update("secondary key") // applies to all later requests
	fmt.Println(client)
	// Output: webpubsub.ServiceClient(https://contoso.webpubsub.azure.com, hub chat)
}

func ExampleNewClient() {
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		log.Fatal(err)
	}
	client, err := webpubsub.NewClient("https://contoso.webpubsub.azure.com", "chat", credential, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(client)
	// Output: webpubsub.ServiceClient(https://contoso.webpubsub.azure.com, hub chat)
}

func ExampleServiceClient_SendToAll() {
	client, stop := exampleClient()
	defer stop()
	alice := exampleJoin(client, &webpubsub.ClientAccessTokenOptions{UserID: "alice"})
	bob := exampleJoin(client, &webpubsub.ClientAccessTokenOptions{UserID: "bob"})
	carol := exampleJoin(client, &webpubsub.ClientAccessTokenOptions{UserID: "carol"})
	ctx := context.Background()

	err := errors.Join(
		client.SendToAll(ctx, webpubsub.Text("to all but carol, by filter"), &webpubsub.SendToAllOptions{
			Filter: webpubsub.FormatFilter("userId ne %v", "carol"),
		}),
		client.SendToAll(ctx, webpubsub.Text("to all but bob, by id"), &webpubsub.SendToAllOptions{
			Excluded:   []string{bob.ConnectionID()},
			MessageTTL: 30 * time.Second,
		}))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("alice:", exampleReceive(alice))
	fmt.Println("alice:", exampleReceive(alice))
	fmt.Println("bob:", exampleReceive(bob))
	fmt.Println("carol:", exampleReceive(carol))
	// Output:
	// alice: to all but carol, by filter
	// alice: to all but bob, by id
	// bob: to all but carol, by filter
	// carol: to all but bob, by id
}

func ExampleServiceClient_SendToGroup() {
	client, stop := exampleClient()
	defer stop()
	member := exampleJoin(client, &webpubsub.ClientAccessTokenOptions{Groups: []string{"room"}})

	err := client.SendToGroup(context.Background(), "room", webpubsub.Text("Hello, room"), &webpubsub.SendToGroupOptions{
		Metadata: map[string]string{"priority": "high"},
	})
	if err != nil {
		log.Fatal(err)
	}
	message, err := member.Receive(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(message.Group, message.Text(), message.Metadata)
	// Output: room Hello, room map[priority:high]
}

func ExampleServiceClient_SendToUser() {
	client, stop := exampleClient()
	defer stop()
	phone := exampleJoin(client, &webpubsub.ClientAccessTokenOptions{UserID: "alice"})
	laptop := exampleJoin(client, &webpubsub.ClientAccessTokenOptions{UserID: "alice"})

	if err := client.SendToUser(context.Background(), "alice", webpubsub.JSON([]int{1, 2, 3}), nil); err != nil {
		log.Fatal(err)
	}
	fmt.Println(exampleReceive(phone), exampleReceive(laptop))
	// Output: [1,2,3] [1,2,3]
}

func ExampleServiceClient_SendToConnection() {
	client, stop := exampleClient()
	defer stop()
	conn := exampleJoin(client, nil)

	// The stream can be any io.Reader. A file is read while it is sent, and rewound for a retry.
	stream := strings.NewReader("the file's bytes")
	if err := client.SendToConnection(context.Background(), conn.ConnectionID(), webpubsub.BinaryStream(stream), nil); err != nil {
		log.Fatal(err)
	}
	fmt.Println(exampleReceive(conn))
	// Output: the file's bytes
}

func ExampleServiceClient_ConnectionExists() {
	client, stop := exampleClient()
	defer stop()
	conn := exampleJoin(client, &webpubsub.ClientAccessTokenOptions{UserID: "alice", Groups: []string{"room"}})
	ctx := context.Background()

	connection, err1 := client.ConnectionExists(ctx, conn.ConnectionID(), nil)
	user, err2 := client.UserExists(ctx, "alice", nil)
	group, err3 := client.GroupExists(ctx, "empty", nil)
	if err := errors.Join(err1, err2, err3); err != nil {
		log.Fatal(err)
	}
	fmt.Println(connection, user, group)
	// Output: true true false
}

func ExampleServiceClient_AddUserToGroup() {
	client, stop := exampleClient()
	defer stop()
	conn := exampleJoin(client, &webpubsub.ClientAccessTokenOptions{UserID: "alice"})
	ctx := context.Background()

	err := errors.Join(
		client.AddUserToGroup(ctx, "news", "alice", nil),
		client.AddConnectionToGroup(ctx, "sports", conn.ConnectionID(), nil),
		client.RemoveUserFromGroup(ctx, "news", "alice", nil))
	if err != nil {
		log.Fatal(err)
	}
	news, err1 := client.GroupExists(ctx, "news", nil)
	sports, err2 := client.GroupExists(ctx, "sports", nil)
	if err := errors.Join(err1, err2); err != nil {
		log.Fatal(err)
	}
	fmt.Println("news:", news, "sports:", sports)
	// Output: news: false sports: true
}

func ExampleServiceClient_AddConnectionsToGroups() {
	client, stop := exampleClient()
	defer stop()
	exampleJoin(client, &webpubsub.ClientAccessTokenOptions{UserID: "alice"})
	exampleJoin(client, &webpubsub.ClientAccessTokenOptions{UserID: "bob"})
	ctx := context.Background()

	filter := webpubsub.FormatFilter("userId in %v", []string{"alice", "carol"})
	if err := client.AddConnectionsToGroups(ctx, []string{"news", "sports"}, filter, nil); err != nil {
		log.Fatal(err)
	}
	for member, err := range client.ConnectionsInGroup(ctx, "sports", nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(member.UserID)
	}
	// Output: alice
}

func ExampleServiceClient_ConnectionsInGroup() {
	client, stop := exampleClient()
	defer stop()
	exampleJoin(client, &webpubsub.ClientAccessTokenOptions{UserID: "alice", Groups: []string{"room"}})
	exampleJoin(client, &webpubsub.ClientAccessTokenOptions{UserID: "bob", Groups: []string{"room"}})

	for member, err := range client.ConnectionsInGroup(context.Background(), "room", nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(member.UserID) // and member.ConnectionID
	}
	// Unordered output:
	// alice
	// bob
}

func ExampleServiceClient_NewListConnectionsInGroupPager() {
	client, stop := exampleClient()
	defer stop()
	for range 5 {
		exampleJoin(client, &webpubsub.ClientAccessTokenOptions{Groups: []string{"room"}})
	}

	pager := client.NewListConnectionsInGroupPager("room", &webpubsub.ListConnectionsInGroupOptions{MaxPageSize: 2})
	for pager.More() {
		page, err := pager.NextPage(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		// page.ContinuationToken can resume the list here, even in another process.
		fmt.Println(len(page.Members), "connections")
	}
	// Output:
	// 2 connections
	// 2 connections
	// 1 connections
}

func ExampleServiceClient_GrantPermission() {
	client, stop := exampleClient()
	defer stop()
	conn := exampleJoin(client, nil)
	ctx := context.Background()
	show := func() {
		ok, err := client.HasPermission(ctx, webpubsub.PermissionSendToGroup, conn.ConnectionID(), &webpubsub.HasPermissionOptions{TargetName: "room"})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("may send to room:", ok)
	}

	show()
	err := client.GrantPermission(ctx, webpubsub.PermissionSendToGroup, conn.ConnectionID(), &webpubsub.GrantPermissionOptions{TargetName: "room"})
	if err != nil {
		log.Fatal(err)
	}
	show()
	// Output:
	// may send to room: false
	// may send to room: true
}

func ExampleServiceClient_HasPermission() {
	client, stop := exampleClient()
	defer stop()
	conn := exampleJoin(client, &webpubsub.ClientAccessTokenOptions{Roles: []string{webpubsub.RoleSendToGroups("news.*")}})

	for _, group := range []string{"news.today", "sports"} {
		ok, err := client.HasPermission(context.Background(), webpubsub.PermissionSendToGroup, conn.ConnectionID(),
			&webpubsub.HasPermissionOptions{TargetName: group})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(group, ok)
	}
	// Output:
	// news.today true
	// sports false
}

func ExampleServiceClient_RevokePermission() {
	client, stop := exampleClient()
	defer stop()
	conn := exampleJoin(client, &webpubsub.ClientAccessTokenOptions{Roles: []string{webpubsub.RoleSendToAnyGroup}})
	ctx := context.Background()

	err := client.RevokePermission(ctx, webpubsub.PermissionSendToGroup, conn.ConnectionID(), &webpubsub.RevokePermissionOptions{TargetName: "room"})
	if err != nil {
		log.Fatal(err)
	}
	ok, err := client.HasPermission(ctx, webpubsub.PermissionSendToGroup, conn.ConnectionID(), &webpubsub.HasPermissionOptions{TargetName: "room"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("may send to room:", ok)
	// Output: may send to room: false
}

func ExampleServiceClient_CloseAllConnections() {
	client, stop := exampleClient()
	defer stop()
	admin := exampleJoin(client, nil)
	conn := exampleJoin(client, nil)

	err := client.CloseAllConnections(context.Background(), &webpubsub.CloseAllConnectionsOptions{
		Excluded: []string{admin.ConnectionID()},
		Reason:   "maintenance",
	})
	if err != nil {
		log.Fatal(err)
	}
	<-conn.Done()
	fmt.Println(conn.Err())
	// Output: wsclient: the connection ended with code 1000: Application server closed the connection. Reason: maintenance
}

func ExampleServiceClient_CloseUserConnections() {
	client, stop := exampleClient()
	defer stop()
	conn := exampleJoin(client, &webpubsub.ClientAccessTokenOptions{UserID: "alice"})

	err := client.CloseUserConnections(context.Background(), "alice", &webpubsub.CloseUserConnectionsOptions{Reason: "signed out"})
	if err != nil {
		log.Fatal(err)
	}
	<-conn.Done()
	fmt.Println(conn.Err())
	// Output: wsclient: the connection ended with code 1000: Application server closed the connection. Reason: signed out
}

func ExampleServiceClient_GetClientAccessToken() {
	client, err := webpubsub.NewClientFromConnectionString(
		"Endpoint=https://contoso.webpubsub.azure.com;AccessKey=KEY;Version=1.0;", "chat", nil)
	if err != nil {
		log.Fatal(err)
	}
	access, err := client.GetClientAccessToken(context.Background(), &webpubsub.ClientAccessTokenOptions{
		UserID:    "alice",
		Groups:    []string{"room"},
		Roles:     []string{webpubsub.RoleSendToGroup("room"), webpubsub.RoleJoinLeaveGroups("public.*")},
		ExpiresIn: 10 * time.Minute,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(access.BaseURL)
	fmt.Println(strings.HasPrefix(access.URL, access.BaseURL+"?access_token=")) // pass access.URL to the browser
	// Output:
	// wss://contoso.webpubsub.azure.com/client/hubs/chat
	// true
}

func ExampleServiceClient_SendRequest() {
	client, stop := exampleClient()
	defer stop()

	// SendRequest is for REST operations that have no method. This one has a method: UserExists.
	req, err := http.NewRequest(http.MethodHead, "/api/hubs/chat/users/alice", nil)
	if err != nil {
		log.Fatal(err)
	}
	resp, err := client.SendRequest(context.Background(), req)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.Status)
	// Output: 404 Not Found
}

func ExampleServiceClient_GetServiceStatus() {
	client, stop := exampleClient()
	defer stop()
	if err := client.GetServiceStatus(context.Background(), nil); err != nil {
		fmt.Println("the service is not healthy:", err)
		return
	}
	fmt.Println("healthy")
	// Output: healthy
}

// With a reverse proxy, such as API Management, requests go to the proxy. Tokens are still for the service's own URL.
func Example_reverseProxy() {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fmt.Println("the proxy receives", req.Method, req.URL.Path)
	}))
	defer proxy.Close()

	client, err := webpubsub.NewClientFromConnectionString("Endpoint=https://contoso.webpubsub.azure.com;AccessKey=KEY;Version=1.0;",
		"chat", &webpubsub.ClientOptions{ReverseProxyEndpoint: proxy.URL + "/webpubsub"})
	if err != nil {
		log.Fatal(err)
	}
	if err := client.SendToAll(context.Background(), webpubsub.Text("hello"), nil); err != nil {
		log.Fatal(err)
	}
	// Output: the proxy receives POST /webpubsub/api/hubs/chat/:send
}

// The client accepts any tracing provider of azcore. For OpenTelemetry, use azotel.NewTracingProvider(otelProvider,
// nil) from the module azotel.
func Example_tracing() {
	client, stop := exampleClient()
	defer stop()
	provider := tracing.NewProvider(func(name, version string) tracing.Tracer {
		return tracing.NewTracer(func(ctx context.Context, span string, _ *tracing.SpanOptions) (context.Context, tracing.Span) {
			fmt.Println("span", span)
			return ctx, tracing.Span{}
		}, nil)
	}, nil)

	options := &webpubsub.ClientOptions{}
	options.TracingProvider = provider
	traced, err := webpubsub.NewClientWithKeyCredential(client.Endpoint(), client.Hub(), azcore.NewKeyCredential("another key"), options)
	if err != nil {
		log.Fatal(err)
	}
	if err := traced.GetServiceStatus(context.Background(), nil); err != nil {
		log.Fatal(err)
	}
	// Output:
	// span ServiceClient.GetServiceStatus
	// span HTTP HEAD
}

// A backend reports an outage of the service to its own client.
func ExampleRetryAfter() {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Retry-After", "120") // longer than the client is willing to wait
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer service.Close()
	client, err := webpubsub.NewClientWithKeyCredential(service.URL, "chat", azcore.NewKeyCredential("KEY"), nil)
	if err != nil {
		log.Fatal(err)
	}

	err = client.SendToAll(context.Background(), webpubsub.Text("hello"), nil)
	if errors.Is(err, webpubsub.ErrUnavailable) || errors.Is(err, webpubsub.ErrThrottled) {
		if wait, ok := webpubsub.RetryAfter(err); ok {
			fmt.Println("503, Retry-After:", wait.Seconds())
		}
	}
	// Output: 503, Retry-After: 120
}

// policy.WithCaptureResponse provides the HTTP response of a call.
func Example_captureResponse() {
	client, stop := exampleClient()
	defer stop()

	var response *http.Response
	ctx := policy.WithCaptureResponse(context.Background(), &response)
	if err := client.SendToAll(ctx, webpubsub.Text("hello"), nil); err != nil {
		log.Fatal(err)
	}
	fmt.Println(response.StatusCode)
	// Output: 202
}

// errors.Is matches the kind of error, and errors.As finds the response.
func Example_errors() {
	client, stop := exampleClient()
	defer stop()
	ctx := context.Background()

	err := client.AddConnectionToGroup(ctx, "room", "gone", nil)
	if errors.Is(err, webpubsub.ErrNotFound) {
		var response *azcore.ResponseError
		errors.As(err, &response)
		fmt.Println("not found:", response.StatusCode)
	}
	err = client.SendToUser(ctx, "", webpubsub.Text("hello"), nil)
	if errors.Is(err, webpubsub.ErrInvalidArgument) {
		fmt.Println(err)
	}
	// Output:
	// not found: 404
	// webpubsub: SendToUser: invalid argument userID: is empty
}

func ExampleWithLogger() {
	client, stop := exampleClient()
	defer stop()
	// Omit the attributes that differ from run to run.
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key {
		case "operation", "status", "tries", slog.LevelKey, slog.MessageKey:
			return a
		}
		return slog.Attr{}
	}}))

	err := client.SendToAll(webpubsub.WithLogger(context.Background(), logger), webpubsub.Text("hello"), nil)
	if err != nil {
		log.Fatal(err)
	}
	// Output: level=INFO msg="webpubsub call" operation=SendToAll status=202 tries=1
}

func ExampleFormatFilter() {
	user := "o'neill"
	fmt.Println(webpubsub.FormatFilter("userId eq %v and not (%v in groups)", user, "muted"))
	fmt.Println(webpubsub.FormatFilter("userId in %v or length(userId) lt %v", []string{"alice", "bob"}, 3))
	// Output:
	// userId eq 'o''neill' and not ('muted' in groups)
	// userId in ('alice','bob') or length(userId) lt 3
}

func ExampleMessage() {
	for _, message := range []webpubsub.Message{
		webpubsub.Text("Hello"),
		webpubsub.JSON("Hello"),
		webpubsub.Binary([]byte("Hello")),
	} {
		body, err := message.Reader()
		if err != nil {
			log.Fatal(err)
		}
		data, err := io.ReadAll(body)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", message.ContentType(), data)
	}
	// Output:
	// text/plain: Hello
	// application/json: "Hello"
	// application/octet-stream: Hello
}
