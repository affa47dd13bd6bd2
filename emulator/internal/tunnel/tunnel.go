// Package tunnel serves the connections that servers open to receive the events of a hub: the tunnel. It accepts them
// (handshake.go), sends events through them and matches the answers (conn.go), and is the transport of the handlers whose
// URL template is tunnel:///path (transport.go). It knows nothing of what an event means.
//
// Microsoft does not document the tunnel. Frames, URL and token are those of the official package; what no public program
// shows was chosen:
//
//   - An event waits up to [Wait] for a server to connect, and then fails for good.
//   - The connections of a hub receive its events in turn, whatever their target.
//   - A connection that is lost fails its unanswered events, as a network failure does. They are sent again by the rules
//     for events.
//   - A connection that was told to close receives no more events. One that was told to reconnect receives events only
//     while there is no other.
//   - The handler is not asked for permission first (OPTIONS): the token of the connection has shown that the server wants
//     the hub's events.
//   - ce-signature has a header line for each key.
package tunnel

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

// Path is the path at which servers connect.
const Path = "/server/tunnel"

// Wait is how long an event waits for a server to connect, on the server's clock.
const Wait = 5 * time.Second

// Tunnels are the connections of all hubs. They are also the handler of the handshakes.
type Tunnels struct {
	*handshake.Handshaker

	mu   sync.Mutex // guards everything below, and the lists of the lines
	hubs map[string]*line
}

// line is the tunnel of one hub.
type line struct {
	conns   []*conn       // in the order in which they came
	next    int           // the number of events sent so far, which decides whose turn it is
	arrived chan struct{} // closed when a connection comes; nil if nobody waits for one
}

// New makes Tunnels without connections.
func New(h *handshake.Handshaker) *Tunnels {
	return &Tunnels{Handshaker: h, hubs: make(map[string]*line)}
}

// line returns the tunnel of a hub. The caller holds t.mu.
func (t *Tunnels) line(hub string) *line {
	key := strings.ToLower(hub)
	l := t.hubs[key]
	if l == nil {
		l = &line{}
		t.hubs[key] = l
	}
	return l
}

func (t *Tunnels) add(c *conn) {
	t.mu.Lock()
	l := t.line(c.hub)
	l.conns = append(l.conns, c)
	if l.arrived != nil {
		close(l.arrived)
		l.arrived = nil
	}
	t.mu.Unlock()
	t.changed()
}

func (t *Tunnels) remove(c *conn) {
	t.mu.Lock()
	l := t.line(c.hub)
	l.conns = slices.DeleteFunc(l.conns, func(other *conn) bool { return other == c })
	t.mu.Unlock()
	t.changed()
}

// changed reports that there are more or fewer connections.
func (t *Tunnels) changed() { t.Service.Observer.Changed() }

// pick returns the connection whose turn it is. If there is none, it returns a channel that is closed when one comes.
func (t *Tunnels) pick(hub string) (*conn, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.line(hub)
	for _, wanted := range []state{staying, leaving} {
		able := 0
		for _, c := range l.conns {
			if c.state.Load() == int32(wanted) {
				able++
			}
		}
		if able == 0 {
			continue
		}
		turn := l.next % able
		l.next++
		for _, c := range l.conns {
			if c.state.Load() != int32(wanted) {
				continue
			}
			if turn == 0 {
				return c, nil
			}
			turn--
		}
	}
	if l.arrived == nil {
		l.arrived = make(chan struct{})
	}
	return nil, l.arrived
}

// Info is a connection as it is at the moment of asking. The emulator's own type Tunnel has the meaning of the fields.
type Info struct {
	ID         string
	UserID     string
	Target     string
	Unanswered int
}

// List returns the connections of a hub, in the order in which they came.
func (t *Tunnels) List(hub string) []Info {
	all := []Info{}
	for _, c := range t.conns(hub) {
		all = append(all, c.info())
	}
	return all
}

// Count returns how many connections a hub has.
func (t *Tunnels) Count(hub string) int { return len(t.conns(hub)) }

// conns returns the connections of a hub.
func (t *Tunnels) conns(hub string) []*conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.hubs[strings.ToLower(hub)]; l != nil {
		return slices.Clone(l.conns)
	}
	return nil
}

// find returns a connection, or nil.
func (t *Tunnels) find(hub, id string) *conn {
	conns := t.conns(hub)
	if i := slices.IndexFunc(conns, func(c *conn) bool { return c.id == id }); i >= 0 {
		return conns[i]
	}
	return nil
}

// Tell sends a connection a message that directs it. It reports whether there is such a connection, and whether the message
// was written.
func (t *Tunnels) Tell(hub, id string, m tunnelframe.Message) bool {
	c := t.find(hub, id)
	if c == nil {
		return false
	}
	switch m.(type) {
	case *tunnelframe.Close:
		c.leave(closing)
	case *tunnelframe.Reconnect:
		c.leave(leaving)
	}
	return c.write(m) == nil
}

// Drop cuts a connection. It reports whether there is such a connection; noticed reports whether it is gone.
func (t *Tunnels) Drop(hub, id string) (noticed func() bool, ok bool) {
	c := t.find(hub, id)
	if c == nil {
		return nil, false
	}
	c.nc.Close()
	return func() bool { return !c.nc.Tracked() }, true
}

// Close closes every connection. None comes in any more: the server is closing.
func (t *Tunnels) Close() {
	t.mu.Lock()
	var all []*conn
	for _, l := range t.hubs {
		all = append(all, l.conns...)
	}
	t.mu.Unlock()
	var closed sync.WaitGroup
	for _, c := range all {
		closed.Go(c.goAway)
	}
	closed.Wait()
}
