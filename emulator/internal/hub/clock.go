package hub

import (
	"slices"
	"sync"
	"time"
)

// Clock is the service's clock: the machine's time plus everything that Advance added. Tokens, messages and recovery
// windows expire by this clock, so a test can advance it instead of sleeping. The zero value is ready to use.
type Clock struct {
	mu     sync.Mutex // guards everything below
	offset time.Duration
	timers map[*Timer]struct{}
}

// Timer runs a function when the clock reaches a certain time.
type Timer struct {
	clock *Clock
	at    time.Time
	run   func()
	real  *time.Timer
}

// Now returns the service's current time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

// AfterFunc runs f once d has passed, either in a new goroutine or in the one that calls Advance.
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

// fire runs the timer's function, unless the function already ran or the timer was stopped.
func (t *Timer) fire() {
	if t.Stop() {
		t.run()
	}
}

// Stop stops the timer, and reports whether it prevented the function from running.
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

// Advance moves the clock forward. It runs the timers that are now due, in order, before it returns.
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
