// Package wsclient is a client of an Azure Web PubSub hub over WebSocket: it joins groups, sends to them, sends events,
// and receives messages. A token never has to be renewed: the service looks at it only when a connection is made, and a
// Conn asks its URLProvider for a fresh URL before each new connection.
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
// # While the connection is down
//
// A [Conn] outlives its connections. When one breaks, the default protocol recovers it: the service keeps the client's
// messages for 30 seconds, and none is lost or comes twice. When that is not possible, the Conn makes a new connection
// and joins the wanted groups again; messages may then be missing, so the event of Options.OnConnected has Resumed false,
// and the application should fetch its state anew.
//
//   - Receive and Messages wait.
//   - SendToGroup, SendEvent, JoinGroup, LeaveGroup, Invoke and OpenGroupStream wait for the connection, as long as their
//     context allows. What was sent without being acknowledged is sent again; see [Conn.SendToGroup].
//   - A context that ends stops its call. It has no effect on the connection or on other calls.
//
// # Slow receivers
//
// The Conn reads the connection at all times; messages wait in a buffer for Receive. See [BufferOptions] for what happens
// beyond it.
//
// # Dead connections
//
// After 10 seconds without a frame the Conn sends a ping, and after 20 it cuts the connection and recovers it. See
// [KeepAliveOptions].
package wsclient
