package hub

import (
	"slices"
	"sync"
	"time"
)

// Clock is the time the service lives in: the machine's, moved forward by what Advance added. Tokens expire, messages
// die and recovery windows close by it, so that a test moves the clock instead of sleeping.
type Clock struct {
	mu     sync.Mutex // guards everything below
	offset time.Duration
	timers map[*Timer]struct{}
}

// Timer is a function that runs when the clock reaches a moment.
type Timer struct {
	clock *Clock
	at    time.Time
	run   func()
	real  *time.Timer
}

// Now is the current time of the service.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

// AfterFunc runs f, in a goroutine of its own or in the one that advances the clock, once d has passed.
func (c *Clock) AfterFunc(d time.Duration, f func()) *Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &Timer{clock: c, at: time.Now().Add(c.offset + d), run: f}
	t.real = time.AfterFunc(d, t.fire)
	if c.timers == nil {
		c.timers = make(map[*Timer]struct{})
	}
	c.timers[t] = struct{}{}
	return t
}

// fire runs the timer's function, unless it already ran or was stopped.
func (t *Timer) fire() {
	if t.Stop() {
		t.run()
	}
}

// Stop reports whether it prevented the function from running.
func (t *Timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	if _, waiting := t.clock.timers[t]; !waiting {
		return false
	}
	delete(t.clock.timers, t)
	t.real.Stop()
	return true
}

// Advance moves the clock and runs what has become due before it returns, so that the caller sees the effects.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	c.offset += d
	now := time.Now().Add(c.offset)
	var due []*Timer
	for t := range c.timers {
		if left := t.at.Sub(now); left > 0 {
			t.real.Reset(left)
		} else {
			due = append(due, t)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(due, func(a, b *Timer) int { return a.at.Compare(b.at) })
	for _, t := range due {
		t.fire()
	}
}
