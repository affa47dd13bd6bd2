package wsclient

import (
	"runtime"
	"sync"
	"time"
)

// A sequenceAck is sent when any of these limits is reached. A timer alone is not enough: the service closes a
// connection with 1,000 messages or 16 MiB unacknowledged, which a burst exceeds in less than ackDelay.
const (
	ackMessages = 100
	ackBytes    = 1 << 20
	ackDelay    = 500 * time.Millisecond
)

// The service ends a connection with more than these unacknowledged.
const (
	serviceLimit      = 1000     // messages
	serviceLimitBytes = 15 << 20 // 16 MiB, less the message that exceeds it
)

// sequence tracks which messages of a session were received and which were acknowledged.
type sequence struct {
	send func(epoch, id uint64) // sends a sequenceAck if the session has a link

	mu       sync.Mutex // guards everything below
	epoch    uint64     // the session
	received uint64     // highest ID that was received
	ackable  uint64     // highest ID that may be acknowledged
	acked    uint64     // highest ID that was acknowledged
	count    int        // number of messages between acked and ackable
	bytes    int        // size of their frames
	withheld int        // size of the frames after ackable
	timer    *time.Timer
	armed    bool // the timer is running
	stopped  bool
}

// reset starts a new session.
func (s *sequence) reset(epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.received, s.ackable, s.acked, s.count, s.bytes, s.withheld = epoch, 0, 0, 0, 0, 0, 0
}

// receive records a received message and the size of its frame. It returns false if the message is a duplicate.
func (s *sequence) receive(id uint64, size int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id <= s.received {
		return false
	}
	s.received = id
	s.withheld += size
	return true
}

// release records messages that may be acknowledged, and acknowledges them now or after ackDelay.
func (s *sequence) release(r released) {
	s.mu.Lock()
	if r.epoch != s.epoch || r.id == 0 || s.stopped {
		s.mu.Unlock()
		return
	}
	s.ackable = max(s.ackable, r.id)
	s.count += r.count
	s.bytes += r.bytes
	s.withheld -= r.bytes
	if s.count < ackMessages && s.bytes < ackBytes {
		s.startTimer()
		s.mu.Unlock()
		return
	}
	id := s.takeAck()
	s.mu.Unlock()
	s.send(r.epoch, id)
	runtime.Gosched() // lets the writer goroutine run: in a burst, this goroutine would keep reading for a long time
}

// startTimer starts the timer unless it is running. The caller holds s.mu.
func (s *sequence) startTimer() {
	switch {
	case s.armed:
		return
	case s.timer == nil:
		s.timer = time.AfterFunc(ackDelay, s.fire)
	default:
		s.timer.Reset(ackDelay)
	}
	s.armed = true
}

func (s *sequence) fire() {
	s.mu.Lock()
	s.armed = false
	epoch, id := s.epoch, uint64(0)
	if s.ackable > s.acked && !s.stopped {
		id = s.takeAck()
	}
	s.mu.Unlock()
	if id > 0 {
		s.send(epoch, id)
	}
}

// takeAck returns the ID to acknowledge, and marks it as acknowledged. The caller holds s.mu.
func (s *sequence) takeAck() uint64 {
	s.acked, s.count, s.bytes = s.ackable, 0, 0
	return s.acked
}

// ackNow returns the ID to acknowledge after a duplicate or a recovery, because the service may not have received the
// last acknowledgement. It returns 0 if no message may be acknowledged yet.
func (s *sequence) ackNow() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeAck()
}

// reachedServiceLimit reports whether so many messages of the session are unacknowledged that the service ends it.
func (s *sequence) reachedServiceLimit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received-s.acked >= serviceLimit || s.withheld >= serviceLimitBytes
}

func (s *sequence) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.timer != nil {
		s.timer.Stop()
	}
}
