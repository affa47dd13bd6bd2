// Package webpubsub is the service client for Azure Web PubSub: a server application sends messages to the clients whose
// WebSocket connections the service holds, puts them into groups, closes them, and hands out the tokens they connect with.
//
//	client, err := webpubsub.NewClientFromConnectionString(os.Getenv("WEBPUBSUB_CONNECTION_STRING"), "chat", nil)
//	err = client.SendToAll(ctx, webpubsub.JSON(map[string]string{"from": "server", "data": "Hello world"}), nil)
//	access, err := client.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: "user1"}) // access.URL is for a browser
//
// # Concepts
//
// A connection is one client's WebSocket connection to the service; the service gives it an id. A hub is a set of
// connections that belong together, such as those of one application; a [ServiceClient] is for one hub. A group is a set
// of a hub's connections, which join and leave it at any time; it is there as long as it has a connection. A user is the
// name that a connection was made under; a user may have many connections, and a connection may have no user. A message is a
// body with a content type: [Text], [JSON], [Binary] or [BinaryStream]. A subprotocol is what a client speaks over its
// WebSocket: without one it sees messages as they are, with json.webpubsub.azure.v1 in JSON frames.
//
// # Authentication
//
// By connection string ([NewClientFromConnectionString]), by endpoint and key ([NewClientWithKeyCredential]), or by
// Microsoft Entra ID ([NewClient]).
//
// # Errors, retries, logging, tracing
//
// Wrong arguments are [ErrInvalidArgument] and are never sent. What the service refuses is an *azcore.ResponseError for
// errors.As and one of [ErrUnauthorized], [ErrForbidden], [ErrNotFound], [ErrConflict] and [ErrThrottled] for errors.Is.
// Requests are retried as by every client of the Azure SDK for Go, by ClientOptions.Retry: up to three times after 408,
// 429, 500, 502, 503, 504 and connection failures, with a growing delay or the one in Retry-After. A retry after a
// failure may send a message twice. Calls are logged by log/slog ([ClientOptions], [WithLogger]) and by azcore's log
// package, and traced by ClientOptions.TracingProvider, with a span such as ServiceClient.SendToAll for each call.
//
// # Testing
//
// Package emulator is the service in process, for tests without an Azure account; package eventhandler receives the
// events that the service posts.
package webpubsub
