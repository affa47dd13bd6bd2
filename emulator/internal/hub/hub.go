package hub

import (
	"container/heap"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/awps-go/webpubsub/emulator/internal/odata"
)

// Hub is a set of connections that can reach each other. Its name is compared without regard to case.
type Hub struct {
	Name    string // as it was spelled first
	Service *Service

	// EntryLock is held while a client that chooses its own id takes it.
	EntryLock sync.Mutex

	anonymous atomic.Bool // clients may connect without a token

	mu          sync.RWMutex // guards everything below
	used        bool         // it has had a connection
	connections map[string]*Connection
	groups      map[string]members // only those that have members
	users       map[string]members // only those that have connections
}

type members map[*Connection]struct{}

func newHub(name string, s *Service) *Hub {
	return &Hub{Name: name, Service: s, connections: make(map[string]*Connection),
		groups: make(map[string]members), users: make(map[string]members)}
}

// Add makes a connection a member of the hub and of its first groups, and tells the application. announce queues what the
// client is told first: under the lock, so that nothing comes before it, and whoever has heard of the connection finds
// it here.
func (h *Hub) Add(c *Connection, groups []string, announce func()) {
	defer h.Service.Observer.Changed()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used = true
	announce()
	c.events.connected(c)
	h.connections[c.ID] = c
	c.member = true
	if c.UserID != "" {
		h.users[c.UserID] = h.users[c.UserID].with(c)
	}
	for _, g := range groups {
		h.join(c, g)
	}
}

// remove takes a connection out of the hub and reports whether it was in it.
func (h *Hub) remove(c *Connection) bool {
	defer h.Service.Observer.Changed()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !c.member {
		return false
	}
	c.member = false
	delete(h.connections, c.ID)
	if c.UserID != "" {
		h.users[c.UserID].without(c, h.users, c.UserID)
	}
	for g := range c.groups {
		h.groups[g].without(c, h.groups, g)
	}
	return true
}

func (m members) with(c *Connection) members {
	if m == nil {
		m = make(members)
	}
	m[c] = struct{}{}
	return m
}

// without takes c out of m, and m out of its index when it is empty.
func (m members) without(c *Connection, index map[string]members, name string) {
	delete(m, c)
	if len(m) == 0 {
		delete(index, name)
	}
}

// join puts a member of the hub into a group. The caller holds h.mu.
func (h *Hub) join(c *Connection, group string) {
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
func (h *Hub) leave(c *Connection, group string) {
	if c.groups.Has(group) {
		delete(c.groups, group)
		h.groups[group].without(c, h.groups, group)
	}
}

// Target selects connections of a hub: all of them, or one connection, or those of a user, or of a group,
// and of these those that pass.
type Target struct {
	Connection, User, Group string // at most one is set
	Excluded                []string
	Filter                  *odata.Expr
	noEcho                  *Connection // the sender, when it wants no copy
	streams                 bool        // only those whose protocol knows streams
}

// each calls f for every connection that is meant. The caller holds h.mu.
func (h *Hub) each(t *Target, f func(*Connection)) {
	visit := func(c *Connection) {
		if c == t.noEcho || t.streams && !c.Streams || len(t.Excluded) > 0 && slices.Contains(t.Excluded, c.ID) {
			return
		}
		if t.Filter != nil && !t.Filter.Match(&odata.Vars{UserID: c.UserID, ConnectionID: c.ID,
			Protocol: c.Subprotocol, Groups: c.groups}) {
			return
		}
		f(c)
	}
	switch {
	case t.Connection != "":
		if c := h.connections[t.Connection]; c != nil {
			visit(c)
		}
	case t.User != "":
		for c := range h.users[t.User] {
			visit(c)
		}
	case t.Group != "":
		for c := range h.groups[t.Group] {
			visit(c)
		}
	default:
		for _, c := range h.connections {
			visit(c)
		}
	}
}

// Send queues a message for every connection that is meant and returns how many they were.
func (h *Hub) Send(m *Message, t *Target) int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	n := 0
	h.each(t, func(c *Connection) {
		c.Link.Deliver(m)
		n++
	})
	return n
}

// Close says goodbye, in the name of the application, to every connection that is meant. They are out of the hub when it
// returns. An empty reason is none.
func (h *Hub) Close(t *Target, reason string) int {
	goodbye := "Application server closed the connection."
	if reason != "" {
		goodbye += " Reason: " + reason
	}
	return h.end(t, goodbye)
}

// end ends every connection that is meant.
func (h *Hub) end(t *Target, goodbye string) int {
	var closing []*Connection
	h.mu.RLock()
	h.each(t, func(c *Connection) { closing = append(closing, c) })
	h.mu.RUnlock()
	for _, c := range closing {
		c.End(goodbye)
	}
	return len(closing)
}

// AllowAnonymous sets whether clients may connect without a token.
func (h *Hub) AllowAnonymous(allow bool) { h.anonymous.Store(allow) }

// AllowsAnonymous reports whether clients may connect without a token.
func (h *Hub) AllowsAnonymous() bool { return h.anonymous.Load() }

// change calls f for every connection that is meant, with h.mu held for writing, and returns how many they were.
func (h *Hub) change(t *Target, f func(*Connection)) int {
	defer h.Service.Observer.Changed()
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	h.each(t, func(c *Connection) { f(c); n++ })
	return n
}

// AddToGroup puts the connections that are meant into a group, and returns how many they were.
func (h *Hub) AddToGroup(t *Target, group string) int {
	return h.change(t, func(c *Connection) { h.join(c, group) })
}

// RemoveFromGroup takes the connections that are meant out of a group.
func (h *Hub) RemoveFromGroup(t *Target, group string) {
	h.change(t, func(c *Connection) { h.leave(c, group) })
}

// RemoveFromAllGroups takes the connections that are meant out of every group.
func (h *Hub) RemoveFromAllGroups(t *Target) {
	h.change(t, func(c *Connection) {
		for g := range c.groups {
			h.groups[g].without(c, h.groups, g)
		}
		c.groups = nil
	})
}

// AddToGroups puts every connection that passes a filter into each of some groups.
func (h *Hub) AddToGroups(filter *odata.Expr, groups []string) {
	h.changeGroups(filter, groups, h.join)
}

// RemoveFromGroups takes every connection that passes a filter out of each of some groups.
func (h *Hub) RemoveFromGroups(filter *odata.Expr, groups []string) {
	h.changeGroups(filter, groups, h.leave)
}

// changeGroups decides for all connections before it changes any, since the filter may look at the groups.
func (h *Hub) changeGroups(filter *odata.Expr, groups []string, change func(c *Connection, group string)) {
	defer h.Service.Observer.Changed()
	h.mu.Lock()
	defer h.mu.Unlock()
	var chosen []*Connection
	h.each(&Target{Filter: filter}, func(c *Connection) { chosen = append(chosen, c) })
	for _, c := range chosen {
		for _, g := range groups {
			change(c, g)
		}
	}
}

// Grant allows a connection something in a group. It reports whether there is such a connection, and fails if its
// permission names too many groups already.
func (h *Hub) Grant(id string, p Permission, group string) (exists bool, err error) {
	n := h.change(&Target{Connection: id}, func(c *Connection) { err = c.permissions.grant(p, group) })
	return n > 0, err
}

// Revoke takes from a connection what Grant or a role has given it.
func (h *Hub) Revoke(id string, p Permission, group string) (err error) {
	h.change(&Target{Connection: id}, func(c *Connection) { err = c.permissions.revoke(p, group) })
	return err
}

// HasPermission reports whether a connection holds a permission for a group; for every group if that is "".
func (h *Hub) HasPermission(id string, p Permission, group string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	c := h.connections[id]
	return c != nil && c.permissions.allows(p, group)
}

// Find returns the connection of an id, or nil.
func (h *Hub) Find(id string) *Connection {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.connections[id]
}

// Count returns how many connections are meant.
func (h *Hub) Count(t *Target) int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	n := 0
	h.each(t, func(*Connection) { n++ })
	return n
}

// Member is a connection in a list.
type Member struct{ ConnectionID, UserID string }

// memberHeap is a page of a list. Its first member has the greatest id, the others lie as in a heap.
type memberHeap []Member

func (m memberHeap) Len() int           { return len(m) }
func (m memberHeap) Less(i, j int) bool { return compareIDs(m[i].ConnectionID, m[j].ConnectionID) > 0 }
func (m memberHeap) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *memberHeap) Push(member any)   { *m = append(*m, member.(Member)) }
func (m *memberHeap) Pop() any          { panic("a page only grows") }

// Members returns the first members of a group, limit at most, whose ids come after a given one (see compareIDs), and reports
// whether there are more. The one with the greatest id is the first of them, and the rest is in no order, as in the service's
// lists: a test that relies on an order should fail here too. After may be any text; "" is before all ids.
func (h *Hub) Members(group, after string, limit int) ([]Member, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	page, n := memberHeap{}, 0
	for c := range h.groups[group] {
		if after != "" && compareIDs(c.ID, after) <= 0 {
			continue
		}
		n++
		if len(page) < limit {
			heap.Push(&page, Member{c.ID, c.UserID})
		} else if compareIDs(c.ID, page[0].ConnectionID) < 0 {
			page[0] = Member{c.ID, c.UserID}
			heap.Fix(&page, 0)
		}
	}
	return page, n > limit
}

// Connections returns the connections of the hub, in no order.
func (h *Hub) Connections() []*Connection {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Collect(maps.Values(h.connections))
}

// Groups returns the groups that have members, and how many each has.
func (h *Hub) Groups() map[string]int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	sizes := make(map[string]int, len(h.groups))
	for name, members := range h.groups {
		sizes[name] = len(members)
	}
	return sizes
}

// Users returns the users who have connections, in alphabetical order.
func (h *Hub) Users() []string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Sorted(maps.Keys(h.users))
}

// UserCount returns how many users have connections.
func (h *Hub) UserCount() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.users)
}

// Info describes a connection at the moment of asking.
type Info struct {
	ID          string
	UserID      string
	Subprotocol string
	Groups      []string // in alphabetical order
	Recovering  bool     // the client was cut off and has time left to come back
}

// Inspect describes every connection of the hub, in the order of their ids.
func (h *Hub) Inspect() []Info {
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := make([]Info, 0, len(h.connections))
	for _, c := range h.connections {
		all = append(all, c.inspect())
	}
	slices.SortFunc(all, func(a, b Info) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Use marks the hub as one that somebody has connected to, though not as a client.
func (h *Hub) Use() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used = true
}
