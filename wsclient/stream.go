package wsclient

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"math"
	"sync"
	"time"
)

// StreamFragment describes the place of a [Message] in a group stream. A stream is a sequence of messages from one
// sender to a group, for example the tokens of a language model's output. The fragments of a stream arrive in order,
// but other messages may arrive between them.
//
// Fragments with the same StreamID belong to the same stream. A client that joins the group in the middle of a stream
// first receives a fragment with a Number greater than 1.
type StreamFragment struct {
	// StreamID is the ID of the stream. The sender chooses it; this package chooses random IDs.
	StreamID string

	// Number is the number of the fragment in the stream, starting at 1.
	Number uint64

	// End is true for the last message of the stream. That message may have no data.
	End bool

	// Err is the reason if the stream ended with an error, and otherwise nil. It is set only on the last message. Its name
	// is "UserError" if the sender called CloseWithError.
	Err *StreamError
}

// StreamOptions are the options of [Conn.OpenGroupStream].
type StreamOptions struct {
	// NoEcho excludes this client from the recipients if it is in the group.
	NoEcho bool

	// Metadata is sent along with the stream. See [SendToGroupOptions] for the limits.
	Metadata map[string]string

	// DataType is the data type of Write: DataBinary, the default, or DataText. With DataText, each Write must be valid
	// UTF-8.
	DataType DataType

	// IdleTimeout is how long the service keeps a stream that sends nothing. 0 means the service's default of 5 minutes.
	// The minimum is 1 second, the maximum 2^32-1 milliseconds. The StreamWriter sends keep-alives three times per
	// IdleTimeout, so the timeout takes effect only if the connection breaks.
	IdleTimeout time.Duration
}

const (
	// Limits of the fragments that are sent but not acknowledged.
	streamWindow      = 64      // fragments
	streamWindowBytes = 1 << 20 // total size of their frames

	streamFragmentSize   = 512 << 10 // largest fragment of Write, in bytes
	defaultStreamTimeout = 5 * time.Minute
	maxStreamTimeout     = math.MaxUint32 * time.Millisecond

	maxStreamError = 4 << 10 // bytes of the text of an error, and of its code

	// streamCloseTimeout limits the wait for the service to confirm the end of a stream.
	streamCloseTimeout = 30 * time.Second

	// streamRetryDelay is the delay before fragments are sent again after a transient error.
	streamRetryDelay = 500 * time.Millisecond
)

// OpenGroupStream opens a stream to a group and returns when the service has accepted the stream. The client needs the
// permission to send to the group. The context applies only to OpenGroupStream, not to the stream. The caller must
// close the StreamWriter, or the stream stays open as long as the connection.
//
// OpenGroupStream waits while the connection is down, until ctx ends. After a recovery, the stream sends its
// unacknowledged fragments again. If the connection is not recovered, the stream fails with a *[CloseError].
//
// OpenGroupStream returns:
//
//   - [ErrInvalidArgument] if an argument is invalid;
//   - errors.ErrUnsupported with the protobuf protocols, which have no public frames for streams;
//   - a *[StreamError] if the service rejected the stream; it matches [ErrForbidden] if the client lacks the
//     permission;
//   - the error of ctx if ctx ended;
//   - a *[CloseError] if the connection ended before the service accepted the stream;
//   - the error of [Conn.Err] if the Conn has ended.
func (c *Conn) OpenGroupStream(ctx context.Context, group string, options *StreamOptions) (*StreamWriter, error) {
	const operation = "OpenGroupStream"
	o := valueOr(options)
	if o.DataType == "" {
		o.DataType = DataBinary
	}
	if err := cmp.Or(checkGroup(operation, group), checkMetadata(operation, o.Metadata)); err != nil {
		return nil, err
	}
	switch {
	case o.DataType != DataBinary && o.DataType != DataText:
		return nil, invalid(operation, "options.DataType", "must be DataBinary or DataText")
	case o.IdleTimeout != 0 && o.IdleTimeout < time.Second:
		return nil, invalid(operation, "options.IdleTimeout", "is less than 1 second")
	case o.IdleTimeout > maxStreamTimeout:
		return nil, invalid(operation, "options.IdleTimeout", "is longer than %v", maxStreamTimeout)
	}
	_, epoch, err := c.ready(ctx, &call{})
	if err != nil {
		return nil, operationError(operation, err, false)
	}
	s := c.newStream(group, o, epoch)
	c.streams.add(s)
	if err := s.open(); err != nil {
		s.fail(err)
		return nil, operationError(operation, err, false)
	}
	select {
	case <-s.opened:
		return s, nil
	case <-s.closed:
		return nil, operationError(operation, s.failure(), false)
	case <-ctx.Done():
		_ = s.end(&StreamError{Message: "the sender gave up"})
		s.fail(ctx.Err())
		return nil, operationError(operation, ctx.Err(), false)
	case <-c.quit:
		s.fail(c.endError())
		return nil, operationError(operation, c.endError(), false)
	}
}

func (c *Conn) newStream(group string, o StreamOptions, epoch uint64) *StreamWriter {
	return &StreamWriter{conn: c, group: group, options: o, epoch: epoch, base: 1, next: 1,
		opened: make(chan struct{}), closed: make(chan struct{}), room: make(chan struct{}, 1)}
}

// StreamWriter sends a stream to a group. Create one with [Conn.OpenGroupStream]. Its methods are safe for concurrent
// use.
type StreamWriter struct {
	conn    *Conn
	id      string
	group   string
	options StreamOptions
	epoch   uint64

	opened chan struct{} // closed when the service has accepted the stream
	closed chan struct{} // closed when the stream is over
	room   chan struct{} // wakes a writer that waits for the window to open

	mu       sync.Mutex // guards everything below
	link     *link      // frames written to a link that has ended are lost; resume sends them again
	accepted bool       // the service has accepted the stream
	unacked  []([]byte) // frames of the unacknowledged fragments, starting with base
	bytes    int        // total size of unacked
	base     uint64     // number of the first unacknowledged fragment
	next     uint64     // number of the next fragment
	ended    bool       // Close or CloseWithError was called
	endFrame []byte
	endAgain bool // the end was sent again after a recovery
	over     bool
	err      error // the error with which the stream is over; nil if it ended normally
	timer    *time.Timer
	resent   uint64 // first fragment of the last retransmission
	resentAt time.Time
}

// ID returns the ID of the stream. Receivers find it in [StreamFragment.StreamID].
func (s *StreamWriter) ID() string { return s.id }

// Write sends p as one fragment of the stream, or as several fragments if p is binary data of more than 512 KiB. It
// returns when the fragments are queued for sending; it does not wait for them to be acknowledged.
//
// Write blocks while 64 fragments or 1 MiB are unacknowledged, for example during a recovery. To limit the wait with a
// context, use [StreamWriter.Send].
//
// Write returns:
//
//   - [ErrInvalidArgument] if DataType is DataText and p is not valid UTF-8 or too large for a frame;
//   - io.ErrClosedPipe after Close;
//   - a *[StreamError] if the service ended the stream;
//   - a *[CloseError] if the connection ended;
//   - the error of [Conn.Err] if the Conn has ended.
func (s *StreamWriter) Write(p []byte) (n int, err error) {
	for first := true; first || n < len(p); first = false {
		part := p[n:]
		if s.options.DataType == DataBinary && len(part) > streamFragmentSize {
			part = part[:streamFragmentSize]
		}
		payload := Payload{DataType: s.options.DataType, Data: part}
		if err := s.Send(context.Background(), payload); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// Send sends a payload of any type as one fragment. Like [StreamWriter.Write], it blocks while too much is
// unacknowledged, but only until ctx ends. If Send returns the error of ctx, nothing was sent. Send returns the other
// errors of Write, and [ErrInvalidArgument] if the payload is invalid or too large for a frame.
func (s *StreamWriter) Send(ctx context.Context, payload Payload) error {
	const operation = "StreamWriter.Send"
	if err := s.conn.checkPayload(operation, payload); err != nil {
		return err
	}
	for {
		sent, err := s.trySend(operation, payload)
		if sent || err != nil {
			return err
		}
		select {
		case <-s.room:
		case <-s.closed:
		case <-ctx.Done():
			s.wake() // pass the signal on to another writer
			return operationError(operation, ctx.Err(), false)
		}
	}
}

// trySend sends a fragment if the window allows it, and reports whether it did.
func (s *StreamWriter) trySend(operation string, payload Payload) (sent bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over && s.err != nil:
		return false, operationError(operation, s.err, false)
	case s.over || s.ended:
		return false, operationError(operation, io.ErrClosedPipe, false)
	case len(s.unacked) >= streamWindow || len(s.unacked) > 0 && s.bytes >= streamWindowBytes:
		return false, nil
	}
	data, err := s.conn.codec.encode(&request{kind: requestStreamData, streamID: s.id, fragment: s.next, payload: payload})
	switch {
	case err != nil:
		return false, operationError(operation, err, false)
	case len(data) > maxFrame:
		return false, tooLarge(operation, len(data))
	}
	s.next++
	s.unacked = append(s.unacked, data)
	s.bytes += len(data)
	s.write(data)
	s.wake() // the window may allow another writer too
	return true, nil
}

// Close ends the stream and returns when the service has confirmed that it received all fragments. If there is no
// confirmation within 30 seconds, Close returns [ErrOutcomeUnknown]. If the stream has already failed, Close returns
// its error. Later calls return the result of the first call.
func (s *StreamWriter) Close() error { return s.close(nil) }

// CloseWithError ends the stream with an error and otherwise works like [StreamWriter.Close]. Receivers find a
// *[StreamError] with the name "UserError" and the text of err in [StreamFragment.Err]. If err is a *StreamError, they
// receive its Message and UserErrorCode. Texts are cut after 4 KiB. CloseWithError(nil) is the same as Close.
func (s *StreamWriter) CloseWithError(err error) error {
	if err == nil {
		return s.close(nil)
	}
	end := &StreamError{Message: err.Error()}
	if se, ok := errors.AsType[*StreamError](err); ok {
		end.Message, end.UserErrorCode = se.Message, se.UserErrorCode
	}
	end.Message, end.UserErrorCode = shorten(end.Message, maxStreamError), shorten(end.UserErrorCode, maxStreamError)
	return s.close(end)
}

func (s *StreamWriter) close(end *StreamError) error {
	const operation = "StreamWriter.Close"
	if err := s.end(end); err != nil {
		return operationError(operation, err, false)
	}
	t := time.NewTimer(streamCloseTimeout)
	defer t.Stop()
	select {
	case <-s.closed:
	case <-t.C:
		s.fail(ErrOutcomeUnknown)
	}
	if err := s.failure(); err != nil {
		return operationError(operation, err, s.mayHaveEnded(err))
	}
	return nil
}

// mayHaveEnded reports whether the stream may have ended normally despite the error: its end was sent twice, and the
// service, asked again, no longer knew the stream.
func (s *StreamWriter) mayHaveEnded(err error) bool {
	se, ok := errors.AsType[*StreamError](err)
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok && se.Name == nameStreamNotFound && s.endAgain
}

// end sends the end of the stream if that has not been done yet.
func (s *StreamWriter) end(end *StreamError) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.over {
		return nil
	}
	data, err := s.conn.codec.encode(&request{kind: requestStreamEnd, streamID: s.id, end: end})
	if err != nil {
		return err
	}
	s.ended, s.endFrame = true, data
	s.write(data)
	return nil
}

// failure returns the error with which the stream is over. It is nil if the stream is not over or ended normally.
func (s *StreamWriter) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// open sends the first request to open the stream. The stream is already registered, so resume may have sent it, or will if
// there is no link.
func (s *StreamWriter) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != nil {
		return nil
	}
	l, epoch := s.conn.current()
	if epoch != s.epoch {
		return sessionLost()
	}
	s.link = l
	return s.writeOpen()
}

// sessionLost returns the error of a stream whose session has ended.
func sessionLost() error { return &CloseError{Code: codeAbnormal, err: errLinkLost} }

// writeOpen sends a request to open the stream. The caller holds s.mu.
func (s *StreamWriter) writeOpen() error {
	data, err := s.conn.codec.encode(&request{kind: requestStreamOpen, streamID: s.id, group: s.group,
		noEcho: s.options.NoEcho, metadata: s.options.Metadata, idleTimeout: s.options.IdleTimeout})
	if err != nil {
		return err
	}
	s.write(data)
	return nil
}

// write writes a frame and restarts the keep-alive timer. The caller holds s.mu.
func (s *StreamWriter) write(data []byte) {
	if s.link != nil && !s.over {
		s.link.write(data, nil)
	}
	if s.timer != nil {
		s.timer.Reset(s.keepAliveInterval())
	}
}

func (s *StreamWriter) keepAliveInterval() time.Duration {
	timeout := s.options.IdleTimeout
	if timeout == 0 {
		timeout = defaultStreamTimeout
	}
	return timeout / 3
}

// keepAlive sends a frame without data, so that the service does not end the idle stream.
func (s *StreamWriter) keepAlive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.ended {
		return
	}
	if data, err := s.conn.codec.encode(&request{kind: requestStreamData, streamID: s.id}); err == nil {
		s.write(data)
	}
}

// wake wakes a writer that waits for the window to open.
func (s *StreamWriter) wake() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// acknowledge removes the fragments before the one that the service expects next, which must not be ahead. It returns false
// if that one has been removed before.
func (s *StreamWriter) acknowledge(expected uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return true
	}
	if !s.accepted {
		s.accepted = true
		close(s.opened)
		s.timer = time.AfterFunc(s.keepAliveInterval(), s.keepAlive)
	}
	if expected <= s.base {
		return expected == s.base || expected == 0
	}
	n := int(expected - s.base)
	for i := range n {
		s.bytes -= len(s.unacked[i])
		s.unacked[i] = nil
	}
	s.unacked, s.base = s.unacked[n:], expected
	s.wake()
	return true
}

// handleNack sends the unacknowledged fragments again. After a gap, the service sends a nack for every fragment that
// follows, so nacks for the same fragment are ignored for streamRetryDelay.
func (s *StreamWriter) handleNack(f *frame) {
	if !s.acknowledge(f.expected) {
		s.fail(&StreamError{Name: f.failure.name, Message: "the service expects a fragment that it has acknowledged"})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.resent == f.expected && time.Since(s.resentAt) < streamRetryDelay {
		return
	}
	s.resent, s.resentAt = f.expected, time.Now()
	if f.failure.name == "TransientError" {
		time.AfterFunc(streamRetryDelay, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.writeUnacked()
		})
		return
	}
	s.writeUnacked()
}

// writeUnacked sends the unacknowledged frames, and the end of the stream if it was sent before. The caller holds s.mu.
func (s *StreamWriter) writeUnacked() {
	for _, data := range s.unacked {
		s.write(data)
	}
	if s.ended {
		s.write(s.endFrame)
	}
}

// resume continues the stream on the link of a recovered connection by sending all unacknowledged frames again.
func (s *StreamWriter) resume(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == l { // opened in the meantime
		return
	}
	s.link = l
	if !s.accepted {
		_ = s.writeOpen() // cannot fail: open has encoded, or will encode, the same request
	}
	s.endAgain = s.ended
	s.writeUnacked()
}

// isAhead reports whether the service expects a fragment after the next one.
func (s *StreamWriter) isAhead(expected uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.over && expected > s.next
}

// reject ends the stream because the service violated the protocol.
func (s *StreamWriter) reject(problem string) {
	const name = "ProtocolViolation"
	_ = s.end(&StreamError{Message: problem, UserErrorCode: name})
	s.fail(&StreamError{Name: name, Message: problem})
}

// finish handles the service's confirmation of the end of the stream.
func (s *StreamWriter) finish() {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	if !ended {
		s.fail(&StreamError{Name: nameStreamNotFound, Message: "the service ended the stream before the sender did"})
		return
	}
	s.fail(nil)
}

// fail ends the stream with an error. A nil error means that the stream ended normally.
func (s *StreamWriter) fail(err error) {
	s.conn.streams.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over, s.err = true, err
	s.unacked, s.bytes, s.link = nil, 0, nil
	if s.timer != nil {
		s.timer.Stop()
	}
	close(s.closed)
}

// streams are the open streams of a Conn.
type streams struct {
	mu   sync.Mutex // guards open; never locked while a stream's mutex is held
	open map[string]*StreamWriter
}

func (all *streams) add(s *StreamWriter) {
	all.mu.Lock()
	defer all.mu.Unlock()
	s.id = rand.Text() // random, because receivers tell the streams of all senders apart by ID
	if all.open == nil {
		all.open = make(map[string]*StreamWriter)
	}
	all.open[s.id] = s
}

func (all *streams) remove(s *StreamWriter) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.open, s.id)
}

// list returns the open streams.
func (all *streams) list() []*StreamWriter {
	all.mu.Lock()
	defer all.mu.Unlock()
	list := make([]*StreamWriter, 0, len(all.open))
	for _, s := range all.open {
		list = append(list, s)
	}
	return list
}

func (all *streams) handle(f *frame) {
	all.mu.Lock()
	s := all.open[f.streamID]
	all.mu.Unlock()
	switch {
	case s == nil:
	case f.kind != frameStreamClosed && s.isAhead(f.expected):
		s.reject("the service acknowledged a fragment that was not sent")
	case f.kind == frameStreamAck:
		s.acknowledge(f.expected)
	case f.kind == frameStreamNack:
		s.handleNack(f)
	case f.success:
		s.finish()
	default:
		s.fail(&StreamError{Name: f.failure.name, Message: f.failure.message})
	}
}

func (all *streams) resume(l *link) {
	for _, s := range all.list() {
		s.resume(l)
	}
}

// endOlder ends the streams of earlier sessions. A stream that was opened while its session ended may still be open.
func (all *streams) endOlder(epoch uint64) {
	for _, s := range all.list() {
		if s.epoch < epoch {
			s.fail(sessionLost())
		}
	}
}

func (all *streams) endAll(err error) {
	for _, s := range all.list() {
		s.fail(err)
	}
}

var _ io.WriteCloser = (*StreamWriter)(nil)
