// Package eventhandler receives the events of Azure Web PubSub: who wants to connect, who has connected or gone, and what
// clients have sent. The service posts these events as CloudEvents over HTTP. A [Handler] is a net/http handler that
// verifies them, calls functions of the application with them, and writes the functions' answers.
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
// A Handler serves one hub or several, as its [Options] name them. It reads the events' headers alone, so any path and any
// router will do. Two patterns cover the URL templates that the service may have for the hub:
//
//   - /eventhandler/ (the whole subtree) is for https://app.example.com/eventhandler/{event}. Each event has a path of its
//     own then, and the first request of all goes to /eventhandler/validate.
//   - /eventhandler is for a template without {event} and without a slash at its end. With the subtree alone, net/http's
//     router would redirect the service to the path with the slash. The service does not follow redirects, so that every
//     event would fail.
//
// The handler needs the methods POST, OPTIONS and GET.
//
// # Events
//
//   - connect asks whether a client may connect, as what user, in which groups, with which roles and which subprotocol.
//     The client waits for the answer of [Options.OnConnect].
//   - connected and disconnected report that a client has: [Options.OnConnected], [Options.OnDisconnected].
//   - A user event is what a client sends: the event "message" for each frame of a client without a subprotocol, an event
//     of any name from the others. [Options.OnUserEvent] may answer with a message to that client.
//   - Group presence, if the service is set to send it: [Options.OnGroupJoined], [Options.OnGroupLeft].
//
// A system event that this package does not know is answered with success and calls nothing. The functions are called on
// the goroutine of the HTTP request, with its context, so many at once. For blocking events (connect and user events) the
// service waits for the answer before it sends the connection's next event.
//
// # What a returned error means
//
// An error means the same for each event.
//
//   - A [RejectError] in the error's tree, as [Reject] returns it, is a decision of the application. Its status and its text
//     are the answer. The service does not retry the event after a 4xx status other than 408. For connect, the client's
//     WebSocket handshake fails with that status. For a user event, the event fails (a client without a subprotocol is
//     closed). For the other events the service only logs it.
//   - Any other error, and a panic, means that the event could not be handled. The answer is 500, and the log has the error,
//     or the panic with its stack. The service retries the event after 1, 3 and 5 seconds, and fails it then as above. So a
//     function must be able to repeat what it did before it returned the error. [http.ErrAbortHandler] alone is passed on
//     to the server.
//   - A response that can never be sent is a fault of the application: a state that does not encode or is too large, a
//     subprotocol that the client does not offer, a user id or a group that the service would change or reject, metadata
//     with a comma, a rejection with a status of success. The answer is 422, which the service does not retry, and the log
//     names the field.
//
// An answer has no word of an error that is not a rejection. The failing connect event of an MQTT client is answered in
// each of these cases with a code for its CONNACK packet.
//
// # What is verified
//
// No function is called for a request that is not in order: ce-signature must be made with one of the keys (401
// otherwise; see [Options]), the event must be for a hub of the handler (404) and from an allowed origin (403), and the
// body must be whole, of an allowed size, and of the content type that it claims. The headers that identify the event must
// be there once, be of sane length, and be free of control characters: ce-connectionId, ce-hub, ce-type, ce-eventName,
// ce-id and ce-specversion, and if they are present ce-userId, ce-subprotocol and the ids of MQTT. The answer to any other
// request describes what is wrong in one line.
//
// What the service may send in several forms is accepted in all of them. Signatures and origins may be lists or stand on
// several lines. The state may be any text (see [State]). ce-awpsversion, ce-source and unknown headers are not looked at. A
// ce-time that is absent or wrong is the zero time.
//
// The signature covers the connection's id alone, neither the headers nor the body: it proves that the sender knows the
// key or has seen an event of that connection. So serve the handler over HTTPS only.
//
// A setting of the service can also give its events a token of the service's managed identity. This package does not
// check it: the token is in Event.Header under Authorization, for the application or for middleware before the handler.
package eventhandler
