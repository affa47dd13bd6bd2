package faults

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ClientFault is something that goes wrong on purpose with what a client asks for over its connection. The emulator's own
// type of the name has the meaning of the fields.
type ClientFault struct {
	Operation       string // "" = any
	ConnectionID    string // "" = any
	Times           int    // how often it still happens
	Delay           time.Duration
	Unacknowledged  bool
	Error           string
	CutBeforeEffect bool
	CutAfterEffect  bool
}

// ClientList is what is to go wrong next with the requests of clients.
type ClientList struct {
	waiting atomic.Int32 // how many faults there are

	mu  sync.Mutex // guards all
	all []*ClientFault
}

// Inject adds a fault. Of several that match a request, the first one is used.
func (l *ClientList) Inject(f ClientFault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, &f)
	l.waiting.Store(int32(len(l.all)))
}

// Clear forgets all faults that have not happened yet.
func (l *ClientList) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = nil
	l.waiting.Store(0)
}

// Next returns the fault that happens to a request of a connection, or the zero ClientFault.
func (l *ClientList) Next(operation, connectionID string) ClientFault {
	if l == nil || l.waiting.Load() == 0 { // as always but in tests of faults
		return ClientFault{}
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
	return ClientFault{}
}
