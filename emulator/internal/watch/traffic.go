package watch

import (
	"sync"
	"sync/atomic"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

// traffic hands what passes to those who watch.
type traffic struct {
	clock   *hub.Clock
	watched atomic.Int32

	mu       sync.Mutex // guards watchers
	watchers map[*Watcher]struct{}
}

// Watcher receives the traffic from the moment it begins to watch.
type Watcher struct {
	Events <-chan hub.TrafficEvent

	events chan hub.TrafficEvent
	missed atomic.Int64
}

// Missed returns how many events did not fit into the channel.
func (w *Watcher) Missed() int64 { return w.missed.Load() }

// Watch begins to watch; the channel holds size events, and those that do not fit are counted instead.
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

// Watched reports whether anybody watches.
func (t *traffic) Watched() bool { return t.watched.Load() > 0 }

// Traffic shows those who watch an event that happens now.
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
