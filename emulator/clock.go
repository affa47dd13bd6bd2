package emulator

import (
	"slices"
	"sync"
	"time"
)

// clock is the time the server lives in: the machine's, moved forward by what Advance added. Tokens expire, messages
// die and recovery windows close by it, so that a test moves the clock instead of sleeping.
type clock struct {
	mu     sync.Mutex // guards everything below
	offset time.Duration
	timers map[*timer]struct{}
}

// timer is a function that runs when the clock reaches a moment.
type timer struct {
	clock *clock
	at    time.Time
	run   func()
	real  *time.Timer
}

// now is the current time of the server.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

// afterFunc runs f, in a goroutine of its own or in the one that advances the clock, once d has passed.
func (c *clock) afterFunc(d time.Duration, f func()) *timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &timer{clock: c, at: time.Now().Add(c.offset + d), run: f}
	t.real = time.AfterFunc(d, t.fire)
	if c.timers == nil {
		c.timers = make(map[*timer]struct{})
	}
	c.timers[t] = struct{}{}
	return t
}

// fire runs the timer's function, unless it already ran or was stopped.
func (t *timer) fire() {
	if t.stop() {
		t.run()
	}
}

// stop reports whether it prevented the function from running.
func (t *timer) stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	if _, waiting := t.clock.timers[t]; !waiting {
		return false
	}
	delete(t.clock.timers, t)
	t.real.Stop()
	return true
}

// advance moves the clock and runs what has become due before it returns, so that the caller sees the effects.
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	c.offset += d
	now := time.Now().Add(c.offset)
	var due []*timer
	for t := range c.timers {
		if left := t.at.Sub(now); left > 0 {
			t.real.Reset(left)
		} else {
			due = append(due, t)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(due, func(a, b *timer) int { return a.at.Compare(b.at) })
	for _, t := range due {
		t.fire()
	}
}
