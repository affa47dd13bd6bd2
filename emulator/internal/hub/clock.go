package hub

import (
	"context"
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
	delay bool // set by Service.Delay
}

// Now returns the service's current time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

// AfterFunc runs f once d has passed, either in a new goroutine or in the one that calls Advance.
func (c *Clock) AfterFunc(d time.Duration, f func()) *Timer { return c.start(&Timer{run: f}, d) }

// start starts a timer.
func (c *Clock) start(t *Timer, d time.Duration) *Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.clock, t.at = c, time.Now().Add(c.offset+d)
	t.real = time.AfterFunc(d, t.fire)
	if c.timers == nil {
		c.timers = make(map[*Timer]struct{})
	}
	c.timers[t] = struct{}{}
	return t
}

// Delay is like [Clock.AfterFunc], for a request or an event that continues after d. [Service.Delayed] counts it until then.
func (s *Service) Delay(d time.Duration, f func()) *Timer {
	t := s.Clock.start(&Timer{run: f, delay: true}, d)
	s.Observer.Changed()
	return t
}

// StartDelay starts a Delay. wait blocks until d has passed, and must be called. It returns false as soon as ctx ends or the
// service begins to close.
func (s *Service) StartDelay(d time.Duration) (wait func(ctx context.Context) bool) {
	passed := make(chan struct{})
	t := s.Delay(d, func() { close(passed) })
	return func(ctx context.Context) bool {
		defer t.Stop()
		select {
		case <-passed:
			return true
		case <-ctx.Done():
		case <-s.Life.Closing():
		}
		return false
	}
}

// Delayed returns the number of timers of Delay that have neither fired nor been stopped.
func (s *Service) Delayed() int {
	s.Clock.mu.Lock()
	defer s.Clock.mu.Unlock()
	n := 0
	for t := range s.Clock.timers {
		if t.delay {
			n++
		}
	}
	return n
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
