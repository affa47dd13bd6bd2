package wsclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	// maxReceived bounds a frame of the service: 1 MiB of data, a third more in base64, and the fields around it.
	maxReceived = 4 << 20

	// writeTimeout bounds the writing of one frame. A peer that reads nothing for so long is as good as dead.
	writeTimeout = 10 * time.Second

	// maxUnread bounds the bytes of frames that the service may not have read yet when a caller writes one more itself. The
	// buffers of a connection hold as much, so the write does not block, and the caller's context is heeded.
	maxUnread = 4 << 10

	// goodbyeTimeout bounds a close handshake.
	goodbyeTimeout = 5 * time.Second
)

// errLinkLost is a write to a link that has ended.
var errLinkLost = errors.New("the connection was lost")

// link is one WebSocket connection. A recovered connection has a new link.
//
// One goroutine reads a link. Callers write small frames themselves, and another goroutine writes the rest, but only while
// something waits to be written, so that an idle link needs one goroutine. No caller's context reaches the socket: the WebSocket library closes the connection when the
// context of a read or a write ends.
type link struct {
	ws    *websocket.Conn
	cut   func() // ends the connection at once, without a close frame, so that it can be recovered
	codec codec
	spawn func(func()) bool

	since    time.Time     // when it was opened
	heard    atomic.Int64  // when the last frame came, as nanoseconds after since
	gone     chan struct{} // closed when it is read no more
	farewell string        // the text of the disconnected frame; only the reader touches it
	silence  atomic.Bool   // keepAlive cut it
	alive    keepAlive

	mu        sync.Mutex // guards everything below
	queue     []*write
	writing   bool
	written   int64       // the bytes of all frames so far
	confirmed int64       // those of them that the service has certainly read
	dead      bool        // nothing is written any more
	watchdog  *time.Timer // cuts the link when a write takes too long
}

// newLink takes over a WebSocket connection.
func newLink(ws *websocket.Conn, cut func(), c codec, spawn func(func()) bool) *link {
	ws.SetReadLimit(maxReceived)
	return &link{ws: ws, cut: cut, codec: c, spawn: spawn, since: time.Now(), gone: make(chan struct{})}
}

// buffers are for reading frames: an idle link needs none.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooledBuffer is the largest buffer that is kept for other frames.
const maxPooledBuffer = 64 << 10

// read reads the next frame, and returns its size as well.
func (l *link) read() (frame, int, error) {
	typ, r, err := l.ws.Reader(context.Background())
	if err != nil {
		return frame{}, 0, err
	}
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxPooledBuffer {
			buf.Reset()
			buffers.Put(buf)
		}
	}()
	if _, err := buf.ReadFrom(r); err != nil {
		return frame{}, 0, err
	}
	l.heard.Store(int64(time.Since(l.since)))
	if typ != l.codec.messageType() {
		return frame{}, 0, &unreadableError{websocket.StatusUnsupportedData,
			"a frame of the type " + typ.String() + ", which the protocol does not have"}
	}
	f, err := l.codec.decode(buf.Bytes())
	return f, buf.Len(), err
}

// closeError describes the end of a link by the error of its last read.
func (l *link) closeError(err error) *CloseError {
	ce := &CloseError{Code: codeAbnormal, Message: l.farewell}
	var peer websocket.CloseError
	var bad *unreadableError
	switch {
	case errors.As(err, &peer):
		ce.Code, ce.Reason, ce.byPeer = int(peer.Code), peer.Reason, true
	case errors.As(err, &bad):
		ce.Code, ce.Reason = int(bad.code), bad.Error()
	case errors.Is(err, websocket.ErrMessageTooBig):
		ce.Code, ce.Reason = int(websocket.StatusMessageTooBig), fmt.Sprintf("the service sent a frame of more than %d bytes", maxReceived)
	case l.silence.Load():
		ce.err = errors.New("nothing arrived for too long")
	default:
		ce.err = err
	}
	return ce
}

// The states of a write.
const (
	writeQueued    = iota
	writeBegun     // the frame may have been sent
	writeWithdrawn // the frame is not sent
)

// write is a frame that is to be written.
type write struct {
	data  []byte
	end   int64 // link.written after this frame; guarded by link.mu
	state atomic.Int32
	done  chan error // receives the outcome; nil if nobody waits for it
}

// finish reports the outcome.
func (w *write) finish(err error) {
	if w.done != nil {
		w.done <- err
	}
}

// withdraw keeps a frame from being written, and reports whether it did.
func (w *write) withdraw() bool {
	return w.state.CompareAndSwap(writeQueued, writeWithdrawn)
}

// write queues a frame, and never blocks. The channel, which may be nil, receives the outcome.
func (l *link) write(data []byte, done chan error) *write {
	w := &write{data: data, done: done}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enqueue(w)
	return w
}

// writeNow is write for a caller that waits for the service's answer: it writes the frame on the caller's goroutine if that
// cannot block. A small acknowledged send takes an eighth less time without the switch to another goroutine.
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

// startFlush starts the goroutine that writes what is queued, if there is something and nobody writes. The caller holds l.mu.
func (l *link) startFlush() {
	if l.writing || len(l.queue) == 0 {
		return
	}
	if l.writing = l.spawn(l.flush); !l.writing {
		l.dead = true // the Conn is closed
		l.abandon()
	}
}

// confirm notes that the service has answered a frame, so it has read all frames up to that one.
func (l *link) confirm(w *write) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.confirmed = max(l.confirmed, w.end)
}

// send encodes and queues a frame of the package's own.
func (l *link) send(r *request) {
	if data, err := l.codec.encode(r); err == nil {
		l.write(data, nil)
	}
}

// flush writes what is queued.
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

// begin prepares the writing of a frame, and reports false if the frame was withdrawn. The caller holds l.mu.
func (l *link) begin(w *write) bool {
	if !w.state.CompareAndSwap(writeQueued, writeBegun) {
		return false
	}
	l.written += int64(len(w.data))
	w.end = l.written
	if l.watchdog == nil {
		l.watchdog = time.AfterFunc(writeTimeout, l.cut)
	} else {
		l.watchdog.Reset(writeTimeout)
	}
	return true
}

// put writes a frame, and reports false if the link has failed.
func (l *link) put(w *write) bool {
	err := l.ws.Write(context.Background(), l.codec.messageType(), w.data)
	l.watchdog.Stop()
	if err != nil {
		w.finish(errLinkLost)
		l.end() // the reader notices
		return false
	}
	w.finish(nil)
	return true
}

// abandon fails what is queued. The caller holds l.mu.
func (l *link) abandon() {
	for _, w := range l.queue {
		w.finish(errLinkLost)
	}
	l.queue = nil
}

// end cuts the link and fails what is queued.
func (l *link) end() {
	l.mu.Lock()
	l.dead = true
	l.abandon()
	l.mu.Unlock()
	l.alive.stop()
	l.cut()
}

// goodbye closes the link with a close frame. It waits for the service's answer, but not for long.
func (l *link) goodbye(code websocket.StatusCode, reason string) {
	l.alive.stop()
	cut := time.AfterFunc(goodbyeTimeout, l.cut)
	defer cut.Stop()
	l.ws.Close(code, shorten(reason, 120)) // what a close frame has room for
	l.end()
}

// shorten cuts a text to a number of bytes, between characters.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && text[limit]&0xC0 == 0x80 {
		limit--
	}
	return text[:limit]
}
