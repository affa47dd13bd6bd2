package hub

import (
	"context"
	"sync"
	"sync/atomic"
)

// Lifetime is how a service ends. It counts the goroutines of the service, so that nothing is left running.
//
// A service ends in three steps: BeginClose, from when no clients come in and nobody starts to wait; Stop, when it has
// closed its clients and the application has heard of it; and Wait.
type Lifetime struct {
	closing chan struct{}   // closed by BeginClose
	ctx     context.Context // ends with Stop
	cancel  context.CancelFunc
	wg      sync.WaitGroup // every goroutine of the service's own
	telling atomic.Int64   // connections of which the application is being told something

	mu      sync.Mutex // guards stopped
	stopped bool       // no new goroutines
}

// NewLifetime returns the lifetime of a service that has just begun.
func NewLifetime() *Lifetime {
	l := &Lifetime{closing: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// BeginClose announces the end. It is called once.
func (l *Lifetime) BeginClose() { close(l.closing) }

// Closing returns a channel that is closed when the service begins to close.
func (l *Lifetime) Closing() <-chan struct{} { return l.closing }

// IsClosing reports whether the service has begun to close.
func (l *Lifetime) IsClosing() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// Context ends when the service has closed its clients, and the application has had the time to hear of it.
func (l *Lifetime) Context() context.Context { return l.ctx }

// Telling reports whether the application is still being told of some connection.
func (l *Lifetime) Telling() bool { return l.telling.Load() > 0 }

// Stop ends the context and lets no more goroutines begin.
func (l *Lifetime) Stop() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.cancel()
}

// Wait waits for every goroutine of the service.
func (l *Lifetime) Wait() { l.wg.Wait() }

// Go runs f in a goroutine that Wait waits for. It reports false, and does nothing, when the service has stopped.
func (l *Lifetime) Go(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.wg.Go(f)
	return true
}

// GoFrom is Go for callers whose own goroutine Wait waits for: it cannot fail, and takes no lock.
func (l *Lifetime) GoFrom(f func()) { l.wg.Go(f) }

// Add counts a goroutine that somebody else starts, until Done is called. The caller's own goroutine is counted.
func (l *Lifetime) Add() { l.wg.Add(1) }

// Done ends what Add began.
func (l *Lifetime) Done() { l.wg.Done() }
