package rest

import (
	"net/http"
	"slices"
	"time"
)

// Request is a REST request that was served. The fields are documented at the emulator's type Request.
type Request struct {
	Operation string
	Method    string
	Path      string
	Status    int
	Time      time.Time
	Header    http.Header // the original header, including its secrets
	Body      []byte      // the beginning of the part that was read
}

// maxBody bounds the part of a body that is logged, in bytes: the 16 KiB that are shown, and 16 KiB without which a secret at
// their end would not be recognized.
const maxBody = 32 << 10

// logRequest adds a request to the log.
func (a *API) logRequest(r Request) {
	if len(r.Body) < cap(r.Body) {
		r.Body = slices.Clone(r.Body) // do not keep the memory of a large body
	}
	a.log.Add(r.Operation, r)
}

// Requests returns the most recent requests, in the order in which they completed. The caller must not change headers or
// bodies.
func (a *API) Requests() []Request { return a.log.All() }

// Count returns the number of requests served for an operation, including those that the log no longer holds.
func (a *API) Count(operation string) int { return a.log.Count(operation) }
