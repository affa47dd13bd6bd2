package protocol

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// This file has the frames of invocations and group streams, which are newer than the others. Only their JSON form is
// public.

// readFragment reads a fragment of a stream. Without any of its members, the request is a keep-alive.
func (r *Request) readFragment(f fields) (err error) {
	if r.StreamID, err = f.id("streamId"); err != nil {
		return err
	}
	needed := []string{"streamSequenceId", "dataType", "data"}
	missing := slices.DeleteFunc(slices.Clone(needed), func(name string) bool { _, ok := f[name]; return ok })
	switch len(missing) {
	case len(needed):
		return nil
	case 0:
	default:
		return fmt.Errorf("%s is missing: a fragment needs %s", missing[0], strings.Join(needed, ", "))
	}
	number, err := f.number("streamSequenceId", 64)
	if err == nil && (number == nil || *number == 0) {
		err = errors.New("streamSequenceId is null or 0: fragments are numbered from 1")
	}
	if err != nil {
		return err
	}
	r.Fragment = *number
	return r.readPayload(f)
}

func (r *Request) readInvoke(f fields) (err error) {
	if r.InvocationID, err = f.id("invocationId"); err != nil {
		return err
	}
	target, err := f.text("target")
	if err != nil {
		return err
	}
	if target != "event" {
		return fmt.Errorf("unknown target %.32q", target)
	}
	if r.Event, err = f.text("event"); err != nil {
		return err
	}
	if f["data"] == nil && absent(f["metadata"]) {
		r.Payload.Type = hub.DataText // an invocation needs no data
		return nil
	}
	return r.readPayload(f)
}

func (r *Request) readStreamEnd(f fields) (err error) {
	if r.StreamID, err = f.id("streamId"); err != nil {
		return err
	}
	if absent(f["error"]) {
		return nil
	}
	failure, ok := members(f["error"])
	if !ok {
		return errors.New("error is not an object")
	}
	if _, there := failure["name"]; there {
		return errors.New("error: name is not allowed, because the service sets it")
	}
	r.StreamError = &hub.StreamFailure{Name: StreamUserError}
	for name, to := range map[string]*string{"message": &r.StreamError.Message, "userErrorCode": &r.StreamError.UserErrorCode} {
		if !absent(failure[name]) {
			s, err := failure.text(name)
			if err != nil {
				return fmt.Errorf("error: %w", err)
			}
			*to = s
		}
	}
	return nil
}

// readStreamStart reads a sendToGroup that opens a stream.
func (r *Request) readStreamStart(f fields) (err error) {
	for _, name := range []string{"data", "dataType", "ackId"} {
		if _, there := f[name]; there {
			return fmt.Errorf("%s is not allowed in a sendToGroup that opens a stream", name)
		}
	}
	start, ok := members(f["stream"])
	if !ok {
		return errors.New("stream is not an object")
	}
	if r.StreamID, err = start.id("streamId"); err != nil {
		return err
	}
	idle, err := start.number("idleTimeoutMs", 32)
	if err != nil {
		return err
	}
	if idle != nil {
		if *idle == 0 {
			return errors.New("idleTimeoutMs must be greater than 0")
		}
		r.IdleTimeout = time.Duration(*idle) * time.Millisecond
	}
	r.Payload.Metadata, err = f.strings("metadata")
	return err
}

// id returns the value of a string member that must not be empty.
func (f fields) id(name string) (string, error) {
	s, err := f.text(name)
	if err == nil && s == "" {
		err = fmt.Errorf("%s is empty", name)
	}
	return s, err
}

// The names of the errors that end a stream.
const (
	StreamNotFound    = "StreamNotFound"
	StreamForbidden   = "Forbidden"
	StreamBadRequest  = "BadRequest"
	StreamIdleTimeout = "IdleTimeout"
	StreamUserError   = "UserError" // reported by the sender
	StreamCancelled   = "Cancelled" // the sender is gone
)

// InvokeResponse returns the response to an invocation. reply may be nil. If err is not nil, the invocation failed.
func InvokeResponse(id string, reply *hub.Payload, err *AckError) *hub.Frame {
	b := append([]byte(`{"type":"invokeResponse","invocationId":`), text.JSON(id)...)
	b = append(b, `,"success":`...)
	b = strconv.AppendBool(b, err == nil)
	if err != nil {
		b = append(b, `,"error":`...)
		b = append(b, text.JSON(map[string]string{"name": err.Name, "message": err.Message})...)
	} else if reply != nil {
		b = append(b, ',')
		b = appendPayload(b, reply)
	}
	return textFrame(append(b, '}'))
}

// StreamAck returns a frame that notifies the sender of a stream that every fragment below expected has arrived.
func StreamAck(id string, expected uint64) *hub.Frame {
	return textFrame(text.JSON(struct {
		Type     string `json:"type"`
		StreamID string `json:"streamId"`
		Expected uint64 `json:"expectedSequenceId"`
	}{"streamAck", id, expected}))
}

// StreamNack returns a frame that asks the sender of a stream to send the fragments from expected on again.
func StreamNack(id string, expected uint64) *hub.Frame {
	return textFrame(text.JSON(struct {
		Type     string `json:"type"`
		StreamID string `json:"streamId"`
		Name     string `json:"name"`
		Message  string `json:"message"`
		Expected uint64 `json:"expectedSequenceId"`
	}{"streamNack", id, "InvalidSequenceId", "A fragment of the stream is missing.", expected}))
}

// StreamClosed returns a frame that notifies the sender of a stream that the stream has ended. err is nil unless it failed.
func StreamClosed(id string, err *AckError) *hub.Frame {
	return textFrame(text.JSON(struct {
		Type     string    `json:"type"`
		StreamID string    `json:"streamId"`
		Error    *AckError `json:"error,omitempty"`
	}{"streamClosed", id, err}))
}
