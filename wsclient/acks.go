package wsclient

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// waiters are the requests that wait for a response, by ID.
type waiters[ID comparable, W any] struct {
	mu      sync.Mutex // guards waiting
	waiting map[ID]W
}

// add adds a request, or another attempt of it. Call it before writing the request: the response may arrive before the write
// returns.
func (w *waiters[ID, W]) add(id ID, waiter W) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = make(map[ID]W)
	}
	w.waiting[id] = waiter
}

// take removes a request that received its response, and returns it. It returns the zero value if no request waits with that ID.
func (w *waiters[ID, W]) take(id ID) W {
	w.mu.Lock()
	defer w.mu.Unlock()
	waiter := w.waiting[id]
	delete(w.waiting, id)
	return waiter
}

func (w *waiters[ID, W]) forget(id ID) { w.take(id) }

// clear removes all requests of a session that has ended.
func (w *waiters[ID, W]) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.waiting)
}

// Retries after an InternalServerError.
const (
	maxRetries      = 3
	firstRetryDelay = 250 * time.Millisecond // the average delay before the first retry; it doubles with each retry
)

// call is the state of a request over all its attempts.
type call struct {
	operation  string
	request    request
	noAck      bool
	atMostOnce bool
	only       uint64 // the only session in which to send the request, a rejoin; 0 means any

	answer  chan *frame
	epoch   uint64 // the session of the request's ackId
	sent    bool   // the service may have executed the request in that session
	earlier bool   // the service may have executed the request in an earlier session, with an effect that lasts
	retries int
}

// errSuperseded is the error of a rejoin if its session has ended or the application has left the group.
var errSuperseded = errors.New("the group need not be rejoined")

// do sends a request until it is acknowledged or cannot be retried.
func (c *Conn) do(ctx context.Context, k *call) error {
	for {
		l, epoch, err := c.ready(ctx, k)
		if err != nil {
			return c.failed(k, err)
		}
		w, err := c.attemptCall(k, l, epoch)
		if err != nil {
			return c.failed(k, err)
		}
		if done, err := c.await(ctx, k, l, w); done {
			return err
		}
	}
}

// ready waits for a link that the call may be written to.
func (c *Conn) ready(ctx context.Context, k *call) (*link, uint64, error) {
	for {
		c.mu.Lock()
		l, epoch := c.link, c.session.epoch
		if l == nil && c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed, rejected := c.changed, c.rejected
		c.mu.Unlock()
		switch {
		case k.sent && k.epoch == rejected.epoch:
			return nil, 0, rejected.err
		case k.epoch != 0 && epoch != k.epoch && k.sent && k.atMostOnce:
			return nil, 0, ErrOutcomeUnknown
		case k.only != 0 && epoch != k.only:
			return nil, 0, errSuperseded
		}
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		select {
		case <-c.quit:
			return nil, 0, c.endError()
		default:
		}
		if l != nil {
			return l, epoch, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-c.quit:
		}
	}
}

// attemptCall writes the request of a call.
func (c *Conn) attemptCall(k *call, l *link, epoch uint64) (*write, error) {
	isForGroups := k.request.kind == requestJoin || k.request.kind == requestLeave
	if isForGroups {
		c.groups.mu.Lock() // until the request is queued, so that the order of these requests is known
		defer c.groups.mu.Unlock()
		if !c.groups.beforeWrite(k) {
			return nil, errSuperseded
		}
	}
	if k.epoch != epoch { // ackIds belong to a session, and so do groups
		k.earlier = k.earlier || k.sent && k.request.kind != requestJoin && k.request.kind != requestLeave
		k.request.ackID, k.epoch, k.sent = 0, epoch, false
	}
	if !k.noAck {
		if k.answer == nil {
			k.answer = make(chan *frame, maxRetries+1)
		}
		if k.request.ackID == 0 {
			k.request.ackID = c.lastAck.Add(1)
		}
		c.acks.add(k.request.ackID, k)
	}
	data, err := c.codec.encode(&k.request)
	if err != nil {
		return nil, err
	}
	if len(data) > maxFrame {
		return nil, tooLarge(k.operation, len(data))
	}
	c.sent.Add(1)
	var done chan error
	if k.noAck {
		done = make(chan error, 1)
	}
	if isForGroups {
		return l.write(data, done), nil // does not block while the mutex is locked
	}
	return l.writeNow(data, done), nil
}

func tooLarge(operation string, size int) error {
	return invalid(operation, "payload", "needs a frame of %d bytes; the service accepts at most %d", size, maxFrame)
}

// await waits for the outcome of an attempt. It reports whether the call is done; if not, another attempt is needed.
func (c *Conn) await(ctx context.Context, k *call, l *link, w *write) (done bool, err error) {
	gone := l.gone
	if k.noAck {
		gone = nil // the outcome of the write decides, because a frame that was written must not be sent again
	}
	select {
	case f := <-k.answer:
		l.confirm(w)
		return c.acknowledged(ctx, k, f)
	case err := <-w.done:
		if err == nil {
			return true, nil
		}
		k.sent = w.state.Load() == writeBegun
		if k.sent && k.atMostOnce {
			return true, c.failed(k, ErrOutcomeUnknown)
		}
		select { // wait until the reader has noticed too; otherwise the next attempt would use the same link
		case <-l.gone:
		case <-ctx.Done():
		case <-c.quit:
		}
		return false, nil
	case <-gone:
		select {
		case f := <-k.answer: // it arrived before the link ended
			return c.acknowledged(ctx, k, f)
		default:
		}
		k.sent = !w.withdraw() || k.sent
		return false, nil
	case <-ctx.Done():
		k.sent = !w.withdraw() || k.sent
		return true, c.failed(k, ctx.Err())
	case <-c.quit:
		k.sent = !w.withdraw() || k.sent
		return true, c.failed(k, c.endError())
	}
}

// acknowledged handles an acknowledgement. It reports whether the call is done; if not, another attempt is needed.
func (c *Conn) acknowledged(ctx context.Context, k *call, f *frame) (done bool, err error) {
	if f.isSuccess() {
		return true, nil
	}
	k.sent = false // the service has responded, so the outcome is known
	err = &AckError{Name: f.failure.name, Message: f.failure.message, AckID: f.ackID}
	if f.failure.name != nameInternalError || k.atMostOnce || k.retries == maxRetries {
		return true, c.failed(k, err)
	}
	limit := firstRetryDelay << k.retries
	k.retries++
	t := time.NewTimer(limit/2 + rand.N(limit))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return true, c.failed(k, ctx.Err())
	case <-c.quit:
		return true, c.failed(k, c.endError())
	}
	return false, nil
}

// failed ends a call. It returns err with the operation, and with ErrOutcomeUnknown if the request may have been
// executed.
func (c *Conn) failed(k *call, err error) error {
	if k.request.ackID != 0 {
		c.acks.forget(k.request.ackID)
	}
	return operationError(k.operation, err, k.sent || k.earlier)
}

// operationError wraps an error with the operation, and with ErrOutcomeUnknown if the request was sent.
func operationError(operation string, err error, sent bool) error {
	if errors.Is(err, ErrInvalidArgument) && !sent {
		return err
	}
	return &callError{operation, err, sent && !errors.Is(err, ErrOutcomeUnknown)}
}

// callError is the error of a failed call.
type callError struct {
	operation string
	err       error
	unknown   bool // the error is also an ErrOutcomeUnknown
}

func (e *callError) Error() string {
	text := "wsclient: " + e.operation + ": " + withoutPrefix(e.err)
	if e.unknown {
		text += ": " + withoutPrefix(ErrOutcomeUnknown)
	}
	return text
}

func (e *callError) Unwrap() []error {
	if e.unknown {
		return []error{e.err, ErrOutcomeUnknown}
	}
	return []error{e.err}
}

// withoutPrefix returns the text of an error without the package name, to embed it in the text of another error.
func withoutPrefix(err error) string { return strings.TrimPrefix(err.Error(), "wsclient: ") }
