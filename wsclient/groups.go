package wsclient

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// SendToGroupOptions are the options of SendToGroup.
type SendToGroupOptions struct {
	// NoEcho keeps the message from coming back, if this client is in the group.
	NoEcho bool

	// TTL is how long the service keeps the message for a client that cannot receive it at the moment: whole seconds, at
	// most 300. 0 means without limit.
	TTL time.Duration

	// Metadata goes with the message: keys are HTTP tokens of at most 256 bytes, values ASCII of at most 1,024 bytes, all
	// together at most 8 KiB.
	Metadata map[string]string

	// NoAck does not ask for an acknowledgement: SendToGroup returns when the frame is written to the connection. An
	// error of the service, such as a lacking permission, remains unnoticed.
	NoAck bool

	// AtMostOnce does not send the message again if it may have been delivered. SendToGroup then returns
	// ErrOutcomeUnknown.
	AtMostOnce bool
}

// SendToGroup sends a message to the members of a group. The client needs the permission to send to it, and need not be
// a member.
//
// SendToGroup returns when the service has acknowledged the message. While the connection is down, it waits, until ctx
// ends. If the connection breaks before the acknowledgement comes, it sends the message again: with the same ackId on a
// recovered connection, where the service executes it once, and with a new one on a new connection, where the message may
// be delivered twice. AtMostOnce prevents that. An InternalServerError is tried again up to three times.
//
// The error is an *[AckError] if the service rejected the message, which is an [ErrForbidden] if the permission is lacking;
// ctx's error; a *[CloseError] if the service closed the connection because it could not read a frame (1003, 1007, 1009),
// possibly this one; or why the Conn has ended. An error that is an [ErrOutcomeUnknown] means that the message was sent and may
// have been delivered.
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

// SendEventOptions are the options of SendEvent.
type SendEventOptions struct {
	// Metadata goes with the event. See SendToGroupOptions.
	Metadata map[string]string

	// NoAck does not ask for an acknowledgement. See SendToGroupOptions.
	NoAck bool

	// AtMostOnce does not send the event again if it may have been handled. See SendToGroupOptions.
	AtMostOnce bool
}

// SendEvent sends an event to the application's event handler. The name is a letter, then up to 127 letters, digits, and any
// of _ . -. The service acknowledges the event when the handler has answered. A handler's answer arrives as a message from
// the server.
//
// While the connection is down, and when it breaks, SendEvent does what [Conn.SendToGroup] does, and has its errors. An
// event that the handler fails to handle is an InternalServerError.
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

// valueOr returns what options point to, or the zero value for nil.
func valueOr[T any](options *T) (o T) {
	if options != nil {
		o = *options
	}
	return o
}

// groups are those that the application wants to be in. A group counts from the call on, not from its acknowledgement,
// which may get lost.
type groups struct {
	mu     sync.Mutex // guards wanted
	wanted map[string]struct{}
}

// want notes that a group is wanted, and reports whether it was not before.
func (g *groups) want(group string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, wanted := g.wanted[group]; wanted {
		return false
	}
	if g.wanted == nil {
		g.wanted = make(map[string]struct{})
	}
	g.wanted[group] = struct{}{}
	return true
}

func (g *groups) drop(group string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.wanted, group)
}

func (g *groups) wants(group string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, wanted := g.wanted[group]
	return wanted
}

func (g *groups) all() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.wanted))
}

// JoinGroup joins a group. The client needs the permission to join it.
//
// The group is wanted from the call on: until LeaveGroup, the Conn joins it again on each new connection, before any
// other request is sent there, unless Options.NoRejoin is set. It is not wanted if this call, the first one for the group,
// fails with an *[AckError]. If ctx ends before the acknowledgement comes, the group stays wanted and may be joined later;
// call LeaveGroup if that must not be.
//
// While the connection is down, JoinGroup waits, until ctx ends. Its errors are those of [Conn.SendToGroup].
func (c *Conn) JoinGroup(ctx context.Context, group string) error {
	const operation = "JoinGroup"
	if err := checkGroup(operation, group); err != nil {
		return err
	}
	added := c.groups.want(group)
	err := c.do(ctx, &call{operation: operation, request: request{kind: requestJoin, group: group}})
	if added && errors.As(err, new(*AckError)) {
		c.groups.drop(group)
	}
	return err
}

// LeaveGroup leaves a group. From the call on, the Conn does not join it again. To leave a group that the client is not in
// succeeds.
//
// While the connection is down, LeaveGroup waits, until ctx ends. Its errors are those of [Conn.SendToGroup].
func (c *Conn) LeaveGroup(ctx context.Context, group string) error {
	const operation = "LeaveGroup"
	if err := checkGroup(operation, group); err != nil {
		return err
	}
	c.groups.drop(group)
	return c.do(ctx, &call{operation: operation, request: request{kind: requestLeave, group: group}})
}

// rejoin is a group that is being joined again.
type rejoin struct {
	*call
	write *write
}

// beginRejoins sends the requests to join the wanted groups on a new link that no call can write to yet.
func (c *Conn) beginRejoins(l *link, epoch uint64) []rejoin {
	if c.options.NoRejoin {
		return nil
	}
	var all []rejoin
	for _, group := range c.groups.all() {
		k := &call{operation: "JoinGroup", only: epoch, wanted: func() bool { return c.groups.wants(group) },
			request: request{kind: requestJoin, group: group}}
		if w, err := c.attemptCall(k, l, epoch); err == nil {
			all = append(all, rejoin{k, w})
		}
	}
	return all
}

// finishRejoins waits in the background for the answers to beginRejoins.
func (c *Conn) finishRejoins(l *link, all []rejoin) {
	if len(all) == 0 {
		return
	}
	c.goroutines.spawn(func() {
		for _, r := range all {
			done, err := c.await(c.ctx, r.call, l, r.write)
			if !done {
				err = c.do(c.ctx, r.call)
			}
			if err == nil || errors.Is(err, errSuperseded) || c.ctx.Err() != nil {
				continue
			}
			group := r.request.group
			c.log.Warn("a group was not joined again", "group", group, "error", err)
			if hook := c.options.OnRejoinFailed; hook != nil {
				c.hooks.add(func() { hook(RejoinFailedEvent{c, group, err}) })
			}
		}
	})
}
