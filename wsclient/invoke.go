package wsclient

import (
	"cmp"
	"context"
	"strconv"
)

// InvokeOptions are the options of [Conn.Invoke]. There are none yet.
type InvokeOptions struct{}

// Invoke sends an event to the application's event handler and returns the handler's response. Several calls may be in
// flight at the same time. If the response is empty, Invoke returns the zero Payload.
//
// Invoke waits while the connection is down, until ctx ends. It sends the request only once.
//
// Invoke returns:
//
//   - [ErrInvalidArgument] if an argument is invalid;
//   - errors.ErrUnsupported with the protobuf protocols, which have no public frames for invocations;
//   - an *[InvokeError] if the service or the event handler reported an error;
//   - the error of ctx if ctx ended, in which case Invoke also cancels the invocation at the service;
//   - another error if the connection broke after the request was sent and before the response arrived;
//   - the error of [Conn.Err] if the Conn has ended.
//
// If the event may have been handled despite the error, the error also matches [ErrOutcomeUnknown].
func (c *Conn) Invoke(ctx context.Context, event string, payload Payload, options *InvokeOptions) (Payload, error) {
	const operation = "Invoke"
	if err := cmp.Or(checkEvent(operation, event), c.checkPayload(operation, payload)); err != nil {
		return Payload{}, err
	}
	id, answer := strconv.FormatUint(c.lastInvocation.Add(1), 10), make(chan *frame, 1)
	c.invokes.add(id, answer)
	defer c.invokes.forget(id)
	data, err := c.codec.encode(&request{kind: requestInvoke, invocationID: id, event: event, payload: payload})
	switch {
	case err != nil:
		return Payload{}, operationError(operation, err, false)
	case len(data) > maxFrame:
		return Payload{}, tooLarge(operation, len(data))
	}
	for {
		l, _, err := c.ready(ctx, &call{})
		if err != nil {
			return Payload{}, operationError(operation, err, false)
		}
		c.sent.Add(1)
		w := l.write(data, nil)
		select {
		case f := <-answer:
			return invoked(f)
		case <-l.gone:
			select {
			case f := <-answer: // it arrived before the link ended
				return invoked(f)
			default:
			}
			if !w.withdraw() {
				return Payload{}, operationError(operation, errLinkLost, true)
			}
		case <-ctx.Done():
			sent := !w.withdraw()
			if sent {
				l.send(&request{kind: requestCancelInvocation, invocationID: id})
			}
			return Payload{}, operationError(operation, ctx.Err(), sent)
		case <-c.quit:
			return Payload{}, operationError(operation, c.endError(), !w.withdraw())
		}
	}
}

func invoked(f *frame) (Payload, error) {
	if !f.success {
		return Payload{}, operationError("Invoke", &InvokeError{Name: f.failure.name, Message: f.failure.message}, false)
	}
	return f.answer, nil
}
