package wsclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
)

const (
	// attemptTimeout bounds one attempt to connect or to recover: provider, handshake and first frame.
	attemptTimeout = 10 * time.Second

	// recoveryWindow is how long after a break the service keeps a connection.
	recoveryWindow = 30 * time.Second

	// The delays between attempts to recover. The first attempt is made at once.
	minRecoveryDelay = 250 * time.Millisecond
	maxRecoveryDelay = 2 * time.Second

	// steadyAfter is how long a connection must have been up before it is recovered at once. One that broke earlier is
	// recovered after a delay, so that a service or a proxy that drops every connection is not asked without pause.
	steadyAfter = 5 * time.Second

	// stableAfter is how long a connection must have been up to count as a success.
	stableAfter = 30 * time.Second

	// maxRejections is how many URLs in a row the server may reject before the Conn ends.
	maxRejections = 3
)

// session is a connection of the service: it has one connection id, and as many links as it was recovered.
type session struct {
	epoch  uint64 // 1, 2, ... for the sessions of a Conn; 0 when it has ended
	id     string
	userID string
	token  string // for recovery; empty if the protocol is not reliable
	url    *url.URL
}

// run is the supervisor: it reads the link, and replaces it when it ends.
func (c *Conn) run(l *link) {
	var first *arrival
	for {
		ce := c.serve(l, first)
		var err error
		if l, first, err = c.replace(l, ce); err != nil {
			c.log.Info("the WebSocket client has ended", "error", err)
			c.finish(err)
			return
		}
	}
}

// arrival is a frame that has come, and its size.
type arrival struct {
	frame frame
	size  int
}

// serve reads a link to its end, beginning with a frame that was read already.
func (c *Conn) serve(l *link, first *arrival) *CloseError {
	if first != nil {
		c.handle(l, &first.frame, first.size)
	}
	var ce *CloseError
	for ce == nil {
		f, size, err := l.read()
		if err != nil {
			ce = l.closeError(err)
			break
		}
		c.handle(l, &f, size)
	}
	c.mu.Lock()
	c.link = nil
	c.mu.Unlock()
	close(l.gone)
	if unreadableCode(ce) && !ce.byPeer { // the service must learn that its session is over
		if c.goroutines.spawn(func() { l.goodbye(websocket.StatusCode(ce.Code), ce.Reason) }) {
			return ce
		}
	}
	l.end()
	return ce
}

// unreadableCode reports whether a connection ended because one side could not read a frame of the other. Recovering the
// connection would bring the frame again.
func unreadableCode(ce *CloseError) bool {
	switch websocket.StatusCode(ce.Code) {
	case websocket.StatusUnsupportedData, websocket.StatusInvalidFramePayloadData, websocket.StatusMessageTooBig:
		return true
	}
	return false
}

// handle does what a frame asks for. Only the supervisor calls it.
func (c *Conn) handle(l *link, f *frame, size int) {
	switch f.kind {
	case frameMessage:
		c.deliver(l, f.message, size)
	case frameAck:
		kept := *f // a copy, so that the frames of messages stay on the stack
		c.acks.resolve(&kept)
	case frameConnected: // during the connection's life: it may bring a new token
		c.mu.Lock()
		if f.reconnectionToken != "" && f.connectionID == c.session.id {
			c.session.token = f.reconnectionToken
		}
		c.mu.Unlock()
	case frameDisconnected:
		l.farewell = f.reason
	case frameInvokeResponse:
		kept := *f
		c.invokes.resolve(&kept)
	case frameStreamAck, frameStreamNack, frameStreamClosed:
		c.streams.handle(f)
	case frameUnknown:
		c.log.Debug("ignored a frame of an unknown type")
	}
}

// deliver queues a message.
func (c *Conn) deliver(l *link, m *Message, size int) {
	if m.SequenceID != 0 && c.queue.reliable && !c.sequence.receive(m.SequenceID) {
		c.duplicates.Add(1)
		if id := c.sequence.again(); id > 0 {
			l.send(&request{kind: requestSequenceAck, sequenceID: id})
		}
		return
	}
	// The supervisor alone changes the epoch, so it may read it without a lock.
	released, outcome := c.queue.push(entry{m, c.sequence.epoch, size})
	switch outcome {
	case pushed:
		c.received.Add(1)
		if released.count > 0 {
			c.sequence.release(released)
		}
	case overflowed:
		c.log.Warn("messages are dropped: the application receives too slowly")
		if hook := c.options.OnSlowConsumer; hook != nil {
			queued, _, _ := c.queue.size()
			c.hooks.add(func() { hook(SlowConsumerEvent{c, queued}) })
		}
	}
}

// replace returns the link that takes the place of one that ended, or why there is none. With a recovered link comes the
// first frame that was read from it.
func (c *Conn) replace(l *link, ce *CloseError) (*link, *arrival, error) {
	broken := time.Now()
	if broken.Sub(l.since) >= stableAfter {
		c.attempt = 0
	}
	c.mu.Lock()
	s, closed := c.session, c.closed
	c.mu.Unlock()
	if closed {
		return nil, nil, ErrClosed
	}
	c.log.Warn("the connection ended", "connection", s.id, "code", ce.Code, "reason", ce.Reason, "message", ce.Message, "error", ce.err)
	// A recovery that is refused with 1008 tells nothing of this: the application may have closed the connection meanwhile.
	if ce.Code == int(websocket.StatusPolicyViolation) && c.queue.reliable && c.queue.withheld() {
		ce.err = ErrSlowConsumer
	}
	if s.token != "" && canRecover(ce) {
		if broken.Sub(l.since) >= steadyAfter {
			c.recoveryLimit = 0
		}
		next, first, err := c.recover(s, ce, broken)
		if next != nil {
			return next, first, nil
		}
		if c.isClosed() {
			return nil, nil, ErrClosed
		}
		c.log.Warn("the connection was not recovered", "connection", s.id, "error", err)
		if refusal, ok := errors.AsType[*CloseError](err); ok && !canRecover(refusal) {
			ce = refusal
		}
	}
	c.endSession(ce)
	if hook := c.options.OnDisconnected; hook != nil {
		c.hooks.add(func() { hook(DisconnectedEvent{c, s.id, ce}) })
	}
	switch {
	case errors.Is(ce, ErrSlowConsumer), c.options.Reconnect.Disabled:
		return nil, nil, ce
	case ce.Code == int(websocket.StatusNormalClosure) && !c.wantsReconnect(ce):
		return nil, nil, ce
	}
	next, err := c.reconnect()
	return next, nil, err
}

// canRecover reports whether the service may still keep a connection that ended so.
func canRecover(ce *CloseError) bool {
	switch websocket.StatusCode(ce.Code) {
	case websocket.StatusNormalClosure, websocket.StatusPolicyViolation:
		return false
	}
	return !unreadableCode(ce)
}

// endSession gives up a session: its acknowledgements, invocations and streams will not come back.
func (c *Conn) endSession(ce *CloseError) {
	c.mu.Lock()
	if ce.byPeer && unreadableCode(ce) {
		c.rejected.epoch, c.rejected.err = c.session.epoch, ce
	}
	c.session.epoch = 0
	c.state = StateReconnecting
	c.change()
	c.mu.Unlock()
	c.streams.endAll(ce)
}

// wantsReconnect asks the application what to do after the service closed the connection on purpose.
func (c *Conn) wantsReconnect(ce *CloseError) bool {
	hook := c.options.OnServerClose
	if hook == nil {
		return true
	}
	reason := ce.Message
	if reason == "" {
		reason = ce.Reason
	}
	answer := make(chan bool, 1)
	c.hooks.add(func() { answer <- hook(reason) })
	select {
	case wanted := <-answer:
		return wanted
	case <-c.ctx.Done():
		return false
	}
}

// recover attaches to a session that broke, within the time that the service keeps it.
func (c *Conn) recover(s session, ce *CloseError, broken time.Time) (*link, *arrival, error) {
	c.mu.Lock()
	c.state = StateRecovering
	c.mu.Unlock()
	if hook := c.options.OnRecovering; hook != nil {
		c.hooks.add(func() { hook(RecoveringEvent{c, s.id, ce}) })
	}
	var failure error = ce
	for {
		if c.recoveryLimit > 0 {
			delay := c.recoveryLimit/2 + rand.N(c.recoveryLimit/2+1)
			if time.Since(broken)+delay >= recoveryWindow {
				return nil, nil, fmt.Errorf("not within %v: %w", recoveryWindow, failure)
			}
			if !c.sleep(delay) {
				return nil, nil, ErrClosed
			}
		}
		c.recoveryLimit = min(max(2*c.recoveryLimit, minRecoveryDelay), maxRecoveryDelay)
		l, first, err := c.tryRecover(s)
		if err == nil {
			if !c.publish(l, s) {
				return nil, nil, ErrClosed
			}
			return l, first, nil
		}
		if c.ctx.Err() != nil || isRefusal(err) {
			return nil, nil, err
		}
		c.log.Debug("an attempt to recover failed", "connection", s.id, "error", err)
		failure = err
	}
}

// isRefusal reports whether a session cannot be recovered any more. Other failures may pass.
func isRefusal(err error) bool {
	if ce, ok := errors.AsType[*CloseError](err); ok {
		return !canRecover(ce)
	}
	if he, ok := errors.AsType[*HandshakeError](err); ok {
		return he.refused()
	}
	return false
}

// tryRecover makes a link for a session that broke. The session is recovered when the first frame has come, not when the
// socket is open. The service promises no frame, so this asks for one.
func (c *Conn) tryRecover(s session) (*link, *arrival, error) {
	ctx, cancel := context.WithTimeout(c.ctx, attemptTimeout)
	defer cancel()
	l, err := c.open(ctx, recoveryURL(s.url, s.id, s.token))
	if err != nil {
		return nil, nil, err
	}
	l.send(&request{kind: requestPing})
	if id := c.sequence.again(); id > 0 {
		l.send(&request{kind: requestSequenceAck, sequenceID: id})
	}
	stop := context.AfterFunc(ctx, l.end)
	f, size, err := l.read()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		l.end()
		return nil, nil, l.closeError(err)
	}
	if f.kind == frameDisconnected {
		l.farewell = f.reason
		_, _, err := l.read() // the close frame that follows
		l.end()
		return nil, nil, l.closeError(errors.Join(err, errors.New("the service said goodbye")))
	}
	return l, &arrival{f, size}, nil
}

// first makes the first connection of a Conn.
func (c *Conn) first(ctx context.Context) (*link, session, error) {
	for {
		l, s, err := c.connect(ctx)
		if err == nil {
			return l, s, nil
		}
		if c.giveUp(err) || !c.options.RetryInitial || errors.Is(err, ErrInvalidArgument) {
			return nil, session{}, err
		}
		c.log.Info("an attempt to connect failed", "error", err)
		t := time.NewTimer(c.nextDelay())
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			if !errors.Is(err, ctx.Err()) {
				err = fmt.Errorf("wsclient: Dial: %w after %w", ctx.Err(), err)
			}
			return nil, session{}, err
		}
	}
}

// reconnect makes a new connection, however long it takes.
func (c *Conn) reconnect() (*link, error) {
	for {
		if !c.sleep(c.nextDelay()) {
			return nil, ErrClosed
		}
		l, s, err := c.connect(c.ctx)
		if err == nil {
			if !c.publish(l, s) {
				return nil, ErrClosed
			}
			return l, nil
		}
		if c.isClosed() {
			return nil, ErrClosed
		}
		c.log.Info("an attempt to connect failed", "error", err)
		if c.giveUp(err) {
			return nil, err
		}
	}
}

// giveUp counts a failed attempt to connect, and reports whether it was the last.
func (c *Conn) giveUp(err error) bool {
	c.failures++
	if he, ok := errors.AsType[*HandshakeError](err); ok && he.refused() {
		c.rejections++
		if c.static || c.rejections >= maxRejections {
			return true
		}
	}
	limit := c.options.Reconnect.MaxAttempts
	return limit > 0 && c.failures >= limit
}

// nextDelay returns the delay before the next attempt: random, so that clients which were cut off together come back
// one by one.
func (c *Conn) nextDelay() time.Duration {
	limit := c.options.Reconnect.MaxDelay
	if shifted := c.options.Reconnect.MinDelay << min(c.attempt, 30); shifted > 0 {
		limit = min(limit, shifted)
	}
	c.attempt++
	return rand.N(limit + 1)
}

// sleep waits, and reports false when the Conn ended meanwhile.
func (c *Conn) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// connect makes a new connection: it returns when the service has said that it is there.
func (c *Conn) connect(ctx context.Context) (*link, session, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	target, err := c.provider(context.WithValue(ctx, staticKey{}, &c.static))
	if err != nil {
		return nil, session{}, fmt.Errorf("wsclient: the URL provider failed: %w", scrub(err, ""))
	}
	u, err := parseClientURL(target, !c.options.Anonymous && c.options.Header.Get("Authorization") == "")
	if err != nil {
		return nil, session{}, err
	}
	l, err := c.open(ctx, target)
	if err != nil {
		return nil, session{}, err
	}
	f, err := c.awaitConnected(ctx, l)
	if err != nil {
		l.end()
		return nil, session{}, err
	}
	s := session{id: f.connectionID, userID: f.userID, token: f.reconnectionToken, url: u}
	if !c.options.Protocol.reliable() {
		s.token = ""
	}
	return l, s, nil
}

// open makes a link.
func (c *Conn) open(ctx context.Context, target string) (*link, error) {
	ws, cut, err := dialWebSocket(ctx, target, &c.options)
	if err != nil {
		if _, ok := errors.AsType[*HandshakeError](err); ok {
			return nil, err
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("wsclient: connecting to %s: %w", safeURL(target), err)
	}
	if got, want := ws.Subprotocol(), c.options.Protocol.String(); !strings.EqualFold(got, want) {
		cut()
		return nil, fmt.Errorf("wsclient: %s chose the subprotocol %q instead of %s", safeURL(target), got, want)
	}
	return newLink(ws, cut, c.codec, c.goroutines.spawn), nil
}

// awaitConnected reads up to the frame that says that the connection is there.
func (c *Conn) awaitConnected(ctx context.Context, l *link) (frame, error) {
	stop := context.AfterFunc(ctx, l.end)
	defer stop()
	for {
		f, _, err := l.read()
		switch {
		case err != nil && ctx.Err() != nil:
			return f, fmt.Errorf("wsclient: waiting for the connected frame: %w", ctx.Err())
		case err != nil:
			return f, l.closeError(err)
		case f.kind == frameDisconnected:
			l.farewell = f.reason
		case f.kind == frameConnected && f.connectionID == "":
			return f, unreadable("a connected frame without a connectionId")
		case f.kind == frameConnected:
			if !stop() {
				return f, ctx.Err()
			}
			return f, nil
		}
	}
}

// publish makes a link the one that calls write to, and reports false if the Conn was closed meanwhile. A session
// without an epoch is new.
func (c *Conn) publish(l *link, s session) bool {
	resumed := s.epoch != 0
	c.failures, c.rejections = 0, 0
	l.alive.watch(l, c.options.KeepAlive)
	var rejoins []rejoin
	if !resumed {
		c.epochs++
		s.epoch = c.epochs
		c.sequence.reset(s.epoch)
		c.acks.clear()
		rejoins = c.beginRejoins(l, s.epoch) // before any call can write
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		l.goodbye(websocket.StatusNormalClosure, "")
		return false
	}
	if resumed {
		s.token = c.session.token
	}
	c.link, c.session, c.state = l, s, StateConnected
	c.change()
	c.mu.Unlock()
	if resumed {
		c.recoveries.Add(1)
		if id := c.sequence.again(); id > 0 { // what was received while there was no link
			l.send(&request{kind: requestSequenceAck, sequenceID: id})
		}
		c.streams.resume(l)
	} else {
		c.newConnections.Add(1)
		c.streams.endOlder(s.epoch)
		c.finishRejoins(l, rejoins)
	}
	c.announce(s, resumed)
	return true
}

// announce reports a connection that is there.
func (c *Conn) announce(s session, resumed bool) {
	c.log.Info("connected", "url", safeURL(s.url.String()), "connection", s.id, "user", s.userID, "resumed", resumed)
	e := ConnectedEvent{Conn: c, ConnectionID: s.id, UserID: s.userID, Resumed: resumed, First: s.epoch == 1 && !resumed}
	if hook := c.options.OnRecovered; hook != nil && resumed {
		c.hooks.add(func() { hook(e) })
	}
	if hook := c.options.OnConnected; hook != nil {
		c.hooks.add(func() { hook(e) })
	}
}
