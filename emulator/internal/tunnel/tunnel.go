// Package tunnel serves the tunnel: the connections that servers open to receive the events of a hub.
//
//   - handshake.go accepts connections.
//   - conn.go sends events and matches responses.
//   - transport.go is the HTTP transport for handlers whose URL template is tunnel:///path.
//
// The package does not interpret events.
//
// Microsoft does not document the tunnel. Frames, URL and token follow the official package. The emulator chose the rules that
// no public program shows:
//
//   - An event waits up to [Wait] for a server to connect. Then it fails without a retry.
//   - The connections of a hub receive its events in turn, regardless of their target.
//   - If a connection is lost, its unanswered events fail like after a network failure, and are retried like other events.
//   - After a close message, a connection receives no more events. After a reconnect message, a connection receives events
//     only if there is no other.
//   - The handler is not validated (OPTIONS), because the connection's token has shown that the server wants the events.
//   - ce-signature has one header line per key.
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

// Wait is how long an event waits for a server to connect, on the emulator's clock.
const Wait = 5 * time.Second

// Tunnels holds the tunnel connections of all hubs, and serves their handshakes.
type Tunnels struct {
	*handshake.Handshaker

	mu   sync.Mutex // guards everything below, including the fields of every hubConns and the state of every conn
	hubs map[string]*hubConns
}

// hubConns are the tunnel connections of one hub.
type hubConns struct {
	conns   []*conn       // in the order in which they connected
	next    int           // the number of events sent so far, which decides whose turn it is
	arrived chan struct{} // closed when a server connects; nil if no event waits
}

// New returns Tunnels without connections.
func New(h *handshake.Handshaker) *Tunnels {
	return &Tunnels{Handshaker: h, hubs: make(map[string]*hubConns)}
}

// hubConns returns the connections of a hub. The caller holds t.mu.
func (t *Tunnels) hubConns(hub string) *hubConns {
	key := strings.ToLower(hub)
	h := t.hubs[key]
	if h == nil {
		h = &hubConns{}
		t.hubs[key] = h
	}
	return h
}

func (t *Tunnels) add(c *conn) {
	t.mu.Lock()
	h := t.hubConns(c.hub)
	h.conns = append(h.conns, c)
	if h.arrived != nil {
		close(h.arrived)
		h.arrived = nil
	}
	t.mu.Unlock()
	t.changed()
}

func (t *Tunnels) remove(c *conn) {
	t.mu.Lock()
	h := t.hubConns(c.hub)
	h.conns = slices.DeleteFunc(h.conns, func(other *conn) bool { return other == c })
	t.mu.Unlock()
	t.changed()
}

// changed notifies the observer that the number of connections has changed.
func (t *Tunnels) changed() { t.Service.Observer.Changed() }

// pick returns the connection whose turn it is. Without one, it returns a channel that is closed when a server connects.
func (t *Tunnels) pick(hub string) (*conn, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hubConns(hub)
	for _, wanted := range []state{active, draining} {
		available := slices.DeleteFunc(slices.Clone(h.conns), func(c *conn) bool { return c.state != wanted })
		if len(available) > 0 {
			h.next++
			return available[(h.next-1)%len(available)], nil
		}
	}
	if h.arrived == nil {
		h.arrived = make(chan struct{})
	}
	return nil, h.arrived
}

// Info describes a connection at the time of the call. The fields are documented at the emulator's type Tunnel.
type Info struct {
	ID         string
	UserID     string
	Target     string
	Unanswered int
}

// List returns the connections of a hub, in the order in which they connected.
func (t *Tunnels) List(hub string) []Info {
	all := []Info{}
	for _, c := range t.conns(hub) {
		all = append(all, c.info())
	}
	return all
}

// Count returns the number of connections of a hub.
func (t *Tunnels) Count(hub string) int { return len(t.conns(hub)) }

// conns returns the connections of a hub.
func (t *Tunnels) conns(hub string) []*conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.hubs[strings.ToLower(hub)]; h != nil {
		return slices.Clone(h.conns)
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

// Tell sends a control message over a connection. It reports whether the connection exists and the message was written. After
// a [tunnelframe.Close] or a [tunnelframe.Reconnect] message, the connection receives fewer events: see the package
// documentation.
func (t *Tunnels) Tell(hub, id string, m tunnelframe.Message) bool {
	c := t.find(hub, id)
	if c == nil {
		return false
	}
	switch m.(type) {
	case *tunnelframe.Close:
		c.restrict(closing)
	case *tunnelframe.Reconnect:
		c.restrict(draining)
	}
	return c.write(m) == nil
}

// Drop cuts a connection. noticed reports whether the emulator has noticed the cut. It is nil if there is no such connection.
func (t *Tunnels) Drop(hub, id string) (noticed func() bool) {
	c := t.find(hub, id)
	if c == nil {
		return nil
	}
	return c.nc.Cut()
}

// Close closes every connection. The emulator must be closing already, so that no connection is added afterwards.
func (t *Tunnels) Close() {
	t.mu.Lock()
	var all []*conn
	for _, h := range t.hubs {
		all = append(all, h.conns...)
	}
	t.mu.Unlock()
	var closed sync.WaitGroup
	for _, c := range all {
		closed.Go(c.closeGoingAway)
	}
	closed.Wait()
}
