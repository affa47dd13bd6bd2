package emulator

import (
	"sync"
	"sync/atomic"
	"time"
)

// trafficEvent is one thing that passed through the server, for people to look at. It holds no key and no token.
type trafficEvent struct {
	Time         time.Time `json:"time"`
	Kind         string    `json:"kind"` // "rest", "connection", "message" or "event"
	Hub          string    `json:"hub,omitempty"`
	ConnectionID string    `json:"connectionId,omitempty"`
	UserID       string    `json:"userId,omitempty"`
	Group        string    `json:"group,omitempty"`
	Text         string    `json:"text"`             // what happened, in a line
	Status       int       `json:"status,omitempty"` // of a REST call
	Data         string    `json:"data,omitempty"`   // the beginning of a message's payload
}

// traffic hands what passes to those who watch. When nobody does, it costs one atomic load.
type traffic struct {
	watched atomic.Int32

	mu       sync.Mutex // guards watchers
	watchers map[*watcher]struct{}
}

// watcher receives the traffic from the moment it begins to watch.
type watcher struct {
	events chan trafficEvent
	missed atomic.Int64 // how many events did not fit into the channel
}

// watch begins to watch; the channel holds size events, and those that do not fit are counted instead.
func (t *traffic) watch(size int) (w *watcher, stop func()) {
	w = &watcher{events: make(chan trafficEvent, size)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watchers == nil {
		t.watchers = make(map[*watcher]struct{})
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

// on reports whether anybody watches, so that nobody describes what no one will read.
func (t *traffic) on() bool { return t.watched.Load() > 0 }

func (t *traffic) publish(e trafficEvent) {
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

// maxTrafficData is how much of a payload is shown, in bytes.
const maxTrafficData = 512

// excerpt is the beginning of a payload, for people.
func (p *payload) excerpt() string {
	if p.dataType == dataBinary || p.dataType == dataProtobuf {
		return p.dataType.String()
	}
	return shorten(string(p.data[:min(len(p.data), maxTrafficData+4)]), maxTrafficData)
}
