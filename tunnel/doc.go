// Package tunnel receives the events of Azure Web PubSub over a WebSocket connection that the server opens itself. The
// server needs no public endpoint, so it can run behind NAT or on a developer's machine.
//
// This package is experimental. Microsoft does not document the protocol. We derived it from two public programs, the
// npm package @azure/web-pubsub-socket.io and the tool awps-tunnel, and have not tested this package against the real
// service yet.
//
//	handler, err := eventhandler.New(&eventhandler.Options{Hub: "chat", ConnectionStrings: []string{connectionString}, ...})
//	...
//	mux := http.NewServeMux()
//	mux.Handle("/eventhandler/", handler)
//	err = tunnel.Serve(ctx, connectionString, "chat", mux, nil)
//
// In the service, set the URL template of the hub's event handler to tunnel:///eventhandler/ or another path.
//
// # Events
//
// The handler receives each event as an HTTP request like those of net/http's server:
//
//   - The method, the path, the query, the header and the body are those of the event. A header field has one value per
//     line. Content-Length is the length of the body.
//   - Host is the host of the event's URL.
//   - RemoteAddr is the address of the peer of the connection: the service, or a proxy in front of it.
//   - Proto is HTTP/1.1.
//   - TLS is nil, even if the connection uses TLS, because the service made no TLS connection to this server. To
//     authenticate events, verify their signatures; package eventhandler does that.
//
// The context of a request has the values of Serve's context. It ends when the handler returns, when the connection is
// lost, or when a shutdown takes too long.
//
// The response is sent when the handler returns, so Flush sends nothing. It is replaced by a 500 if:
//
//   - the response, with its headers, does not fit in a frame of 1 MiB;
//   - the length of the body differs from its Content-Length;
//   - the handler panics. The panic is logged unless it is http.ErrAbortHandler.
//
// Events are served concurrently, up to [Options.MaxConcurrent]. More events wait. If the pending events use more than
// 64 MiB of memory, the response to a new event is a 503. The service retries events after a 503 over HTTP.
//
// # Connections
//
// A connection that is lost or that breaks the protocol is opened again with a new token, after a random delay of up to
// 0.5 seconds at first and up to 30 seconds later. Responses to events of a lost connection cannot be sent. They are
// dropped and logged.
//
// The service can control the connections:
//
//   - Rebalance opens another connection, to the instance of the service that the message names. Serve opens at most 32
//     connections.
//   - Reconnect opens a new connection. When it is up, the old connection is closed after its events are answered. If
//     the old connection is lost before, it is not opened again.
//   - Close closes the connection after its events are answered, and does not open it again. If it was the last
//     connection, Serve returns [ErrClosed]. The official client stops too, but without an error.
//
// Rebalance and Reconnect may name an endpoint. Serve sends a token to that endpoint only if its host is the host that
// was passed to Serve, or has the same parent domain of at least three labels, such as webpubsub.azure.com. It never
// switches from https to http. With any other endpoint, Rebalance is ignored, and Reconnect goes to the service's own
// endpoint. If an instance cannot be reached three times in a row, Serve connects to the service's own endpoint
// instead.
//
// # Open questions
//
// Only the real service can show:
//
//   - whether it sends the path of the URL template, the query and all headers as it does over HTTP;
//   - whether it first asks the handler for permission (OPTIONS, WebHook-Request-Origin);
//   - how long it waits for a response, whether it retries, and in which order it sends events;
//   - how it distributes events to several servers, and to several connections of one server;
//   - when it sends Rebalance, Reconnect and Close, with which endpoints, and what it then expects;
//   - whether it enforces the frame limit of 1 MiB, and whether it accepts a response in several frames. This package
//     sends a response in one frame, but as several WebSocket fragments if it is larger than 64 KiB;
//   - which roles of an Entra identity suffice, besides Web PubSub Service Owner;
//   - what happens to a connection whose token expires. This package assumes that the token matters only when
//     connecting.
package tunnel
