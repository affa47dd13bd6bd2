// Package eventhandler receives what Azure Web PubSub tells an application: who wants to connect, who has connected or
// gone, and what clients have sent. The service posts these events as CloudEvents over HTTP; a [Handler] is a net/http
// handler that verifies them, hands them to functions of the application, and writes their answers.
//
//	handler, err := eventhandler.New(eventhandler.Options{
//		Hub:               "chat",
//		ConnectionStrings: []string{os.Getenv("WEBPUBSUB_CONNECTION_STRING")},
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
//	http.Handle("/eventhandler/", handler)
//
// # Setting it up
//
// A Handler serves one hub. It goes by the events' headers alone, so any path and any router will do, with one thing
// to heed: if the hub's URL template in the service holds {event}, as https://app.example.com/eventhandler/{event}
// does, then every event has a path of its own, and the first request of all goes to .../eventhandler/validate. Give
// the handler the whole subtree, as above, for the methods POST, OPTIONS and GET. Another hub gets another Handler.
//
// # Events
//
//   - connect asks whether a client may connect, as what user, in which groups, with which roles and which subprotocol.
//     The client waits for the answer of [Options.OnConnect].
//   - connected and disconnected tell that it has: [Options.OnConnected], [Options.OnDisconnected].
//   - A user event is what a client sends: the event "message" for each frame of a client without a subprotocol, an event
//     of any name from the others. [Options.OnUserEvent] may answer with a message to that client.
//   - Group presence, where the service is set to send it: [Options.OnGroupJoined], [Options.OnGroupLeft].
//
// The functions are called on the goroutine of the HTTP request, with its context, so many at once. The service waits
// for the answer to a connection's event before it sends that connection's next one if the event is blocking, as
// connect and user events are.
//
// # What a returned error means
//
// It means the same for each event. An error with a [RejectError] in its tree, as [Reject] returns it, is a decision:
// its status and its text are the answer, and after a 4xx status (but 408) the service makes no second try. For
// connect, the client's WebSocket handshake then fails with that status; for a user event, the event fails (a client
// without a subprotocol is closed); for the other events the service only takes note.
//
// Any other error means that the event could not be handled: it is logged, and the answer is a bare 500, with no word
// of the error in it. The service then sends the event again, up to three times within nine seconds, before it fails
// as above; what a function did before it returned the error should bear being done again. A panic is the same, with
// its stack in the log; only [http.ErrAbortHandler] is passed on to the server.
//
// # What is verified
//
// No function is called for a request that is not in order. Each ce- header must be there once, be of sane length and
// free of control characters; ce-signature must be made with one of the keys (401 otherwise; see [Options]); the event
// must be for the hub (404); its type known, its body whole, of an allowed size and the content type that it says. The
// answer to a request that is not says what is wrong with it, in one line.
//
// The signature covers the connection's id alone, not the headers, nor the body: it says that the sender knows the key
// or has seen an event of that connection. So serve the handler over HTTPS only.
package eventhandler
