// Package hub is the kernel of the emulator. It holds:
//
//   - hubs with their connections, groups, users and permissions
//   - messages, and the choice of their recipients
//   - the order of the events that the application receives about a connection
//   - the frames that a client still receives before its connection is closed
//   - the clock
//
// It knows nothing of sockets, HTTP, WebSocket, JWT or MQTT. A test in emulator/internal enforces this.
//
// It reaches the packages around it through small interfaces that it defines itself: a [Link] to a client, an [Application]
// that is notified of events, an [Observer] for traffic and for tests that wait, and an [Encoder] for each protocol.
//
// # Locks
//
// A goroutine that holds one of these locks may only acquire locks further down the list:
//
//  1. Hub.EntryLock of an MQTT client, or the recovery lock of a reliable client (in package client). Under it, a client
//     that reconnects takes over from its old network connection, one at a time.
//  2. Hub.mu guards one hub: its connections with their groups, users and permissions.
//  3. The lock of a link guards one client: the frames that wait to be written, and those not acknowledged yet.
//  4. The lock of one connection's event queue, and below it Lifetime.mu. Also Service.mu, and the locks of the packages
//     around. Each guards a few fields of its type.
//
// A send holds Hub.mu for reading while it adds the message to the queue of every recipient, which never blocks. No
// goroutine uses the network or calls the application while it holds one of these locks.
//
// One lock is outside the list: a reliable client's reader holds its own lock as long as it reads a socket. Only a client
// that reconnects waits for this lock.
package hub
