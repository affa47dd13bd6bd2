package emulator

import (
	"fmt"
	"slices"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/client"
)

// This file is what goes wrong on purpose between the server and a client that is connected. What goes wrong with requests
// over HTTP, the handshake of a client among them, is in faults.go.

// ClientOperation is what a client asks for over its connection. For a client without a subprotocol, each frame is one.
type ClientOperation string

const (
	// ClientJoinGroup is a joinGroup request.
	ClientJoinGroup ClientOperation = "joinGroup"
	// ClientLeaveGroup is a leaveGroup request.
	ClientLeaveGroup ClientOperation = "leaveGroup"
	// ClientSendToGroup is a sendToGroup request, also one that opens a stream.
	ClientSendToGroup ClientOperation = "sendToGroup"
	// ClientSendEvent is an event request.
	ClientSendEvent ClientOperation = "event"
	// ClientInvoke is an invoke request.
	ClientInvoke ClientOperation = "invoke"
)

var clientOperations = []ClientOperation{ClientJoinGroup, ClientLeaveGroup, ClientSendToGroup, ClientSendEvent, ClientInvoke}

// ClientFault is something that goes wrong on purpose with a request of a connected client. Set exactly one of Unacknowledged,
// Error and Cut, or Delay alone. MQTT clients are not affected.
type ClientFault struct {
	// Operation is the request that goes wrong. "" is any.
	Operation ClientOperation

	// ConnectionID is the client whose requests go wrong, as its connected message names it. "" is any client of any hub.
	ConnectionID string

	// Times is how many requests it goes wrong for: the next ones that match. 0 means 1. Of several faults that match a
	// request, the one injected first is used.
	Times int

	// Delay holds the request back before anything else, and with it all that the client asks for after it, for so long by
	// the server's clock: see [Server.Advance]. Pings are answered meanwhile.
	Delay time.Duration

	// Unacknowledged carries the request out and swallows its acknowledgement. To a client it looks like an acknowledgement
	// that is late: if it sends the request again with the same ackId, the answer is Duplicate.
	Unacknowledged bool

	// Error, if not "", is the name of the error that the request is acknowledged with, such as "InternalServerError",
	// instead of being carried out. A client without a subprotocol is closed with 1011.
	Error string

	// Cut cuts the connection instead of acknowledging the request. A reliable client may come back.
	Cut Cut
}

// InjectClientFault makes requests of connected clients go wrong: the next Times that match. It fails if the fault cannot
// happen; under StartT that fails the test too. [Server.ClearFaults] forgets it.
func (s *Server) InjectClientFault(f ClientFault) error {
	err := s.injectClientFault(f)
	if err != nil {
		s.refused(err)
	}
	return err
}

func (s *Server) injectClientFault(f ClientFault) error {
	effects := 0
	for _, set := range []bool{f.Unacknowledged, f.Error != "", f.Cut != CutNone} {
		effects += count(set)
	}
	switch {
	case f.Operation != "" && !slices.Contains(clientOperations, f.Operation):
		return fmt.Errorf("emulator: ClientFault.Operation: there is no operation %q: the operations are %v", f.Operation, clientOperations)
	case f.Times < 0:
		return fmt.Errorf("emulator: ClientFault.Times is %d", f.Times)
	case f.Delay < 0:
		return fmt.Errorf("emulator: ClientFault.Delay is negative")
	case f.Cut < CutNone || f.Cut > CutAfterEffect:
		return fmt.Errorf("emulator: ClientFault.Cut is %d", f.Cut)
	case effects == 0 && f.Delay == 0:
		return fmt.Errorf("emulator: ClientFault says nothing that should go wrong")
	case effects > 1:
		return fmt.Errorf("emulator: ClientFault.Unacknowledged, Error and Cut exclude each other")
	}
	s.clientFaults.Inject(client.Fault{Operation: string(f.Operation), ConnectionID: f.ConnectionID, Times: max(f.Times, 1),
		Delay: f.Delay, Unacknowledged: f.Unacknowledged, Error: f.Error,
		CutBeforeEffect: f.Cut == CutBeforeEffect, CutAfterEffect: f.Cut == CutAfterEffect})
	return nil
}

// link is what a client's connection lets happen to it on purpose.
type link interface {
	// Silence lets nothing more pass in either direction, and reports whether there was a connection.
	Silence() bool
	// CloseWith closes the connection with a code, and reports whether there was one.
	CloseWith(code int, reason string) bool
	// RenewToken gives a reliable client a new reconnection token, and reports whether it has one.
	RenewToken() bool
}

// find returns the link of a client that is not one of MQTT, or nil.
func (s *Server) find(hub, connectionID string) link {
	if c := s.service.Hub(hub).Find(connectionID); c != nil {
		l, _ := c.Link.(link)
		return l
	}
	return nil
}

// SilenceConnection makes a client's connection half-open: from now on the server reads nothing of what the client sends,
// and what it sends itself never arrives, as when a network on the way has swallowed the connection. The client is
// still connected to the hub. A reliable client may come back over another connection at any time; [Server.DropConnection] makes
// the server notice. It reports whether the hub has the client and the client has a connection. MQTT clients are not affected.
func (s *Server) SilenceConnection(hub, connectionID string) bool {
	l := s.find(hub, connectionID)
	return l != nil && l.Silence()
}

// CloseConnection closes a client's connection with a close frame of this code, such as 1001 or 1011, and reason, of at most 123
// bytes. With a code other than 1000 and 1008, a reliable client may come back, as after a cut. Any other client is gone from the
// hub, and is told the reason by a disconnected message first. It reports whether the hub has the client and the client has a
// connection. It panics if no close frame may have the code: those are 1000 to 1014 but for 1004 to 1006, and 3000 to 4999.
// MQTT clients are not affected.
func (s *Server) CloseConnection(hub, connectionID string, code int, reason string) bool {
	registered := code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)
	if !registered && (code < 3000 || code > 4999) {
		panic(fmt.Sprintf("emulator: no close frame may have the code %d", code))
	}
	l := s.find(hub, connectionID)
	return l != nil && l.CloseWith(code, reason)
}

// RenewReconnectionToken gives a reliable client a new reconnection token, in a connected message in the middle of its life, as
// the service may. From then on the old token is worth nothing. It reports whether the hub has the client and the client is a
// reliable one that is connected now.
func (s *Server) RenewReconnectionToken(hub, connectionID string) bool {
	l := s.find(hub, connectionID)
	return l != nil && l.RenewToken()
}
