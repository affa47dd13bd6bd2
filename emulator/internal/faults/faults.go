// Package faults keeps what is to go wrong on purpose, and lets it happen to requests. It knows nothing of hubs but
// the clock that they share.
package faults

import (
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
	ConnectedEvent = "ConnectedEvent" // the event connected on its way to the application
)

// Fault is something that goes wrong on purpose. The emulator's own type of the name has the meaning of the fields.
type Fault struct {
	Operation       string // "" = any REST operation
	Times           int    // how often it still happens
	Status          int
	RetryAfter      time.Duration
	Delay           time.Duration
	CutBeforeEffect bool
	CutAfterEffect  bool
}

// List is what is to go wrong next.
type List struct {
	service *hub.Service

	mu  sync.Mutex // guards all
	all []*Fault
}

// NewList makes an empty list.
func NewList(service *hub.Service) *List { return &List{service: service} }

// Inject adds a fault. Of several that match a request, the first one is used.
func (l *List) Inject(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, &f)
}

// Clear forgets all faults that have not happened yet.
func (l *List) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = nil
}

// Next returns the fault that happens to a request, or the zero Fault.
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

// Apply lets a fault happen to a request, as far as that comes before its effect. An error is the answer.
func (l *List) Apply(f Fault, w http.ResponseWriter) *wire.Error {
	if f.Delay > 0 {
		due := make(chan struct{})
		t := l.service.Clock.AfterFunc(f.Delay, func() { close(due) })
		l.service.Log.Debug("a fault delays a request", "operation", f.Operation, "delay", f.Delay)
		select {
		case <-due:
		case <-l.service.Life.Closing():
			t.Stop()
		}
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
		Message: "a fault that was asked for: " + http.StatusText(f.Status)}
}
