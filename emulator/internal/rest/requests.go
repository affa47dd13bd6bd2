package rest

import (
	"slices"
	"sync"
	"time"
)

// Request is a REST request that was served. The emulator's own type of the name has the meaning of the fields.
type Request struct {
	Operation string
	Method    string
	Path      string
	Status    int
	Time      time.Time
}

// maxRequests is how many requests are remembered.
const maxRequests = 1000

// requestLog is the requests that were served last.
type requestLog struct {
	mu     sync.Mutex // guards everything below
	all    []Request  // a ring once it is full
	next   int        // where the next goes then
	counts map[string]int
}

func (l *requestLog) add(r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		l.counts = make(map[string]int)
	}
	l.counts[r.Operation]++
	if len(l.all) < maxRequests {
		l.all = append(l.all, r)
		return
	}
	l.all[l.next] = r
	l.next = (l.next + 1) % maxRequests
}

// Requests returns the requests that were served last, in order.
func (a *API) Requests() []Request {
	a.log.mu.Lock()
	defer a.log.mu.Unlock()
	return slices.Concat(a.log.all[a.log.next:], a.log.all[:a.log.next])
}

// Count returns how many requests of an operation were served.
func (a *API) Count(operation string) int {
	a.log.mu.Lock()
	defer a.log.mu.Unlock()
	return a.log.counts[operation]
}
