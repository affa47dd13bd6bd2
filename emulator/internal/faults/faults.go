// Package faults holds injected faults and applies them to requests. The only part of a hub that it uses is the shared clock.
package faults

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// Operations that are not REST operations.
const (
	Connect        = "Connect"        // a client's handshake
	ConnectedEvent = "ConnectedEvent" // the delivery of the connected event to the application
)

// Fault is an injected fault. The fields are documented at the emulator's type Fault.
type Fault struct {
	Operation       string // "" = any REST operation
	Times           int    // how many more times it occurs; negative = no limit
	Status          int
	RetryAfter      time.Duration
	Delay           time.Duration
	CutBeforeEffect bool
	CutAfterEffect  bool
}

// List holds the injected faults that have not occurred yet. It may be used by several goroutines.
type List struct {
	service *hub.Service

	mu  sync.Mutex // guards all
	all []*Fault
}

// NewList returns an empty list.
func NewList(service *hub.Service) *List { return &List{service: service} }

// Inject adds a fault. If several faults match a request, the first one injected is used.
func (l *List) Inject(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, &f)
}

// Clear removes all faults.
func (l *List) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = nil
}

// Pending returns the faults that have not occurred as often as they should. A fault without a limit is pending until its first use.
func (l *List) Pending() []Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	var pending []Fault
	for _, f := range l.all {
		if f.Times >= -1 {
			pending = append(pending, *f)
		}
	}
	return pending
}

// Next returns the fault for a request of an operation, and counts it as used. It returns the zero Fault if none matches.
func (l *List) Next(operation string) Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, f := range l.all {
		if f.Operation != operation && (f.Operation != "" || operation == Connect || operation == ConnectedEvent) {
			continue
		}
		if f.Times--; f.Times == 0 {
			l.all = slices.Delete(l.all, i, i+1)
		}
		return *f
	}
	return Fault{}
}

// Apply applies the part of a fault that precedes the effect of a request:
//
//   - It waits for Delay, on the server's clock, or until the server closes.
//   - If CutBeforeEffect is set, it panics with [http.ErrAbortHandler].
//   - If Status is set, it returns the response as an error.
func (l *List) Apply(f Fault, w http.ResponseWriter) *wire.Error {
	if f.Delay > 0 {
		wait := l.service.StartDelay(f.Delay)
		l.service.Log.Debug("a fault delays a request", "operation", f.Operation, "delay", f.Delay)
		wait(context.Background())
	}
	if f.CutBeforeEffect {
		panic(http.ErrAbortHandler)
	}
	if f.Status == 0 {
		return nil
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
	return &wire.Error{Status: f.Status, Code: "InjectedFault",
		Message: "injected fault: " + http.StatusText(f.Status)}
}
