package hub

import (
	"errors"
	"maps"
	"slices"

	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// Connection is a client of a hub, whatever protocol it speaks. Reliable clients stay one while they recover. Its
// exported fields do not change once it is in its hub.
type Connection struct {
	ID          string
	Hub         *Hub
	UserID      string // "" = anonymous
	Subprotocol string // as negotiated; "" = none
	Link        Link

	events eventQueue

	// guarded by Hub.mu
	member      bool
	groups      groupSet
	permissions permissions
}

// Link is how a connection is reached. None of its methods blocks, and all of them may be called under the locks of a hub.
type Link interface {
	// Deliver queues a message.
	Deliver(m *Message)
	// Close closes the connection with a reason, after everything that was queued before.
	Close(reason string)
	// Drop cuts the connection without a word. It returns a function that reports whether the end has been noticed, or nil
	// if there was nothing to cut.
	Drop() (noticed func() bool)
	// Away reports whether the client is cut off and may come back.
	Away() bool
}

// groupSet is the groups of a connection.
type groupSet map[string]struct{}

func (g groupSet) Has(group string) bool { _, ok := g[group]; return ok }
func (g groupSet) Len() int              { return len(g) }

// SetRoles gives a connection that is not in its hub yet the permissions of its roles. Roles that grant nothing are
// logged: whoever spelled them expects something. check returns what is wrong with the name of a group.
func (c *Connection) SetRoles(roles []string, check func(group string) string) {
	var skipped map[string]string
	c.permissions, skipped = newPermissions(roles, check)
	for role, fault := range skipped {
		c.Hub.Service.Log.Info("a role grants nothing", "hub", c.Hub.Name, "connection", c.ID, "role", text.Shorten(role, 200),
			"reason", fault)
	}
}

// Join puts the connection into a group, if it is still in its hub.
func (c *Connection) Join(group string) {
	defer c.Hub.Service.Observer.Changed()
	c.Hub.mu.Lock()
	defer c.Hub.mu.Unlock()
	c.Hub.join(c, group)
}

// Leave takes the connection out of a group and reports whether it was in it.
func (c *Connection) Leave(group string) bool {
	defer c.Hub.Service.Observer.Changed()
	c.Hub.mu.Lock()
	defer c.Hub.mu.Unlock()
	was := c.groups.Has(group)
	c.Hub.leave(c, group)
	return was
}

// Allows reports whether the connection holds a permission for a group; without a group, for every group.
func (c *Connection) Allows(p Permission, group string) bool {
	c.Hub.mu.RLock()
	defer c.Hub.mu.RUnlock()
	return c.permissions.allows(p, group)
}

// Publish sends a client's message to its group. noEcho spares the client its copy.
func (c *Connection) Publish(m *Message, noEcho bool) {
	m.FromUser = c.UserID
	t := &Target{Group: m.Group}
	if noEcho {
		t.noEcho = c
	}
	n := c.Hub.Send(m, t)
	if o := c.Hub.Service.Observer; o.Watched() {
		o.Traffic(TrafficEvent{Kind: "message", Hub: c.Hub.Name, ConnectionID: c.ID, UserID: c.UserID,
			Group: m.Group, Data: m.Excerpt(), Text: "client to group: " + text.Plural(n, "recipient")})
	}
}

// End takes the connection out of its hub and says goodbye to the client. reason is the sentence for the client and the
// application.
func (c *Connection) End(reason string) {
	c.Left(reason)
	c.Link.Close(reason)
}

// Left takes the connection out of its hub, if it still is in it, and tells the application why. Events that the
// application has not begun to handle are dropped.
func (c *Connection) Left(reason string) { c.leave(reason, reason, false) }

// Lost is Left for a client that is gone without a word to the service: the application hears no reason, and is asked no
// longer about the event that it is handling. detail is for people.
func (c *Connection) Lost(detail string) { c.leave("", detail, true) }

func (c *Connection) leave(reason, detail string, cancel bool) {
	if !c.Hub.remove(c) {
		return
	}
	c.Show("connection", "disconnected: ", detail)
	c.events.disconnected(c, reason, cancel)
}

// GiveUp is Left for a client that does not keep up. It logs the detail, as the client may be cut off before it has
// read the reason. It may be called under a link's lock: it does its work on a goroutine of its own.
func (c *Connection) GiveUp(reason, detail string) {
	c.Hub.Service.Life.Go(func() {
		c.Hub.Service.Log.Info("closing a client", "hub", c.Hub.Name, "connection", c.ID, "reason", detail)
		c.leave(reason, detail, false)
	})
}

// Member reports whether the connection is in its hub.
func (c *Connection) Member() bool {
	c.Hub.mu.RLock()
	defer c.Hub.mu.RUnlock()
	return c.member
}

// Inspect describes the connection.
func (c *Connection) Inspect() Info {
	c.Hub.mu.RLock()
	defer c.Hub.mu.RUnlock()
	return c.inspect()
}

// inspect describes a connection. The caller holds Hub.mu.
func (c *Connection) inspect() Info {
	return Info{ID: c.ID, UserID: c.UserID, Subprotocol: c.Subprotocol, Groups: slices.Sorted(maps.Keys(c.groups)),
		Recovering: c.Link.Away()}
}

// Show shows those who watch what happened to the connection: what, and the detail of it.
func (c *Connection) Show(kind, what, detail string) {
	if o := c.Hub.Service.Observer; o.Watched() {
		o.Traffic(TrafficEvent{Kind: kind, Hub: c.Hub.Name, ConnectionID: c.ID, UserID: c.UserID, Text: what + detail})
	}
}

// Errors of user events that no application has answered.
var (
	ErrNoHandler = errors.New("no event handler takes this event")
	ErrGone      = errors.New("the connection is closed")
)

// Raise hands a client's event to the application, and what comes of it to done. It blocks while too many events of the
// connection wait for the application.
func (c *Connection) Raise(e *UserEvent, done func(reply *Payload, err error)) {
	if o := c.Hub.Service.Observer; o.Watched() {
		o.Traffic(TrafficEvent{Kind: "event", Hub: c.Hub.Name, ConnectionID: c.ID, UserID: c.UserID,
			Data: e.Excerpt(), Text: "user event " + e.Name})
	}
	c.events.userEvent(c, e, done)
}
