package emulator

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/client"
)

// This file is what goes wrong on purpose between the server and a client that is connected. What goes wrong with requests
// over HTTP, the handshake of a client among them, is in faults.go.

// ClientOperation is a kind of request that a client sends over its connection. Each frame of a client without a subprotocol
// is a request: ClientSendEvent or ClientSendToGroup, by the client's mode.
type ClientOperation string

const (
	// ClientJoinGroup is a joinGroup request.
	ClientJoinGroup ClientOperation = "joinGroup"
	// ClientLeaveGroup is a leaveGroup request.
	ClientLeaveGroup ClientOperation = "leaveGroup"
	// ClientSendToGroup is a sendToGroup request, including one that opens a stream.
	ClientSendToGroup ClientOperation = "sendToGroup"
	// ClientSendEvent is an event request.
	ClientSendEvent ClientOperation = "event"
	// ClientInvoke is an invoke request.
	ClientInvoke ClientOperation = "invoke"
)

var clientOperations = []ClientOperation{ClientJoinGroup, ClientLeaveGroup, ClientSendToGroup, ClientSendEvent, ClientInvoke}

// ClientFault describes how a request of a connected client fails on purpose. Set exactly one of Unacknowledged, Error and
// Cut, with or without Delay, or Delay alone. A ClientFault does not affect MQTT clients.
type ClientFault struct {
	// Operation selects the requests by their kind. "" selects any.
	Operation ClientOperation

	// ConnectionID selects the requests of one client, by the id in its connected message. "" selects any client of any hub.
	ConnectionID string

	// Times is the number of requests that fail: the next ones that match. 0 means 1, and [UntilCleared] means all of them
	// until [Server.ClearFaults]. If several faults match a request, the fault that was injected first is used.
	Times int

	// Delay delays the request, and with it all later requests of the client, by the server's clock: see [Server.Advance].
	// Pings are answered meanwhile.
	Delay time.Duration

	// Unacknowledged executes the request and drops its acknowledgement. To the client the acknowledgement looks late: if the
	// client sends the request again with the same ackId, the answer is Duplicate.
	Unacknowledged bool

	// Error, if not "", is the name of the error in the acknowledgement, such as "InternalServerError". The request is not
	// executed. A client without a subprotocol is closed with 1011.
	Error string

	// Cut cuts the connection instead of acknowledging the request. A reliable client may come back.
	Cut Cut
}

// InjectClientFault makes requests of connected clients fail: the next Times that match. It returns an error if the fault
// cannot happen, which fails the test too under [StartT]. [Server.ClearFaults] removes the fault.
func (s *Server) InjectClientFault(f ClientFault) error {
	err := s.injectClientFault(f)
	if err != nil {
		s.failTest(err)
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
	case f.Times < UntilCleared:
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
	s.clientFaults.Inject(client.Fault{Operation: string(f.Operation), ConnectionID: f.ConnectionID, Times: cmp.Or(f.Times, 1),
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

// SilenceConnection makes a client's connection half-open, as if a network on the way had failed silently. From now on the
// server reads nothing from the client, and nothing that the server sends arrives.
//
// The client is still connected to the hub. [Server.DropConnection] makes the server notice. A reliable client may come back
// over another connection at any time.
//
// SilenceConnection reports whether the hub has the client and the client has a connection. It returns false for MQTT clients.
func (s *Server) SilenceConnection(hub, connectionID string) bool {
	l := s.find(hub, connectionID)
	return l != nil && l.Silence()
}

// CloseConnection closes a client's connection with a close frame that has the code and the reason. The reason has at most 123
// bytes.
//
//   - A reliable client may come back, as after a cut, unless the code is 1000 or 1008.
//   - Any other client is gone from the hub, and receives the reason in a disconnected message first.
//
// CloseConnection reports whether the hub has the client and the client has a connection. It returns false for MQTT clients. It
// panics if a close frame must not have the code: allowed are 1000 to 1003, 1007 to 1014 and 3000 to 4999.
func (s *Server) CloseConnection(hub, connectionID string, code int, reason string) bool {
	registered := code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)
	if !registered && (code < 3000 || code > 4999) {
		panic(fmt.Sprintf("emulator: no close frame may have the code %d", code))
	}
	l := s.find(hub, connectionID)
	return l != nil && l.CloseWith(code, reason)
}

// RenewReconnectionToken sends a reliable client a new reconnection token, in a connected message, as the service may at any
// time. The old token stays valid until the client has come back with the new one. RenewReconnectionToken reports whether the
// hub has the client and the client is a reliable one that is connected now.
func (s *Server) RenewReconnectionToken(hub, connectionID string) bool {
	l := s.find(hub, connectionID)
	return l != nil && l.RenewToken()
}
