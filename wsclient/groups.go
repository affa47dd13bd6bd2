package wsclient

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// SendToGroupOptions are the options of [Conn.SendToGroup].
type SendToGroupOptions struct {
	// NoEcho excludes this client from the recipients if it is in the group.
	NoEcho bool

	// TTL is how long the service keeps the message for a client that cannot receive it at the moment. It must be a whole
	// number of seconds, at most 300. 0 means no limit.
	TTL time.Duration

	// Metadata is sent along with the message. The limits are:
	//
	//   - keys: HTTP tokens of up to 256 bytes;
	//   - values: ASCII, up to 1,024 bytes;
	//   - total: 8 KiB.
	Metadata map[string]string

	// NoAck does not request an acknowledgement: SendToGroup returns when the frame has been written to the connection.
	// Errors of the service, such as a missing permission, are not reported.
	NoAck bool

	// AtMostOnce prevents retries that could deliver the message twice. SendToGroup returns an error instead:
	//
	//   - ErrOutcomeUnknown if the connection broke and could not be recovered;
	//   - the *AckError if the service reported an InternalServerError.
	AtMostOnce bool
}

// SendToGroup sends a message to the members of a group. The client needs the permission to send to the group, but need
// not be a member. The name of a group has 1 to 1,024 UTF-16 code units, not all of them white space.
//
// SendToGroup returns when the service has acknowledged the message. It waits while the connection is down, until ctx
// ends. If the connection breaks before the acknowledgement arrives, SendToGroup sends the message again:
//
//   - On a recovered connection it uses the same ackId, so the service executes the request only once.
//   - On a new connection it uses a new ackId, so the message may be delivered twice. AtMostOnce prevents this retry.
//
// SendToGroup also retries after an InternalServerError, up to three times, unless AtMostOnce is set.
//
// SendToGroup returns:
//
//   - [ErrInvalidArgument] if an argument is invalid;
//   - an *[AckError] if the service rejected the message; it matches [ErrForbidden] if the client lacks the permission;
//   - the error of ctx if ctx ended;
//   - a *[CloseError] if the service closed the connection because it could not read a frame (1003, 1007 or 1009).
//     SendToGroup does not retry, because that frame may be this message's;
//   - the error of [Conn.Err] if the Conn has ended.
//
// If the message may have been delivered despite the error, the error also matches [ErrOutcomeUnknown].
func (c *Conn) SendToGroup(ctx context.Context, group string, payload Payload, options *SendToGroupOptions) error {
	const operation = "SendToGroup"
	o := valueOr(options)
	if err := cmp.Or(checkGroup(operation, group), c.checkPayload(operation, payload),
		checkTTL(operation, o.TTL), checkMetadata(operation, o.Metadata)); err != nil {
		return err
	}
	return c.do(ctx, &call{operation: operation, noAck: o.NoAck, atMostOnce: o.AtMostOnce, request: request{
		kind: requestSend, group: group, payload: payload, noEcho: o.NoEcho, ttl: o.TTL, metadata: o.Metadata}})
}

// SendEventOptions are the options of [Conn.SendEvent].
type SendEventOptions struct {
	// Metadata is sent along with the event. See [SendToGroupOptions] for the limits.
	Metadata map[string]string

	// NoAck does not request an acknowledgement: SendEvent returns when the frame has been written to the connection.
	// Errors of the service and of the event handler are not reported.
	NoAck bool

	// AtMostOnce prevents retries that could deliver the event twice. SendEvent returns an error instead: see
	// [SendToGroupOptions].
	AtMostOnce bool
}

// SendEvent sends an event to the application's event handler. The name of an event is a letter, then up to 127 letters,
// digits and any of _ . -.
//
// The service acknowledges the event after the event handler has responded. A response with data arrives as a message
// from the server. To receive the response as a result, use [Conn.Invoke].
//
// SendEvent waits, retries and returns errors like [Conn.SendToGroup]. If the event handler still fails after the
// retries, the error is an *[AckError] with the name InternalServerError. The service reports a rejected event in the same
// way, so a rejected event is also sent again, unless AtMostOnce is set.
func (c *Conn) SendEvent(ctx context.Context, event string, payload Payload, options *SendEventOptions) error {
	const operation = "SendEvent"
	o := valueOr(options)
	if err := cmp.Or(checkEvent(operation, event), c.checkPayload(operation, payload),
		checkMetadata(operation, o.Metadata)); err != nil {
		return err
	}
	return c.do(ctx, &call{operation: operation, noAck: o.NoAck, atMostOnce: o.AtMostOnce, request: request{
		kind: requestEvent, event: event, payload: payload, metadata: o.Metadata}})
}

// valueOr returns *options, or the zero value if options is nil.
func valueOr[T any](options *T) (o T) {
	if options != nil {
		o = *options
	}
	return o
}

// groups holds the groups to rejoin on a new connection.
//
// The requests for groups are queued for writing while mu is locked, and the service executes them in that order. So the last
// one decides whether the group is wanted. A request that is sent again after a recovery counts as the last one, although the
// service may have executed it before. That matters only if JoinGroup and LeaveGroup for the group run at the same time.
type groups struct {
	mu      sync.Mutex // guards everything below
	members map[string]*membership
}

// membership is what calls have requested for a group. It exists while the group is wanted or JoinGroup is running.
type membership struct {
	wanted  bool // no LeaveGroup followed the last JoinGroup
	kept    bool // the group is wanted, and a JoinGroup succeeded or may have; a new connection rejoins it
	joining int  // number of running JoinGroup calls; each sends its own request on a new connection
}

// beginJoin makes a group wanted, before the request is sent because the acknowledgement may get lost.
func (g *groups) beginJoin(group string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[group]
	if m == nil {
		if g.members == nil {
			g.members = make(map[string]*membership)
		}
		m = new(membership)
		g.members[group] = m
	}
	m.wanted = true
	m.joining++
}

// joined records a successful acknowledgement. The reader calls it, so the group is known before the next connection, even if
// JoinGroup has not returned yet.
func (g *groups) joined(group string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.members[group]; m != nil {
		m.kept = m.wanted // not wanted if LeaveGroup was called in the meantime
	}
}

// endJoin ends beginJoin. A rejected group remains wanted if another JoinGroup succeeded or still may.
func (g *groups) endJoin(group string, rejected bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.members[group]
	m.joining--
	switch {
	case !rejected:
		m.kept = m.wanted // not wanted if LeaveGroup was called in the meantime
	case m.joining == 0 && !m.kept:
		m.wanted = false
	}
	g.tidy(group, m)
}

// leave makes a group unwanted.
func (g *groups) leave(group string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop(group)
}

// drop makes a group unwanted. The caller holds g.mu.
func (g *groups) drop(group string) {
	if m := g.members[group]; m != nil {
		m.wanted, m.kept = false, false
		g.tidy(group, m)
	}
}

// tidy removes a membership that is no longer needed. The caller holds g.mu.
func (g *groups) tidy(group string, m *membership) {
	if !m.wanted && m.joining == 0 {
		delete(g.members, group)
	}
}

// beforeWrite updates the group of a request that is about to be written. It returns false for a request to rejoin a group
// that is no longer wanted. The caller holds g.mu.
func (g *groups) beforeWrite(k *call) bool {
	m := g.members[k.request.group]
	switch {
	case k.request.kind == requestLeave:
		g.drop(k.request.group) // a JoinGroup may have been written since LeaveGroup was called
	case k.only != 0:
		return m != nil && m.kept
	default:
		m.wanted = true // a LeaveGroup may have been called since JoinGroup was called
	}
	return true
}

// all returns the groups to rejoin.
func (g *groups) all() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var kept []string
	for group, m := range g.members {
		if m.kept {
			kept = append(kept, group)
		}
	}
	slices.Sort(kept)
	return kept
}

// JoinGroup joins a group. The client needs the permission to join it.
//
// Until [Conn.LeaveGroup], the Conn rejoins the group on each new connection, before it sends other requests.
// [Options.NoRejoin] disables that. If JoinGroup returns an *[AckError], the group is not rejoined, unless an earlier or
// a concurrent JoinGroup for it succeeds. If ctx ends before the acknowledgement arrives, the client may be in the group
// or may join it later: call LeaveGroup to undo that.
//
// JoinGroup waits, retries and returns errors like [Conn.SendToGroup].
func (c *Conn) JoinGroup(ctx context.Context, group string) error {
	const operation = "JoinGroup"
	if err := checkGroup(operation, group); err != nil {
		return err
	}
	c.groups.beginJoin(group)
	err := c.do(ctx, &call{operation: operation, request: request{kind: requestJoin, group: group}})
	c.groups.endJoin(group, errors.As(err, new(*AckError)))
	return err
}

// LeaveGroup leaves a group. The Conn does not rejoin the group on later connections, even if LeaveGroup returns an
// error. If a JoinGroup for the group runs at the same time, the request that is sent last decides. Leaving a group that
// the client is not in succeeds.
//
// LeaveGroup waits, retries and returns errors like [Conn.SendToGroup].
func (c *Conn) LeaveGroup(ctx context.Context, group string) error {
	const operation = "LeaveGroup"
	if err := checkGroup(operation, group); err != nil {
		return err
	}
	c.groups.leave(group)
	return c.do(ctx, &call{operation: operation, request: request{kind: requestLeave, group: group}})
}

// rejoin is the request to rejoin a group, and its current write.
type rejoin struct {
	*call
	write *write
}

// beginRejoins sends the requests to rejoin the groups on a new link. No other call can write to the link yet.
func (c *Conn) beginRejoins(l *link, epoch uint64) []rejoin {
	if c.options.NoRejoin {
		return nil
	}
	var all []rejoin
	for _, group := range c.groups.all() {
		k := &call{operation: "JoinGroup", only: epoch, request: request{kind: requestJoin, group: group}}
		if w, err := c.attemptCall(k, l, epoch); err == nil {
			all = append(all, rejoin{k, w})
		}
	}
	return all
}

// finishRejoins waits in the background for the acknowledgements of the requests from beginRejoins.
func (c *Conn) finishRejoins(l *link, all []rejoin) {
	if len(all) == 0 {
		return
	}
	c.goroutines.spawn(func() {
		for _, r := range all {
			select {
			case f := <-r.answer:
				if f.success {
					l.confirm(r.write)
					continue
				}
				r.answer <- f // for await
			case <-l.gone:
			case <-c.quit:
				return
			}
			c.goroutines.spawn(func() { c.finishRejoin(l, r) }) // retries of many groups must not wait for each other
		}
	})
}

// finishRejoin retries a request from beginRejoins, if that makes sense, and reports its failure.
func (c *Conn) finishRejoin(l *link, r rejoin) {
	done, err := c.await(c.ctx, r.call, l, r.write)
	if !done {
		err = c.do(c.ctx, r.call)
	}
	if err == nil || errors.Is(err, errSuperseded) || c.ctx.Err() != nil {
		return
	}
	group := r.request.group
	c.options.Logger.Warn("a group could not be rejoined", "group", group, "error", err)
	if hook := c.options.OnRejoinFailed; hook != nil {
		c.hooks.add(func() { hook(RejoinFailedEvent{c, group, err}) })
	}
}
