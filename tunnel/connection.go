package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

const (
	// dialTimeout limits the time until the first frame: getting a token, connecting, the handshake and the frame.
	dialTimeout = 30 * time.Second

	// writeTimeout limits the write of one fragment. A service that does not read for this long is considered dead.
	writeTimeout = 30 * time.Second

	// fragmentSize is the maximum size of a WebSocket frame that this package sends.
	fragmentSize = 64 << 10
)

// Reasons why a connection ends.
var (
	errReplaced = errors.New("tunnel: the connection was replaced by another")
	errStopped  = errors.New("tunnel: the server has stopped")
	errNoPong   = errors.New("tunnel: no response to a ping")
	errNotRead  = fmt.Errorf("tunnel: the service did not read for %v", writeTimeout)
)

// connection is one WebSocket connection to the service.
type connection struct {
	server     *server
	ws         *websocket.Conn
	token      string // kept to redact it from errors
	remoteAddr string
	log        *slog.Logger
	first      tunnelframe.Message // the first frame; dial reads it to confirm that the connection is up
	firstSize  int

	requests context.Context // parent of the contexts of events; its cause is the reason why the connection ended
	end      context.CancelCauseFunc

	writing   chan struct{} // has an element while a frame is written
	fragments atomic.Int64  // number of written fragments of large frames

	closing chan error // the reason to close the connection after its events are answered; only the first is used

	mu       sync.Mutex
	replaced bool          // a Reconnect has arrived: another connection takes over
	active   int           // number of unanswered events
	closed   bool          // no new events are accepted
	idle     chan struct{} // closed when active is 0; nil until untilIdle is called
}

// dial opens a connection and waits for its first frame.
func (s *server) dial(to destination) (*connection, error) {
	ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
	defer cancel()
	target, audience := s.endpoints.urls(s.hub, to)
	token, err := s.token(ctx, audience)
	if err != nil {
		return nil, err
	}
	c := &connection{server: s, token: token, remoteAddr: s.endpoints.service.Host, writing: make(chan struct{}, 1), closing: make(chan error, 1)}
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { c.remoteAddr = info.Conn.RemoteAddr().String() },
	})
	ws, response, err := websocket.Dial(traced, target+"&access_token="+url.QueryEscape(token), &websocket.DialOptions{HTTPClient: s.client})
	switch {
	case err == nil:
	case response != nil && response.StatusCode != 101:
		var body []byte
		if response.Body != nil {
			body, _ = io.ReadAll(response.Body)
		}
		return nil, &HandshakeError{StatusCode: response.StatusCode, Message: redact(string(body), token)}
	default:
		return nil, fmt.Errorf("tunnel: cannot connect: %w", redactError(err, token))
	}
	c.ws = ws
	ws.SetReadLimit(int64(s.options.MaxFrameBytes))
	// Without a server, a httputil.ReverseProxy whose response breaks off would not panic, and the beginning would be sent.
	c.requests, c.end = context.WithCancelCause(context.WithValue(context.WithoutCancel(s.ctx), http.ServerContextKey, &http.Server{}))
	c.log = s.log.With(slog.String("service", s.endpoints.service.Host))
	if to.target != "" {
		c.log = c.log.With(slog.String("target", to.target))
	}
	c.first, c.firstSize, err = c.readFrame(ctx)
	if err != nil {
		c.end(err)
		ws.CloseNow()
		return nil, fmt.Errorf("tunnel: reading the first frame: %w", err)
	}
	c.log.Info("the tunnel is connected")
	return c, nil
}

// serve serves events until the connection ends, and returns the reason.
func (c *connection) serve() error {
	var background sync.WaitGroup
	read := make(chan error, 1)
	background.Go(func() { read <- c.read() })
	background.Go(c.keepAlive)
	err := c.wait(read)
	c.end(err)
	c.ws.CloseNow()
	background.Wait()
	return err
}

// wait waits until the connection is lost or must be closed, and returns the reason. Before wait closes the connection,
// it waits for its events to be answered, but not longer than ShutdownTimeout.
func (c *connection) wait(read <-chan error) error {
	var reason error
	select {
	case err := <-read:
		return c.lostReason(err)
	case <-c.server.ctx.Done():
		reason = errStopped
	case reason = <-c.closing:
	}
	timer := time.NewTimer(c.server.options.ShutdownTimeout)
	defer timer.Stop()
	select {
	case err := <-read:
		c.log.Warn("the connection was lost before all events were answered", slog.Any("error", err))
		return reason
	case <-c.untilIdle():
	case <-timer.C:
		n := c.stopEvents()
		c.log.Error("events were not answered within the shutdown timeout", slog.Int("events", n))
		if c.server.ctx.Err() != nil {
			c.server.unanswered.Add(int64(n))
		}
		c.end(reason)
	}
	c.ws.Close(websocket.StatusNormalClosure, "")
	return reason
}

// lostReason returns the reason why a lost connection has ended: err, unless the service had announced the end.
func (c *connection) lostReason(err error) error {
	select {
	case reason := <-c.closing: // wait may notice the loss first
		return reason
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.replaced {
		c.log.Warn("the connection was lost before it was replaced", slog.Any("error", err))
		return errReplaced // the connection that replaces it is being opened
	}
	return err
}

// untilIdle returns a channel that is closed when no event is being served. No new events are accepted after that.
func (c *connection) untilIdle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = make(chan struct{})
	c.closeIfIdle()
	return c.idle
}

// stopEvents stops accepting new events and returns the number of unanswered ones.
func (c *connection) stopEvents() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.active
}

// closeIfIdle closes idle if untilIdle was called and no event is being served. The caller holds mu.
func (c *connection) closeIfIdle() {
	if c.idle != nil && c.active == 0 && !c.closed {
		c.closed = true
		close(c.idle)
	}
}

// beginEvent counts a new event. It returns false if the connection accepts no new events.
func (c *connection) beginEvent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.active++
	return true
}

func (c *connection) endEvent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active--
	c.closeIfIdle()
}

// closeNow ends the connection immediately.
func (c *connection) closeNow(err error) {
	c.end(err)
	c.ws.CloseNow()
}

// closeWhenIdle ends the connection after its events are answered.
func (c *connection) closeWhenIdle(reason error) {
	select {
	case c.closing <- reason:
	default: // the connection is already closing
	}
}

// keepAlive pings the service, and ends the connection if no pong arrives.
func (c *connection) keepAlive() {
	o := c.server.options.KeepAlive
	ticker := time.NewTicker(o.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-c.requests.Done():
			return
		case <-ticker.C:
		}
		before := c.fragments.Load()
		ctx, cancel := context.WithTimeout(c.requests, o.Timeout)
		err := c.ws.Ping(ctx)
		cancel()
		if err != nil && c.fragments.Load() == before { // a slow network is not a dead one
			c.closeNow(errNoPong)
			return
		}
	}
}

// read handles frames until the connection ends, and returns the reason.
func (c *connection) read() error {
	c.handle(c.first, c.firstSize)
	c.first = nil
	for {
		m, size, err := c.readFrame(context.Background()) // a canceled context would close the connection; serve does that
		if err != nil {
			if cause := context.Cause(c.requests); cause != nil {
				return cause
			}
			c.end(err)
			return err
		}
		c.handle(m, size)
	}
}

// readFrame reads a frame. It closes the connection if the frame is malformed.
func (c *connection) readFrame(ctx context.Context) (tunnelframe.Message, int, error) {
	kind, r, err := c.ws.Reader(ctx)
	if err != nil {
		return nil, 0, redactError(err, c.token)
	}
	data, err := tunnelframe.Read(r, c.server.options.MaxFrameBytes)
	if err != nil {
		return nil, 0, redactError(err, c.token)
	}
	if kind != websocket.MessageBinary {
		c.ws.Close(websocket.StatusUnsupportedData, "frames must be binary")
		return nil, 0, errors.New("tunnel: the service sent a text message instead of a binary one")
	}
	m, err := tunnelframe.Decode(data, c.server.options.MaxFrameBytes)
	if err != nil {
		c.ws.Close(websocket.StatusInvalidFramePayloadData, "the frame is malformed")
		return nil, 0, err
	}
	return m, len(data), nil
}

// write sends a frame. If that fails, it ends the connection.
func (c *connection) write(frame []byte) error {
	select {
	case c.writing <- struct{}{}: // the timeout must not include the writes before this one
		defer func() { <-c.writing }()
	case <-c.requests.Done():
		return context.Cause(c.requests)
	}
	ctx, cancel := context.WithCancelCause(context.Background()) // not the event's context, whose end would close the connection
	defer cancel(nil)
	timer := time.AfterFunc(writeTimeout, func() { cancel(errNotRead) })
	defer timer.Stop()
	if err := c.writeFragments(ctx, timer, frame); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		err = redactError(err, c.token)
		c.closeNow(err)
		return err
	}
	return nil
}

// writeFragments writes a frame as a WebSocket message of several fragments if it is large. Pings and pongs can be sent
// between fragments. Behind a large fragment on a slow network, they would time out. Each fragment restarts the timer.
func (c *connection) writeFragments(ctx context.Context, timer *time.Timer, frame []byte) error {
	if len(frame) <= fragmentSize {
		return c.ws.Write(ctx, websocket.MessageBinary, frame)
	}
	w, err := c.ws.Writer(ctx, websocket.MessageBinary)
	if err != nil {
		return err
	}
	for fragment := range slices.Chunk(frame, fragmentSize) {
		if _, err := w.Write(fragment); err != nil {
			return err
		}
		c.fragments.Add(1)
		timer.Reset(writeTimeout)
	}
	return w.Close()
}

// handle processes a message. It does not block longer than a write.
func (c *connection) handle(m tunnelframe.Message, size int) {
	switch m := m.(type) {
	case *tunnelframe.Request:
		c.serveEvent(m, size)
	case *tunnelframe.Connected:
		c.log.Debug("the service has accepted the connection", slog.String("connectionId", redact(m.ConnectionID, c.token)))
	case *tunnelframe.Status:
		c.log.Info("the service reported its status", slog.String("message", redact(m.Message, c.token)))
	case *tunnelframe.Close:
		c.log.Info("the service requested to close the connection", slog.String("message", redact(m.Message, c.token)))
		reason := ErrClosed
		if m.Message != "" {
			reason = fmt.Errorf("%w: %s", ErrClosed, redact(m.Message, c.token))
		}
		c.closeWhenIdle(reason)
	case *tunnelframe.Rebalance:
		log := c.log.With(slog.String("message", redact(m.Message, c.token)))
		to, err := c.server.endpoints.follow(m.Endpoint, m.TargetID)
		switch {
		case err != nil:
			log.Warn("ignored the service's request for another connection: its endpoint " + err.Error())
		case !c.server.keepOpen(to, func() {}):
			log.Warn("ignored the service's request for another connection: the limit is reached", slog.Int("connections", maxConnections))
		default:
			log.Info("the service requested another connection")
		}
	case *tunnelframe.Reconnect:
		c.replace(m)
	default: // a Response, which is unexpected because this side sends no requests; or an unknown type
		c.log.Debug("ignored a frame", slog.String("type", m.Type().String()))
	}
}

// replace opens a new connection, and ends this one after the new one is up.
func (c *connection) replace(m *tunnelframe.Reconnect) {
	c.mu.Lock()
	again := c.replaced
	c.replaced = true
	c.mu.Unlock()
	if again {
		return
	}
	log := c.log.With(slog.String("message", redact(m.Message, c.token)))
	to, err := c.server.endpoints.follow(m.Endpoint, m.TargetID)
	if err != nil {
		log.Warn("reconnecting to the service's own endpoint: the requested endpoint " + err.Error())
	} else {
		log.Info("the service requested a reconnect")
	}
	if !c.server.keepOpen(to, sync.OnceFunc(func() { c.closeWhenIdle(errReplaced) })) {
		// No new connection may be opened. After this one has ended, it is opened again.
		c.closeWhenIdle(errors.New("tunnel: the service requested a reconnect"))
	}
}
