// Package wsclient connects a Go program to an Azure Web PubSub hub as a client. Over one WebSocket connection, the
// client joins groups, sends messages and events, and receives messages.
//
//	conn, err := wsclient.Dial(ctx, wsclient.Negotiate("https://example.com/negotiate", nil), nil)
//	if err != nil {
//		return err
//	}
//	defer conn.Close()
//	if err := conn.JoinGroup(ctx, "room"); err != nil {
//		return err
//	}
//	if err := conn.SendToGroup(ctx, "room", wsclient.Text("hi"), nil); err != nil {
//		return err
//	}
//	for m, err := range conn.Messages(ctx) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(m.Group, m.Text())
//	}
//
// The service checks the access token only when a connection is made. The connection stays open after the token has
// expired. Before each new connection, a [Conn] gets a URL with a fresh token from its [URLProvider].
//
// # While the connection is down
//
// A Conn outlives its WebSocket connections. When a connection breaks, the Conn replaces it in the background, and
// calls wait instead of failing:
//
//   - With a reliable protocol, such as the default, the Conn first tries to recover the connection for 30 seconds,
//     while the service keeps the client's messages. After a recovery, no message is lost or duplicated.
//   - With a plain protocol, or if the recovery fails, the Conn makes a new connection and rejoins its groups. Messages
//     may have been lost, so the application should fetch its state again. See [ConnectedEvent.Resumed].
//
// Calls behave as follows if the connection is down, or breaks before the service has responded:
//
//   - [Conn.Receive] and [Conn.Messages] return the messages in the buffer, then wait for the next one.
//   - [Conn.SendToGroup], [Conn.SendEvent], [Conn.JoinGroup] and [Conn.LeaveGroup] wait for a connection. A request
//     that was sent but not acknowledged is sent again. On a recovered connection, the service executes it only once.
//     On a new connection, it may be executed twice; with the option AtMostOnce, the call returns [ErrOutcomeUnknown]
//     instead. With the option NoAck, the call returns when the frame is written, and the frame may be lost.
//   - [Conn.Invoke] waits for a connection and sends its request only once. If the connection breaks before the
//     response arrives, Invoke returns an error, which matches ErrOutcomeUnknown if the request may have been sent.
//   - [Conn.OpenGroupStream] waits for a connection. An open stream continues after a recovery, and fails with a
//     *[CloseError] if the connection is not recovered.
//
// A call stops waiting in two cases:
//
//   - Its context ends. The call returns an error that matches ctx.Err(), and ErrOutcomeUnknown as well if the request
//     may have been executed. The connection and other calls are not affected.
//   - The Conn ends. The call returns [ErrClosed] after [Conn.Close], and otherwise the error of [Conn.Err]. Receive
//     first returns the messages that arrived before.
//
// # Slow receivers
//
// The Conn keeps reading from the connection even if the application is slow. Messages wait for Receive in a buffer.
// See [BufferOptions] for what happens when the buffer is full. An application that only sends must receive too, for
// example in a loop that ignores the messages, unless nobody sends messages to its client.
//
// # Dead connections
//
// After 10 seconds without a received frame, the Conn sends a ping. After 20 seconds without one, the Conn treats the
// connection as broken. See [KeepAliveOptions].
package wsclient
