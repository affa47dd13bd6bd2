package emulator

import (
	"slices"
	"strings"
	"sync"

	"github.com/awps-go/webpubsub/emulator/internal/odata"
)

// The state of the emulator is in a few rooms, each with its own lock; a goroutine that holds one may only enter one
// further down this list:
//
//	hub.mqttEntry and reliable.attaching, then reliable.reading: a client that comes back takes its place, once
//	hub.mu       one hub: its connections, their groups, users and permissions
//	socket.mu    one client: what waits to be written to it and what it has not acknowledged
//	  and mqttClient.mu, an MQTT client's
//	Server.mu    which hubs there are, which sockets are open, what a test has asked for
//	  and, just above it, eventQueue.mu: what the application is still to be told of one connection
//
// (netConn.mu, clock.mu and the like guard a field or two, and under them nothing else is locked.) A send holds hub.mu
// for reading while it puts the message into the queue of every recipient, which never blocks. Nothing is written to
// or read from the network, and no application is called, under any of these locks but reading, which is held for as long as
// a socket is read.

// hub is a set of connections that can reach each other. Its name is compared without regard to case.
type hub struct {
	name     string    // as the first client spelled it
	notifier *notifier // told when connections, groups or users have changed
	traffic  *traffic  // told what passes

	mqttEntry sync.Mutex // held while an MQTT client takes its id

	mu          sync.RWMutex
	connections map[string]*connection
	groups      map[string]members // only those that have members
	users       map[string]members // only those that have connections
}

type members map[*connection]struct{}

func newHub(name string, n *notifier, t *traffic) *hub {
	return &hub{name: name, notifier: n, traffic: t, connections: make(map[string]*connection),
		groups: make(map[string]members), users: make(map[string]members)}
}

// connection is a client of a hub, whatever protocol it speaks. Reliable clients stay one while they recover.
type connection struct {
	id          string
	hub         *hub
	userID      string // "" = anonymous
	subprotocol string // as negotiated; "" = none
	link        link
	mqtt        *mqttClient // is the link, of an MQTT client; nil for any other
	events      *eventQueue // nil when there is nobody to tell

	// guarded by hub.mu
	member      bool
	groups      groupSet
	permissions permissions
}

// link is how a connection is reached. None of its methods blocks, and all of them may be called under hub.mu.
type link interface {
	// deliver queues a message.
	deliver(m *message)
	// close says goodbye with a reason, after everything that was queued before, and closes.
	close(reason string)
	// drop cuts the connection without a word, and returns what it has cut: nil if there was nothing.
	drop() *netConn
}

// groupSet is the groups of a connection.
type groupSet map[string]struct{}

func (g groupSet) Has(group string) bool { _, ok := g[group]; return ok }
func (g groupSet) Len() int              { return len(g) }

// add makes a connection a member of the hub and of its first groups. announce queues what the client is told first:
// under the lock, so that nothing comes before it, and whoever has heard of the connection finds it here.
func (h *hub) add(c *connection, groups []string, announce func()) {
	defer h.notifier.notify()
	h.mu.Lock()
	defer h.mu.Unlock()
	announce()
	h.connections[c.id] = c
	c.member = true
	if c.userID != "" {
		h.users[c.userID] = h.users[c.userID].with(c)
	}
	for _, g := range groups {
		h.join(c, g)
	}
}

// remove takes a connection out of the hub and reports whether it was in it.
func (h *hub) remove(c *connection) bool {
	defer h.notifier.notify()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !c.member {
		return false
	}
	c.member = false
	delete(h.connections, c.id)
	if c.userID != "" {
		h.users[c.userID].without(c, h.users, c.userID)
	}
	for g := range c.groups {
		h.groups[g].without(c, h.groups, g)
	}
	return true
}

func (m members) with(c *connection) members {
	if m == nil {
		m = make(members)
	}
	m[c] = struct{}{}
	return m
}

// without takes c out of m, and m out of its index when it is empty.
func (m members) without(c *connection, index map[string]members, name string) {
	delete(m, c)
	if len(m) == 0 {
		delete(index, name)
	}
}

// join puts a member of the hub into a group. The caller holds h.mu.
func (h *hub) join(c *connection, group string) {
	if !c.member || c.groups.Has(group) {
		return
	}
	if c.groups == nil {
		c.groups = make(groupSet)
	}
	c.groups[group] = struct{}{}
	h.groups[group] = h.groups[group].with(c)
}

// leave takes a connection out of a group. The caller holds h.mu.
func (h *hub) leave(c *connection, group string) {
	if c.groups.Has(group) {
		delete(c.groups, group)
		h.groups[group].without(c, h.groups, group)
	}
}

// joinGroup puts the connection into a group, if it is still in its hub.
func (c *connection) joinGroup(group string) {
	defer c.hub.notifier.notify()
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	c.hub.join(c, group)
}

// leaveGroup takes the connection out of a group and reports whether it was in it.
func (c *connection) leaveGroup(group string) bool {
	defer c.hub.notifier.notify()
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	was := c.groups.Has(group)
	c.hub.leave(c, group)
	return was
}

// leaveAll takes a connection out of all its groups. The caller holds h.mu.
func (h *hub) leaveAll(c *connection) {
	for g := range c.groups {
		h.groups[g].without(c, h.groups, g)
	}
	c.groups = nil
}

// target says which connections of a hub are meant: all of them, or one connection, or those of a user, or of a group,
// and of these those that pass.
type target struct {
	connection, user, group string // at most one is set
	excluded                []string
	filter                  *odata.Expr
	noEcho                  *connection // the sender, when it wants no copy
}

// each calls f for every connection that is meant. The caller holds h.mu.
func (h *hub) each(t *target, f func(*connection)) {
	visit := func(c *connection) {
		if c == t.noEcho || len(t.excluded) > 0 && slices.Contains(t.excluded, c.id) {
			return
		}
		if t.filter != nil && !t.filter.Match(&odata.Vars{UserID: c.userID, ConnectionID: c.id,
			Protocol: c.subprotocol, Groups: c.groups}) {
			return
		}
		f(c)
	}
	switch {
	case t.connection != "":
		if c := h.connections[t.connection]; c != nil {
			visit(c)
		}
	case t.user != "":
		for c := range h.users[t.user] {
			visit(c)
		}
	case t.group != "":
		for c := range h.groups[t.group] {
			visit(c)
		}
	default:
		for _, c := range h.connections {
			visit(c)
		}
	}
}

// send queues a message for every connection that is meant and returns how many they were.
func (h *hub) send(m *message, t *target) int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	n := 0
	h.each(t, func(c *connection) {
		c.link.deliver(m)
		n++
	})
	return n
}

// close says goodbye to every connection that is meant. They are out of the hub when it returns.
func (h *hub) close(t *target, reason string) int {
	var closing []*connection
	h.mu.RLock()
	h.each(t, func(c *connection) { closing = append(closing, c) })
	h.mu.RUnlock()
	for _, c := range closing {
		c.end(reason)
	}
	return len(closing)
}

// end takes a connection out of its hub and says goodbye to the client.
func (c *connection) end(reason string) {
	c.left(reason)
	c.link.close(reason)
}

// left takes a connection out of its hub, if it still is in it, and tells the application why.
func (c *connection) left(reason string) {
	if !c.hub.remove(c) {
		return
	}
	c.show("connection", "disconnected: ", reason)
	if c.events != nil {
		c.events.disconnected(c, reason)
	}
}

// change calls f for every connection that is meant, with h.mu held for writing, and returns how many they were.
func (h *hub) change(t *target, f func(*connection)) int {
	defer h.notifier.notify()
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	h.each(t, func(c *connection) { f(c); n++ })
	return n
}

// count returns how many connections there are of a user, in a group, or in the hub.
func (h *hub) count(t *target) int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	n := 0
	h.each(t, func(*connection) { n++ })
	return n
}

// list returns up to limit members of a group, in the order of their ids, that come after a given one, and whether
// there are more.
func (h *hub) list(group, after string, limit int) ([]groupMember, bool) {
	h.mu.RLock()
	all := make([]groupMember, 0, len(h.groups[group]))
	for c := range h.groups[group] {
		if c.id > after {
			all = append(all, groupMember{c.id, c.userID})
		}
	}
	h.mu.RUnlock()
	slices.SortFunc(all, func(a, b groupMember) int { return strings.Compare(a.ConnectionID, b.ConnectionID) })
	if len(all) > limit {
		return all[:limit], true
	}
	return all, false
}

// allows reports whether a connection holds a permission for a group; without a group, for every group.
func (c *connection) allows(p permission, group string) bool {
	c.hub.mu.RLock()
	defer c.hub.mu.RUnlock()
	return c.permissions.allows(p, group)
}

// publish sends a client's message to a group. noEcho spares the client its copy.
func (c *connection) publish(m *message, noEcho bool) {
	m.fromUser = c.userID
	t := &target{group: m.group}
	if noEcho {
		t.noEcho = c
	}
	n := c.hub.send(m, t)
	if c.hub.traffic.on() {
		c.hub.traffic.publish(trafficEvent{Kind: "message", Hub: c.hub.name, ConnectionID: c.id, UserID: c.userID,
			Group: m.group, Data: m.excerpt(), Text: "client to group: " + plural(n, "recipient")})
	}
}

// event hands a client's event to the application, and what comes of it to done.
func (c *connection) event(e *userEvent, done func(reply *payload, err error)) {
	if c.hub.traffic.on() {
		c.hub.traffic.publish(trafficEvent{Kind: "event", Hub: c.hub.name, ConnectionID: c.id, UserID: c.userID,
			Data: e.excerpt(), Text: "user event " + e.name})
	}
	if c.events == nil {
		done(nil, errNoHandler)
		return
	}
	c.events.userEvent(c, e, done)
}
