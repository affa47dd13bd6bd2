package wsclient

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"time"
)

// StreamFragment says which part of a group stream a [Message] is. A stream is a series of messages of one sender to a
// group, such as the tokens of a language model's answer. Its fragments arrive in order, among other messages.
//
// Follow a stream by its StreamID, which its sender chose; this package chooses random ones. A member that joins in the
// middle of a stream begins with a Number greater than 1.
type StreamFragment struct {
	// StreamID is the id of the stream.
	StreamID string

	// Number counts the fragments of the stream, from 1 on.
	Number uint64

	// End is true for the last message of the stream. It may have no data.
	End bool

	// Err is set on the last message if the stream did not end well: a "UserError" is that of the sender's CloseWithError.
	Err *StreamError
}

// StreamOptions are the options of OpenGroupStream.
type StreamOptions struct {
	// NoEcho keeps the fragments from coming back, if this client is in the group.
	NoEcho bool

	// Metadata goes with the stream. See SendToGroupOptions.
	Metadata map[string]string

	// DataType is what Write sends: DataBinary, which is the default, or DataText, for writes of whole UTF-8 text.
	DataType DataType

	// IdleTimeout is how long the service keeps a stream on which nothing is sent. The stream sends a sign of life three
	// times as often, so the timeout matters only when the connection breaks. 0 is the service's default, 5 minutes; the
	// minimum is 1 second.
	IdleTimeout time.Duration
}

// The limits of what a stream has sent and the service has not acknowledged.
const (
	streamWindow      = 64      // fragments
	streamWindowBytes = 1 << 20 // bytes of their frames

	streamFragmentSize   = 512 << 10 // the most that Write puts into one fragment
	defaultStreamTimeout = 5 * time.Minute

	// streamGoodbye bounds the wait for the service's confirmation that a stream has ended.
	streamGoodbye = 30 * time.Second

	// streamRetryDelay is the pause before fragments are sent again after a transient error.
	streamRetryDelay = 500 * time.Millisecond
)

// OpenGroupStream opens a stream to a group. It returns when the service has accepted it. The context bounds only the
// opening.
//
// While the connection is down, OpenGroupStream waits, until ctx ends. A stream belongs to the connection id: it pauses
// while the connection is being recovered, and sends again what was not acknowledged. A new connection ends it with a
// *[CloseError]. A stream that the service does not accept is a *[StreamError]; it is an [ErrForbidden] if the permission to
// send to the group is lacking.
//
// The protobuf protocols have no public frames for it: the error is then errors.ErrUnsupported.
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
	}
	k := &call{operation: operation}
	l, epoch, err := c.ready(ctx, k)
	if err != nil {
		return nil, operationError(operation, err, false)
	}
	s := &StreamWriter{conn: c, group: group, options: o, epoch: epoch, base: 1, next: 1,
		opened: make(chan struct{}), closed: make(chan struct{}), room: make(chan struct{}, 1)}
	c.streams.add(s)
	if err := s.open(l); err != nil {
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

// StreamWriter sends a stream to a group. Its methods may be called by several goroutines at once.
type StreamWriter struct {
	conn    *Conn
	id      string
	group   string
	options StreamOptions
	epoch   uint64

	opened chan struct{} // closed when the service has accepted the stream
	closed chan struct{} // closed when the stream is over
	room   chan struct{} // wakes a writer that waits

	mu       sync.Mutex // guards everything below
	link     *link      // what is written to a link that has ended is lost, and sent again by resume
	accepted bool
	unacked  []([]byte) // the frames from base on
	bytes    int        // their size
	base     uint64     // the first fragment that the service has not acknowledged
	next     uint64     // the number of the next fragment
	ended    bool       // Close or CloseWithError was called
	endFrame []byte
	over     bool
	err      error // why it is over; nil if it ended well
	timer    *time.Timer
	resent   uint64 // the fragment from which was sent again last
	resentAt time.Time
}

// ID returns the id of the stream, which receivers see as StreamFragment.StreamID.
func (s *StreamWriter) ID() string { return s.id }

// Write sends p as one fragment of the stream; binary data of more than 512 KiB as several. It returns when the fragment
// is on its way, and waits while too much is not acknowledged: 64 fragments or 1 MiB, also while the connection is being
// recovered. It has no context; use Send for one.
//
// The error is an io.ErrClosedPipe after Close, a *[StreamError] if the service ended the stream, and a *[CloseError] or
// [ErrClosed] if the connection ended.
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

// Send sends a payload of any type as one fragment. It waits as Write does, until ctx ends; then nothing was sent.
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
			s.wake() // the room is for another
			return operationError(operation, ctx.Err(), false)
		}
	}
}

// trySend sends a fragment if there is room for it.
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
	s.wake() // another may have room as well
	return true, nil
}

// Close ends the stream, and returns when the service has confirmed that all of it has arrived. It waits at most 30
// seconds, then returns an error that is an [ErrOutcomeUnknown]. A second Close returns what the first one did.
func (s *StreamWriter) Close() error { return s.close(nil) }

// CloseWithError ends the stream with an error: receivers see a "UserError" with the text of err, and the UserErrorCode if
// err is a *[StreamError]. With nil it is Close.
func (s *StreamWriter) CloseWithError(err error) error {
	if err == nil {
		return s.close(nil)
	}
	end := &StreamError{Message: err.Error()}
	if se, ok := errors.AsType[*StreamError](err); ok {
		end.Message, end.UserErrorCode = se.Message, se.UserErrorCode
	}
	return s.close(end)
}

func (s *StreamWriter) close(end *StreamError) error {
	const operation = "StreamWriter.Close"
	if err := s.end(end); err != nil {
		return operationError(operation, err, false)
	}
	t := time.NewTimer(streamGoodbye)
	defer t.Stop()
	select {
	case <-s.closed:
	case <-t.C:
		s.fail(ErrOutcomeUnknown)
	}
	if err := s.failure(); err != nil {
		return operationError(operation, err, false)
	}
	return nil
}

// end sends the end of the stream, once.
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

// failure returns why the stream is over, or nil.
func (s *StreamWriter) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// open sends the request to open the stream.
func (s *StreamWriter) open(l *link) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = l
	return s.writeOpen()
}

// writeOpen asks the service to open the stream. The caller holds s.mu.
func (s *StreamWriter) writeOpen() error {
	data, err := s.conn.codec.encode(&request{kind: requestStreamOpen, streamID: s.id, group: s.group,
		noEcho: s.options.NoEcho, metadata: s.options.Metadata, idleTimeout: s.options.IdleTimeout})
	if err != nil {
		return err
	}
	s.write(data)
	return nil
}

// write writes a frame. The caller holds s.mu.
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

// keepAlive tells the service that the stream is still in use.
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

// wake wakes a writer that waits for room.
func (s *StreamWriter) wake() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// acknowledge forgets the fragments before the one that the service expects next.
func (s *StreamWriter) acknowledge(expected uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if !s.accepted {
		s.accepted = true
		close(s.opened)
		s.timer = time.AfterFunc(s.keepAliveInterval(), s.keepAlive)
	}
	if expected <= s.base || expected > s.next {
		return
	}
	n := int(expected - s.base)
	for i := range n {
		s.bytes -= len(s.unacked[i])
		s.unacked[i] = nil
	}
	s.unacked, s.base = s.unacked[n:], expected
	s.wake()
}

// refuse sends again what the service did not accept. One gap makes the service refuse each fragment after it, so the
// same fragments are not sent again at once for each.
func (s *StreamWriter) refuse(f *frame) {
	s.acknowledge(f.expected)
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

// writeUnacked sends what is not acknowledged. The caller holds s.mu.
func (s *StreamWriter) writeUnacked() {
	for _, data := range s.unacked {
		s.write(data)
	}
	if s.ended {
		s.write(s.endFrame)
	}
}

// resume goes on after a recovery: with all that was not acknowledged.
func (s *StreamWriter) resume(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = l
	if !s.accepted {
		_ = s.writeOpen() // it has been encoded before
	}
	s.writeUnacked()
}

// fail ends the stream; nil means that it ended well.
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
	mu   sync.Mutex // guards open; never taken while a stream's mutex is held
	open map[string]*StreamWriter
}

func (all *streams) add(s *StreamWriter) {
	all.mu.Lock()
	defer all.mu.Unlock()
	s.id = rand.Text() // receivers may follow streams of several senders
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
	case f.kind == frameStreamAck:
		s.acknowledge(f.expected)
	case f.kind == frameStreamNack:
		s.refuse(f)
	case f.success:
		s.fail(nil)
	default:
		s.fail(&StreamError{Name: f.failure.name, Message: f.failure.message})
	}
}

func (all *streams) resume(l *link) {
	for _, s := range all.list() {
		s.resume(l)
	}
}

// endOlder ends streams of earlier sessions that were opened while their session ended.
func (all *streams) endOlder(epoch uint64) {
	for _, s := range all.list() {
		if s.epoch < epoch {
			s.fail(errLinkLost)
		}
	}
}

func (all *streams) endAll(err error) {
	for _, s := range all.list() {
		s.fail(err)
	}
}

var _ io.WriteCloser = (*StreamWriter)(nil)
