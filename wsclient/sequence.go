package wsclient

import (
	"runtime"
	"sync"
	"time"
)

// A sequenceAck is sent after so many messages, so many bytes, or so much time, whichever is first. The service ends a
// connection with 1,000 messages or 16 MiB that are not acknowledged, so time alone would not do.
const (
	ackMessages = 100
	ackBytes    = 1 << 20
	ackDelay    = 500 * time.Millisecond
)

// sequence knows which messages of a session have come and which are acknowledged.
type sequence struct {
	send func(id uint64) // writes a sequenceAck if there is a link

	mu      sync.Mutex // guards everything below
	epoch   uint64     // of the session
	seen    uint64     // the highest id that has come
	ackable uint64     // the highest id that may be acknowledged
	acked   uint64     // the highest id that was acknowledged
	count   int        // messages since then that may be acknowledged
	bytes   int
	timer   *time.Timer
	armed   bool // the timer will fire
	stopped bool
}

// reset begins a new session.
func (s *sequence) reset(epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.seen, s.ackable, s.acked, s.count, s.bytes = epoch, 0, 0, 0, 0, 0
}

// receive notes that a message has come. It reports false for one that has come before.
func (s *sequence) receive(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id <= s.seen {
		return false
	}
	s.seen = id
	return true
}

// release notes that messages may be acknowledged.
func (s *sequence) release(r released) {
	s.mu.Lock()
	if r.epoch != s.epoch || r.id == 0 || s.stopped {
		s.mu.Unlock()
		return
	}
	s.ackable = max(s.ackable, r.id)
	s.count += r.count
	s.bytes += r.bytes
	if s.count < ackMessages && s.bytes < ackBytes {
		s.arm()
		s.mu.Unlock()
		return
	}
	id := s.take()
	s.mu.Unlock()
	s.send(id)
	runtime.Gosched() // to the goroutine that writes it: in a burst, this one would go on reading for long
}

// arm lets the timer fire after ackDelay, unless it will fire anyway. The caller holds s.mu.
func (s *sequence) arm() {
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
	id := uint64(0)
	if s.ackable > s.acked && !s.stopped {
		id = s.take()
	}
	s.mu.Unlock()
	if id > 0 {
		s.send(id)
	}
}

// take returns the id to acknowledge now. The caller holds s.mu.
func (s *sequence) take() uint64 {
	s.acked, s.count, s.bytes = s.ackable, 0, 0
	return s.acked
}

// again returns the id to acknowledge after a duplicate or a recovery, when the service has not noticed the last
// acknowledgement. It is 0 if there is none.
func (s *sequence) again() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.take()
}

func (s *sequence) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.timer != nil {
		s.timer.Stop()
	}
}
