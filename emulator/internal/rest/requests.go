package rest

import (
	"net/http"
	"slices"
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

// maxBody is how many bytes of a body are remembered.
const maxBody = 16 << 10

// remember remembers a request that was served.
func (a *API) remember(r Request) {
	if len(r.Body) < cap(r.Body) {
		r.Body = slices.Clone(r.Body) // rather than to keep all of a large one
	}
	a.log.Add(r.Operation, r)
}

// Requests returns the requests that were served last, in order. Their headers and bodies must not be changed.
func (a *API) Requests() []Request { return a.log.All() }

// Count returns how many requests of an operation were served.
func (a *API) Count(operation string) int { return a.log.Count(operation) }
