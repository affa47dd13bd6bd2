package emulator

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/client"
	kernel "github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// This file injects faults into the connections of clients. Faults of HTTP requests, including handshakes, are in faults.go.

// ClientOperation is a kind of request that a client sends over its connection. Each frame of a client without a subprotocol is
// a ClientSendEvent request, or a ClientSendToGroup request if the client connected with webpubsub_mode=sendToGroup.
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

// ClientFault describes how requests of connected clients fail. Set at most one of Unacknowledged, Error and Cut; Delay may be
// set with any of them, or alone. A ClientFault does not affect MQTT clients.
type ClientFault struct {
	// Operation selects requests by their kind. "" selects all kinds, and the fragments and the ends of streams.
	Operation ClientOperation

	// ConnectionID selects the requests of one client, by the ID in its connected message. "" selects all clients of all hubs.
	ConnectionID string

	// Times is the number of matching requests that the fault affects. 0 means 1. [UntilCleared] means all until
	// [Server.ClearFaults]. If several faults match a request, the one injected first applies.
	Times int

	// Delay delays the request and all later requests of the client, by the server's clock: see [Server.Advance]. The server
	// still responds to pings.
	Delay time.Duration

	// Unacknowledged executes the request without acknowledging it, or without the response to an invocation or stream. If the
	// client repeats the ackId, the second acknowledgement has the error Duplicate.
	Unacknowledged bool

	// Error, if not "", is the name of the error in the acknowledgement, such as "InternalServerError". The request is not
	// executed. An invocation or a stream fails with this error. A client without a subprotocol receives no acknowledgements: its
	// connection is closed with 1011.
	Error string

	// Cut cuts the connection instead of acknowledging the request. A reliable client may recover.
	Cut Cut
}

// InjectClientFault makes the next requests of connected clients that match f fail. It returns an error if f is invalid or cannot
// happen. After [StartT], such an error also fails the test. [Server.ClearFaults] removes the fault.
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
		return fmt.Errorf("emulator: ClientFault.Times is %d: it must be UntilCleared, 0 or positive", f.Times)
	case f.Delay < 0:
		return fmt.Errorf("emulator: ClientFault.Delay is negative")
	case f.Cut < CutNone || f.Cut > CutAfterEffect:
		return fmt.Errorf("emulator: ClientFault.Cut is %d: it must be CutNone, CutBeforeEffect or CutAfterEffect", f.Cut)
	case effects == 0 && f.Delay == 0:
		return fmt.Errorf("emulator: ClientFault has no effect: set Unacknowledged, Error, Cut or Delay")
	case effects > 1:
		return fmt.Errorf("emulator: ClientFault.Unacknowledged, Error and Cut are mutually exclusive")
	case f.ConnectionID != "" && s.isMQTT(f.ConnectionID):
		return fmt.Errorf("emulator: ClientFault.ConnectionID %q is an MQTT client, which client faults do not affect", f.ConnectionID)
	}
	s.clientFaults.Inject(client.Fault{Operation: string(f.Operation), ConnectionID: f.ConnectionID, Times: cmp.Or(f.Times, 1),
		Delay: f.Delay, Unacknowledged: f.Unacknowledged, Error: f.Error,
		CutBeforeEffect: f.Cut == CutBeforeEffect, CutAfterEffect: f.Cut == CutAfterEffect})
	return nil
}

// isMQTT reports whether a hub has an MQTT client with a connection ID. The IDs of other clients are random.
func (s *Server) isMQTT(connectionID string) bool {
	return slices.ContainsFunc(s.service.Hubs(), func(h *kernel.Hub) bool {
		c := h.Find(connectionID)
		if c == nil {
			return false
		}
		_, ok := c.Link.(protocol.MQTTLink)
		return ok
	})
}

// silencer is implemented by the connections of all clients.
type silencer interface {
	// Silence stops all traffic in both directions. It reports whether there was a connection.
	Silence() bool
}

// link is implemented by the connections of all clients but MQTT clients.
type link interface {
	// CloseWith closes the connection with a code. It reports whether there was a connection.
	CloseWith(code int, reason string) bool
	// RenewToken sends a reliable client a new reconnection token. It reports whether the client is reliable and connected.
	RenewToken() bool
}

// find returns the link of a client as an L, or false if there is no such client or its link is not an L.
func find[L any](s *Server, hub, connectionID string) (l L, found bool) {
	if c := s.service.Hub(hub).Find(connectionID); c != nil {
		l, found = c.Link.(L)
	}
	return l, found
}

// SilenceConnection makes a client's connection half-open, as if the network between them had failed silently. From then on, the
// server reads nothing from the client, and the client receives nothing.
//
// The client stays connected to the hub, even if it closes the connection. [Server.DropConnection] makes the server notice the
// failure. A reliable client may recover over another connection at any time. From an MQTT client, the server expects packets: it
// cuts the connection when one and a half times the keep alive have passed, by the machine's clock.
//
// SilenceConnection reports whether the hub has the client and the client has a connection.
func (s *Server) SilenceConnection(hub, connectionID string) bool {
	l, found := find[silencer](s, hub, connectionID)
	return found && l.Silence()
}

// CloseConnection closes a client's connection with a close frame that has the code and the first 123 bytes of the reason.
//
//   - A reliable client may recover, as after a cut, unless the code is 1000 or 1008. To wait until its recovery window has
//     started, use [Server.WaitForRecovering].
//   - Any other client has left the hub when CloseConnection returns. If it has a subprotocol, it first receives the whole reason
//     in a disconnected message.
//
// CloseConnection reports whether the hub has the client and the client has a connection. It returns false for MQTT clients. It
// panics unless the code is from 1000 to 1003, from 1007 to 1014 or from 3000 to 4999: other codes are not allowed in a close frame.
func (s *Server) CloseConnection(hub, connectionID string, code int, reason string) bool {
	registered := code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)
	if !registered && (code < 3000 || code > 4999) {
		panic(fmt.Sprintf("emulator: CloseConnection: code %d is not allowed in a close frame", code))
	}
	l, found := find[link](s, hub, connectionID)
	return found && l.CloseWith(code, reason)
}

// RenewReconnectionToken sends a reliable client a new reconnection token in a connected message, which the service may do at
// any time. The old token stays valid until the client has recovered with the new one. RenewReconnectionToken returns false
// unless the hub has the client, and the client is reliable and not cut off.
func (s *Server) RenewReconnectionToken(hub, connectionID string) bool {
	l, found := find[link](s, hub, connectionID)
	return found && l.RenewToken()
}
