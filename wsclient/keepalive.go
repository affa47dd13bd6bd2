package wsclient

import (
	"sync"
	"time"
)

// keepAlive detects a dead link: it sends a ping after an interval without a received frame, and closes the link after
// a timeout. It uses the ping and pong frames of the service's protocols. WebSocket pings would not work in a browser.
//
// A received frame does not reset the timer. Instead, the timer compares the time of the last frame with the clock when
// it fires.
type keepAlive struct {
	mu      sync.Mutex // guards everything below
	timer   *time.Timer
	stopped bool
}

// watch starts the timer for a link.
func (k *keepAlive) watch(l *link, options KeepAliveOptions) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return
	}
	k.timer = time.AfterFunc(options.Interval, func() { k.check(l, options) })
}

func (k *keepAlive) check(l *link, options KeepAliveOptions) {
	silent := time.Since(l.since) - time.Duration(l.lastReceived.Load())
	next := options.Interval - silent
	switch {
	case silent >= options.Timeout && l.busy.Load():
		// The ping waits behind a large frame. The write has a timeout of its own.
		next = options.Timeout - options.Interval
	case silent >= options.Timeout:
		l.timedOut.Store(true)
		l.closeNow()
		return
	case silent >= options.Interval:
		l.send(&request{kind: requestPing})
		next = options.Timeout - silent
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.stopped {
		k.timer.Reset(next)
	}
}

func (k *keepAlive) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	if k.timer != nil {
		k.timer.Stop()
	}
}
