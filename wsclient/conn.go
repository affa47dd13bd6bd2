package wsclient

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a client of a hub. It outlives its WebSocket connections: it recovers one that broke, and makes a new one in
// place of one that ended. All its methods may be called by several goroutines at once.
type Conn struct {
	options  Options
	provider URLProvider
	codec    codec
	log      *slog.Logger

	ctx    context.Context // ends with the Conn
	cancel context.CancelFunc
	quit   chan struct{} // closed when calls must not wait any more
	done   chan struct{} // closed when all has ended

	goroutines goroutines
	hooks      hooks
	queue      *queue
	sequence   sequence
	acks       acks
	groups     groups
	invokes    invocations
	streams    streams

	received, duplicates, sent atomic.Uint64
	newConnections, recoveries atomic.Uint64

	// Of connecting; only the supervisor touches them.
	attempt, failures, rejections int
	static                        bool          // the provider's URL does not change
	recoveryLimit                 time.Duration // of the delay before the next attempt to recover; 0 is at once

	mu      sync.Mutex // guards everything below
	state   State
	link    *link // what calls write to; nil while there is none
	session session
	epochs  uint64        // sessions so far
	changed chan struct{} // closed when link or session changes; nil if nobody waits
	err     error         // why calls fail; set when quit is closed
	closed  bool          // Close was called

	// rejected is the last session that the service ended because it could not read a frame. Requests that were on their
	// way then are not sent again: one of them would end the next session too.
	rejected struct {
		epoch uint64
		err   *CloseError
	}
}

// State is what a Conn is doing.
type State int

// The states of a Conn. There is no state for a Conn that Dial has not returned yet.
const (
	StateConnected    State = iota // requests are sent at once
	StateRecovering                // a reliable connection broke and is being recovered
	StateReconnecting              // a new connection is being made
	StateClosed                    // the Conn has ended
)

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

// Stats counts what a Conn has done.
type Stats struct {
	Received    uint64 // messages for Receive, duplicates not counted
	Duplicates  uint64 // messages that came a second time and were ignored
	Dropped     uint64 // messages that were dropped because Options.Buffer was full
	Sent        uint64 // requests, each attempt counted
	Connections uint64 // new connections, the first one included
	Recoveries  uint64 // connections that were recovered
	Queued      int    // messages that wait for Receive now
	QueuedBytes int    // the size of their frames
}

// Dial connects to a hub. It returns when the service has said that the connection is there, or with the error of the
// first attempt; see Options.RetryInitial. The context bounds only Dial: the Conn lives until Close is called or until
// it has to give up, see Conn.Done. Without a deadline, an attempt takes at most 10 seconds. nil options are the defaults.
//
// The error is an [ErrInvalidArgument] for a wrong option or URL, a *[HandshakeError] if the server refused, and otherwise
// what the provider or the network reported. It shows no token.
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
		log:      o.Logger,
		quit:     make(chan struct{}),
		done:     make(chan struct{}),
		queue:    newQueue(o.Buffer, o.Protocol.reliable()),
		state:    StateReconnecting,
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.sequence.send = func(id uint64) {
		if l := c.current(); l != nil {
			l.send(&request{kind: requestSequenceAck, sequenceID: id})
		}
	}
	return c
}

// Close closes the connection with a close frame and ends the Conn. Calls that wait fail with [ErrClosed]; Receive still
// returns the messages that have arrived. When Close returns, the goroutines of the Conn have ended, except a hook that
// runs. Close waits at most 5 seconds for the service, then cuts the connection. It may be called several times, also in
// a hook; the error is always nil.
//
// In whatever state the Conn is, Close ends it: an attempt to connect, a wait before the next one, and a recovery stop.
// Only a URLProvider that ignores its context can hold it up.
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
			l.goodbye(1000, "")
		}
		c.cancel()
	}
	<-c.done
	c.goroutines.wg.Wait()
	return nil
}

// Done returns a channel that is closed when the Conn has ended: after Close, or when it gave up. Err then tells why.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns nil until Done is closed, and then why the Conn ended:
//
//   - [ErrClosed] after Close;
//   - a *[CloseError] if the connection ended and OnServerClose or Reconnect.Disabled wanted no other;
//   - a *[CloseError] that is an [ErrSlowConsumer] if the application received too slowly;
//   - a *[HandshakeError] if the server refused with 401, 403 or 404: for StaticURL once, otherwise for three URLs in a row;
//   - the last error if Reconnect.MaxAttempts were made.
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

// ConnectionID returns the id of the connection: of the last one, while there is none. A new connection has a new id.
func (c *Conn) ConnectionID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.id
}

// UserID returns the user of the connection, or an empty string.
func (c *Conn) UserID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.userID
}

// State returns what the Conn is doing at the moment.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Stats returns what the Conn has done so far.
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

// current returns the link to write to, or nil.
func (c *Conn) current() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}

// isClosed reports whether Close was called.
func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// endError returns why calls fail. It is for use after quit is closed.
func (c *Conn) endError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// change wakes those who wait for a link or a session. The caller holds c.mu.
func (c *Conn) change() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// finish ends the Conn, because of err unless Close was called.
func (c *Conn) finish(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
		close(c.quit)
	}
	err = c.err
	c.state = StateClosed
	c.change()
	c.mu.Unlock()
	c.cancel()
	c.goroutines.close()
	c.sequence.stop()
	c.streams.endAll(err)
	c.queue.end(err)
	close(c.done)
}
