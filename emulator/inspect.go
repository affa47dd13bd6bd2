package emulator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// This file is what a test sees of a server beside its wire: its clock, its state, and a way to wait for a state.

// Advance moves the server's clock forward: tokens expire, messages die, and reliable clients that were cut off run out
// of time to come back, all before it returns. Of a client that has cut its own connection the server learns a moment
// later: wait for it with WaitForRecovering first. Requests that a fault delays go on, in their own time: WaitForRequests
// waits for them. It panics if d is negative.
//
// Service clients sign by the machine's clock: to the server their tokens are older by all that Advance has added. Those
// of requests are refused after an hour and five minutes of it, and a client access token after its lifetime, however
// fresh. Let clients connect first, and look at the server by its methods then.
func (s *Server) Advance(d time.Duration) {
	if d < 0 {
		panic("emulator: Advance moves the clock forward only")
	}
	s.clock.advance(d)
}

// Now returns the time of the server's clock: the machine's, and what Advance has added.
func (s *Server) Now() time.Time { return s.clock.now() }

// Connection is a client of a hub, as it is at the moment of asking.
type Connection struct {
	ID          string
	UserID      string   // "" for an anonymous client
	Subprotocol string   // as negotiated; "" for a client without
	Groups      []string // in alphabetical order
	Recovering  bool     // a reliable or MQTT client that was cut off and has time left to come back
}

// Hubs returns the names of the hubs that clients have connected to, in alphabetical order.
func (s *Server) Hubs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.hubs))
	for _, h := range s.hubs {
		names = append(names, h.name)
	}
	slices.Sort(names)
	return names
}

// Connections returns the clients of a hub, in the order of their ids.
func (s *Server) Connections(hub string) []Connection {
	h := s.hub(hub)
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := make([]Connection, 0, len(h.connections))
	for _, c := range h.connections {
		all = append(all, c.inspect())
	}
	slices.SortFunc(all, func(a, b Connection) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// inspect describes a connection. The caller holds hub.mu.
func (c *connection) inspect() Connection {
	shown := Connection{ID: c.id, UserID: c.userID, Subprotocol: c.subprotocol, Groups: slices.Sorted(maps.Keys(c.groups))}
	if sock, ok := c.link.(*socket); ok && sock.reliable != nil {
		sock.mu.Lock()
		shown.Recovering = sock.reliable.deadline != nil
		sock.mu.Unlock()
	} else if c.mqtt != nil {
		shown.Recovering = c.mqtt.away()
	}
	return shown
}

// Groups returns the groups of a hub that have members, in alphabetical order.
func (s *Server) Groups(hub string) []string {
	h := s.hub(hub)
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Sorted(maps.Keys(h.groups))
}

// Users returns the users of a hub who have connections, in alphabetical order.
func (s *Server) Users(hub string) []string {
	h := s.hub(hub)
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Sorted(maps.Keys(h.users))
}

// HasPermission reports whether a connection holds a permission, "sendToGroup" or "joinLeaveGroup", for a group; for
// every group if that is "".
func (s *Server) HasPermission(hub, connectionID, permission, group string) bool {
	h := s.hub(hub)
	p, ok := parsePermission(permission)
	h.mu.RLock()
	defer h.mu.RUnlock()
	c := h.connections[connectionID]
	return ok && c != nil && c.permissions.allows(p, group)
}

// DropConnection cuts a client's connection without a close frame, as a network does that fails. It reports whether the
// hub has that connection. When it returns, a reliable client has begun to run out of time to come back, and any other is
// gone from the hub; but if so many events of the client wait for the application that the server does not read it, it
// returns after a second, and that comes later.
func (s *Server) DropConnection(hub, connectionID string) bool {
	h := s.hub(hub)
	h.mu.RLock()
	c := h.connections[connectionID]
	h.mu.RUnlock()
	if c == nil {
		return false
	}
	nc := c.link.drop()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = s.wait(ctx, 1, "", func() int { // until the server has noticed
		if nc == nil { // it is away already, or its handshake under way
			h.mu.RLock()
			defer h.mu.RUnlock()
			return count(!c.member || c.inspect().Recovering)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		_, open := s.sockets[nc]
		return count(!open)
	})
	return true
}

// count is 1 for true and 0 for false.
func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// Request is a REST request that was served.
type Request struct {
	Operation string // the service client's name for it, such as "SendToAll"; "" if there is no such operation
	Method    string
	Path      string // with the query, as it was sent
	Status    int    // of the answer; 0 if there was none, see [Fault]
	Time      time.Time
}

// maxRequests is how many requests are remembered.
const maxRequests = 1000

// requestLog is the requests that were served last.
type requestLog struct {
	mu     sync.Mutex // guards everything below
	all    []Request  // a ring once it is full
	next   int        // where the next goes then
	counts map[string]int
}

func (l *requestLog) add(r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		l.counts = make(map[string]int)
	}
	l.counts[r.Operation]++
	if len(l.all) < maxRequests {
		l.all = append(l.all, r)
		return
	}
	l.all[l.next] = r
	l.next = (l.next + 1) % maxRequests
}

// Requests returns the REST requests that were answered, whatever the answer, in that order. It remembers the last
// 1,000.
func (s *Server) Requests() []Request {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	return slices.Concat(s.requests.all[s.requests.next:], s.requests.all[:s.requests.next])
}

// RequestCount returns how many REST requests of an operation, such as "SendToAll", were answered, whatever the answer.
func (s *Server) RequestCount(operation string) int {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	return s.requests.counts[operation]
}

// notifier wakes those who wait for the state to change. Nobody waiting, it costs one atomic load.
type notifier struct {
	waiting atomic.Int32

	mu      sync.Mutex // guards changed
	changed chan struct{}
}

// changes returns a channel that is closed at the next change.
func (n *notifier) changes() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.changed
}

func (n *notifier) notify() {
	if n.waiting.Load() == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

// wait waits until count returns want.
func (s *Server) wait(ctx context.Context, want int, what string, count func() int) error {
	s.notifier.waiting.Add(1)
	defer s.notifier.waiting.Add(-1)
	for {
		changed := s.notifier.changes() // before counting, so that no change is missed
		got := count()
		if got == want {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("emulator: waiting for %d %s, there are %d: %w", want, what, got, ctx.Err())
		case <-s.quit:
			return fmt.Errorf("emulator: waiting for %d %s, there are %d: %w", want, what, got, errClosed)
		}
	}
}

var errClosed = errors.New("the server is closed")

// WaitForConnections waits until a hub has exactly n clients. The error says how many there were when ctx ended or the
// server was closed.
func (s *Server) WaitForConnections(ctx context.Context, hub string, n int) error {
	return s.wait(ctx, n, "connections in hub "+hub, func() int { return s.hub(hub).count(&target{}) })
}

// WaitForGroup waits until exactly n connections of a hub are in a group. See [Server.WaitForConnections].
func (s *Server) WaitForGroup(ctx context.Context, hub, group string, n int) error {
	return s.wait(ctx, n, "connections in group "+group, func() int { return s.hub(hub).count(&target{group: group}) })
}

// WaitForUser waits until a user has exactly n connections to a hub. See [Server.WaitForConnections].
func (s *Server) WaitForUser(ctx context.Context, hub, userID string, n int) error {
	return s.wait(ctx, n, "connections of user "+userID, func() int { return s.hub(hub).count(&target{user: userID}) })
}

// WaitForRecovering waits until exactly n clients of a hub, reliable or of MQTT, are cut off and may come back. See
// [Server.WaitForConnections].
func (s *Server) WaitForRecovering(ctx context.Context, hub string, n int) error {
	return s.wait(ctx, n, "recovering connections in hub "+hub, func() int {
		recovering := 0
		for _, c := range s.Connections(hub) {
			if c.Recovering {
				recovering++
			}
		}
		return recovering
	})
}

// WaitForRequests waits until at least n REST requests of an operation, such as "SendToAll", have been answered since the
// server started, whatever the answer. It fails if there is no such operation: see [Fault]. See also
// [Server.WaitForConnections].
func (s *Server) WaitForRequests(ctx context.Context, operation string, n int) error {
	if err := s.checkOperation(operation); err != nil {
		return fmt.Errorf("emulator: WaitForRequests: %w", err)
	}
	return s.wait(ctx, n, operation+" requests", func() int { return min(n, s.RequestCount(operation)) })
}
