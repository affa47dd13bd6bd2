package hub

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Application receives the events of connections. The calls for one connection come one at a time, in this order:
// Connect, Connected, any number of UserEvent, and Disconnected, which is the last. The emulator holds no lock during a
// call. The ctx ends shortly after the service begins to close.
type Application interface {
	// Listens reports whether the hub has an event handler now. It may be called at any time. If it returns false, the
	// caller need not describe the handshake.
	Listens(hub string) bool
	// Connect decides whether a client may connect. c is not in its hub yet, and c.UserID is the user of the token.
	// A *Rejection is passed on to the client. The reply is used even if there is an error.
	Connect(ctx context.Context, c *Connection, r *ConnectRequest) (ConnectReply, error)
	// Connected reports that a client is connected.
	Connected(ctx context.Context, c *Connection)
	// UserEvent sends a client's event to the application. The client receives the reply, unless it is nil, as a message
	// from the server. An error, such as ErrNoHandler, fails the event.
	UserEvent(ctx context.Context, c *Connection, e *UserEvent) (*Payload, error)
	// Disconnected reports that a client is gone and will not reconnect to this connection.
	Disconnected(ctx context.Context, c *Connection, reason string)
}

// ConnectRequest describes a handshake to the application.
type ConnectRequest struct {
	Claims       map[string][]string // of the token
	Query        map[string][]string // with the access token, which the application does not receive
	Header       map[string][]string // likewise
	Subprotocols []string
	Certificates [][]byte // the client's certificates, in DER
	Detail       any      // specific to the client's protocol; nil for most
}

// ConnectReply is the application's reply to a handshake that it accepts. The zero value keeps everything as in the token.
type ConnectReply struct {
	UserID      *string  // replaces the token's user ("" for no user); nil keeps it
	Groups      []string // replace the token's groups; empty keeps them
	Roles       []string // replace the token's roles, even if empty; nil keeps them
	Subprotocol string   // one that the client offered; "" leaves the choice to the service
	Detail      any      // specific to the client's protocol, as in ConnectRequest; may also be set for a rejected handshake
}

// Rejection is the application's response to a handshake that it rejects. A WebSocket client receives the status, the
// content type and the body unchanged.
type Rejection struct {
	Status      int
	ContentType string
	Body        []byte
	Reason      string // for people, and for clients whose protocol has no status
}

func (r *Rejection) Error() string { return fmt.Sprintf("%d: %s", r.Status, r.Reason) }

// UserEvent is an event that a client sent to the application.
type UserEvent struct {
	Name string
	Payload
	Detail any // specific to the client's protocol, and includes the response; nil for most

	// Context, if not nil, ends when nobody waits for the response anymore. That cancels the request to the application.
	Context context.Context
}

// Connect asks the application whether the client may connect, and sets c.UserID from the reply. If nobody listens to the
// hub's events, the client may connect.
//
// roles and groups are those of the client's token. The returned reply has the resulting ones: the application's, or else
// the token's. Connect calls describe only if somebody listens.
func (c *Connection) Connect(ctx context.Context, roles, groups []string, describe func() *ConnectRequest) (ConnectReply, error) {
	s := c.Hub.Service
	c.events.begin(s)
	var reply ConnectReply
	if s.Application.Listens(c.Hub.Name) {
		var err error
		if reply, err = s.Application.Connect(ctx, c, describe()); err != nil {
			return reply, err
		}
	} else {
		c.NextEventID() // connect uses a number even if nobody listens
	}
	if reply.UserID != nil {
		c.UserID = *reply.UserID
	}
	if reply.Roles == nil {
		reply.Roles = roles
	}
	if len(reply.Groups) == 0 {
		reply.Groups = groups
	}
	return reply, nil
}

// NextEventID returns the number of the connection's next event, starting at 0. Only the Application may call it, during its
// own calls.
func (c *Connection) NextEventID() int {
	c.events.sent++
	return c.events.sent - 1
}

// State returns the connection's state, and whether the application has set one: an empty state counts. Only the
// Application may call it, during its own calls.
func (c *Connection) State() (state string, set bool) {
	if c.events.state == nil {
		return "", false
	}
	return *c.events.state, true
}

// SetState stores a state that the application has set. Only the Application may call it, during its own calls.
func (c *Connection) SetState(state string) { c.events.state = &state }

// Memory returns a place for the Application's own data about the connection, nil at first. Only the Application may use
// it, during its own calls.
func (c *Connection) Memory() *any { return &c.events.memory }

// AdoptState copies the state that the application has set, if any, from the connection that this one replaces after a
// reconnect.
func (c *Connection) AdoptState(other *Connection) {
	state := other.events.state
	if state == nil {
		return
	}
	c.events.add(&notification{notify: func(context.Context) { c.events.state = state }})
}

// maxPendingEvents is the number of a connection's events that may wait for the application before Raise blocks.
const maxPendingEvents = 64

// eventQueue notifies the application about one connection, in order. It runs a goroutine only while it is not empty.
type eventQueue struct {
	service *Service

	// For the application. These fields need no lock because the calls for one connection never overlap.
	sent   int     // number of events so far, including connect
	state  *string // set by the application; nil if it never set one
	memory any

	mu      sync.Mutex // guards everything below
	drained sync.Cond  // signaled when the queue becomes shorter
	pending []*notification
	current *notification
	running bool
	closed  bool // disconnected was queued, and nothing may follow it
}

// notification is one queued call of the application.
type notification struct {
	notify func(context.Context)
	drop   func()             // for user events: called instead of notify if the event is dropped
	cancel context.CancelFunc // for user events: cancels notify's context while notify runs
}

// begin prepares the queue for use.
func (q *eventQueue) begin(s *Service) {
	q.service = s
	q.drained.L = &q.mu
}

func (q *eventQueue) connected(c *Connection) {
	q.add(&notification{notify: func(ctx context.Context) { q.service.Application.Connected(ctx, c) }})
}

// disconnected queues the last notification and closes the queue. It drops the user events that still wait. If cancel is
// true, it also cancels the request for the event that the application is handling.
func (q *eventQueue) disconnected(c *Connection, reason string, cancel bool) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return
	}
	var dropped []*notification
	q.pending = slices.DeleteFunc(q.pending, func(n *notification) bool {
		if n.drop == nil {
			return false
		}
		dropped = append(dropped, n)
		return true
	})
	if cancel && q.current != nil && q.current.cancel != nil {
		q.current.cancel()
	}
	q.append(&notification{notify: func(ctx context.Context) { q.service.Application.Disconnected(ctx, c, reason) }})
	q.closed = true
	q.drained.Broadcast()
	q.mu.Unlock()
	for _, n := range dropped {
		n.drop()
	}
}

// userEvent queues an event and later passes the application's reply to done. It blocks while the queue is full.
func (q *eventQueue) userEvent(c *Connection, e *UserEvent, done func(*Payload, error)) {
	n := &notification{drop: func() { done(nil, ErrGone) }}
	n.notify = func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		q.mu.Lock()
		n.cancel = cancel
		q.mu.Unlock()
		if e.Context != nil {
			defer context.AfterFunc(e.Context, cancel)()
		}
		reply, err := q.service.Application.UserEvent(ctx, c, e)
		if err == nil && ctx.Err() != nil {
			err = ErrGone
		}
		done(reply, err)
	}
	q.mu.Lock()
	for len(q.pending) >= maxPendingEvents && q.running && !q.closed {
		q.drained.Wait()
	}
	added := q.append(n)
	q.mu.Unlock()
	if !added {
		n.drop()
	}
}

func (q *eventQueue) add(n *notification) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.append(n)
}

// append queues a notification. It reports false if the queue is closed or was never begun, or if the service has stopped. The
// caller holds q.mu.
func (q *eventQueue) append(n *notification) bool {
	if q.closed || q.service == nil {
		return false
	}
	if !q.running {
		if !q.service.Life.Go(q.run) { // waits for q.mu
			return false
		}
		q.running = true
		q.service.Life.notifying.Add(1)
	}
	q.pending = append(q.pending, n)
	return true
}

func (q *eventQueue) run() {
	ctx := q.service.Life.Context()
	q.mu.Lock()
	for len(q.pending) > 0 {
		n := q.pending[0]
		q.pending[0] = nil
		q.pending = q.pending[1:]
		q.current = n
		q.drained.Broadcast()
		q.mu.Unlock()
		n.notify(ctx)
		q.mu.Lock()
	}
	q.running, q.pending, q.current = false, nil, nil
	q.mu.Unlock()
	q.service.Life.notifying.Add(-1)
	q.service.Observer.Changed()
}
