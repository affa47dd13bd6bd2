package emulator

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// trafficEvent is one thing that passed through the server, for people to look at. It holds what clients and
// applications sent, and with that, perhaps, a token: the live view redacts it.
type trafficEvent struct {
	Time         time.Time `json:"time"`
	Kind         string    `json:"kind"` // "rest", "connection", "group", "message" or "event"
	Hub          string    `json:"hub,omitempty"`
	ConnectionID string    `json:"connectionId,omitempty"`
	UserID       string    `json:"userId,omitempty"`
	Group        string    `json:"group,omitempty"`
	Text         string    `json:"text"`                 // what happened, in a line
	Status       int       `json:"status,omitempty"`     // of the answer, of a REST call, an event, a refused handshake
	Milliseconds float64   `json:"durationMs,omitempty"` // until the answer of a REST call
	Data         string    `json:"data,omitempty"`       // the beginning of a message's payload
}

// traffic hands what passes to those who watch. When nobody does, it costs one atomic load.
type traffic struct {
	clock   *clock
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

// publish tells those who watch of an event that happens now.
func (t *traffic) publish(e trafficEvent) {
	e.Time = t.clock.now()
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

// trafficKinds are the kinds of events that the requests of clients are.
var trafficKinds = [...]string{requestJoin: "group", requestLeave: "group", requestSend: "message", requestEvent: "event"}

// show tells those who watch what happened to a connection: what, and the detail of it.
func (c *connection) show(kind, what, detail string) {
	if t := c.hub.traffic; t.on() {
		t.publish(trafficEvent{Kind: kind, Hub: c.hub.name, ConnectionID: c.id, UserID: c.userID, Text: what + detail})
	}
}

const (
	// maxTrafficData is how much of a payload is shown, in bytes.
	maxTrafficData = 512
	// maxExcerpt is how much of it is kept until then, so that whoever looks for tokens in it does not find half of one.
	maxExcerpt = 4 << 10
)

// excerpt is the beginning of a payload, for people.
func (p *payload) excerpt() string {
	if p.dataType == dataBinary || p.dataType == dataProtobuf {
		return fmt.Sprintf("%s, %s", p.dataType, plural(len(p.data), "byte"))
	}
	return shorten(string(p.data[:min(len(p.data), maxExcerpt+4)]), maxExcerpt)
}

// plural is a number of things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
