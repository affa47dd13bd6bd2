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

// Hub is a set of connections that can reach each other. Hub names are case-insensitive.
type Hub struct {
	Name    string // in its first spelling
	Service *Service

	// EntryLock is held while a client that chooses its own connection id claims the id.
	EntryLock sync.Mutex

	anonymous atomic.Bool // clients may connect without a token

	mu          sync.RWMutex // guards everything below
	used        bool         // a client or a tunnel has connected
	connections map[string]*Connection
	groups      map[string]members // only groups with members
	users       map[string]members // only users with connections
}

type members map[*Connection]struct{}

func newHub(name string, s *Service) *Hub {
	return &Hub{Name: name, Service: s, connections: make(map[string]*Connection),
		groups: make(map[string]members), users: make(map[string]members)}
}

// Add adds a connection to the hub and to its initial groups, and notifies the application. announce queues the client's
// first frame. It runs with the hub's lock held, so no other frame comes first, and anyone who learns of the connection
// finds it in the hub.
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

// remove removes a connection from the hub, and reports whether it was there.
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

// without removes c from m, and deletes m from its index if it is now empty.
func (m members) without(c *Connection, index map[string]members, name string) {
	delete(m, c)
	if len(m) == 0 {
		delete(index, name)
	}
}

// join adds a connection to a group, if the connection is in the hub. The caller holds h.mu.
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

// leave removes a connection from a group. The caller holds h.mu.
func (h *Hub) leave(c *Connection, group string) {
	if c.groups.Has(group) {
		delete(c.groups, group)
		h.groups[group].without(c, h.groups, group)
	}
}

// Target selects connections of a hub: one connection, the connections of a user or of a group, or all of them. The other
// fields narrow the selection. The zero value selects every connection.
type Target struct {
	Connection, User, Group string   // at most one is set
	Excluded                []string // ids of connections to leave out
	Filter                  *odata.Expr
	noEcho                  *Connection // the sender, if it wants no copy
	streams                 bool        // only connections with Connection.Streams
}

// each calls f for every connection of a target. The caller holds h.mu.
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

// Send queues a message for every connection of a target, and returns the number of connections.
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

// Close closes every connection of a target on behalf of the application, and returns the number of connections. They are
// no longer in the hub when Close returns. The reason may be empty.
func (h *Hub) Close(t *Target, reason string) int {
	goodbye := "Application server closed the connection."
	if reason != "" {
		goodbye += " Reason: " + reason
	}
	return h.end(t, goodbye)
}

// end ends every connection of a target, and returns the number of connections.
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

// change calls f for every connection of a target, with h.mu held for writing, and returns the number of connections.
func (h *Hub) change(t *Target, f func(*Connection)) int {
	defer h.Service.Observer.Changed()
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	h.each(t, func(c *Connection) { f(c); n++ })
	return n
}

// AddToGroup adds the connections of a target to a group, and returns the number of connections.
func (h *Hub) AddToGroup(t *Target, group string) int {
	return h.change(t, func(c *Connection) { h.join(c, group) })
}

// RemoveFromGroup removes the connections of a target from a group.
func (h *Hub) RemoveFromGroup(t *Target, group string) {
	h.change(t, func(c *Connection) { h.leave(c, group) })
}

// RemoveFromAllGroups removes the connections of a target from every group.
func (h *Hub) RemoveFromAllGroups(t *Target) {
	h.change(t, func(c *Connection) {
		for g := range c.groups {
			h.groups[g].without(c, h.groups, g)
		}
		c.groups = nil
	})
}

// AddToGroups adds every connection that matches a filter to each of the groups.
func (h *Hub) AddToGroups(filter *odata.Expr, groups []string) {
	h.changeGroups(filter, groups, h.join)
}

// RemoveFromGroups removes every connection that matches a filter from each of the groups.
func (h *Hub) RemoveFromGroups(filter *odata.Expr, groups []string) {
	h.changeGroups(filter, groups, h.leave)
}

// changeGroups selects all connections before it changes any, because the filter may depend on the groups.
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

// Grant grants a connection a permission for a group, and reports whether the connection exists. It returns an error if the
// permission already names too many groups.
func (h *Hub) Grant(id string, p Permission, group string) (exists bool, err error) {
	n := h.change(&Target{Connection: id}, func(c *Connection) { err = c.permissions.grant(p, group) })
	return n > 0, err
}

// Revoke revokes a permission that Grant or a role has granted. It returns an error if the permission already names too many
// groups.
func (h *Hub) Revoke(id string, p Permission, group string) (err error) {
	h.change(&Target{Connection: id}, func(c *Connection) { err = c.permissions.revoke(p, group) })
	return err
}

// HasPermission reports whether a connection exists and has a permission for a group, or for every group if group is "".
func (h *Hub) HasPermission(id string, p Permission, group string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	c := h.connections[id]
	return c != nil && c.permissions.allows(p, group)
}

// Find returns the connection with an id, or nil.
func (h *Hub) Find(id string) *Connection {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.connections[id]
}

// Count returns the number of connections of a target.
func (h *Hub) Count(t *Target) int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	n := 0
	h.each(t, func(*Connection) { n++ })
	return n
}

// Member is an entry in the list of a group's connections.
type Member struct{ ConnectionID, UserID string }

// memberHeap is a page of a list, as a heap. Its first member has the greatest id.
type memberHeap []Member

func (m memberHeap) Len() int           { return len(m) }
func (m memberHeap) Less(i, j int) bool { return compareIDs(m[i].ConnectionID, m[j].ConnectionID) > 0 }
func (m memberHeap) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *memberHeap) Push(member any)   { *m = append(*m, member.(Member)) }
func (m *memberHeap) Pop() any          { panic("a page only grows") }

// Members returns a page of the members of a group: up to limit members, with the lowest ids above after in the order of
// compareIDs. It also reports whether there are more. after may be any text; "" starts at the first id.
//
// The member with the greatest id comes first, and the order of the others is undefined, as in the hosted service. A test
// that relies on the order should fail here too.
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

// Connections returns the connections of the hub, in no particular order.
func (h *Hub) Connections() []*Connection {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Collect(maps.Values(h.connections))
}

// Groups returns the groups that have members, with the number of members of each.
func (h *Hub) Groups() map[string]int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	sizes := make(map[string]int, len(h.groups))
	for name, members := range h.groups {
		sizes[name] = len(members)
	}
	return sizes
}

// Users returns the users who have connections, sorted by name.
func (h *Hub) Users() []string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Sorted(maps.Keys(h.users))
}

// UserCount returns the number of users who have connections.
func (h *Hub) UserCount() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.users)
}

// Info is a snapshot of a connection.
type Info struct {
	ID          string
	UserID      string
	Subprotocol string
	Groups      []string // sorted by name
	Recovering  bool     // the client has lost its network connection and may still reconnect
}

// Inspect describes every connection of the hub, sorted by id.
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

// Use marks the hub as used, for a connection that is not a client's, such as a tunnel.
func (h *Hub) Use() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.used = true
}
