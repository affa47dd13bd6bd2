package emulator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/faults"
)

// Operations for a [Fault] that are not part of the REST API.
const (
	// OperationConnect is the handshake of a client.
	OperationConnect Operation = faults.Connect
	// OperationConnectedEvent is the delivery of the connected event to the application. A Fault can only delay it: later
	// events of the connection, including disconnected, may then arrive first. The service does not guarantee the order of a
	// connection's events, so an application must not depend on it.
	OperationConnectedEvent Operation = faults.ConnectedEvent
)

// UntilCleared is the value of Fault.Times and ClientFault.Times for a fault that lasts until [Server.ClearFaults].
const UntilCleared = -1

// Fault describes how a REST request, a client's handshake or the connected event fails. It needs a Status, a Delay or a Cut.
type Fault struct {
	// Operation selects the requests that fail:
	//
	//   - "": all REST requests;
	//   - a REST operation, such as OperationSendToAll. OperationGetClientAccessToken needs Options.AcceptBearer, because
	//     service clients with an access key sign tokens without a request;
	//   - OperationConnect or OperationConnectedEvent.
	//
	// For requests of connected clients, see [ClientFault].
	Operation Operation

	// Times is the number of matching requests that the fault affects. 0 means 1. [UntilCleared] means all until
	// [Server.ClearFaults]. If several faults match a request, the one injected first applies.
	Times int

	// Status, if not 0, is the status of the response, from 400 to 599. The request is not executed.
	Status int

	// RetryAfter, if not 0, adds a Retry-After header to the response, in seconds, rounded up. It needs a Status.
	RetryAfter time.Duration

	// Delay delays the request, by the server's clock: see [Server.Advance].
	Delay time.Duration

	// Cut cuts the connection instead of sending a response. It cannot be combined with a Status. OperationConnect allows only
	// CutBeforeEffect.
	Cut Cut
}

// Cut selects whether a request's connection is cut, and whether the request takes effect first.
type Cut int

const (
	// CutNone does not cut the connection.
	CutNone Cut = iota
	// CutBeforeEffect cuts the connection without executing the request.
	CutBeforeEffect
	// CutAfterEffect executes the request and then cuts the connection, so the response is lost.
	CutAfterEffect
)

// checkOperation returns an error if name is neither a REST operation nor one of the others.
func (s *Server) checkOperation(name Operation, others ...Operation) error {
	names := s.api.Operations()
	for _, other := range others {
		names = append(names, string(other))
	}
	if slices.Contains(names, string(name)) {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("there is no operation %q: the operations are %s", name, strings.Join(names, ", "))
}

// InjectFault makes the next requests that match f fail. It returns an error if f is invalid or cannot happen. After [StartT],
// such an error also fails the test. [Server.ClearFaults] removes the fault. [Server.Close] logs the faults that have not happened.
func (s *Server) InjectFault(f Fault) error {
	err := s.injectFault(f)
	if err != nil {
		s.failTest(err)
	}
	return err
}

// failTest fails the server's test, if there is one. The test goes on.
func (s *Server) failTest(err error) {
	if s.test != nil {
		s.test.Helper()
		s.test.Errorf("%v", err)
	}
}

func (s *Server) injectFault(f Fault) error {
	if f.Operation != "" {
		if err := s.checkOperation(f.Operation, OperationConnect, OperationConnectedEvent); err != nil {
			return fmt.Errorf("emulator: Fault.Operation: %w", err)
		}
	}
	switch {
	case f.Operation == OperationConnectedEvent && (f.Delay <= 0 || f.Status != 0 || f.Cut != CutNone):
		return fmt.Errorf("emulator: Fault.Operation %s needs a Fault.Delay, and allows no Status and no Cut", OperationConnectedEvent)
	case f.Status == 0 && f.RetryAfter == 0 && f.Delay == 0 && f.Cut == CutNone:
		return fmt.Errorf("emulator: Fault has no effect: set Status, Delay or Cut")
	case f.Times < UntilCleared:
		return fmt.Errorf("emulator: Fault.Times is %d: it must be UntilCleared, 0 or positive", f.Times)
	case f.Status != 0 && (f.Status < 400 || f.Status > 599):
		return fmt.Errorf("emulator: Fault.Status is %d: it must be from 400 to 599", f.Status)
	case f.RetryAfter < 0 || f.Delay < 0:
		return fmt.Errorf("emulator: Fault.RetryAfter or Fault.Delay is negative")
	case f.RetryAfter > 0 && f.Status == 0:
		return fmt.Errorf("emulator: Fault.RetryAfter needs a Fault.Status")
	case f.Cut < CutNone || f.Cut > CutAfterEffect:
		return fmt.Errorf("emulator: Fault.Cut is %d: it must be CutNone, CutBeforeEffect or CutAfterEffect", f.Cut)
	case f.Cut != CutNone && f.Status != 0:
		return fmt.Errorf("emulator: Fault.Cut and Fault.Status are mutually exclusive")
	case f.Operation == OperationGetClientAccessToken && s.acceptsKeysOnly:
		return fmt.Errorf("emulator: Fault.Operation GetClientAccessToken needs Options.AcceptBearer: with an access key, " +
			"service clients sign tokens without a request")
	case f.Cut == CutAfterEffect && f.Operation == OperationConnect:
		return fmt.Errorf("emulator: Fault.Cut CutAfterEffect is not supported for Connect: use DropConnection after the handshake")
	}
	s.faults.Inject(faults.Fault{Operation: string(f.Operation), Times: cmp.Or(f.Times, 1), Status: f.Status, RetryAfter: f.RetryAfter,
		Delay: f.Delay, CutBeforeEffect: f.Cut == CutBeforeEffect, CutAfterEffect: f.Cut == CutAfterEffect})
	return nil
}

// ClearFaults removes all pending faults, including client faults.
func (s *Server) ClearFaults() {
	s.faults.Clear()
	s.clientFaults.Clear()
}

// logPendingFaults logs the faults that have not happened. A test whose fault has not happened may have tested nothing.
func (s *Server) logPendingFaults() {
	const message = "an injected fault has not happened"
	for _, f := range s.faults.Pending() {
		s.service.Log.Info(message, "operation", f.Operation, "times", f.Times)
	}
	for _, f := range s.clientFaults.Pending() {
		s.service.Log.Info(message, "clientOperation", f.Operation, "connection", f.ConnectionID, "times", f.Times)
	}
}
