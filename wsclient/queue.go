package wsclient

import (
	"context"
	"iter"
	"sync"
)

// Receive returns the next message. Messages of groups and of the server come in one order, that of their arrival.
// Several goroutines may receive at once: each message goes to one of them.
//
// While the connection is down, Receive waits. It returns ctx.Err() when ctx ends, which has no effect on the connection.
// When the Conn has ended, Receive first returns all messages that arrived before, and then what Err returns.
func (c *Conn) Receive(ctx context.Context) (*Message, error) {
	e, released, err := c.queue.pop(ctx)
	if err != nil {
		return nil, err
	}
	if released.count > 0 {
		c.sequence.release(released)
	}
	return e.message, nil
}

// Messages returns an iterator over the messages that Receive returns. The iteration ends with one error: that of ctx, or
// what Err returns.
func (c *Conn) Messages(ctx context.Context) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		for {
			m, err := c.Receive(ctx)
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// entry is a message that waits for Receive.
type entry struct {
	message *Message
	epoch   uint64 // of its session
	size    int    // of its frame
}

// released describes messages that have just come within the buffer, and so may be acknowledged.
type released struct {
	epoch, id    uint64 // of the last one
	count, bytes int
}

func (r *released) add(e *entry) {
	if r.epoch != e.epoch {
		*r = released{epoch: e.epoch}
	}
	r.id = max(r.id, e.message.SequenceID)
	r.count++
	r.bytes += e.size
}

// queue is the messages that wait for Receive, oldest first. Its reader never waits: messages beyond the buffer are
// dropped, or with a reliable protocol kept and not acknowledged, so that the service bounds them.
type queue struct {
	limits   BufferOptions
	reliable bool

	mu         sync.Mutex // guards everything below
	ring       []entry
	head, len  int
	bytes      int
	held       int // how many entries, from the head on, are within the buffer
	heldBytes  int
	waiting    int           // receivers
	arrived    chan struct{} // wakes one of them
	overflowed bool          // it has dropped messages since it was empty
	dropped    uint64
	err        error // set when nothing will arrive any more
}

func newQueue(limits BufferOptions, reliable bool) *queue {
	return &queue{limits: limits, reliable: reliable, arrived: make(chan struct{}, 1)}
}

type pushOutcome int

// What becomes of a message.
const (
	pushed     pushOutcome = iota
	dropped                // the buffer is full
	overflowed             // the buffer is full, and this is the first message that was dropped since it was empty
)

// push adds a message.
func (q *queue) push(e entry) (r released, outcome pushOutcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.reliable && !q.fits(q.len, q.bytes, &e) {
		q.dropped++
		if q.overflowed {
			return r, dropped
		}
		q.overflowed = true
		return r, overflowed
	}
	if q.len == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.len)%len(q.ring)] = e
	q.len++
	q.bytes += e.size
	q.hold(&r)
	if q.waiting > 0 {
		q.wake()
	}
	return r, pushed
}

// fits reports whether a message fits into the buffer after count others of a size together. The first always does.
func (q *queue) fits(count, bytes int, e *entry) bool {
	return count == 0 || count < q.limits.Messages && bytes+e.size <= q.limits.Bytes
}

// hold counts entries that are within the buffer now. The caller holds q.mu.
func (q *queue) hold(r *released) {
	for q.held < q.len {
		e := &q.ring[(q.head+q.held)%len(q.ring)]
		if !q.fits(q.held, q.heldBytes, e) {
			return
		}
		q.held++
		q.heldBytes += e.size
		r.add(e)
	}
}

// grow makes room. The caller holds q.mu.
func (q *queue) grow() {
	ring := make([]entry, max(8, 2*len(q.ring)))
	n := copy(ring, q.ring[q.head:])
	copy(ring[n:], q.ring[:q.head])
	q.ring, q.head = ring, 0
}

// pop waits for a message and takes it.
func (q *queue) pop(ctx context.Context) (e entry, r released, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return e, r, err
		}
		q.mu.Lock()
		if q.len > 0 {
			e = q.take(&r)
			q.mu.Unlock()
			return e, r, nil
		}
		if q.err != nil {
			defer q.mu.Unlock()
			return e, r, q.err
		}
		q.waiting++
		q.mu.Unlock()
		select {
		case <-q.arrived:
		case <-ctx.Done():
		}
		q.mu.Lock()
		q.waiting--
		if q.waiting > 0 && (q.len > 0 || q.err != nil) {
			q.wake() // the signal is for the others as well
		}
		q.mu.Unlock()
	}
}

// take removes the oldest entry. The caller holds q.mu.
func (q *queue) take(r *released) entry {
	e := q.ring[q.head]
	q.ring[q.head] = entry{}
	q.head = (q.head + 1) % len(q.ring)
	q.len--
	q.bytes -= e.size
	q.held--
	q.heldBytes -= e.size
	if q.len > 0 {
		q.hold(r)
		return e
	}
	q.overflowed = false
	const keep = 256
	if len(q.ring) > keep { // a burst is over
		q.ring, q.head = nil, 0
	}
	return e
}

// wake wakes a receiver. The caller holds q.mu.
func (q *queue) wake() {
	select {
	case q.arrived <- struct{}{}:
	default:
	}
}

// end lets receivers fail with err once the queue is empty.
func (q *queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
	q.wake()
}

// withheld reports whether there are messages beyond the buffer.
func (q *queue) withheld() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held < q.len
}

// size returns how many messages wait, their bytes, and how many messages were dropped.
func (q *queue) size() (messages, bytes int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.len, q.bytes, q.dropped
}
