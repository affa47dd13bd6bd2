package watch

import (
	"sync"
	"sync/atomic"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

// traffic distributes traffic events to watchers.
type traffic struct {
	clock   *hub.Clock
	watched atomic.Int32

	mu       sync.Mutex // guards watchers
	watchers map[*Watcher]struct{}
}

// Watcher receives the traffic events since the call of Watch.
type Watcher struct {
	Events <-chan hub.TrafficEvent

	events chan hub.TrafficEvent
	missed atomic.Int64
}

// Missed returns the number of events that did not fit into the channel.
func (w *Watcher) Missed() int64 { return w.missed.Load() }

// Watch returns a new watcher, which receives events until stop is called. Its channel buffers size events. Further events
// are dropped and counted; see [Watcher.Missed].
func (t *traffic) Watch(size int) (w *Watcher, stop func()) {
	w = &Watcher{events: make(chan hub.TrafficEvent, size)}
	w.Events = w.events
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watchers == nil {
		t.watchers = make(map[*Watcher]struct{})
	}
	t.watchers[w] = struct{}{}
	t.watched.Add(1)
	return w, sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.watchers, w)
		t.watched.Add(-1)
	})
}

// Watched reports whether there are watchers.
func (t *traffic) Watched() bool { return t.watched.Load() > 0 }

// Traffic sends an event to all watchers, with the current time. It never blocks.
func (t *traffic) Traffic(e hub.TrafficEvent) {
	e.Time = t.clock.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for w := range t.watchers {
		select {
		case w.events <- e:
		default:
			w.missed.Add(1)
		}
	}
}
