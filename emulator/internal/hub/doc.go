// Package hub is the kernel of the emulator: hubs, their connections, groups, users and permissions, messages and whom
// a message is for, what the application hears of a connection and in which order, what a client is sent before its
// connection is closed, and the clock. It has no socket, no HTTP, no WebSocket, no JWT and no MQTT, and a test of the rooms'
// walls keeps it so.
//
// It reaches the rooms around it by small interfaces that it defines itself: a [Link] to a client, an [Application]
// that is told of events, an [Observer] for traffic and for tests that wait, and an [Encoder] for each protocol.
//
// # Locks
//
// A goroutine that holds one of these locks may only lock one further down the list:
//
//	an MQTT client's entry (Hub.EntryLock), and a reliable client's recovery (in room client): a client that comes
//	  back takes its place, once
//	Hub.mu    one hub: its connections, their groups, users and permissions
//	a link's  one client: what waits to be written to it and what it has not acknowledged
//	the queue of one connection's events, and below it Lifetime.mu; Service.mu; those of the rooms around
//
// Those of the last line guard a few fields of their type. A send holds Hub.mu for reading while it puts the message
// into the queue of every recipient, which never blocks. Nothing is written to or read from the network, and no
// application is called, under any of these locks. (A reliable client's reader holds one of its own for as long as
// it reads a socket; nobody waits for it but a client that comes back.)
package hub
