// Package eventhandler receives the events that Azure Web PubSub posts to an application: a client wants to connect,
// has connected, has disconnected, or has sent an event. The service posts them as CloudEvents over HTTP. A [Handler]
// is a net/http handler that verifies each event, calls a callback of the application, and writes the callback's
// response.
//
//	handler, err := eventhandler.New(&eventhandler.Options{
//		Hub:               "chat",
//		ConnectionStrings: []string{os.Getenv("WEBPUBSUB_CONNECTION_STRING")},
//		Logger:            slog.Default(),
//		OnConnect: func(ctx context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
//			if r.UserID == "" {
//				return nil, eventhandler.Reject(http.StatusUnauthorized, "log in first")
//			}
//			return &eventhandler.ConnectResponse{Groups: []string{"lobby"}}, nil
//		},
//		OnUserEvent: func(ctx context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
//			return &eventhandler.UserEventResponse{Message: webpubsub.Text("you said " + r.Text())}, nil
//		},
//	})
//	http.Handle("/eventhandler", handler)
//	http.Handle("/eventhandler/", handler)
//
// # Setting it up
//
// A Handler serves one or more hubs, named in its [Options]. It reads only the request's headers and body, so any path
// and any router will do. Two patterns cover the URL templates that you can configure in the service:
//
//   - /eventhandler/ (the whole subtree) serves https://app.example.com/eventhandler/{event}. Each event then has its
//     own path, and the service's first request goes to /eventhandler/validate.
//   - /eventhandler serves a template that has no {event} and no trailing slash. If only the subtree is registered,
//     net/http's router redirects the service to the path with the slash. The service does not follow redirects, so
//     every event would fail.
//
// The handler needs the methods POST, OPTIONS and GET.
//
// # Events
//
//   - connect asks whether a client may connect, and as which user, in which groups, with which roles and which
//     subprotocol. The client waits for the response of [Options.OnConnect].
//   - connected and disconnected report that a client has connected or disconnected: [Options.OnConnected],
//     [Options.OnDisconnected].
//   - A user event carries data from a client. Each frame of a client without a subprotocol is the event "message".
//     Other clients choose the event name. [Options.OnUserEvent] may respond with a message to that client.
//   - joined and left report that a client has joined or left a group, if the service is configured to send these
//     events: [Options.OnGroupJoined], [Options.OnGroupLeft].
//
// The handler responds to an unknown system event with success and calls no callback. Each callback runs on the
// goroutine of its HTTP request, with the request's context, so callbacks run concurrently. Connect and user events are
// blocking: the service waits for the response before it sends that connection's next event.
//
// # What a returned error means
//
// An error has the same meaning for every event.
//
//   - A [RejectError] in the error's tree, such as the one that [Reject] returns, is a decision of the application. The
//     response has its status and its reason. After a 4xx status other than 408 the service does not retry the event. A
//     rejected connect fails the client's WebSocket handshake with that status. A rejected user event fails, and a
//     client without a subprotocol is disconnected. For the other events the service only logs the rejection.
//     The client of a rejected user event does not receive the reason, and may send the event again. To tell the client
//     why, return a [UserEventResponse] with a message instead of an error.
//   - Any other error, or a panic, means that the event could not be handled. The response has status 500, and the log
//     has the error, or the panic and its stack. The service retries the event after 1, 3 and 5 seconds, and then
//     treats it as rejected. A callback must therefore be idempotent: a retry has the same Event.EventID. The exception
//     is a panic with [http.ErrAbortHandler], which the handler passes on to the server.
//   - An invalid response is a bug in the application. Examples are a state that is too large, a subprotocol that the
//     client did not offer, a user ID that the service would change, or a rejection with a success status. The response
//     then has status 422, which the service does not retry, and the log names the field.
//
// A response never contains the text of an error that is not a rejection. In all three cases, the response to an MQTT
// client's connect event has a code for the CONNACK packet.
//
// # What is verified
//
// The handler calls no callback for an invalid request. It checks that:
//
//   - ce-signature was made with one of the handler's keys (otherwise 401; see [Options]),
//   - the event is from an allowed origin (403) and for a hub of the handler (404),
//   - the body is complete, within the size limit, and of the declared content type,
//   - the headers that identify the event appear once, have at most 8 KiB, and contain no control characters:
//     ce-connectionId, ce-hub, ce-type, ce-eventName, ce-id and ce-specversion, and if present ce-userId,
//     ce-subprotocol and the MQTT IDs.
//
// The response to an invalid request describes the problem in one line.
//
// The handler accepts every form that the service may use. Signatures and origins may be lists or span several header
// lines. The state may be any text (see [State]). The handler ignores ce-awpsversion, ce-source and unknown headers. A
// missing or malformed ce-time becomes the zero time.
//
// The signature covers only the connection ID, not the other headers or the body. Anyone who has seen an event can
// forge other events of the same connection, so serve the handler over HTTPS only.
//
// The service can be configured to send a token of its managed identity with its events. This package does not verify
// that token. The application, or middleware in front of the handler, finds it in Event.Header under Authorization.
package eventhandler
