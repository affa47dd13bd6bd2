package emulator

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/faults"
)

// Operations of a [Fault] that are not operations of the REST API.
const (
	// OperationConnect is the handshake of a client.
	OperationConnect Operation = faults.Connect
	// OperationConnectedEvent is the event connected on its way to the application. Its only fault is a Delay: the events
	// that come after it, disconnected too, do not wait and overtake it. The service promises no order of the events of a
	// connection, so an application must not depend on one.
	OperationConnectedEvent Operation = faults.ConnectedEvent
)

// Fault is something that goes wrong on purpose. Its zero value does nothing; set what should happen.
type Fault struct {
	// Operation is what goes wrong: a REST operation, such as OperationSendToAll, OperationConnect or
	// OperationConnectedEvent. "" is any REST operation. OperationGetClientAccessToken needs Options.AcceptBearer, as service
	// clients with an access key make tokens without a request. See [ClientFault] for what clients ask for once they are
	// connected.
	Operation Operation

	// Times is how many requests it goes wrong for: the next ones that match. 0 means 1. Of several faults that match
	// a request, the one injected first is used.
	Times int

	// Status, if not 0, is what the request is answered with instead of being carried out: 400 to 599.
	Status int

	// RetryAfter, if not 0, adds a Retry-After header to the answer. It is sent in whole seconds, rounded up.
	RetryAfter time.Duration

	// Delay holds the request back before anything else, for so long by the server's clock: see [Server.Advance].
	Delay time.Duration

	// Cut closes the connection instead of answering.
	Cut Cut
}

// Cut says whether a request whose connection is cut takes effect.
type Cut int

const (
	// CutNone leaves the connection: the request is answered.
	CutNone Cut = iota
	// CutBeforeEffect closes the connection, and the request is not carried out.
	CutBeforeEffect
	// CutAfterEffect has the request carried out and closes the connection: its answer is lost.
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

// InjectFault makes requests go wrong: the next Times that match. It fails if the fault cannot happen; under
// StartT that fails the test too.
func (s *Server) InjectFault(f Fault) error {
	err := s.injectFault(f)
	if err != nil {
		s.refused(err)
	}
	return err
}

// refused fails the test, if there is one, as a fault cannot happen.
func (s *Server) refused(err error) {
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
	case f.Times < 0:
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
	s.faults.Inject(faults.Fault{Operation: string(f.Operation), Times: max(f.Times, 1), Status: f.Status, RetryAfter: f.RetryAfter,
		Delay: f.Delay, CutBeforeEffect: f.Cut == CutBeforeEffect, CutAfterEffect: f.Cut == CutAfterEffect})
	return nil
}

// ClearFaults forgets all faults that have not happened yet.
func (s *Server) ClearFaults() {
	s.faults.Clear()
	s.clientFaults.Clear()
}
