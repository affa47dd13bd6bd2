package hub

import (
	"context"
	"sync"
	"sync/atomic"
)

// Lifetime controls how a service ends. It counts the service's goroutines so that none is left running.
//
// A service ends in three steps:
//
//  1. BeginClose: from now on no client connects, and no wait starts.
//  2. Stop: the service has closed its clients and has notified the application.
//  3. Wait: all goroutines have ended.
type Lifetime struct {
	closing   chan struct{}   // closed by BeginClose
	ctx       context.Context // canceled by Stop
	cancel    context.CancelFunc
	wg        sync.WaitGroup // counts every goroutine of the service
	notifying atomic.Int64   // number of connections whose event queue is running, or about to receive disconnected

	mu      sync.Mutex // guards stopped
	stopped bool       // no new goroutines
}

// NewLifetime returns the lifetime of a new service.
func NewLifetime() *Lifetime {
	l := &Lifetime{closing: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// BeginClose begins the close. It must be called only once.
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

// Context returns a context that Stop cancels: after the service has closed its clients, and the application has had time
// to receive the events.
func (l *Lifetime) Context() context.Context { return l.ctx }

// Telling reports whether events of any connection are still queued for the application or being handled by it.
func (l *Lifetime) Telling() bool { return l.notifying.Load() > 0 }

// Stop cancels the context and prevents Go from starting more goroutines.
func (l *Lifetime) Stop() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.cancel()
}

// Wait waits for every goroutine of the service.
func (l *Lifetime) Wait() { l.wg.Wait() }

// Go runs f in a goroutine that Wait waits for. After Stop, it does nothing and returns false.
func (l *Lifetime) Go(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.wg.Go(f)
	return true
}

// GoFrom is like Go, but cannot fail and acquires no lock. The caller must run in a goroutine that Wait waits for.
func (l *Lifetime) GoFrom(f func()) { l.wg.Go(f) }

// Add counts a goroutine that somebody else starts, until Done is called. The caller must run in a goroutine that Wait
// waits for.
func (l *Lifetime) Add() { l.wg.Add(1) }

// Done undoes one Add.
func (l *Lifetime) Done() { l.wg.Done() }
