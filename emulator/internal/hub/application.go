package hub

import (
	"context"
	"fmt"
	"sync"
)

// Application receives the events of connections. For one connection the calls come one at a time and in order: Connect,
// Connected, UserEvents, Disconnected, and nothing after that. None comes under a lock of the emulator's. Their ctx ends
// a while after the service has begun to close.
type Application interface {
	// Listens reports whether anybody is told of a hub's events.
	Listens(hub string) bool
	// Connect asks whether a client may connect. c is not in its hub yet: its id, hub and user are those of the token.
	// A *Rejection is passed on to the client. The reply counts also when there is an error.
	Connect(ctx context.Context, c *Connection, r *ConnectRequest) (ConnectReply, error)
	// Connected reports that a client is connected.
	Connected(ctx context.Context, c *Connection)
	// UserEvent tells the application what a client sent. A reply that is not nil goes to the client as a message from the server. An
	// error, such as ErrNoHandler, fails the event.
	UserEvent(ctx context.Context, c *Connection, e *UserEvent) (*Payload, error)
	// Disconnected reports that a client is gone for good.
	Disconnected(ctx context.Context, c *Connection, reason string)
}

// ConnectRequest is a handshake as the application sees it.
type ConnectRequest struct {
	Claims       map[string][]string // of the token
	Query        map[string][]string // without the access token
	Header       map[string][]string
	Subprotocols []string
	Certificates [][]byte // DER, as the client has shown them
	Detail       any      // what only the client's protocol and the application can read; nil for most
}

// ConnectReply is what the application makes of a handshake that it accepts. Its zero value leaves the token's word.
type ConnectReply struct {
	UserID      *string  // nil keeps the token's; any other takes its place, also "", which is no user
	Groups      []string // an empty list keeps the token's; any other takes their place
	Roles       []string // nil keeps the token's; any other takes their place, also an empty list, which is no roles
	Subprotocol string   // one of those the client offered; "" leaves the choice to the service
	Detail      any      // as in ConnectRequest; also of a handshake that is rejected
}

// Rejection is the application's own answer to a handshake that it refuses. A WebSocket client receives the status, the
// content type and the body as they are.
type Rejection struct {
	Status      int
	ContentType string
	Body        []byte
	Reason      string // for people, and for clients whose protocol has no place for a status
}

func (r *Rejection) Error() string { return fmt.Sprintf("%d: %s", r.Status, r.Reason) }

// UserEvent is something that a client sent to the application.
type UserEvent struct {
	Name string
	Payload
}

// Connect asks the application whether a client may connect, if there is one that listens, and gives the connection
// the user that comes of it. roles and groups are those of the client's token; those of the reply are what comes of
// the token and of the application's answer. describe is called if there is somebody to ask.
func (c *Connection) Connect(ctx context.Context, roles, groups []string, describe func() *ConnectRequest) (ConnectReply, error) {
	s := c.Hub.Service
	c.events = newEventQueue(s)
	var reply ConnectReply
	if s.Application.Listens(c.Hub.Name) {
		var err error
		if reply, err = s.Application.Connect(ctx, c, describe()); err != nil {
			return reply, err
		}
	} else {
		c.NextEventID() // connect has its number also when nobody hears of it
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

// NextEventID returns the number of the connection's next event, the first being 0. It is for the Application, during its calls.
func (c *Connection) NextEventID() int {
	c.events.sent++
	return c.events.sent - 1
}

// State returns the connection's state and whether the application has set one, which may be empty. It is for the
// Application, during its calls.
func (c *Connection) State() (state string, set bool) {
	if c.events.state == nil {
		return "", false
	}
	return *c.events.state, true
}

// SetState keeps a state that the application has set. It is for the Application, during its calls.
func (c *Connection) SetState(state string) { c.events.state = &state }

// Memory is a place where the Application keeps what it has to remember of the connection, nil at first. It is for the
// Application, during its calls.
func (c *Connection) Memory() *any { return &c.events.memory }

// AdoptState gives the connection the state that the application has set for another one, which has come back as this one,
// if it has set any.
func (c *Connection) AdoptState(other *Connection) {
	if c.events == nil || other.events == nil || other.events.state == nil {
		return
	}
	state := other.events.state
	c.events.add(func(context.Context) { c.events.state = state })
}

// maxPendingEvents is how many events of one connection may wait for the application before the client is read no
// further.
const maxPendingEvents = 64

// eventQueue tells the application about one connection, in order. It has a goroutine only while it has something to
// tell.
type eventQueue struct {
	service *Service

	// For the application's own use, which calls in order make safe.
	sent   int     // events sent so far, connect being the first
	state  *string // the connection's state, as the application left it; nil = it has never set one
	memory any

	mu      sync.Mutex // guards everything below
	drained sync.Cond  // the queue has become shorter
	pending []func(context.Context)
	running bool
	over    bool // disconnected is the last event
}

func newEventQueue(s *Service) *eventQueue {
	q := &eventQueue{service: s}
	q.drained.L = &q.mu
	return q
}

func (q *eventQueue) connected(c *Connection) {
	q.add(func(ctx context.Context) { q.service.Application.Connected(ctx, c) })
}

// disconnected ends the queue: the application hears of nothing that comes later.
func (q *eventQueue) disconnected(c *Connection, reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.append(func(ctx context.Context) { q.service.Application.Disconnected(ctx, c, reason) })
	q.over = true
}

// userEvent sends an event when its turn has come and hands the answer to done. It blocks while too many wait.
func (q *eventQueue) userEvent(c *Connection, e *UserEvent, done func(*Payload, error)) {
	q.mu.Lock()
	for len(q.pending) >= maxPendingEvents && q.running {
		q.drained.Wait()
	}
	added := q.append(func(ctx context.Context) { done(q.service.Application.UserEvent(ctx, c, e)) })
	q.mu.Unlock()
	if !added {
		done(nil, errGone)
	}
}

func (q *eventQueue) add(f func(context.Context)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.append(f)
}

// append queues a call, and reports false when the queue is over. The caller holds q.mu.
func (q *eventQueue) append(f func(context.Context)) bool {
	if q.over {
		return false
	}
	q.pending = append(q.pending, f)
	if !q.running && q.service.Life.Go(q.run) {
		q.running = true
		q.service.Life.telling.Add(1)
	}
	return true
}

func (q *eventQueue) run() {
	ctx := q.service.Life.Context()
	q.mu.Lock()
	for len(q.pending) > 0 {
		f := q.pending[0]
		q.pending = q.pending[1:]
		q.drained.Broadcast()
		q.mu.Unlock()
		f(ctx)
		q.mu.Lock()
	}
	q.running, q.pending = false, nil
	q.mu.Unlock()
	q.service.Life.telling.Add(-1)
	q.service.Observer.Changed()
}
