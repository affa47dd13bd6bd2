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

// body is a request's body as azcore takes it, and a reader of its own for each try. A try that was given up may still be
// read from by the transport when the next one begins, or when the call has returned.
type body interface {
	io.ReadSeekCloser
	open() (io.ReadCloser, error)
	detach() // ends all reading of what the caller gave
}

// body makes the request's body ready to be sent any number of times.
func (r *request) body(ctx context.Context) (body, error) {
	if r.stream == nil {
		return r.memoryBody(r.data), nil
	}
	if source, ok := r.stream.(io.ReadSeeker); ok {
		// A pipe has a Seek that fails, and a device or a file of /proc says that it is empty: they are streams like those
		// without.
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
		return io.ReadAll(io.LimitReader(&contextReader{ctx, r.stream}, maxStreamCopy+1))
	})
	if err != nil {
		return nil, wrapError(r.operation, err)
	}
	if len(data) > maxStreamCopy {
		return nil, invalid(r.operation, r.bodyArgument, "is a stream of more than 16 MiB that cannot seek, so that no retry could send it again")
	}
	return r.memoryBody(data), nil
}

// contextReader begins no Read when the context has ended.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// await calls f on a goroutine of its own and returns what it returns or, when the context ends while f is blocked, the
// context's error. A panic of f is the caller's.
func await[T any](ctx context.Context, blocked func() bool, f func() (T, error)) (T, error) {
	type result struct {
		value    T
		err      error
		panicked any
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: errors.New("webpubsub: the goroutine of the call was ended")} // by runtime.Goexit
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

// memoryBody is a body in memory. Each try gets a reader that net/http knows as such, so that it writes headers and body
// at once.
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

// streamBody is a body that is read from a source which can seek, from where it stood when the call began. Only one reader
// at a time reads the source, and who waits for a Read of it that blocks waits no longer than the call's context.
type streamBody struct {
	ctx         context.Context
	start, size int64

	busy    chan struct{} // holds one item while somebody is at the fields below
	source  io.ReadSeeker
	current *streamReader // the one reader that may still read the source

	reading  atomic.Bool // a Read of the source is under way
	detached atomic.Bool
}

var errDetached = errors.New("webpubsub: the call that sends this stream has ended")

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

// read reads the source, which the caller has acquired. It begins no Read when the context has ended, so that whoever
// knows of its end and sees none under way need not fear one.
func (b *streamBody) read(p []byte) (int, error) {
	b.reading.Store(true)
	defer b.reading.Store(false)
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.source.Read(p)
	if err != nil && err != io.EOF {
		err = &finalError{err}
	}
	return n, err
}

// send sends the request whose body this is. net/http waits for a Read of a body that blocks, also when the context has
// ended; send does not.
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
		position, err := b.source.Seek(b.start+offset, io.SeekStart)
		return position - b.start, err
	}
	return 0, errors.New("webpubsub: a request's body seeks from its start or end only")
}

func (b *streamBody) open() (io.ReadCloser, error) {
	if err := b.acquire(); err != nil {
		return nil, err
	}
	defer b.release()
	if _, err := b.source.Seek(b.start, io.SeekStart); err != nil {
		return nil, err
	}
	b.current = &streamReader{body: b, left: b.size}
	return b.current, nil
}

func (b *streamBody) detach() {
	if b.acquire() == nil {
		defer b.release()
	}
	b.detached.Store(true)
}

func (b *streamBody) Close() error { return nil } // the source is the caller's

// streamReader reads the stream for one try.
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
	if err == io.EOF && r.left > 0 {
		err = &finalError{errors.New("webpubsub: the stream has become shorter while it was sent")}
	}
	return n, err
}

func (r *streamReader) Close() error { return nil }

// finalError is an error that no retry would mend, as one of the caller's stream.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// NonRetriable is what azcore's retry policy looks for.
func (e *finalError) NonRetriable() {}
