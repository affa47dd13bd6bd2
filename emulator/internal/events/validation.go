package events

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/awps-go/webpubsub/internal/redact"
)

const (
	// validationTimeout bounds one validation request, on the machine's clock.
	validationTimeout = 10 * time.Second
	// A result is valid for this long, on the server's clock. A success is valid for longestValidity. A failure is valid
	// for shortestValidity, doubled with each further failure up to longestValidity.
	shortestValidity = time.Second
	longestValidity  = time.Minute
)

// validation is whether one handler accepts events from one origin. The handshake is CloudEvents' abuse protection
// (github.com/cloudevents/spec, http-webhook.md, section 4).
type validation struct {
	mu       sync.Mutex    // guards everything below
	known    bool          // there is a result
	fault    error         // the result; nil = events are accepted
	validFor time.Duration // how long the result is valid
	expires  time.Time     // when the result is refreshed
	running  chan struct{} // closed when the current validation has its result; nil = none is running
}

// validate returns an error if a handler does not accept events from an origin. The first validation runs before the first
// event, and concurrent callers share it. Later validations run in the background, while callers use the previous result.
func (u *Sender) validate(ctx context.Context, h *handler, origin string) error {
	if h.trusted {
		return nil
	}
	v := h.validation(origin)
	v.mu.Lock()
	if v.running == nil && (!v.known || !u.Service.Clock.Now().Before(v.expires)) {
		running := make(chan struct{})
		v.running = running
		if !u.Service.Life.Go(func() { u.refresh(h, v, origin, running) }) {
			v.running = nil
			v.mu.Unlock()
			return errClosing
		}
	}
	known, fault, running := v.known, v.fault, v.running
	v.mu.Unlock()
	if known {
		return fault
	}
	select {
	case <-running:
		v.mu.Lock()
		defer v.mu.Unlock()
		return v.fault
	case <-ctx.Done():
		return errGone
	}
}

// refresh validates a handler and stores the result.
func (u *Sender) refresh(h *handler, v *validation, origin string, running chan struct{}) {
	fault := u.validateNow(u.Service.Life.Context(), h, origin)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case fault == nil:
		v.validFor = longestValidity
	case !v.known || v.fault == nil:
		v.validFor = shortestValidity
	default:
		v.validFor = min(2*v.validFor, longestValidity)
	}
	v.known, v.fault, v.running = true, fault, nil
	v.expires = u.Service.Clock.Now().Add(v.validFor)
	close(running)
	if fault != nil && !u.Service.Life.IsClosing() {
		u.Service.Log.Info("an event handler does not accept events from this server", "hub", h.hub, "origin", origin,
			"error", fault, "next", fmt.Sprintf("no event is sent; the first event after %s validates the handler again", v.validFor))
	}
}

// validateNow asks a handler whether it accepts events from an origin: by OPTIONS, and by GET if OPTIONS returns 404.
func (u *Sender) validateNow(ctx context.Context, h *handler, origin string) error {
	a, err := u.requestValidation(ctx, h, http.MethodOptions, origin)
	if err == nil && a.status == http.StatusNotFound {
		a, err = u.requestValidation(ctx, h, http.MethodGet, origin)
	}
	switch {
	case err != nil:
		return &finalError{"the validation of the event handler failed: " + err.Error()}
	case !a.ok():
		return &finalError{fmt.Sprintf("the event handler responded to the validation with status %d", a.status)}
	case !allows(a.header.Values(headerAllowed), origin):
		return &finalError{"the event handler does not allow the origin " + origin + ": " + headerAllowed +
			" must be the origin or *"}
	}
	return nil
}

// requestValidation sends a validation request, with the same retries as an event.
func (u *Sender) requestValidation(ctx context.Context, h *handler, method, origin string) (*answer, error) {
	target, err := h.url(eventValidate)
	if err != nil {
		return nil, err
	}
	for attempt := 0; ; attempt++ {
		a, err := u.attemptValidation(ctx, h, method, target.String(), origin)
		if !isTemporary(a, err) || attempt == len(eventRetries) {
			return a, err
		}
		reason := err
		if reason == nil {
			reason = fmt.Errorf("status %d", a.status)
		}
		u.Service.Log.Info("the validation of an event handler failed", "hub", h.hub, "origin", origin, "attempt", attempt+1,
			"error", redact.Text(reason.Error(), u.secrets()...), "next", "retry in "+eventRetries[attempt].String())
		if !u.Service.StartDelay(eventRetries[attempt])(ctx) {
			return nil, errClosing
		}
	}
}

func (u *Sender) attemptValidation(ctx context.Context, h *handler, method, target, origin string) (*answer, error) {
	deadline := newDeadline(ctx, min(validationTimeout, u.timeout))
	defer deadline.stop()
	r, err := http.NewRequestWithContext(deadline.ctx, method, target, nil)
	if err != nil {
		return nil, &finalError{errNoURL.Error()}
	}
	r.Header.Set(headerOrigin, origin)
	r.Header.Set(headerVersion, "1.0") // the JavaScript middleware ignores requests without this header
	return u.do(h, r, deadline)
}

// allows reports whether one of the header lines is the origin or *. A line that holds a list matches nothing.
func allows(lines []string, origin string) bool {
	for _, line := range lines {
		if line = strings.TrimSpace(line); line == "*" || strings.EqualFold(line, origin) {
			return true
		}
	}
	return false
}
