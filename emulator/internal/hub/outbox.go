package hub

import (
	"fmt"
	"slices"
	"time"
)

const (
	// MaxQueuedFrames and MaxQueuedBytes limit the queue of one client. A client that exceeds a limit is closed with a
	// reason, so that it delays nobody and loses no message silently.
	MaxQueuedFrames = 10_000
	MaxQueuedBytes  = 16 << 20

	// maxUnacknowledged and maxUnacknowledgedBytes limit the messages that a reliable client may leave unacknowledged.
	maxUnacknowledged      = 1000
	maxUnacknowledgedBytes = 16 << 20
)

// RecoveryWindow is the time that a reliable client has to reconnect after it was cut off.
const RecoveryWindow = 30 * time.Second

// The reasons for closing a client that is too far behind, in the hosted service's words.
const (
	queueFull  = "The outbound message queue is full."
	bufferFull = "The reliable message buffer is full."
)

// Fault describes why a client that is too far behind must be closed.
type Fault struct {
	Reason string // for the client and the application
	Detail string // for people
}

// TooSlow describes, for people, how far behind a client is.
func TooSlow(frames, bytes int) string {
	return fmt.Sprintf("the client is too slow: %d messages, %d bytes wait for it", frames, bytes)
}

// Outbox holds the frames that wait to be sent to one client, in order, and the messages that a reliable client has not
// acknowledged. Frames that were put before Close are still sent; later ones are ignored. An Outbox is not safe for
// concurrent use: the lock of its link guards it.
type Outbox struct {
	// Unheard is set while the server does not read from the client because too many of the client's requests wait. Its
	// acknowledgements may be unread too, so the limits for unacknowledged messages are higher.
	Unheard bool

	clock     *Clock
	queue     []*Frame // not written yet
	bytes     int      // total size of queue
	suspended bool     // the client is cut off
	closing   bool
	goodbye   Goodbye
	replay    *replay // nil unless the client is reliable
}

// Goodbye holds the texts and the code that close a connection.
type Goodbye struct {
	Code        int    // of the close frame
	Message     string // of the disconnected frame, in protocols that have one
	Description string // of the close frame
}

// replay keeps the messages that a reliable client has not acknowledged. They are sent again when the client reconnects, so
// that it misses none.
type replay struct {
	number    func(data []byte, id uint64) []byte // returns a message with a sequence id
	sent      []numbered                          // written but not acknowledged, in order
	last      uint64                              // the last sequence id
	count     int                                 // number of messages in sent and in the queue
	bytes     int                                 // their total size
	connected *Frame                              // sent first after a reconnect; nil if there is none to send
	resend    int                                 // index in sent of the next message to send again; len(sent) = none
}

// numbered is a message with the sequence id that it was written with.
type numbered struct {
	id    uint64
	frame *Frame
}

// NewOutbox returns an empty outbox. For a reliable client, number returns a message with a sequence id; otherwise number is
// nil.
func NewOutbox(clock *Clock, number func(data []byte, id uint64) []byte) Outbox {
	o := Outbox{clock: clock}
	if number != nil {
		o.replay = &replay{number: number}
	}
	return o
}

// Put queues a frame. It ignores the frame if the outbox is closed, or if it is suspended and the frame is not a message. If the client is too far behind, Put drops all queued
// frames and returns a fault; the caller must then close the outbox with the fault's reason.
func (o *Outbox) Put(f *Frame) (fault *Fault) {
	if o.closing || o.suspended && !f.message {
		return nil
	}
	full := func() bool { return len(o.queue) >= MaxQueuedFrames || o.bytes+len(f.Data) > MaxQueuedBytes }
	if full() {
		o.dropExpired()
	}
	if full() {
		fault = &Fault{queueFull, TooSlow(len(o.queue), o.bytes)}
		if o.replay != nil {
			fault.Reason = bufferFull // the reliable buffer includes the queue
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

// reserve counts a message that a reliable client will have to acknowledge. It returns a fault if there is no room.
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
		return &Fault{bufferFull, fmt.Sprintf("the client left %d messages, %d bytes unacknowledged", r.count, r.bytes)}
	}
	r.count++
	r.bytes += len(f.Data)
	return nil
}

// release undoes reserve for one message.
func (r *replay) release(f *Frame) {
	r.count--
	r.bytes -= len(f.Data)
}

// dropExpired drops expired messages from the queue.
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

// dropExpiredSent drops expired messages that the client has not acknowledged.
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

// Next removes the next frame that has not expired, and returns it with the data to write. It returns nil if there is none.
// Only then may a closed outbox's connection be closed.
func (o *Outbox) Next() (*Frame, []byte) {
	if o.replay != nil {
		if f, data := o.nextReplay(); f != nil {
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
				return f, o.replay.assignID(f)
			}
		} else if !expired {
			return f, f.Data
		}
	}
	o.queue = nil
	return nil, nil
}

// assignID gives a message the next sequence id, and returns the data to write.
func (r *replay) assignID(f *Frame) []byte {
	r.last++
	r.sent = append(r.sent, numbered{r.last, f})
	r.resend = len(r.sent)
	return r.number(f.Data, r.last)
}

// nextReplay returns the next frame that a reconnected client must receive before anything new, or nil.
func (o *Outbox) nextReplay() (*Frame, []byte) {
	r := o.replay
	if f := r.connected; f != nil {
		r.connected = nil
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

// Acknowledge drops the messages up to and including a sequence id. It has no effect unless the client is reliable.
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

// Suspend drops the queued frames that are not messages, after a reliable client was cut off. Until Resume, Put drops them too:
// only messages are reliable.
func (o *Outbox) Suspend() {
	o.suspended = true
	o.queue = slices.DeleteFunc(o.queue, func(f *Frame) bool { return !f.message })
	o.bytes = 0
	for _, f := range o.queue {
		o.bytes += len(f.Data)
	}
}

// Resume continues after a reliable client has reconnected. Next then returns the connected frame, if it is not nil, then
// the unacknowledged messages, and then the queue.
func (o *Outbox) Resume(connected *Frame) {
	o.suspended = false
	o.replay.connected, o.replay.resend = connected, 0
}

// Close closes the outbox. The goodbye is for the caller to send once Next returns nil. If the outbox is already closed,
// Close does nothing and returns false.
func (o *Outbox) Close(g Goodbye) bool {
	if o.closing {
		return false
	}
	o.closing, o.goodbye = true, g
	if r := o.replay; r != nil { // the client can no longer reconnect, so drop what was already written
		r.sent, r.resend = r.sent[r.resend:], 0
	}
	return true
}

// Closing reports whether the outbox is closed.
func (o *Outbox) Closing() bool { return o.closing }

// Goodbye returns the goodbye that was passed to Close.
func (o *Outbox) Goodbye() Goodbye { return o.goodbye }

// Empty reports whether the queue is empty. It does not count messages to send again.
func (o *Outbox) Empty() bool { return len(o.queue) == 0 }
