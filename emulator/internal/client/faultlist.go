package client

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is a fault to inject into a client's request. The emulator's ClientFault documents the fields.
type Fault struct {
	Operation       string // "" = any
	ConnectionID    string // "" = any
	Times           int    // remaining number of times; negative = no limit
	Delay           time.Duration
	Unacknowledged  bool
	Error           string
	CutBeforeEffect bool
	CutAfterEffect  bool
}

// FaultList holds the faults to inject into clients' requests. It is safe for concurrent use.
type FaultList struct {
	waiting atomic.Int32 // number of faults in all

	mu  sync.Mutex // guards all
	all []*Fault
}

// Inject adds a fault. If several faults match a request, only the first one happens.
func (l *FaultList) Inject(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, &f)
	l.waiting.Store(int32(len(l.all)))
}

// Clear removes all faults that have not happened yet.
func (l *FaultList) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = nil
	l.waiting.Store(0)
}

// Pending returns the faults that have not happened as often as they should. A fault without a limit is pending until its first
// use.
func (l *FaultList) Pending() []Fault {
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

// Next returns the fault to inject into a connection's next request and counts it, or returns the zero Fault. The list may
// be nil.
func (l *FaultList) Next(operation, connectionID string) Fault {
	if l == nil || l.waiting.Load() == 0 { // the usual case
		return Fault{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, f := range l.all {
		if f.Operation != "" && f.Operation != operation || f.ConnectionID != "" && f.ConnectionID != connectionID {
			continue
		}
		if f.Times--; f.Times == 0 {
			l.all = slices.Delete(l.all, i, i+1)
			l.waiting.Store(int32(len(l.all)))
		}
		return *f
	}
	return Fault{}
}
