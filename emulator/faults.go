package emulator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/faults"
)

// These operations are not part of the REST API. A [Fault] can name them.
const (
	// OperationConnect is the handshake of a client.
	OperationConnect Operation = faults.Connect
	// OperationConnectedEvent is the delivery of the event connected to the application. Its only fault is a Delay, during
	// which later events of the connection, including disconnected, overtake it. The service promises no order of the
	// events of a connection, so an application must not depend on one.
	OperationConnectedEvent Operation = faults.ConnectedEvent
)

// UntilCleared is the Times of a fault that lasts until [Server.ClearFaults].
const UntilCleared = -1

// Fault describes how a REST request, a client's handshake or the event connected fails on purpose. The zero value does
// nothing.
type Fault struct {
	// Operation selects what fails: a REST operation, such as OperationSendToAll, or OperationConnect, or
	// OperationConnectedEvent. "" selects any REST operation. OperationGetClientAccessToken needs Options.AcceptBearer,
	// because service clients with an access key make tokens without a request. For requests of connected clients see
	// [ClientFault].
	Operation Operation

	// Times is the number of requests that fail: the next ones that match. 0 means 1, and [UntilCleared] means all of them
	// until [Server.ClearFaults]. If several faults match a request, the fault that was injected first is used.
	Times int

	// Status, if not 0, is the status of the answer, from 400 to 599. The request is not executed.
	Status int

	// RetryAfter, if not 0, adds a Retry-After header to the answer, in whole seconds, rounded up. It needs a Status.
	RetryAfter time.Duration

	// Delay delays the request, by the server's clock: see [Server.Advance].
	Delay time.Duration

	// Cut cuts the connection instead of answering. It excludes a Status.
	Cut Cut
}

// Cut tells whether a request's connection is cut, and whether the request takes effect.
type Cut int

const (
	// CutNone does not cut the connection.
	CutNone Cut = iota
	// CutBeforeEffect cuts the connection, and the request is not executed.
	CutBeforeEffect
	// CutAfterEffect executes the request and cuts the connection: its answer is lost.
	CutAfterEffect
)

// checkOperation fails if there is no REST operation of a name, nor one of the others.
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

// InjectFault makes requests fail: the next Times that match. It returns an error if the fault cannot happen, which fails
// the test too under [StartT].
func (s *Server) InjectFault(f Fault) error {
	err := s.injectFault(f)
	if err != nil {
		s.failTest(err)
	}
	return err
}

// failTest fails the server's test, if there is one: the test asks for something that does not exist.
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
		return fmt.Errorf("emulator: Fault.Operation %s needs a Fault.Delay, and has no other fault", OperationConnectedEvent)
	case f.Times < UntilCleared:
		return fmt.Errorf("emulator: Fault.Times is %d", f.Times)
	case f.Status != 0 && (f.Status < 400 || f.Status > 599):
		return fmt.Errorf("emulator: Fault.Status is %d, not one from 400 to 599", f.Status)
	case f.RetryAfter < 0 || f.Delay < 0:
		return fmt.Errorf("emulator: Fault.RetryAfter or Fault.Delay is negative")
	case f.RetryAfter > 0 && f.Status == 0:
		return fmt.Errorf("emulator: Fault.RetryAfter needs a Fault.Status")
	case f.Cut < CutNone || f.Cut > CutAfterEffect:
		return fmt.Errorf("emulator: Fault.Cut is %d", f.Cut)
	case f.Cut != CutNone && f.Status != 0:
		return fmt.Errorf("emulator: Fault.Cut leaves no answer that could have a Fault.Status")
	case f.Operation == OperationGetClientAccessToken && s.acceptsKeysOnly:
		return fmt.Errorf("emulator: Fault.Operation GetClientAccessToken needs Options.AcceptBearer: with an access key, " +
			"clients' tokens are made without a request")
	case f.Cut == CutAfterEffect && f.Operation == OperationConnect:
		return fmt.Errorf("emulator: a handshake has no effect that CutAfterEffect could keep: use DropConnection")
	}
	s.faults.Inject(faults.Fault{Operation: string(f.Operation), Times: cmp.Or(f.Times, 1), Status: f.Status, RetryAfter: f.RetryAfter,
		Delay: f.Delay, CutBeforeEffect: f.Cut == CutBeforeEffect, CutAfterEffect: f.Cut == CutAfterEffect})
	return nil
}

// ClearFaults removes all faults that have not happened yet, including client faults.
func (s *Server) ClearFaults() {
	s.faults.Clear()
	s.clientFaults.Clear()
}
