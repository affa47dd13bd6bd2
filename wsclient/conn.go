package wsclient

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a client of a hub. It outlives its WebSocket connections: when one breaks, the Conn recovers it or makes a
// new one. The package documentation describes what calls do in the meantime.
//
// Methods of a Conn are safe for concurrent use.
type Conn struct {
	options  Options
	provider URLProvider
	codec    codec

	ctx    context.Context // canceled when the Conn ends
	cancel context.CancelFunc
	quit   chan struct{} // closed when calls must stop waiting
	done   chan struct{} // closed when the Conn has ended

	goroutines goroutines
	hooks      hooks
	queue      *queue
	sequence   sequence
	acks       waiters[uint64, *call] // by ackId
	groups     groups
	invokes    waiters[string, chan *frame] // by invocationId
	streams    streams

	received, duplicates, sent atomic.Uint64
	newConnections, recoveries atomic.Uint64 // newConnections is also the epoch of the last session
	lastAck, lastInvocation    atomic.Uint64 // the last IDs assigned; IDs start at 1 because the service once rejected 0

	// State of connecting, used only by the supervisor goroutine.
	attempt, failures, rejections int
	static                        bool          // the provider always returns the same URL
	recoveryLimit                 time.Duration // upper bound of the delay before the next recovery attempt; 0 means no delay

	mu      sync.Mutex // guards everything below
	state   State
	link    *link // the link that calls write to; nil while the connection is down
	session session
	changed chan struct{} // closed when link or session changes; nil if nobody waits
	err     error         // the error of calls once quit is closed
	closed  bool          // Close was called

	// rejected is the last session that the service ended because it could not read a frame. Requests that were in flight
	// in that session are not sent again, because any of them might end the next session too.
	rejected struct {
		epoch uint64
		err   *CloseError
	}
}

// State is the connection state of a [Conn].
type State int

// The states of a Conn. A Conn is connected when Dial returns it.
const (
	StateConnected    State = iota // requests are sent immediately
	StateRecovering                // the connection broke and is being recovered
	StateReconnecting              // a new connection is being made
	StateClosed                    // the Conn has ended
)

// String returns the name of the state, such as "connected".
func (s State) String() string {
	switch s {
	case StateConnected:
		return "connected"
	case StateRecovering:
		return "recovering"
	case StateReconnecting:
		return "reconnecting"
	case StateClosed:
		return "closed"
	}
	return "unknown"
}

// Stats are the counters of a [Conn] since [Dial].
type Stats struct {
	Received    uint64 // messages received, without duplicates and dropped messages
	Duplicates  uint64 // messages ignored because they had arrived before
	Dropped     uint64 // messages dropped because Options.Buffer was full
	Sent        uint64 // requests sent, counting each attempt
	Connections uint64 // new connections, including the first
	Recoveries  uint64 // recovered connections
	Queued      int    // messages waiting for Receive
	QueuedBytes int    // size of the frames of the waiting messages
}

// Dial connects to a hub and returns when the service has confirmed the connection. It makes one attempt, of at most 10
// seconds; [Options.RetryInitial] allows more. Nil options mean the defaults.
//
// The context applies only to Dial. The caller must call [Conn.Close]. A Conn that cannot reconnect ends by itself: see
// [Conn.Done].
//
// Dial returns:
//
//   - [ErrInvalidArgument] if provider is nil, or an option or the URL is invalid;
//   - a *[HandshakeError] if the server rejected the handshake;
//   - a *[CloseError] if the service closed the connection before confirming it;
//   - otherwise, the error of the provider, the network or the context.
//
// The text of an error never contains a token.
func Dial(ctx context.Context, provider URLProvider, options *Options) (*Conn, error) {
	if provider == nil {
		return nil, invalid("Dial", "provider", "is nil")
	}
	o, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	c := newConn(provider, o)
	l, s, err := c.first(ctx)
	if err != nil {
		c.finish(err)
		c.goroutines.wg.Wait()
		return nil, err
	}
	c.publish(l, s)
	c.goroutines.spawn(func() { c.run(l) })
	return c, nil
}

func newConn(provider URLProvider, o Options) *Conn {
	c := &Conn{
		options:  o,
		provider: provider,
		codec:    codecFor(o.Protocol),
		quit:     make(chan struct{}),
		done:     make(chan struct{}),
		queue:    newQueue(o.Buffer, o.Protocol.reliable()),
		state:    StateReconnecting,
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.sequence.send = func(epoch, id uint64) {
		if l, current := c.current(); l != nil && epoch == current { // the IDs of a new session begin again
			l.send(&request{kind: requestSequenceAck, sequenceID: id})
		}
	}
	return c
}

// Close closes the connection with a close frame and ends the Conn. Pending calls return [ErrClosed]. Receive still
// returns the messages that have already arrived.
//
// Close works in every state: it also stops a recovery, an attempt to connect, or the wait before the next attempt. It
// waits up to 5 seconds for the service's close frame, then closes the socket.
//
// When Close returns, all goroutines of the Conn have ended, except a running hook and a URLProvider that ignores its
// context. Close may be called more than once, and from a hook or URLProvider. It always returns nil.
func (c *Conn) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	l := c.link
	if c.err == nil {
		c.err = ErrClosed
		close(c.quit)
	}
	c.mu.Unlock()
	if first {
		c.hooks.close()
		if l != nil {
			l.close(1000, "")
		}
		c.cancel()
	}
	<-c.done
	c.goroutines.wg.Wait()
	return nil
}

// Done returns a channel that is closed when the Conn has ended, after Close or because it cannot reconnect. [Conn.Err]
// then returns the reason.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns nil until Done is closed. It then returns the reason why the Conn ended:
//
//   - [ErrClosed] after Close;
//   - a *[CloseError] if the connection ended, and [Options.OnServerClose] or [ReconnectOptions.Disabled] prevented a
//     new connection;
//   - a *[CloseError] that matches [ErrSlowConsumer] if the application received too slowly;
//   - a *[HandshakeError] with status 401, 403 or 404. With [StaticURL], the first one ends the Conn; with another
//     URLProvider, the third one since the last connection;
//   - the error of the last attempt after [ReconnectOptions.MaxAttempts] failed attempts.
func (c *Conn) Err() error {
	select {
	case <-c.done:
	default:
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// ConnectionID returns the ID of the current connection or, while the connection is down, of the last one. A recovered
// connection keeps its ID; a new connection has a new ID.
func (c *Conn) ConnectionID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.id
}

// UserID returns the user ID of the connection, or an empty string if it has none.
func (c *Conn) UserID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.userID
}

// State returns the current state of the Conn.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Stats returns the current counters of the Conn.
func (c *Conn) Stats() Stats {
	s := Stats{
		Received:    c.received.Load(),
		Duplicates:  c.duplicates.Load(),
		Sent:        c.sent.Load(),
		Connections: c.newConnections.Load(),
		Recoveries:  c.recoveries.Load(),
	}
	s.Queued, s.QueuedBytes, s.Dropped = c.queue.size()
	return s
}

// current returns the link to write to, or nil while the connection is down, and the session.
func (c *Conn) current() (l *link, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link, c.session.epoch
}

// isClosed reports whether Close was called.
func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// endError returns the error of calls after quit has been closed.
func (c *Conn) endError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// notifyChanged wakes the calls that wait for a link or a session. The caller holds c.mu.
func (c *Conn) notifyChanged() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// finish ends the Conn with err, or with ErrClosed if Close was called.
func (c *Conn) finish(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
		close(c.quit)
	}
	err = c.err
	c.state = StateClosed
	c.notifyChanged()
	c.mu.Unlock()
	c.cancel()
	c.goroutines.close()
	c.sequence.stop()
	c.streams.endAll(err)
	c.queue.end(err)
	close(c.done)
}
