package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// changes wakes those who wait for the state to change.
type changes struct {
	waiting atomic.Int32

	mu      sync.Mutex // guards changed
	changed chan struct{}
}

// Attend begins to wait for changes; stop ends it.
func (c *changes) Attend() (stop func()) {
	c.waiting.Add(1)
	return func() { c.waiting.Add(-1) }
}

// Next returns a channel that is closed at the next change. Who waits for it has called Attend, and looks at the state only
// then, so that no change is missed.
func (c *changes) Next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// Changed wakes those who wait.
func (c *changes) Changed() {
	if c.waiting.Load() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// ErrClosed ends a wait when the server closes.
var ErrClosed = errors.New("the server is closed")

// Wait waits until count returns want. It fails when ctx ends or closing is closed.
func (c *changes) Wait(ctx context.Context, closing <-chan struct{}, want int, what string, count func() int) error {
	defer c.Attend()()
	for {
		changed := c.Next()
		got := count()
		if got == want {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("emulator: waiting for %d %s, there are %d: %w", want, what, got, ctx.Err())
		case <-closing:
			return fmt.Errorf("emulator: waiting for %d %s, there are %d: %w", want, what, got, ErrClosed)
		}
	}
}
