package rest

import (
	"net/http"
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
	Header    http.Header // as it came, with its secrets
	Body      []byte      // its beginning, as far as it was read
}

const (
	maxRequests = 1000     // that are remembered
	maxBody     = 16 << 10 // bytes of a body that are remembered
)

// requestLog is the requests that were served last.
type requestLog struct {
	mu     sync.Mutex // guards everything below
	all    []Request  // a ring once it is full
	next   int        // where the next goes then
	counts map[string]int
}

func (l *requestLog) add(r Request) {
	if len(r.Body) < cap(r.Body) {
		r.Body = slices.Clone(r.Body) // rather than to keep all of a large one
	}
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

// Requests returns the requests that were served last, in order. Their headers and bodies must not be changed.
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
