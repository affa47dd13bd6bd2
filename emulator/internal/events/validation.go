package events

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// validationTimeout is how long a handler may take for one question, on the machine's clock.
	validationTimeout = 10 * time.Second
	// A result counts for so long, on the server's clock. After a failure it is the shortest time, which doubles with
	// each failure after it.
	shortestValidity = time.Second
	longestValidity  = time.Minute
)

// validation is what one handler has said about one origin: CloudEvents' abuse protection.
type validation struct {
	mu      sync.Mutex    // guards everything below
	known   bool          // there is a result
	fault   error         // the result: nil = events are accepted
	counts  time.Duration // how long the result counts
	expires time.Time     // when it is asked for again
	asking  chan struct{} // closed when the question under way has its result; nil = none is
}

// validate fails if a handler does not accept events from an origin. The handler is asked before its first event, once for
// all who wait. Later results are asked for in the background, while the last one still counts.
func (u *Sender) validate(ctx context.Context, h *handler, origin string) error {
	if h.trusted {
		return nil
	}
	v := h.validation(origin)
	v.mu.Lock()
	if v.asking == nil && (!v.known || !u.Service.Clock.Now().Before(v.expires)) {
		asking := make(chan struct{})
		v.asking = asking
		if !u.Service.Life.Go(func() { u.askAgain(h, v, origin, asking) }) {
			v.asking = nil
			v.mu.Unlock()
			return &finalError{"the server is closing"}
		}
	}
	known, fault, asking := v.known, v.fault, v.asking
	v.mu.Unlock()
	if known {
		return fault
	}
	select {
	case <-asking:
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.fault
	case <-ctx.Done():
		return &finalError{"the client has gone, or the server is closing"}
	}
}

// askAgain asks a handler and keeps the result.
func (u *Sender) askAgain(h *handler, v *validation, origin string, asking chan struct{}) {
	fault := u.ask(u.Service.Life.Context(), h, origin)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case fault == nil:
		v.counts = longestValidity
	case !v.known || v.fault == nil:
		v.counts = shortestValidity
	default:
		v.counts = min(2*v.counts, longestValidity)
	}
	v.known, v.fault, v.asking = true, fault, nil
	v.expires = u.Service.Clock.Now().Add(v.counts)
	close(asking)
	if fault != nil {
		u.Service.Log.Info("an event handler does not accept events of this server", "hub", h.hub, "origin", origin,
			"error", fault, "next", fmt.Sprintf("no event is sent; it is asked again with the first event after %s", v.counts))
	}
}

// ask asks a handler whether it accepts events from an origin, by OPTIONS, and by GET where there is nothing at that
// method.
func (u *Sender) ask(ctx context.Context, h *handler, origin string) error {
	a, err := u.question(ctx, h, http.MethodOptions, origin)
	if err == nil && a.status == http.StatusNotFound {
		a, err = u.question(ctx, h, http.MethodGet, origin)
	}
	switch {
	case err != nil:
		return &finalError{"the validation of the event handler failed: " + err.Error()}
	case !a.ok():
		return &finalError{fmt.Sprintf("the event handler answered the validation with %d", a.status)}
	case !allows(a.header.Values(headerAllowed), origin):
		return &finalError{"the event handler does not allow the origin " + origin + ": none of its " + headerAllowed +
			" headers is that or *"}
	}
	return nil
}

// question sends one question, again as an event is.
func (u *Sender) question(ctx context.Context, h *handler, method, origin string) (*answer, error) {
	target, err := h.url(eventValidate)
	if err != nil {
		return nil, err
	}
	for attempt := 0; ; attempt++ {
		a, err := u.questionOnce(ctx, h, method, target.String(), origin)
		again := err == nil && a.retried() || err != nil && !isFinal(err)
		if !again || attempt == len(eventRetries) || !u.sleep(ctx, eventRetries[attempt]) {
			return a, err
		}
	}
}

func (u *Sender) questionOnce(ctx context.Context, h *handler, method, target, origin string) (*answer, error) {
	deadline := newDeadline(ctx, min(validationTimeout, u.timeout))
	defer deadline.stop()
	r, err := http.NewRequestWithContext(deadline.ctx, method, target, nil)
	if err != nil {
		return nil, &finalError{errNoURL.Error()}
	}
	r.Header.Set(headerOrigin, origin)
	r.Header.Set(headerVersion, "1.0") // the JavaScript middleware looks at nothing without it
	return u.do(h, r, deadline)
}

// allows reports whether one of the lines is an origin. A list in one line is not understood.
func allows(lines []string, origin string) bool {
	for _, line := range lines {
		if line = strings.TrimSpace(line); line == "*" || strings.EqualFold(line, origin) {
			return true
		}
	}
	return false
}
