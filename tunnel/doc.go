// Package tunnel is experimental: it speaks a protocol that Microsoft does not document. The protocol was read from two
// public programs, the npm package @azure/web-pubsub-socket.io and the tool awps-tunnel. This package is not tested
// against the real service yet.
//
// With a tunnel, a server receives the events of Azure Web PubSub over a WebSocket connection that the server opens itself.
// The server needs no public endpoint: it may be behind NAT, or on a developer's machine.
//
//	handler, err := eventhandler.New(&eventhandler.Options{Hub: "chat", ConnectionStrings: []string{connectionString}, ...})
//	...
//	mux := http.NewServeMux()
//	mux.Handle("/eventhandler/", handler)
//	err = tunnel.Serve(ctx, connectionString, "chat", mux, nil)
//
// In the service, the URL template of the hub's event handler is then tunnel:///eventhandler/ (or another path).
//
// # Events
//
// Each event is an HTTP request for the handler, as net/http's server makes it: the method, the path and the query of the
// event's URL, a header with as many values as it has lines, Content-Length and the body. Host is the host of the URL.
// RemoteAddr is the address of the other end of the connection: the service, or a proxy in between. Proto is HTTP/1.1. TLS
// is nil even if the connection uses TLS, because nobody made a TLS connection to this server. Verify the signature of
// events instead: package eventhandler does.
//
// The request's context ends when the connection is lost, when the handler returns, and when a shutdown takes too long. It has
// the values of Serve's context. The answer is sent as a whole when the handler returns, so Flush sends nothing. A frame holds
// at most 1 MiB: a larger answer becomes a 500. A panic becomes a 500 and is logged; http.ErrAbortHandler is not logged.
//
// Events are served concurrently, up to [Options.MaxConcurrent]. More events wait. If waiting events take more than 64 MiB of
// memory, further ones are answered with 503, which the service retries over HTTP.
//
// # Connections
//
// A connection that is lost or that breaks the protocol is opened again, with a new token, after a random delay that grows from
// 0.5 to 30 seconds. Events under way on a lost connection cannot be answered; the answer is dropped, and logged. The service
// can direct the connections:
//
//   - Rebalance opens one more connection, to the instance of the service that it names. Serve opens at most 32 connections.
//   - Reconnect opens the new connection first. The old one is closed once the new one is up and the old one's events are answered.
//   - Close closes the connection after its events are answered, and opens no other. If no connection is left, Serve returns
//     [ErrClosed]. The official client stops too, and does not report it.
//
// The service names the endpoint of a new connection. A token is sent there only if the endpoint is the host that Serve was given,
// or has the same parent domain of at least three labels, such as webpubsub.azure.com; and never from https to http. An instance that
// cannot be reached three times in a row is replaced by the service's own endpoint.
//
// # What only the real service can show
//
//   - whether it sends the path of the URL template, the query, and all headers, as over HTTP;
//   - whether it asks the handler for permission first (OPTIONS, WebHook-Request-Origin);
//   - how long it waits for an answer, whether it retries, and in which order events come;
//   - how several servers, and several connections of one server, share the events;
//   - when it sends Rebalance, Reconnect and Close, with which endpoints, and what it expects then;
//   - whether it enforces 1 MiB for a frame, and whether it accepts answers in several frames;
//   - which role an Entra identity needs: Web PubSub Service Owner is known to do;
//   - what happens to a connection whose token expires: this package assumes that the token matters only when connecting.
package tunnel
