package hub

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Application receives the events of connections. For one connection the calls come one at a time and in order: Connect,
// Connected, UserEvents, Disconnected, and nothing after that. None comes under a lock of the emulator's. Their ctx ends
// a while after the service has begun to close.
type Application interface {
	// Listens reports whether anybody is told of a hub's events now. It may be asked at any time, and spares the
	// description of a handshake that nobody wants to hear of.
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

// Rejection refuses a handshake, or fails an event, with a status that reaches the client.
type Rejection struct {
	Status int
	Reason string
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
	c.events.begin(s)
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

// State returns the connection's state, as the application has set it. It is for the Application, during its calls.
func (c *Connection) State() string { return c.events.state }

// SetState keeps a state that the application has set. It is for the Application, during its calls.
func (c *Connection) SetState(state string) { c.events.state = state }

// AdoptState gives the connection the state that the application has set for another one, which has come back as this one,
// if it has set any.
func (c *Connection) AdoptState(other *Connection) {
	state := other.events.state
	if state == "" {
		return
	}
	c.events.add(&telling{tell: func(context.Context) { c.events.state = state }})
}

// maxPendingEvents is how many events of one connection may wait for the application before Raise blocks.
const maxPendingEvents = 64

// eventQueue tells the application about one connection, in order. It has a goroutine only while it has something to
// tell.
type eventQueue struct {
	service *Service

	// For the application's own use, which calls in order make safe.
	sent  int    // events sent so far, connect being the first
	state string // the connection's state, as the application left it

	mu      sync.Mutex // guards everything below
	drained sync.Cond  // the queue has become shorter
	pending []*telling
	current *telling
	running bool
	over    bool // disconnected is the last event
}

// telling is one thing that the application is told.
type telling struct {
	tell   func(context.Context)
	drop   func()             // set for a user event: what to do if it is never told
	cancel context.CancelFunc // ends tell's context; set while a user event is told
}

// begin makes the queue ready for use.
func (q *eventQueue) begin(s *Service) {
	q.service = s
	q.drained.L = &q.mu
}

func (q *eventQueue) connected(c *Connection) {
	q.add(&telling{tell: func(ctx context.Context) { q.service.Application.Connected(ctx, c) }})
}

// disconnected ends the queue: the application hears of nothing that comes later, nor of the client's events that still
// wait. cancel also ends the request of the event that it is handling.
func (q *eventQueue) disconnected(c *Connection, reason string, cancel bool) {
	q.mu.Lock()
	if q.over {
		q.mu.Unlock()
		return
	}
	var dropped []*telling
	q.pending = slices.DeleteFunc(q.pending, func(t *telling) bool {
		if t.drop == nil {
			return false
		}
		dropped = append(dropped, t)
		return true
	})
	if cancel && q.current != nil && q.current.cancel != nil {
		q.current.cancel()
	}
	q.append(&telling{tell: func(ctx context.Context) { q.service.Application.Disconnected(ctx, c, reason) }})
	q.over = true
	q.drained.Broadcast()
	q.mu.Unlock()
	for _, t := range dropped {
		t.drop()
	}
}

// userEvent sends an event when its turn has come and hands the answer to done. It blocks while too many wait.
func (q *eventQueue) userEvent(c *Connection, e *UserEvent, done func(*Payload, error)) {
	t := &telling{drop: func() { done(nil, ErrGone) }}
	t.tell = func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		q.mu.Lock()
		t.cancel = cancel
		q.mu.Unlock()
		reply, err := q.service.Application.UserEvent(ctx, c, e)
		if err == nil && ctx.Err() != nil {
			err = ErrGone
		}
		done(reply, err)
	}
	q.mu.Lock()
	for len(q.pending) >= maxPendingEvents && q.running && !q.over {
		q.drained.Wait()
	}
	added := q.append(t)
	q.mu.Unlock()
	if !added {
		t.drop()
	}
}

func (q *eventQueue) add(t *telling) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.append(t)
}

// append queues a telling, and reports false when the queue is over. The caller holds q.mu.
func (q *eventQueue) append(t *telling) bool {
	if q.over || q.service == nil {
		return false
	}
	q.pending = append(q.pending, t)
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
		t := q.pending[0]
		q.pending[0] = nil
		q.pending = q.pending[1:]
		q.current = t
		q.drained.Broadcast()
		q.mu.Unlock()
		t.tell(ctx)
		q.mu.Lock()
	}
	q.running, q.pending, q.current = false, nil, nil
	q.mu.Unlock()
	q.service.Life.telling.Add(-1)
	q.service.Observer.Changed()
}
