package hub

import (
	"fmt"
	"slices"
	"time"
)

const (
	// MaxQueuedFrames and MaxQueuedBytes bound what may wait to be written to one client. A client that is further
	// behind is closed, with a reason: it delays nobody, and nothing it should have had is lost silently.
	MaxQueuedFrames = 10_000
	MaxQueuedBytes  = 16 << 20

	// maxUnacknowledged and maxUnacknowledgedBytes bound what a reliable client may leave unacknowledged.
	maxUnacknowledged      = 1000
	maxUnacknowledgedBytes = 16 << 20
)

// RecoveryWindow is how long a client that was cut off may take to come back.
const RecoveryWindow = 30 * time.Second

// The reasons for which a client is closed that is too far behind, in the service's words.
const (
	QueueFull  = "The outbound message queue is full."
	BufferFull = "The reliable message buffer is full."
)

// Fault is why a client is closed that is too far behind.
type Fault struct {
	Reason string // for the client and the application
	Detail string // for people
}

// TooSlow tells people how far behind a client is.
func TooSlow(frames, bytes int) string {
	return fmt.Sprintf("the client is too slow: %d messages, %d bytes wait for it", frames, bytes)
}

// Outbox is what one client is still to be sent, in order, and what a reliable client has not acknowledged. What
// was put into it before Close comes out, and nothing goes in after. It has no lock of its own: that of
// its link guards it.
type Outbox struct {
	// Unheard is set while the client is not read, because the application has too much of it to handle. What it has
	// acknowledged meanwhile nobody knows: it may leave more unacknowledged then.
	Unheard bool

	clock   *Clock
	queue   []*Frame // waits to be written
	bytes   int      // of queue
	closing bool
	goodbye Goodbye
	replay  *replay // nil unless the client is a reliable one
}

// Goodbye is how a client is told that its connection ends.
type Goodbye struct {
	Code        int    // of the close frame
	Message     string // of a disconnected message, in protocols that have one
	Description string // of the close frame
}

// replay is what a reliable client's outbox remembers, so that the client can come back after it was cut off and miss nothing.
type replay struct {
	number func(data []byte, id uint64) []byte
	sent   []numbered // written, not acknowledged, in order
	last   uint64     // the last sequence id given
	count  int        // messages in sent and in the queue
	bytes  int        // their bytes
	hello  *Frame     // what a client that has come back is told first
	resend int        // where in sent to go on writing again; len(sent) = nowhere
}

// numbered is a message that was written under a sequence id.
type numbered struct {
	id    uint64
	frame *Frame
}

// NewOutbox makes an empty outbox. number, for a reliable client, writes a sequence id into a message; it is nil for any
// other.
func NewOutbox(clock *Clock, number func(data []byte, id uint64) []byte) Outbox {
	o := Outbox{clock: clock}
	if number != nil {
		o.replay = &replay{number: number}
	}
	return o
}

// Put queues a frame. A fault means that the client is too far behind: everything that waited is gone then, and the
// caller closes the outbox with the fault's reason.
func (o *Outbox) Put(f *Frame) (fault *Fault) {
	if o.closing {
		return nil
	}
	full := func() bool { return len(o.queue) >= MaxQueuedFrames || o.bytes+len(f.Data) > MaxQueuedBytes }
	if full() {
		o.dropExpired()
	}
	if full() {
		fault = &Fault{QueueFull, TooSlow(len(o.queue), o.bytes)}
		if o.replay != nil {
			fault.Reason = BufferFull // which holds what waits, too
		}
	} else if o.replay != nil && f.message {
		fault = o.reserve(f)
	}
	if fault != nil {
		o.queue, o.bytes = nil, 0
		return fault
	}
	o.queue = append(o.queue, f)
	o.bytes += len(f.Data)
	return nil
}

// reserve makes room for a message that a reliable client will have to acknowledge, or returns why the client must go.
func (o *Outbox) reserve(f *Frame) *Fault {
	r := o.replay
	limit, limitBytes := maxUnacknowledged, maxUnacknowledgedBytes
	if o.Unheard {
		limit, limitBytes = MaxQueuedFrames, 4*maxUnacknowledgedBytes
	}
	full := func() bool { return r.count >= limit || r.bytes+len(f.Data) > limitBytes }
	if full() {
		o.dropExpiredSent()
		o.dropExpired()
	}
	if full() {
		return &Fault{BufferFull, fmt.Sprintf("the client left %d messages, %d bytes unacknowledged", r.count, r.bytes)}
	}
	r.count++
	r.bytes += len(f.Data)
	return nil
}

// release forgets a message that was reserved.
func (r *replay) release(f *Frame) {
	r.count--
	r.bytes -= len(f.Data)
}

// dropExpired forgets messages that wait and whose time is over.
func (o *Outbox) dropExpired() {
	now := o.clock.Now()
	o.queue = slices.DeleteFunc(o.queue, func(f *Frame) bool {
		expired := f.ExpiredAt(now)
		if expired {
			o.bytes -= len(f.Data)
			if o.replay != nil && f.message {
				o.replay.release(f)
			}
		}
		return expired
	})
}

// dropExpiredSent forgets messages that were not acknowledged and whose time is over.
func (o *Outbox) dropExpiredSent() {
	r := o.replay
	resend := r.resend
	kept := r.sent[:0]
	for i, n := range r.sent {
		if n.frame.Expired(o.clock) {
			r.release(n.frame)
			if i < r.resend {
				resend--
			}
		} else {
			kept = append(kept, n)
		}
	}
	clear(r.sent[len(kept):])
	r.sent, r.resend = kept, resend
}

// Next takes out the next frame that is still worth writing, and returns it with the data to write. It returns nil
// when nothing is left: then, and only then, the connection may be closed.
func (o *Outbox) Next() (*Frame, []byte) {
	if o.replay != nil {
		if f, data := o.again(); f != nil {
			return f, data
		}
	}
	for len(o.queue) > 0 {
		f := o.queue[0]
		o.queue[0] = nil
		o.queue = o.queue[1:]
		o.bytes -= len(f.Data)
		expired := f.Expired(o.clock)
		if o.replay != nil && f.message {
			if expired {
				o.replay.release(f)
			} else {
				return f, o.replay.first(f)
			}
		} else if !expired {
			return f, f.Data
		}
	}
	o.queue = nil
	return nil, nil
}

// first gives a message its sequence id.
func (r *replay) first(f *Frame) []byte {
	r.last++
	r.sent = append(r.sent, numbered{r.last, f})
	r.resend = len(r.sent)
	return r.number(f.Data, r.last)
}

// again returns what a client that has come back must be told before anything new.
func (o *Outbox) again() (*Frame, []byte) {
	r := o.replay
	if f := r.hello; f != nil {
		r.hello = nil
		return f, f.Data
	}
	for r.resend < len(r.sent) {
		n := r.sent[r.resend]
		if n.frame.Expired(o.clock) {
			r.sent = slices.Delete(r.sent, r.resend, r.resend+1)
			r.release(n.frame)
			continue
		}
		r.resend++
		return n.frame, r.number(n.frame.Data, n.id)
	}
	return nil, nil
}

// Acknowledge forgets the messages up to a sequence id.
func (o *Outbox) Acknowledge(id uint64) {
	r := o.replay
	if r == nil {
		return
	}
	n := 0
	for n < len(r.sent) && r.sent[n].id <= id {
		r.release(r.sent[n].frame)
		n++
	}
	r.sent = slices.Delete(r.sent, 0, n)
	r.resend = max(0, r.resend-n)
}

// Suspend drops what a reliable client that was cut off does not need when it comes back: everything but messages.
func (o *Outbox) Suspend() {
	o.queue = slices.DeleteFunc(o.queue, func(f *Frame) bool { return !f.message })
	o.bytes = 0
	for _, f := range o.queue {
		o.bytes += len(f.Data)
	}
}

// Resume goes on for a reliable client that has come back: hello first, if it is not nil, then what it has not acknowledged,
// then the rest.
func (o *Outbox) Resume(hello *Frame) { o.replay.hello, o.replay.resend = hello, 0 }

// Close lets nothing in any more: once Next has returned everything from before, goodbye is said. It reports false, and
// does nothing, if the outbox was closed before.
func (o *Outbox) Close(g Goodbye) bool {
	if o.closing {
		return false
	}
	o.closing, o.goodbye = true, g
	if r := o.replay; r != nil { // what the client has been written already it will not ask for again
		r.sent, r.resend = r.sent[r.resend:], 0
	}
	return true
}

// Closing reports whether the outbox is closed.
func (o *Outbox) Closing() bool { return o.closing }

// Goodbye returns what Close has set.
func (o *Outbox) Goodbye() Goodbye { return o.goodbye }

// Empty reports whether no frame waits.
func (o *Outbox) Empty() bool { return len(o.queue) == 0 }
