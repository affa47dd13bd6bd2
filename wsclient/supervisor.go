package wsclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/coder/websocket"
)

const (
	// attemptTimeout limits one attempt to connect or recover, including the provider, the handshake and the first frame.
	attemptTimeout = 10 * time.Second

	// recoveryWindow is how long the service keeps a connection after it broke.
	recoveryWindow = 30 * time.Second

	// Limits of the delays between attempts to recover. The first attempt is immediate.
	minRecoveryDelay = 250 * time.Millisecond
	maxRecoveryDelay = 2 * time.Second

	// immediateRecoveryAfter is how long a connection must have been up to be recovered without a delay. The delay
	// protects a service or proxy that drops every connection from a tight loop of recoveries.
	immediateRecoveryAfter = 5 * time.Second

	// resetDelayAfter is how long a connection must have been up to reset the reconnect delay.
	resetDelayAfter = 30 * time.Second

	// providerGrace is how long a provider may take to return after its context has ended.
	providerGrace = time.Second

	// maxRejections is the number of rejected URLs after which the Conn ends.
	maxRejections = 3
)

// session is the service's view of a connection: a connection ID that survives recoveries. Each recovery of a session
// adds a link.
type session struct {
	epoch  uint64 // 1, 2, ... for the sessions of a Conn; 0 after the session has ended
	id     string
	userID string
	token  string // reconnection token; empty if the protocol is not reliable
	url    *url.URL
}

// run is the supervisor goroutine. It reads from the link and replaces the link when it ends.
func (c *Conn) run(l *link) {
	var first *receivedFrame
	for {
		ce := c.serve(l, first)
		var err error
		if l, first, err = c.replace(l, ce); err != nil {
			c.options.Logger.Info("the WebSocket client has ended", "error", err)
			c.finish(err)
			return
		}
	}
}

// receivedFrame is a received frame and its size in bytes.
type receivedFrame struct {
	frame frame
	size  int
}

// serve handles the frames of a link until the link ends, and returns the reason. If first is not nil, it is a frame
// that was already read.
func (c *Conn) serve(l *link, first *receivedFrame) *CloseError {
	if first != nil {
		c.handle(l, &first.frame, first.size)
	}
	var ce *CloseError
	for ce == nil {
		typ, body, err := l.ws.Reader(context.Background())
		if err == nil {
			err = c.receive(l, typ, body)
		}
		if err != nil {
			ce = l.closeError(err)
		}
	}
	c.mu.Lock()
	c.link = nil
	c.mu.Unlock()
	close(l.gone)
	if unreadableCode(ce) && !ce.byPeer { // tell the service that its session is over
		if c.goroutines.spawn(func() { l.close(websocket.StatusCode(ce.Code), ce.Reason) }) {
			return ce
		}
	}
	l.closeNow()
	return ce
}

// receive reads and handles a frame that has begun to arrive. It is not a part of serve, because serve waits in an idle client:
// a frame on its stack would double the size of the stack.
func (c *Conn) receive(l *link, typ websocket.MessageType, body io.Reader) error {
	f, size, err := l.readBody(typ, body)
	if err == nil {
		c.handle(l, &f, size)
	}
	return err
}

// unreadableCode reports whether a connection ended because one side could not read a frame of the other side. After a
// recovery the same frame would be sent again.
func unreadableCode(ce *CloseError) bool {
	switch websocket.StatusCode(ce.Code) {
	case websocket.StatusUnsupportedData, websocket.StatusInvalidFramePayloadData, websocket.StatusMessageTooBig:
		return true
	}
	return false
}

// handle processes a frame. Only the supervisor calls it.
func (c *Conn) handle(l *link, f *frame, size int) {
	switch f.kind {
	case frameMessage:
		c.deliver(l, f.message, size)
	case frameAck:
		if k := c.acks.take(f.ackID); k != nil {
			if k.request.kind == requestJoin && f.isSuccess() {
				c.groups.joined(k.request.group)
			}
			kept := *f        // copied, so that f does not escape to the heap for messages
			k.answer <- &kept // never blocks: each attempt receives at most one acknowledgement
		}
	case frameConnected: // later in a connection, it may carry a new reconnection token
		c.mu.Lock()
		if f.reconnectionToken != "" && f.connectionID == c.session.id && c.queue.reliable {
			c.session.token = f.reconnectionToken
		}
		c.mu.Unlock()
	case frameDisconnected:
		l.disconnected, l.disconnectMessage = true, f.reason
	case frameInvokeResponse:
		if answer := c.invokes.take(f.invocationID); answer != nil {
			kept := *f
			answer <- &kept
		}
	case frameStreamAck, frameStreamNack, frameStreamClosed:
		c.streams.handle(f)
	case frameUnknown:
		c.options.Logger.Debug("ignored a frame of an unknown type")
	}
}

// deliver adds a message to the queue unless it is a duplicate.
func (c *Conn) deliver(l *link, m *Message, size int) {
	if m.SequenceID != 0 && c.queue.reliable && !c.sequence.receive(m.SequenceID, size) {
		c.duplicates.Add(1)
		if id := c.sequence.ackNow(); id > 0 {
			l.send(&request{kind: requestSequenceAck, sequenceID: id})
		}
		return
	}
	// No lock is needed to read the epoch, because only the supervisor changes it.
	released, outcome := c.queue.push(entry{m, c.sequence.epoch, size})
	switch outcome {
	case pushed:
		c.received.Add(1)
		if released.count > 0 {
			c.sequence.release(released)
		}
	case overflowed:
		c.options.Logger.Warn("dropping messages: the application receives too slowly")
		if hook := c.options.OnSlowConsumer; hook != nil {
			queued, _, _ := c.queue.size()
			c.hooks.add(func() { hook(SlowConsumerEvent{c, queued}) })
		}
	}
}

// replace recovers or replaces a link that ended with ce, and returns the new link. For a recovered link, it also
// returns the first frame, which was already read. The error is the reason why the Conn ends.
func (c *Conn) replace(l *link, ce *CloseError) (*link, *receivedFrame, error) {
	broken := time.Now()
	if broken.Sub(l.since) >= resetDelayAfter {
		c.attempt = 0
	}
	c.mu.Lock()
	s, closed := c.session, c.closed
	c.mu.Unlock()
	if closed {
		return nil, nil, ErrClosed
	}
	record := []any{"connection", s.id, "code", ce.Code, "reason", safeText(ce.Reason), "message", safeText(ce.Message)}
	if ce.err != nil {
		record = append(record, "error", ce.err)
	}
	c.options.Logger.Warn("the connection ended", record...)
	// A recovery rejected with 1008 does not mean the same: the application may have closed the connection in the
	// meantime.
	if ce.Code == int(websocket.StatusPolicyViolation) && c.queue.reliable && c.queue.overLimit() {
		ce.err = ErrSlowConsumer
	}
	// Before a close on purpose, the service sends a disconnected frame. Without one, code 1000 may be that of a proxy or of
	// an instance of the service that shuts down.
	if s.token != "" && (canRecover(ce) || isNormal(ce) && !l.disconnected) {
		if broken.Sub(l.since) >= immediateRecoveryAfter {
			c.recoveryLimit = 0
		}
		next, first, err := c.recover(s, ce, broken)
		if next != nil {
			return next, first, nil
		}
		if c.isClosed() {
			return nil, nil, ErrClosed
		}
		c.options.Logger.Warn("the connection could not be recovered", "connection", s.id, "error", err)
		if rejection, ok := errors.AsType[*CloseError](err); ok && !canRecover(rejection) {
			ce = afterRejection(ce, rejection)
		}
	}
	// The close code of a session with too many unacknowledged messages is not documented.
	if !isNormal(ce) && c.queue.reliable && c.queue.overLimit() && c.sequence.reachedServiceLimit() {
		ce.err = ErrSlowConsumer
	}
	c.endSession(ce)
	if hook := c.options.OnDisconnected; hook != nil {
		c.hooks.add(func() { hook(DisconnectedEvent{c, s.id, ce}) })
	}
	switch {
	case errors.Is(ce, ErrSlowConsumer), c.options.Reconnect.Disabled:
		return nil, nil, ce
	case isNormal(ce) && !c.wantsReconnect(ce):
		return nil, nil, ce
	}
	next, err := c.reconnect()
	return next, nil, err
}

// afterRejection returns the reason for the end of a session that ended with ce and whose recovery was rejected. A rejection
// says only that the service does not keep the session, so what the service said before the connection ended is kept.
func afterRejection(ce, rejection *CloseError) *CloseError {
	switch {
	case rejection.Message != "":
		return rejection
	case isNormal(ce):
		return ce
	}
	rejection.Message = ce.Message
	return rejection
}

// isNormal reports whether the service closed a connection with code 1000.
func isNormal(ce *CloseError) bool { return ce.Code == int(websocket.StatusNormalClosure) }

// canRecover reports whether the service may still keep a connection that ended with ce.
func canRecover(ce *CloseError) bool {
	switch websocket.StatusCode(ce.Code) {
	case websocket.StatusNormalClosure, websocket.StatusPolicyViolation:
		return false
	}
	return !unreadableCode(ce)
}

// endSession ends the session and its streams.
func (c *Conn) endSession(ce *CloseError) {
	c.mu.Lock()
	if ce.byPeer && unreadableCode(ce) {
		c.rejected.epoch, c.rejected.err = c.session.epoch, ce
	}
	c.session.epoch = 0
	c.state = StateReconnecting
	c.notifyChanged()
	c.mu.Unlock()
	c.streams.endAll(ce)
}

// wantsReconnect returns the decision of OnServerClose after the service closed the connection on purpose.
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
	// Not queued behind the other hooks: one of them may wait for the connection.
	c.hooks.start(func() {
		defer close(answer) // in case the hook calls runtime.Goexit
		answer <- hook(reason)
	})
	select {
	case wanted := <-answer:
		return wanted
	case <-c.ctx.Done():
		return false
	}
}

// recover tries to recover a session for as long as the service keeps it.
func (c *Conn) recover(s session, ce *CloseError, broken time.Time) (*link, *receivedFrame, error) {
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
				return nil, nil, fmt.Errorf("no attempt within %v succeeded: %w", recoveryWindow, failure)
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
		if c.ctx.Err() != nil || isUnrecoverable(err) {
			return nil, nil, err
		}
		c.options.Logger.Debug("an attempt to recover failed", "connection", s.id, "error", err)
		failure = err
	}
}

// errOtherConnection means that the service, or a proxy, ignored the parameters of a recovery.
var errOtherConnection = errors.New("the service made a new connection instead of recovering the old one")

// isUnrecoverable reports whether err means that the session cannot be recovered. Other errors may be temporary.
func isUnrecoverable(err error) bool {
	if errors.Is(err, errOtherConnection) {
		return true
	}
	if ce, ok := errors.AsType[*CloseError](err); ok {
		return !canRecover(ce)
	}
	if he, ok := errors.AsType[*HandshakeError](err); ok {
		return he.isPermanent()
	}
	return false
}

// tryRecover makes one attempt to recover a session. An open socket does not prove that the session was recovered; the
// first frame does. The service need not send a frame after a recovery, so tryRecover sends a ping to get one.
func (c *Conn) tryRecover(s session) (*link, *receivedFrame, error) {
	ctx, cancel := context.WithTimeout(c.ctx, attemptTimeout)
	defer cancel()
	l, err := c.open(ctx, recoveryURL(s.url, s.id, s.token))
	if err != nil {
		return nil, nil, err
	}
	l.send(&request{kind: requestPing})
	if id := c.sequence.ackNow(); id > 0 {
		l.send(&request{kind: requestSequenceAck, sequenceID: id})
	}
	stop := context.AfterFunc(ctx, l.closeNow)
	f, size, err := l.read()
	if err == nil && f.kind == frameDisconnected {
		l.disconnected, l.disconnectMessage = true, f.reason
		if _, _, err = l.read(); err == nil { // it should read the close frame
			err = errors.New("the service disconnected the client")
		}
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		l.closeNow()
		ce := l.closeError(err)
		if !hasCloseCodes && ce.Code == codeAbnormal && ctx.Err() == nil {
			ce.Code = int(websocket.StatusPolicyViolation) // most likely: the socket opened, and was closed without a frame
		}
		return nil, nil, ce
	}
	if f.kind == frameConnected && f.connectionID != s.id {
		if !c.goroutines.spawn(func() { l.close(websocket.StatusNormalClosure, "") }) {
			l.closeNow()
		}
		return nil, nil, errOtherConnection
	}
	return l, &receivedFrame{f, size}, nil
}

// first makes the first connection of a Conn, and retries if RetryInitial is set.
func (c *Conn) first(ctx context.Context) (*link, session, error) {
	for {
		l, s, err := c.connect(ctx)
		if err == nil {
			return l, s, nil
		}
		if c.giveUp(err) || !c.options.RetryInitial || errors.Is(err, ErrInvalidArgument) {
			return nil, session{}, err
		}
		c.options.Logger.Info("an attempt to connect failed", "error", err)
		t := time.NewTimer(c.nextDelay(err))
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

// reconnect retries until it has a new connection, or the Conn must end.
func (c *Conn) reconnect() (*link, error) {
	var failure error
	for {
		if !c.sleep(c.nextDelay(failure)) {
			return nil, ErrClosed
		}
		l, s, err := c.connect(c.ctx)
		failure = err
		if err == nil {
			if !c.publish(l, s) {
				return nil, ErrClosed
			}
			return l, nil
		}
		if c.isClosed() {
			return nil, ErrClosed
		}
		c.options.Logger.Info("an attempt to connect failed", "error", err)
		if c.giveUp(err) {
			return nil, err
		}
	}
}

// giveUp counts a failed attempt to connect and reports whether it was the last one.
func (c *Conn) giveUp(err error) bool {
	c.failures++
	if he, ok := errors.AsType[*HandshakeError](err); ok && he.isPermanent() {
		c.rejections++
		if c.static || c.rejections >= maxRejections {
			return true
		}
	}
	limit := c.options.Reconnect.MaxAttempts
	return limit > 0 && c.failures >= limit
}

// nextDelay returns the delay before the next attempt to connect, after one that failed with failure. The delay is random,
// so that clients that lost their connections at the same time do not reconnect at the same time.
func (c *Conn) nextDelay(failure error) time.Duration {
	limit := c.options.Reconnect.MaxDelay
	if shift := min(c.attempt, 62); c.options.Reconnect.MinDelay <= limit>>shift {
		limit = c.options.Reconnect.MinDelay << shift
	}
	c.attempt++
	delay := rand.N(limit)
	if he, ok := errors.AsType[*HandshakeError](failure); ok {
		delay += min(he.retryAfter, c.options.Reconnect.MaxDelay, math.MaxInt64-delay)
	}
	return delay
}

// sleep waits for d. It returns false early if the Conn ends.
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

// connect makes a new connection and returns when the service has confirmed it.
func (c *Conn) connect(ctx context.Context) (*link, session, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	target, err := c.askProvider(ctx)
	if err != nil {
		return nil, session{}, fmt.Errorf("wsclient: the URL provider failed: %w", redactError(err, ""))
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
		l.closeNow()
		return nil, session{}, err
	}
	l.secrets = append(l.secrets, f.reconnectionToken)
	s := session{id: f.connectionID, userID: f.userID, token: f.reconnectionToken, url: u}
	if !c.options.Protocol.reliable() {
		s.token = ""
	}
	return l, s, nil
}

// askProvider calls the provider. It gives up on a provider that ignores its context.
func (c *Conn) askProvider(ctx context.Context) (string, error) {
	type result struct {
		url      string
		static   bool
		err      error
		panicked string
	}
	answer := make(chan result, 1)
	go func() {
		r := result{err: errors.New("it called runtime.Goexit")} // like a test's FailNow; replaced if the provider returns
		defer func() {
			if p := recover(); p != nil {
				r.panicked = fmt.Sprintf("%v\n\n%s", p, debug.Stack())
			}
			answer <- r
		}()
		r.url, r.err = c.provider(context.WithValue(ctx, staticKey{}, &r.static))
	}()
	var giveUp <-chan time.Time
	for ended := ctx.Done(); ; {
		select {
		case r := <-answer:
			if r.panicked != "" { // where the caller of Dial can recover
				panic(r.panicked)
			}
			c.static = r.static
			return r.url, r.err
		case <-ended:
			ended, giveUp = nil, time.After(providerGrace) // most providers return now, with a better error
		case <-giveUp:
			return "", ctx.Err()
		}
	}
}

// open dials target and returns the new link.
func (c *Conn) open(ctx context.Context, target string) (*link, error) {
	ws, closeSocket, err := dialWebSocket(ctx, target, &c.options)
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
		closeSocket()
		return nil, fmt.Errorf("wsclient: %s chose the subprotocol %q instead of %s", safeURL(target), got, want)
	}
	l := newLink(ws, closeSocket, c.codec, c.goroutines.spawn)
	l.secrets = secrets(target)
	return l, nil
}

// awaitConnected reads frames up to the connected frame.
func (c *Conn) awaitConnected(ctx context.Context, l *link) (frame, error) {
	stop := context.AfterFunc(ctx, l.closeNow)
	defer stop()
	for {
		f, _, err := l.read()
		switch {
		case err != nil && ctx.Err() != nil:
			return f, fmt.Errorf("wsclient: waiting for the connected frame: %w", ctx.Err())
		case err != nil:
			return f, l.closeError(err)
		case f.kind == frameDisconnected:
			l.disconnected, l.disconnectMessage = true, f.reason
		case f.kind == frameConnected && f.connectionID == "":
			return f, l.closeError(unreadable("a connected frame without a connectionId"))
		case f.kind == frameConnected:
			if !stop() {
				return f, ctx.Err()
			}
			return f, nil
		}
	}
}

// publish makes a link the one that calls write to. It returns false if the Conn was closed in the meantime. A session
// whose epoch is 0 is new.
func (c *Conn) publish(l *link, s session) bool {
	resumed := s.epoch != 0
	c.failures, c.rejections = 0, 0
	l.alive.watch(l, c.options.KeepAlive)
	var rejoins []rejoin
	if !resumed {
		s.epoch = c.newConnections.Add(1)
		c.sequence.reset(s.epoch)
		c.acks.clear()
		rejoins = c.beginRejoins(l, s.epoch) // before any other call can write
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		l.close(websocket.StatusNormalClosure, "")
		return false
	}
	if resumed {
		s.token = c.session.token
	}
	c.link, c.session, c.state = l, s, StateConnected
	c.notifyChanged()
	c.mu.Unlock()
	if resumed {
		c.recoveries.Add(1)
		if id := c.sequence.ackNow(); id > 0 { // acknowledges messages received while there was no link
			l.send(&request{kind: requestSequenceAck, sequenceID: id})
		}
		c.streams.resume(l)
	} else {
		c.streams.endOlder(s.epoch)
		c.finishRejoins(l, rejoins)
	}
	c.notifyConnected(s, resumed)
	return true
}

// notifyConnected logs an established connection and calls the hooks.
func (c *Conn) notifyConnected(s session, resumed bool) {
	c.options.Logger.Info("connected", "url", safeURL(s.url.String()), "connection", s.id, "user", s.userID, "resumed", resumed)
	e := ConnectedEvent{Conn: c, ConnectionID: s.id, UserID: s.userID, Resumed: resumed, First: s.epoch == 1 && !resumed}
	if hook := c.options.OnRecovered; hook != nil && resumed {
		c.hooks.add(func() { hook(e) })
	}
	if hook := c.options.OnConnected; hook != nil {
		c.hooks.add(func() { hook(e) })
	}
}
