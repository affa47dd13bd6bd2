package hub

import (
	"errors"
	"maps"
	"slices"

	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// Connection is a client connection of a hub, over any protocol. A reliable client keeps its Connection when it recovers.
// The exported fields do not change once the connection is in its hub.
type Connection struct {
	ID          string
	Hub         *Hub
	UserID      string // "" = anonymous
	Subprotocol string // as negotiated; "" = none
	Host        string // the host that the client connected to, without a port, in lower case
	Streams     bool   // the client's protocol can express the end of a stream
	Link        Link

	events eventQueue

	// guarded by Hub.mu
	member      bool
	groups      groupSet
	permissions permissions
}

// Link sends to the client of a connection. Its methods do not block, and may be called with a hub's locks held.
type Link interface {
	// Deliver queues a message.
	Deliver(m *Message)
	// Close closes the connection with a reason, after everything queued so far has been sent.
	Close(reason string)
	// Drop cuts the network connection without a close frame. It returns a function that reports whether the server has
	// noticed, or nil if there was no network connection.
	Drop() (noticed func() bool)
	// Away reports whether the client has lost its network connection and may still reconnect.
	Away() bool
}

// groupSet is the set of groups of a connection.
type groupSet map[string]struct{}

func (g groupSet) Has(group string) bool { _, ok := g[group]; return ok }
func (g groupSet) Len() int              { return len(g) }

// SetRoles sets the permissions of a connection from its roles, before the connection is in its hub. It logs each role that
// grants nothing, because that is probably a mistake. check returns what is wrong with a group name, or "".
func (c *Connection) SetRoles(roles []string, check func(group string) string) {
	var skipped map[string]string
	c.permissions, skipped = newPermissions(roles, check)
	for role, fault := range skipped {
		c.Hub.Service.Log.Info("a role grants nothing", "hub", c.Hub.Name, "connection", c.ID, "role", text.Shorten(role, 200),
			"reason", fault)
	}
}

// Join adds the connection to a group, if the connection is still in its hub.
func (c *Connection) Join(group string) {
	defer c.Hub.Service.Observer.Changed()
	c.Hub.mu.Lock()
	defer c.Hub.mu.Unlock()
	c.Hub.join(c, group)
}

// Leave removes the connection from a group, and reports whether it was a member.
func (c *Connection) Leave(group string) bool {
	defer c.Hub.Service.Observer.Changed()
	c.Hub.mu.Lock()
	defer c.Hub.mu.Unlock()
	was := c.groups.Has(group)
	c.Hub.leave(c, group)
	return was
}

// Allows reports whether the connection has a permission for a group, or for every group if group is "".
func (c *Connection) Allows(p Permission, group string) bool {
	c.Hub.mu.RLock()
	defer c.Hub.mu.RUnlock()
	return c.permissions.allows(p, group)
}

// Publish sends the client's message to m.Group. With noEcho, the client itself receives no copy.
func (c *Connection) Publish(m *Message, noEcho bool) {
	m.FromUser = c.UserID
	t := &Target{Group: m.Group, streams: m.Stream != nil && m.Stream.End}
	if noEcho {
		t.noEcho = c
	}
	n := c.Hub.Send(m, t)
	if o := c.Hub.Service.Observer; o.Watched() {
		o.Traffic(TrafficEvent{Kind: "message", Hub: c.Hub.Name, ConnectionID: c.ID, UserID: c.UserID,
			Group: m.Group, Data: m.Excerpt(), Text: "client to group: " + text.Plural(n, "recipient")})
	}
}

// End removes the connection from its hub and closes it. The client and the application receive the reason.
func (c *Connection) End(reason string) {
	c.Left(reason)
	c.Link.Close(reason)
}

// Left removes the connection from its hub, if it is still there, and notifies the application with the reason. It drops
// events that the application has not begun to handle.
func (c *Connection) Left(reason string) { c.leave(reason, reason, false) }

// Lost is like Left, for a client that is gone without a close frame. The application receives an empty reason, and the
// request for the event that it is handling is canceled. detail is for people.
func (c *Connection) Lost(detail string) { c.leave("", detail, true) }

func (c *Connection) leave(reason, detail string, cancel bool) {
	// The disconnected event counts as queued before anybody can see that the connection is gone, so that a close of the
	// service waits for the event.
	life := c.Hub.Service.Life
	life.notifying.Add(1)
	defer c.Hub.Service.Observer.Changed()
	defer life.notifying.Add(-1)
	if !c.Hub.remove(c) {
		return
	}
	c.Show("connection", "disconnected: ", detail)
	c.events.disconnected(c, reason, cancel)
}

// GiveUp is like Left, for a client that does not keep up. It logs the detail because the client may be cut off before it
// reads the reason. It may be called with a link's lock held, because it does its work in a new goroutine.
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

// Show reports something that happened to the connection to those who watch the traffic. The text is what plus detail.
func (c *Connection) Show(kind, what, detail string) {
	if o := c.Hub.Service.Observer; o.Watched() {
		o.Traffic(TrafficEvent{Kind: kind, Hub: c.Hub.Name, ConnectionID: c.ID, UserID: c.UserID, Text: what + detail})
	}
}

// Errors of user events without a response from the application.
var (
	ErrNoHandler = errors.New("no event handler accepts this event")
	ErrGone      = errors.New("the connection is closed")
)

// Raise queues a client's event for the application, and later passes the reply or the error to done. It blocks while too
// many events of the connection wait for the application.
func (c *Connection) Raise(e *UserEvent, done func(reply *Payload, err error)) {
	if o := c.Hub.Service.Observer; o.Watched() {
		o.Traffic(TrafficEvent{Kind: "event", Hub: c.Hub.Name, ConnectionID: c.ID, UserID: c.UserID,
			Data: e.Excerpt(), Text: "user event " + e.Name})
	}
	c.events.userEvent(c, e, done)
}
