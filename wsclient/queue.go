package wsclient

import (
	"context"
	"iter"
	"sync"
)

// Receive returns the next message. It returns messages in the order in which they arrived. Several goroutines may call
// Receive at the same time; each message goes to one of them.
//
// Receive waits while the connection is down. If ctx ends, Receive returns ctx.Err(), and the connection is not
// affected. After the Conn has ended, Receive returns the messages that arrived before, and then the error of
// [Conn.Err].
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

// Messages returns an iterator over the messages that [Conn.Receive] returns. If Receive returns an error, the iterator
// yields that error with a nil message, and ends.
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
	epoch   uint64 // the session of the message
	size    int    // size of the frame
}

// released describes messages that now fit into the buffer and may be acknowledged.
type released struct {
	epoch, id    uint64 // session and sequence ID of the last message
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

// queue holds the messages that wait for Receive, oldest first. push never blocks. Messages beyond the limits are
// dropped or, with a reliable protocol, kept without being acknowledged. The service limits the number of
// unacknowledged messages.
type queue struct {
	limits   BufferOptions
	reliable bool

	mu            sync.Mutex // guards everything below
	ring          []entry
	head, len     int
	bytes         int
	admitted      int // number of entries within the limits, starting at head
	admittedBytes int
	waiting       int           // number of waiting receivers
	arrived       chan struct{} // wakes one receiver
	overflowed    bool          // messages have been dropped since the queue was last empty
	dropped       uint64
	err           error // set when no more messages will arrive
}

func newQueue(limits BufferOptions, reliable bool) *queue {
	return &queue{limits: limits, reliable: reliable, arrived: make(chan struct{}, 1)}
}

type pushOutcome int

// The outcomes of push.
const (
	pushed     pushOutcome = iota
	dropped                // the message was dropped because the buffer is full
	overflowed             // like dropped, for the first message dropped since the queue was last empty
)

// push adds a message to the queue.
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
	q.admit(&r)
	if q.waiting > 0 {
		q.wake()
	}
	return r, pushed
}

// fits reports whether a message fits into the buffer behind count messages with a total size of bytes. A message
// always fits into an empty buffer.
func (q *queue) fits(count, bytes int, e *entry) bool {
	return count == 0 || count < q.limits.Messages && bytes+e.size <= q.limits.Bytes
}

// admit marks the entries that now fit into the buffer, and adds them to r. The caller holds q.mu.
func (q *queue) admit(r *released) {
	for q.admitted < q.len {
		e := &q.ring[(q.head+q.admitted)%len(q.ring)]
		if !q.fits(q.admitted, q.admittedBytes, e) {
			return
		}
		q.admitted++
		q.admittedBytes += e.size
		r.add(e)
	}
}

// grow doubles the size of the ring. The caller holds q.mu.
func (q *queue) grow() {
	ring := make([]entry, max(8, 2*len(q.ring)))
	n := copy(ring, q.ring[q.head:])
	copy(ring[n:], q.ring[:q.head])
	q.ring, q.head = ring, 0
}

// pop waits for a message and removes it from the queue.
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
			q.wake() // pass the signal on to another receiver
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
	q.admitted--
	q.admittedBytes -= e.size
	if q.len > 0 {
		q.admit(r)
		return e
	}
	q.overflowed = false
	const keep = 256
	if len(q.ring) > keep { // free the memory after a burst
		q.ring, q.head = nil, 0
	}
	return e
}

// wake wakes one receiver. The caller holds q.mu.
func (q *queue) wake() {
	select {
	case q.arrived <- struct{}{}:
	default:
	}
}

// end makes pop return err once the queue is empty.
func (q *queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
	q.wake()
}

// overLimit reports whether the queue holds messages beyond the limits of the buffer.
func (q *queue) overLimit() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.admitted < q.len
}

// size returns the number of waiting messages, their size in bytes, and the number of dropped messages.
func (q *queue) size() (messages, bytes int, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.len, q.bytes, q.dropped
}
