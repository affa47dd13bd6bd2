// Package webpubsub is the service client for Azure Web PubSub, the service that holds the WebSocket connections of an
// application's clients. A server uses this package to send messages to those clients, to manage their groups,
// permissions and connections, and to create the tokens that they connect with.
//
//	client, err := webpubsub.NewClientFromConnectionString(os.Getenv("WEBPUBSUB_CONNECTION_STRING"), "chat", nil)
//	err = client.SendToAll(ctx, webpubsub.JSON(map[string]string{"from": "server", "data": "Hello world"}), nil)
//	access, err := client.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: "user1"}) // for a browser: access.URL
//
// # Concepts
//
//   - A connection is one client's WebSocket connection to the service. The service assigns its ID.
//   - A hub is a set of connections that belong together, such as those of one application. A [ServiceClient] is for
//     one hub.
//   - A group is a set of connections in a hub. Connections can join and leave it at any time. A group exists while it
//     has a connection.
//   - A user is the name that a client connects with. A user can have many connections, and a connection can have no
//     user.
//   - A message is a body with a content type. [Text], [JSON], [Binary] and [BinaryStream] make messages.
//   - A subprotocol is the protocol that a client speaks over its WebSocket, such as json.webpubsub.azure.v1, which
//     wraps messages in JSON frames. A client without a subprotocol receives bare message bodies.
//
// # Names
//
// Hub names are case-insensitive. All other names are case-sensitive. A group name has 1 to 1,024 UTF-16 code units.
//
// HTTP clients, proxies and servers change some names in transit. Every operation, including
// [ServiceClient.GetClientAccessToken], returns [ErrInvalidArgument] for these names:
//   - names that are empty or all white space, or have leading or trailing spaces.
//   - names with control characters, or that are not valid UTF-8.
//   - the names . and .. (a single and a double dot), and names in which one of them is between slashes, such as a/../b.
//
// If you choose the names of groups and users, avoid the slash. It is sent as %2F, as in the official SDKs. According
// to public sources, the service does not decode %2F in a path: SendToGroup for a/b reaches the group a%2Fb. So an
// operation with the name in its path does not reach a group a/b that a client has joined. These operations do, because
// they send the name in a filter, a query or a body:
//   - [ServiceClient.SendToAll] with the filter 'a/b' in groups, or userId eq 'a/b'.
//   - [ServiceClient.AddConnectionsToGroups] and [ServiceClient.RemoveConnectionsFromGroups].
//   - [ServiceClient.GrantPermission], [ServiceClient.RevokePermission] and [ServiceClient.HasPermission].
//
// # Authentication
//
// A client authenticates with a connection string ([NewClientFromConnectionString]), with an endpoint and a key
// ([NewClientWithKeyCredential]), or with Microsoft Entra ID ([NewClient]). The client sends credentials and messages
// only to the service or its reverse proxy. It does not follow redirects or next-page links to other URLs.
//
// # Errors
//
// An operation with an invalid argument returns [ErrInvalidArgument] and sends nothing. For an error response of the
// service, errors.As finds an *azcore.ResponseError. By the status, errors.Is matches [ErrUnauthorized],
// [ErrForbidden], [ErrNotFound], [ErrConflict], [ErrThrottled] or [ErrUnavailable]. The service does not send a request
// ID. The error has the x-ms-client-request-id of the request instead, which is the same for all attempts of a call.
//
// # Retries
//
// ClientOptions.Retry configures retries, as in every client of the Azure SDK for Go. By default, a request is retried
// up to three times after a connection failure or a response with 408, 429, 500, 502, 503 or 504. The delay grows,
// unless the response has a Retry-After header. A certificate that cannot be verified is not retried, and neither is a
// header that is not valid in HTTP, such as a token with a line break. Without a Transport of your own, a connection
// that an HTTP proxy rejects, for example with 407, is not retried either. A retry can send a message twice. A call has
// no time limit of its own, so pass a context with a deadline. If the context ends during retries, errors.Is matches
// both the context's error and that of the last response.
//
// # Responses, logging, tracing
//
// Results are plain Go values. To get the HTTP response of a call, pass a context from policy.WithCaptureResponse
// (azcore's package policy). The body of a successful response is discarded if the operation has no result.
//
// Calls are logged with log/slog (see [ClientOptions] and [WithLogger]) and with azcore's package log. They are traced
// with ClientOptions.TracingProvider. Each call has a span with a name such as ServiceClient.SendToAll.
//
// # Testing
//
// Package emulator runs the service in process, for tests without an Azure account. Package eventhandler handles the
// events that the service sends.
package webpubsub
