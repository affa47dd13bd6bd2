package webpubsub

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
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
		// A pipe has a Seek that fails: it is a stream like those without.
		if start, err := source.Seek(0, io.SeekCurrent); err == nil {
			end, err := source.Seek(0, io.SeekEnd)
			if err != nil {
				return nil, wrapError(r.operation, err)
			}
			return &streamBody{source: source, start: start, size: max(end-start, 0)}, nil
		}
	}
	data, err := readAll(ctx, io.LimitReader(r.stream, maxStreamCopy+1))
	if err != nil {
		return nil, wrapError(r.operation, err)
	}
	if len(data) > maxStreamCopy {
		return nil, invalid(r.operation, "message", "is a stream of more than 16 MiB that cannot seek, so that no retry could send it again")
	}
	return r.memoryBody(data), nil
}

// readAll is io.ReadAll that returns when the context ends, even while a Read blocks.
func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := io.ReadAll(r)
		done <- result{data, err}
	}()
	select {
	case result := <-done:
		return result.data, result.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
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

// streamBody is a body that is read from a source which can seek, from where it stood when the call began.
type streamBody struct {
	start, size int64

	mu      sync.Mutex
	source  io.ReadSeeker // nil once detached
	current *streamReader // the one reader that may still read the source
}

var errDetached = errors.New("webpubsub: the call that sends this stream has ended")

func (b *streamBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.source == nil {
		return 0, errDetached
	}
	return b.source.Read(p)
}

func (b *streamBody) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.source == nil:
		return 0, errDetached
	case whence == io.SeekEnd && offset == 0: // azcore asks for the size
		return b.size, nil
	case whence != io.SeekStart:
		return 0, errors.New("webpubsub: a request's body seeks from its start only")
	}
	position, err := b.source.Seek(b.start+offset, io.SeekStart)
	return position - b.start, err
}

func (b *streamBody) open() (io.ReadCloser, error) {
	if _, err := b.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current = &streamReader{body: b, left: b.size}
	return b.current, nil
}

func (b *streamBody) detach() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.source, b.current = nil, nil
}

func (b *streamBody) Close() error { return nil } // the source is the caller's

// streamReader reads the stream for one try.
type streamReader struct {
	body *streamBody
	left int64
}

func (r *streamReader) Read(p []byte) (int, error) {
	r.body.mu.Lock()
	defer r.body.mu.Unlock()
	if r.body.current != r {
		return 0, errDetached
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.body.source.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}

func (r *streamReader) Close() error { return nil }
