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

// maxStreamCopy is how much of a stream that cannot seek is read into memory, so that a retry can send it again.
const maxStreamCopy = 16 << 20

// body is a request's body in azcore's form, with a reader of its own for each attempt. The transport may still read from
// an attempt that was given up when the next one begins, or when the call has returned.
type body interface {
	io.ReadSeekCloser
	open() (io.ReadCloser, error)
	detach() // ends all reading of the caller's stream
}

// body makes the request's body ready to be sent any number of times, with a known length: the service refuses chunked
// bodies.
func (r *request) body(ctx context.Context) (body, error) {
	if r.stream == nil {
		return r.memoryBody(r.data), nil
	}
	if source, ok := r.stream.(io.ReadSeeker); ok {
		// A pipe has a Seek that fails, and a device or a file of /proc claims to be empty: they are treated like streams
		// without Seek.
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
	// A Read that blocks must not hold the call up when the context ends.
	data, err := await(ctx, func() bool { return true }, func() ([]byte, error) {
		return io.ReadAll(io.LimitReader(&callersReader{ctx, r.stream}, maxStreamCopy+1))
	})
	if err != nil {
		return nil, wrapError(r.operation, err)
	}
	if len(data) > maxStreamCopy {
		return nil, invalid(r.operation, r.bodyArgument, "is a stream of more than 16 MiB that cannot seek: the service needs its length, and a retry its beginning")
	}
	return r.memoryBody(data), nil
}

// callersReader reads the caller's stream. It begins no Read when the context has ended, and returns errors for a stream
// that does not keep io.Reader's rules.
type callersReader struct {
	ctx context.Context
	r   io.Reader
}

var errTooMuchRead = errors.New("the stream's Read returned a number of bytes that it was not asked for")

func (c *callersReader) Read(p []byte) (int, error) {
	for range 100 { // as bufio has it
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

// await calls f on a goroutine of its own and returns its results or, when the context ends while f is blocked, the
// context's error. It panics if f does.
func await[T any](ctx context.Context, blocked func() bool, f func() (T, error)) (T, error) {
	type result struct {
		value    T
		err      error
		panicked any
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: errors.New("the goroutine of the call has ended")} // by runtime.Goexit
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

// memoryBody is a body in memory. Each attempt gets a reader that net/http recognizes as such, so that it writes headers
// and body at once.
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

// streamBody is a body that is read from a source that can seek, beginning at its position when the call began. Only one
// reader at a time reads the source. Waiting for a blocked Read of it ends with the call's context.
//
// The transport reads on goroutines of its own, where a panic of the source would end the process. Such a panic is kept,
// and detach raises it on the caller's goroutine.
type streamBody struct {
	ctx         context.Context
	start, size int64

	busy     chan struct{} // holds one item while somebody uses the fields below
	source   io.ReadSeeker
	current  *streamReader // the one reader that may still read the source
	panicked any           // the value of a panic of the source, or nil

	reading  atomic.Bool // a Read of the source is under way
	detached atomic.Bool
}

var errDetached = errors.New("the call that sends this stream has ended")

// acquire waits for the source; release gives it back.
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

// read reads the source, which the caller has acquired.
func (b *streamBody) read(p []byte) (n int, err error) {
	b.reading.Store(true)
	defer b.reading.Store(false)
	defer b.keepPanic(&err)
	return (&callersReader{b.ctx, b.source}).Read(p)
}

// seek seeks in the source, which the caller has acquired.
func (b *streamBody) seek(offset int64) (position int64, err error) {
	defer b.keepPanic(&err)
	return b.source.Seek(offset, io.SeekStart)
}

// keepPanic keeps a panic of the source, and makes it an error. It is deferred.
func (b *streamBody) keepPanic(err *error) {
	if value := recover(); value != nil {
		b.panicked = value
		*err = &finalError{errPanicked}
	}
}

// send sends the request whose body this is. net/http waits for a blocked Read of a body even when the context has ended;
// send does not.
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
	return 0, errors.New("a request's body seeks from its start or end only")
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

// detach ends all reading of the source, and raises its panic, if there was one.
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

func (b *streamBody) Close() error { return nil } // the source is the caller's

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
	if err == io.EOF && r.left > 0 { //nolint:errorlint // a Reader ends with io.EOF itself
		err = &finalError{errors.New("the stream has become shorter while it was sent")}
	}
	return n, err
}

func (r *streamReader) Close() error { return nil }

// finalError is an error that a retry would not mend, such as one of the caller's stream.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// NonRetriable marks the error for azcore's retry policy.
func (e *finalError) NonRetriable() {}
