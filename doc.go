// Package webpubsub is the service client for Azure Web PubSub. A server application uses it to send messages to the
// clients whose WebSocket connections the service holds, to put them into groups, to close them, and to give them the
// tokens that they connect with.
//
//	client, err := webpubsub.NewClientFromConnectionString(os.Getenv("WEBPUBSUB_CONNECTION_STRING"), "chat", nil)
//	err = client.SendToAll(ctx, webpubsub.JSON(map[string]string{"from": "server", "data": "Hello world"}), nil)
//	access, err := client.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: "user1"}) // access.URL is for a browser
//
// # Concepts
//
//   - A connection is one client's WebSocket connection to the service, which gives it an id.
//   - A hub is a set of connections that belong together, such as those of one application. A [ServiceClient] is for one
//     hub.
//   - A group is a set of a hub's connections, which join and leave it at any time. It exists while it has a connection.
//   - A user is the name that a connection was made with. A user may have many connections, and a connection may have no
//     user.
//   - A message is a body with a content type: [Text], [JSON], [Binary] or [BinaryStream].
//   - A subprotocol is the protocol of a client over its WebSocket. Without one, a client receives the bare messages. With
//     json.webpubsub.azure.v1, it receives them in JSON frames.
//
// # Names
//
// Hubs are matched without regard to case, all other names with regard to it. A group's name has 1 to 1,024 UTF-16 units.
// Names that could become another one on the way are rejected with [ErrInvalidArgument] wherever they are given, in tokens
// as well: names of white space, names with white space at the beginning or the end, names with control characters, and
// the names . and .. .
//
// A / in the name of a group or a user is sent as %2F, as by the official SDKs. As far as public sources tell, the service
// does not decode it: SendToGroup for a/b reaches the group a%2Fb. A name with a / that a client or a token has used is
// therefore not reached by the operations that have the name in their path. It is reached by those that have it in a
// filter, a query or a body: [ServiceClient.SendToAll] with the filter 'a/b' in groups or userId eq 'a/b',
// [ServiceClient.AddConnectionsToGroups], [ServiceClient.RemoveConnectionsFromGroups], and the permissions. If you choose
// the names, choose them without a /.
//
// # Authentication
//
// A client authenticates with a connection string ([NewClientFromConnectionString]), with an endpoint and a key
// ([NewClientWithKeyCredential]), or with Microsoft Entra ID ([NewClient]). Credentials and messages are sent to the
// service only: redirects and links that lead elsewhere are not followed.
//
// # Errors
//
// Wrong arguments return [ErrInvalidArgument] and are never sent. A response of the service that is an error is an
// *azcore.ResponseError for errors.As and, by its status, one of [ErrUnauthorized], [ErrForbidden], [ErrNotFound],
// [ErrConflict], [ErrThrottled] and [ErrUnavailable] for errors.Is. The service sends no request id, so the error names the
// x-ms-client-request-id that the client has sent, one for all attempts of a call.
//
// # Retries
//
// Requests are retried as by every client of the Azure SDK for Go, as ClientOptions.Retry says: up to three times after
// 408, 429, 500, 502, 503, 504 and connection failures, with a growing delay or the delay in Retry-After. A retry after a
// failure may send a message twice. If the context ends during the retries, errors.Is finds both the context's error and
// the last response's.
//
// # Responses, logging, tracing
//
// Results are plain values. To see the HTTP response to a call, pass a context of policy.WithCaptureResponse from azcore's
// package policy; the body of a success without a result has been discarded. Calls are logged by log/slog
// ([ClientOptions], [WithLogger]) and by azcore's package log. They are traced by ClientOptions.TracingProvider, with a
// span such as ServiceClient.SendToAll for each call.
//
// # Testing
//
// Package emulator is the service in process, for tests without an Azure account. Package eventhandler receives the events
// that the service posts.
package webpubsub
