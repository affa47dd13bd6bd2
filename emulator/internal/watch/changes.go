package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// changes wakes goroutines that wait for the state to change.
type changes struct {
	waiting atomic.Int32 // number of Attend calls that are not stopped

	mu      sync.Mutex // guards changed
	changed chan struct{}
}

// Attend announces that the caller waits for changes, until stop is called.
func (c *changes) Attend() (stop func()) {
	c.waiting.Add(1)
	return func() { c.waiting.Add(-1) }
}

// Next returns a channel that is closed at the next change. To miss no change, call Attend first, then Next, and then look
// at the state.
func (c *changes) Next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// Changed wakes the goroutines that wait.
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

// ErrClosed is the error of a wait that ended because the server closed.
var ErrClosed = errors.New("the server is closed")

// Wait waits until count returns want. It returns an error that wraps ctx.Err() if ctx ends first, or ErrClosed if closing
// is closed first. what names the things that are counted.
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
