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
//	err = tunnel.Serve(ctx, connectionString, "chat", mux, &tunnel.Options{Logger: slog.Default()})
//
// In the service, set the URL template of the hub's event handler to tunnel:///eventhandler/ or another path that the mux
// serves. For tunnel:///eventhandler, register "/eventhandler" too: a mux with only "/eventhandler/" would redirect the
// event, which then fails.
//
// # Events
//
// The handler receives each event as an HTTP request like those of net/http's server:
//
//   - The method, the path, the query, the header and the body are those of the event. Content-Length is the length of
//     the body.
//   - Host is the host of the event's URL.
//   - RemoteAddr is the address at the other end of the connection: that of the service, or of a proxy in front of it.
//   - Proto is HTTP/1.1.
//   - TLS is nil, even if the connection uses TLS, because the service made no TLS connection to this server. To
//     authenticate events, verify their signatures; package eventhandler does that.
//
// The context of a request has the values of Serve's context, and an empty server as http.ServerContextKey. It ends when
// the handler returns, when the connection is lost, or when a shutdown takes too long.
//
// The response is sent when the handler returns, so Flush sends nothing. It is replaced by a 500 if:
//
//   - the response, with its headers, does not fit in a frame of 1 MiB;
//   - the length of the body differs from its Content-Length;
//   - the handler panics. The panic is logged unless it is http.ErrAbortHandler.
//
// Serve calls the handler concurrently, for up to [Options.MaxConcurrent] events. Further events wait. If the events
// that wait or are being served use more than 64 MiB of memory, Serve responds to new events with 503. Over HTTP, the
// service retries an event after a 503.
//
// # Connections
//
// Serve keeps one connection open, or more if the service requests them. If a connection is lost or the service breaks
// the protocol, Serve opens the connection again with a new token, after the delay of [ReconnectOptions]. It cannot
// send the responses to events of a lost connection: it drops and logs them.
//
// The service can control the connections with messages:
//
//   - After Rebalance, Serve opens another connection, to the instance of the service that the message names, but at
//     most 32 connections in all.
//   - After Reconnect, Serve opens a new connection. When it is up, Serve closes the old connection after its events
//     are answered. If the old connection is lost before, Serve does not open it again.
//   - After Close, Serve closes the connection after its events are answered, and does not open it again. If it was the
//     last connection, Serve returns [ErrClosed]. The official client stops too, but without an error.
//
// Rebalance and Reconnect may name an endpoint. Serve sends a token to that endpoint only if
//
//   - its host is the host that was passed to Serve, or both have the same parent domain of at least three labels, such
//     as webpubsub.azure.com;
//   - it uses https, or the endpoint that was passed to Serve does not.
//
// For any other endpoint, Serve ignores Rebalance, and after Reconnect connects to the service's own endpoint. Serve
// also connects to the service's own endpoint after three failures in a row to connect to an instance.
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
