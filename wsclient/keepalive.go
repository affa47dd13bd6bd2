package wsclient

import (
	"sync"
	"time"
)

// keepAlive finds a link that is dead without knowing: after an interval of silence it sends a ping, and after a timeout
// it cuts the link. All four protocols have a ping frame that the service answers with a pong frame, so that no
// WebSocket pings are needed, which a browser could not send.
//
// It is a timer that looks at the clock when it fires. Received frames do not touch the timer.
type keepAlive struct {
	mu      sync.Mutex // guards everything below
	timer   *time.Timer
	stopped bool
}

// watch starts the keep-alive of a link.
func (k *keepAlive) watch(l *link, options KeepAliveOptions) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return
	}
	k.timer = time.AfterFunc(options.Interval, func() { k.check(l, options) })
}

func (k *keepAlive) check(l *link, options KeepAliveOptions) {
	silent := time.Since(l.since) - time.Duration(l.heard.Load())
	next := options.Interval - silent
	switch {
	case silent >= options.Timeout:
		l.silence.Store(true)
		l.end()
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
