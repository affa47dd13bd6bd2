package wsclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	// maxReceived is the maximum size of a received frame. Most messages have at most 1 MiB, but JSON may escape each byte of a
	// text with six. An event handler may respond with 16 MiB, which base64 makes a third larger.
	maxReceived = 32 << 20

	// writeTimeout limits the write of one frame, together with the time that slowestLink needs for the frame. A peer that
	// does not read for this long is considered dead.
	writeTimeout = 10 * time.Second

	// slowestLink is the slowest rate, in bytes per second, at which frames can be sent. With it, a frame of 1 MiB has 26
	// seconds: more, and a dead link would be noticed too late to recover the connection.
	slowestLink = 64 << 10

	// maxUnread limits the bytes that the service may not have read yet when a caller writes a frame on its own goroutine. The
	// buffers of any connection hold this much, so the write does not block and the call observes its context.
	maxUnread = 4 << 10

	// drainTimeout is how long the reader may continue after a write has failed. A service that closes the socket right after
	// its last frames makes writes fail before the reader has seen these frames and the close code.
	drainTimeout = time.Second

	// closeTimeout limits the close handshake.
	closeTimeout = 5 * time.Second
)

// errLinkLost is the error of a request whose link has ended.
var errLinkLost = errors.New("the connection was lost")

// link is one WebSocket connection. A recovered connection has a new link.
//
// One goroutine reads from the link. Calls write small frames on their own goroutine. A second goroutine writes all other
// frames and exists only while frames are queued, so an idle link needs only one goroutine. The contexts of callers are not
// used for reads and writes, because the WebSocket library closes the connection when such a context ends.
type link struct {
	ws          socket
	closeSocket func() // closes the socket immediately; without a close frame, the connection can be recovered
	codec       codec
	spawn       func(func()) bool
	secrets     []string // the link's tokens, which the service may repeat in a text; used only by the reader

	since             time.Time     // when the link was opened
	lastReceived      atomic.Int64  // when the last part of a frame arrived, in nanoseconds after since
	body              bodyReader    // used only by the reader
	gone              chan struct{} // closed when the reader has stopped
	disconnected      bool          // the disconnected frame has arrived; used only by the reader
	disconnectMessage string        // its text
	timedOut          atomic.Bool   // keepAlive closed the link
	busy              atomic.Bool   // a frame is being written
	alive             keepAlive

	mu        sync.Mutex // guards everything below
	queue     []*write
	writing   bool
	dead      bool        // no more frames are written
	written   int64       // the number of bytes of all frames so far
	confirmed int64       // the part of written that the service has read for certain
	watchdog  *time.Timer // closes the socket when a write takes too long
}

// socket is a *websocket.Conn or, in a browser, a wrapper of one.
type socket interface {
	Subprotocol() string
	SetReadLimit(n int64)
	Reader(ctx context.Context) (websocket.MessageType, io.Reader, error)
	Write(ctx context.Context, typ websocket.MessageType, p []byte) error
	Close(code websocket.StatusCode, reason string) error
}

// newLink returns a link that owns ws.
func newLink(ws socket, closeSocket func(), c codec, spawn func(func()) bool) *link {
	ws.SetReadLimit(maxReceived)
	return &link{ws: ws, closeSocket: closeSocket, codec: c, spawn: spawn, since: time.Now(), gone: make(chan struct{})}
}

// buffers holds the read buffers. They are pooled so that an idle link needs no buffer.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooledBuffer is the largest buffer that is returned to the pool.
const maxPooledBuffer = 64 << 10

// read reads the next frame and returns it with its size in bytes.
func (l *link) read() (frame, int, error) {
	typ, body, err := l.ws.Reader(context.Background())
	if err != nil {
		return frame{}, 0, err
	}
	return l.readBody(typ, body)
}

// readBody reads and decodes a frame that has begun to arrive, and returns it with its size in bytes.
func (l *link) readBody(typ websocket.MessageType, body io.Reader) (frame, int, error) {
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxPooledBuffer {
			buf.Reset()
			buffers.Put(buf)
		}
	}()
	l.body = bodyReader{l, body}
	if _, err := buf.ReadFrom(&l.body); err != nil {
		return frame{}, 0, err
	}
	if typ != l.codec.messageType() {
		return frame{}, 0, &unreadableError{websocket.StatusUnsupportedData,
			"a frame of type " + typ.String() + ", which the protocol does not use"}
	}
	f, err := l.codec.decode(buf.Bytes())
	return f, buf.Len(), err
}

// bodyReader reads the body of a frame. It records the time of each part, because a large frame can take longer to arrive than
// the timeout of keepAlive.
type bodyReader struct {
	link *link
	body io.Reader
}

func (r *bodyReader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if n > 0 {
		r.link.lastReceived.Store(int64(time.Since(r.link.since)))
	}
	return n, err
}

// closeError converts the error of the last read into a CloseError.
func (l *link) closeError(err error) *CloseError {
	ce := &CloseError{Code: codeAbnormal, Message: l.disconnectMessage}
	var peer websocket.CloseError
	var bad *unreadableError
	switch {
	case errors.As(err, &peer):
		ce.Code, ce.Reason, ce.byPeer = int(peer.Code), peer.Reason, true
	case errors.As(err, &bad):
		ce.Code, ce.Reason = int(bad.code), bad.Error()
	case errors.Is(err, websocket.ErrMessageTooBig):
		ce.Code, ce.Reason = int(websocket.StatusMessageTooBig), fmt.Sprintf("the service sent a frame of more than %d bytes", maxReceived)
	case !hasCloseCodes && l.disconnected && errors.Is(err, net.ErrClosed):
		ce.Code, ce.byPeer = int(websocket.StatusNormalClosure), true // as after a close by an application server
	case l.timedOut.Load():
		ce.err = errors.New("keep-alive timeout: no frame arrived for too long")
	default:
		ce.err = err
	}
	ce.Reason, ce.Message = hide(ce.Reason, l.secrets), hide(ce.Message, l.secrets)
	return ce
}

// The states of a write.
const (
	writeQueued    = iota
	writeBegun     // the frame may have been sent
	writeWithdrawn // the frame will not be sent
)

// write is a frame in the write queue of a link.
type write struct {
	data  []byte
	end   int64 // link.written after this frame; guarded by link.mu
	state atomic.Int32
	done  chan error // receives the outcome; nil if nobody waits for it
}

// finish reports the outcome of the write.
func (w *write) finish(err error) {
	if w.done != nil {
		w.done <- err
	}
}

// withdraw removes the frame from the queue. It returns false if the frame may already have been sent.
func (w *write) withdraw() bool {
	return w.state.CompareAndSwap(writeQueued, writeWithdrawn)
}

// write queues a frame without blocking. The outcome is sent to done unless done is nil.
func (l *link) write(data []byte, done chan error) *write {
	w := &write{data: data, done: done}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enqueue(w)
	return w
}

// writeNow is like write, for calls that wait for a response anyway: it writes the frame on the caller's goroutine if that
// cannot block. Without the switch to another goroutine, a small acknowledged send takes an eighth less time.
func (l *link) writeNow(data []byte, done chan error) *write {
	w := &write{data: data, done: done}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead || l.writing || l.written-l.confirmed+int64(len(data)) > maxUnread {
		l.enqueue(w)
		return w
	}
	l.writing = true
	l.begin(w)
	l.mu.Unlock()
	l.put(w)
	l.mu.Lock()
	l.writing = false
	l.startFlush()
	return w
}

// enqueue queues a frame. The caller holds l.mu.
func (l *link) enqueue(w *write) {
	if l.dead {
		w.finish(errLinkLost)
		return
	}
	l.queue = append(l.queue, w)
	l.startFlush()
}

// startFlush starts the goroutine that writes the queued frames, unless there are none or a goroutine is writing already. The
// caller holds l.mu.
func (l *link) startFlush() {
	if l.writing || len(l.queue) == 0 {
		return
	}
	if l.writing = l.spawn(l.flush); !l.writing {
		l.dead = true // the Conn is closed
		l.abandon()
	}
}

// confirm records that the service has acknowledged a frame, so it has read all frames up to that one.
func (l *link) confirm(w *write) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.confirmed = max(l.confirmed, w.end)
}

// send encodes and queues a frame that no call waits for.
func (l *link) send(r *request) {
	if data, err := l.codec.encode(r); err == nil {
		l.write(data, nil)
	}
}

// flush writes the queued frames.
func (l *link) flush() {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 || l.dead {
			l.queue, l.writing = nil, false
			l.mu.Unlock()
			return
		}
		w := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		begun := l.begin(w)
		l.mu.Unlock()
		if begun && !l.put(w) {
			return
		}
	}
}

// begin prepares the write of a frame. It returns false if the frame was withdrawn. The caller holds l.mu.
func (l *link) begin(w *write) bool {
	if !w.state.CompareAndSwap(writeQueued, writeBegun) {
		return false
	}
	l.written += int64(len(w.data))
	w.end = l.written
	timeout := writeTimeout + time.Duration(len(w.data)/slowestLink)*time.Second
	if l.watchdog == nil {
		l.watchdog = time.AfterFunc(timeout, l.closeSocket)
	} else {
		l.watchdog.Reset(timeout)
	}
	l.busy.Store(true)
	return true
}

// put writes a frame. It returns false if the link has failed.
func (l *link) put(w *write) bool {
	err := l.ws.Write(context.Background(), l.codec.messageType(), w.data)
	l.watchdog.Stop()
	l.busy.Store(false)
	if err != nil {
		w.finish(errLinkLost)
		l.fail()
		time.AfterFunc(drainTimeout, l.closeSocket)
		return false
	}
	w.finish(nil)
	return true
}

// abandon fails the queued writes. The caller holds l.mu.
func (l *link) abandon() {
	for _, w := range l.queue {
		w.finish(errLinkLost)
	}
	l.queue = nil
}

// fail fails the queued writes and those to come.
func (l *link) fail() {
	l.mu.Lock()
	l.dead = true
	l.abandon()
	l.mu.Unlock()
}

// closeNow closes the link without a close frame and fails the queued writes.
func (l *link) closeNow() {
	l.fail()
	l.alive.stop()
	l.closeSocket()
}

// close closes the link with a close frame. It waits up to closeTimeout for the close frame of the service.
func (l *link) close(code websocket.StatusCode, reason string) {
	l.alive.stop()
	timer := time.AfterFunc(closeTimeout, l.closeSocket)
	defer timer.Stop()
	l.ws.Close(code, shorten(reason, 120)) // a close frame has room for 123 bytes
	l.closeNow()
}

// shorten truncates text to at most limit bytes without splitting a character.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && text[limit]&0xC0 == 0x80 {
		limit--
	}
	return text[:limit]
}
