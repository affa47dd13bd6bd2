package webpubsub

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// maxStreamCopy is the size limit for a stream that cannot seek. Such a stream is read into memory so that a retry can
// resend it.
const maxStreamCopy = 16 << 20

// body is a request body in azcore's form, with a separate reader for each attempt. The transport may keep reading an
// abandoned attempt's body after the next attempt has started, and even after the call has returned.
type body interface {
	io.ReadSeekCloser
	open() (io.ReadCloser, error)
	detach() // stops all reading of the caller's stream
}

// body returns the request's body in a form that can be sent any number of times. Its length is known, because the
// service rejects chunked bodies.
func (r *request) body(ctx context.Context) (body, error) {
	if r.stream == nil {
		return r.memoryBody(r.data), nil
	}
	if source, ok := r.stream.(io.ReadSeeker); ok {
		// Seek fails on a pipe, and devices and /proc files report a size of zero. Treat them as streams without Seek.
		if start, err := source.Seek(0, io.SeekCurrent); err == nil {
			end, err := source.Seek(0, io.SeekEnd)
			if err != nil {
				return nil, wrapError(r.operation, err)
			}
			if end > start {
				return &streamBody{ctx: ctx, start: start, size: end - start, busy: make(chan struct{}, 1), source: source}, nil
			}
			if _, err := source.Seek(start, io.SeekStart); err != nil {
				return nil, wrapError(r.operation, err)
			}
		}
	}
	// A blocked Read must not delay the return of the call when the context ends.
	data, err := await(ctx, func() bool { return true }, func() ([]byte, error) {
		return io.ReadAll(io.LimitReader(&callersReader{ctx, r.stream}, maxStreamCopy+1))
	})
	if err != nil {
		return nil, wrapError(r.operation, err)
	}
	if len(data) > maxStreamCopy {
		return nil, invalid(r.operation, r.bodyArgument, "is a stream of more than 16 MiB that cannot seek; use an io.ReadSeeker")
	}
	return r.memoryBody(data), nil
}

// callersReader reads the caller's stream. It does not start a Read after the context has ended, and it returns an
// error if the stream breaks the rules of io.Reader.
type callersReader struct {
	ctx context.Context
	r   io.Reader
}

var errTooMuchRead = errors.New("the stream's Read returned an invalid byte count")

func (c *callersReader) Read(p []byte) (int, error) {
	for range 100 { // the same limit as in bufio
		if err := c.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := c.r.Read(p)
		if n < 0 || n > len(p) {
			return 0, &finalError{errTooMuchRead}
		}
		if err != nil && err != io.EOF {
			err = &finalError{err}
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
	return 0, &finalError{io.ErrNoProgress}
}

// await runs f on a new goroutine and returns its results. If the context ends while blocked reports true, await
// returns the context's error without waiting for f. If f panics, await panics with the same value.
func await[T any](ctx context.Context, blocked func() bool, f func() (T, error)) (T, error) {
	type result struct {
		value    T
		err      error
		panicked any
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: errors.New("the call's goroutine exited")} // by runtime.Goexit
		defer func() {
			r.panicked = recover()
			done <- r
		}()
		r.value, r.err = f()
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		if blocked() {
			return r.value, ctx.Err()
		}
		r = <-done
	}
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.value, r.err
}

// memoryBody is a body in memory. Each attempt has a reader of a type that net/http recognizes, so that net/http sends
// the headers and the body in one write.
type memoryBody struct {
	bytes.Reader
	data []byte
}

func (r *request) memoryBody(data []byte) *memoryBody {
	r.memory.data = data
	r.memory.Reset(data)
	return &r.memory
}

func (b *memoryBody) open() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.data)), nil }
func (b *memoryBody) detach()                      {}
func (b *memoryBody) Close() error                 { return nil }

// streamBody is a body that is read from a source that can seek. It starts at the source's position when the call
// began. Only one reader at a time reads the source. Waiting for a blocked Read ends with the call's context.
//
// The transport reads on its own goroutines, where a panic in the source would crash the process. streamBody recovers
// such a panic, and detach raises it again on the caller's goroutine.
type streamBody struct {
	ctx         context.Context
	start, size int64

	busy     chan struct{} // a lock for the fields below; it holds one item while locked
	source   io.ReadSeeker
	current  *streamReader // the only reader that may read the source
	panicked any           // the value that the source panicked with, or nil

	reading  atomic.Bool // a Read of the source is in progress
	detached atomic.Bool
}

var errDetached = errors.New("the call that was sending the stream has ended")

// acquire locks the source, and release unlocks it. acquire returns an error if the context ends first or if the body
// is detached.
func (b *streamBody) acquire() error {
	select {
	case b.busy <- struct{}{}:
	default:
		select {
		case b.busy <- struct{}{}:
		case <-b.ctx.Done():
			return b.ctx.Err()
		}
	}
	if b.detached.Load() {
		b.release()
		return errDetached
	}
	return nil
}

func (b *streamBody) release() { <-b.busy }

func (b *streamBody) Read(p []byte) (int, error) {
	if err := b.acquire(); err != nil {
		return 0, err
	}
	defer b.release()
	return b.read(p)
}

var errPanicked = errors.New("the stream panicked")

// read reads the source. The caller must hold the lock.
func (b *streamBody) read(p []byte) (n int, err error) {
	b.reading.Store(true)
	defer b.reading.Store(false)
	defer b.capturePanic(&err)
	return (&callersReader{b.ctx, b.source}).Read(p)
}

// seek seeks in the source. The caller must hold the lock.
func (b *streamBody) seek(offset int64) (position int64, err error) {
	defer b.capturePanic(&err)
	return b.source.Seek(offset, io.SeekStart)
}

// capturePanic is deferred. It recovers a panic of the source, stores the value and sets *err.
func (b *streamBody) capturePanic(err *error) {
	if value := recover(); value != nil {
		b.panicked = value
		*err = &finalError{errPanicked}
	}
}

// send sends the request that has this body. Unlike net/http, send does not wait for a blocked Read of the body once
// the context has ended.
func (b *streamBody) send(pipeline runtime.Pipeline, req *policy.Request) (*http.Response, error) {
	return await(b.ctx, b.reading.Load, func() (*http.Response, error) { return pipeline.Do(req) })
}

func (b *streamBody) Seek(offset int64, whence int) (int64, error) {
	if err := b.acquire(); err != nil {
		return 0, err
	}
	defer b.release()
	switch whence {
	case io.SeekEnd: // azcore asks for the size
		return b.size + offset, nil
	case io.SeekStart:
		position, err := b.seek(b.start + offset)
		return position - b.start, err
	}
	return 0, errors.New("a request body can only seek from its start or end")
}

func (b *streamBody) open() (io.ReadCloser, error) {
	if err := b.acquire(); err != nil {
		return nil, err
	}
	defer b.release()
	if _, err := b.seek(b.start); err != nil {
		return nil, err
	}
	b.current = &streamReader{body: b, left: b.size}
	return b.current, nil
}

// detach stops all reading of the source. If the source has panicked, detach panics with the same value.
func (b *streamBody) detach() {
	acquired := b.acquire() == nil
	b.detached.Store(true)
	if !acquired {
		return
	}
	panicked := b.panicked
	b.release()
	if panicked != nil {
		panic(panicked)
	}
}

func (b *streamBody) Close() error { return nil } // the source belongs to the caller

// streamReader reads the stream for one attempt.
type streamReader struct {
	body *streamBody
	left int64
}

func (r *streamReader) Read(p []byte) (int, error) {
	if err := r.body.acquire(); err != nil {
		return 0, err
	}
	defer r.body.release()
	if r.body.current != r {
		return 0, errDetached
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.body.read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 { //nolint:errorlint // a Reader must return io.EOF itself
		err = &finalError{errors.New("the stream became shorter while it was being sent")}
	}
	return n, err
}

func (r *streamReader) Close() error { return nil }

// finalError is an error that a retry cannot fix, such as an error from the caller's stream.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// NonRetriable tells azcore's retry policy not to retry.
func (e *finalError) NonRetriable() {}
