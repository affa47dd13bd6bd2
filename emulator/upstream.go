package emulator

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
)

// connectRequest is a handshake as the application sees it.
type connectRequest struct {
	claims       map[string][]string
	query        url.Values // without the access token
	header       http.Header
	subprotocols []string
	certificates []*x509.Certificate
	mqtt         *mqttConnect // nil unless the client speaks MQTT
}

// connectReply is what the application makes of a handshake it accepts. Zero fields leave the token's word.
type connectReply struct {
	userID      string
	groups      []string // in addition to the token's
	roles       []string // in addition to the token's
	subprotocol string   // one of those the client offered

	mqtt *mqttConnack // also of a handshake that is rejected; nil = nothing is said
}

// rejection refuses a handshake with a status that reaches the client.
type rejection struct {
	status int
	reason string
}

func (r *rejection) Error() string { return fmt.Sprintf("%d: %s", r.status, r.reason) }

// userEvent is something a client said to the application.
type userEvent struct {
	name string
	payload
}

// errNoHandler fails a user event that nobody listens to.
var errNoHandler = errors.New("no event handler takes this event")

// maxPendingEvents is how many events of one connection may wait for the application before the client is read no
// further.
const maxPendingEvents = 64

// eventQueue tells the application about one connection, in order. It has a goroutine only while it has something to
// tell.
type eventQueue struct {
	server *Server

	// For the upstream's own use, which calls in order make safe.
	sent  int    // events sent so far, connect being the first
	state string // the connection's state, as the application left it

	mu      sync.Mutex // guards everything below
	drained sync.Cond  // the queue has become shorter
	pending []func(context.Context)
	running bool
}

func newEventQueue(s *Server) *eventQueue {
	q := &eventQueue{server: s}
	q.drained.L = &q.mu
	return q
}

func (q *eventQueue) connected(c *connection) {
	q.add(func(ctx context.Context) { q.server.upstream.connected(ctx, c) })
}

func (q *eventQueue) disconnected(c *connection, reason string) {
	q.add(func(ctx context.Context) { q.server.upstream.disconnected(ctx, c, reason) })
}

// userEvent sends an event when its turn has come and hands the answer to done. It blocks while too many wait.
func (q *eventQueue) userEvent(c *connection, e *userEvent, done func(*payload, error)) {
	q.mu.Lock()
	for len(q.pending) >= maxPendingEvents && q.running {
		q.drained.Wait()
	}
	q.mu.Unlock()
	q.add(func(ctx context.Context) { done(q.server.upstream.userEvent(ctx, c, e)) })
}

func (q *eventQueue) add(f func(context.Context)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending = append(q.pending, f)
	if !q.running && q.server.spawn(q.run) {
		q.running = true
		q.server.telling.Add(1)
	}
}

func (q *eventQueue) run() {
	q.mu.Lock()
	for len(q.pending) > 0 {
		f := q.pending[0]
		q.pending = q.pending[1:]
		q.drained.Broadcast()
		q.mu.Unlock()
		f(q.server.ctx)
		q.mu.Lock()
	}
	q.running, q.pending = false, nil
	q.mu.Unlock()
	q.server.telling.Add(-1)
	q.server.notifier.notify()
}
