package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

const (
	// dialTimeout is for everything until the first frame: the token, the connection, the handshake, the frame.
	dialTimeout = 30 * time.Second

	// writeTimeout is for one frame. A service that does not read for so long has gone.
	writeTimeout = 30 * time.Second
)

// Why connections end.
var (
	errReplaced = errors.New("tunnel: the connection was replaced by another")
	errStopped  = errors.New("tunnel: the server has stopped")
	errNoPong   = errors.New("tunnel: no answer to a ping")
)

// connection is one WebSocket connection to the service.
type connection struct {
	server     *server
	ws         *websocket.Conn
	token      string // to keep it out of errors
	remoteAddr string
	log        *slog.Logger
	first      tunnelframe.Message // the first frame, which was read to know that the connection is up
	firstSize  int

	requests context.Context // the parent of the contexts of events; its cause is why the connection ended
	end      context.CancelCauseFunc

	leaving chan error // why the connection shall end once its events are answered; one at most is read

	mu       sync.Mutex
	replaced bool // a Reconnect has come
	active   int  // events that are not answered yet
	closed   bool // no more events are begun
	idle     chan struct{}
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
	c := &connection{server: s, token: token, remoteAddr: s.endpoints.service.Host, leaving: make(chan error, 1)}
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
		return nil, fmt.Errorf("tunnel: cannot connect: %w", clean(err, token))
	}
	c.ws = ws
	ws.SetReadLimit(int64(s.options.MaxFrameBytes))
	c.requests, c.end = context.WithCancelCause(context.WithoutCancel(s.ctx))
	c.log = s.log.With(slog.String("service", s.endpoints.service.Host))
	if to.target != "" {
		c.log = c.log.With(slog.String("target", to.target))
	}
	c.first, c.firstSize, err = c.readFrame(ctx)
	if err != nil {
		c.end(err)
		ws.CloseNow()
		return nil, fmt.Errorf("tunnel: no first frame: %w", err)
	}
	c.log.Info("the tunnel is connected")
	return c, nil
}

// serve serves events until the connection ends, and returns why it did.
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

// wait waits until the connection is lost, or shall end and its events are answered.
func (c *connection) wait(read <-chan error) error {
	var reason error
	select {
	case err := <-read:
		return err
	case <-c.server.ctx.Done():
		reason = errStopped
	case reason = <-c.leaving:
	}
	timer := time.NewTimer(c.server.options.ShutdownTimeout)
	defer timer.Stop()
	select {
	case err := <-read:
		c.log.Warn("the connection was lost before all its events were answered", slog.Any("error", err))
		return reason
	case <-c.untilIdle():
	case <-timer.C:
		n := c.stopEvents()
		c.log.Error("events took longer than the shutdown may: they are not answered", slog.Int("events", n))
		if c.server.ctx.Err() != nil {
			c.server.cut.Add(int64(n))
		}
		c.end(reason)
	}
	c.ws.Close(websocket.StatusNormalClosure, "")
	return reason
}

// untilIdle returns a channel that is closed once no event is under way. No event is begun after that.
func (c *connection) untilIdle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = make(chan struct{})
	c.closeIfIdle()
	return c.idle
}

// stopEvents lets no more events begin, and returns how many are under way.
func (c *connection) stopEvents() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.active
}

// closeIfIdle closes idle if somebody waits for it and no event is under way. The caller holds mu.
func (c *connection) closeIfIdle() {
	if c.idle != nil && c.active == 0 && !c.closed {
		c.closed = true
		close(c.idle)
	}
}

// beginEvent counts an event that has come. It reports false if the connection does not begin any more.
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

// lose ends the connection at once.
func (c *connection) lose(err error) {
	c.end(err)
	c.ws.CloseNow()
}

// leave ends the connection once its events are answered.
func (c *connection) leave(reason error) {
	select {
	case c.leaving <- reason:
	default: // it is leaving already
	}
}

// keepAlive pings the service, and ends the connection if no pong comes.
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
		ctx, cancel := context.WithTimeout(c.requests, o.Timeout)
		err := c.ws.Ping(ctx)
		cancel()
		if err != nil {
			c.lose(errNoPong)
			return
		}
	}
}

// read reads frames until the connection ends, and returns why it did.
func (c *connection) read() error {
	c.handle(c.first, c.firstSize)
	c.first = nil
	for {
		m, size, err := c.readFrame(context.Background()) // which must not end the connection: serve does
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

// readFrame reads a frame. It closes the connection if the frame is wrong.
func (c *connection) readFrame(ctx context.Context) (tunnelframe.Message, int, error) {
	kind, r, err := c.ws.Reader(ctx)
	if err != nil {
		return nil, 0, clean(err, c.token)
	}
	data, err := tunnelframe.Read(r, c.server.options.MaxFrameBytes)
	if err != nil {
		return nil, 0, clean(err, c.token)
	}
	if kind != websocket.MessageBinary {
		c.ws.Close(websocket.StatusUnsupportedData, "frames are binary")
		return nil, 0, errors.New("tunnel: the service sent a text message instead of a binary one")
	}
	m, err := tunnelframe.Decode(data, c.server.options.MaxFrameBytes)
	if err != nil {
		c.ws.Close(websocket.StatusInvalidFramePayloadData, "the frame is malformed")
		return nil, 0, err
	}
	return m, len(data), nil
}

// write sends a frame. It ends the connection if that fails.
func (c *connection) write(frame []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout) // the event's would end the connection
	defer cancel()
	if err := c.ws.Write(ctx, websocket.MessageBinary, frame); err != nil {
		err = clean(err, c.token)
		c.lose(err)
		return err
	}
	return nil
}

// handle does what a message asks for. It does not block for longer than a write.
func (c *connection) handle(m tunnelframe.Message, size int) {
	switch m := m.(type) {
	case *tunnelframe.Request:
		c.serveEvent(m, size)
	case *tunnelframe.Connected:
		c.log.Debug("the service has accepted the connection", slog.String("connectionId", redact(m.ConnectionID, c.token)))
	case *tunnelframe.Status:
		c.log.Info("the service tells its status", slog.String("message", redact(m.Message, c.token)))
	case *tunnelframe.Close:
		c.log.Info("the service closes the connection", slog.String("message", redact(m.Message, c.token)))
		reason := ErrClosed
		if m.Message != "" {
			reason = fmt.Errorf("%w: %s", ErrClosed, redact(m.Message, c.token))
		}
		c.leave(reason)
	case *tunnelframe.Rebalance:
		log := c.log.With(slog.String("message", redact(m.Message, c.token)))
		to, err := c.server.endpoints.follow(m.Endpoint, m.TargetID)
		switch {
		case err != nil:
			log.Warn("the service asks for one more connection, to an endpoint that " + err.Error() + ": ignored")
		case !c.server.keepOpen(to, func() {}):
			log.Warn("the service asks for one more connection, and there are too many: ignored", slog.Int("connections", maxConnections))
		default:
			log.Info("the service asks for one more connection")
		}
	case *tunnelframe.Reconnect:
		c.replace(m)
	default: // a Response, as this side makes no requests; or a type of the future
		c.log.Debug("a frame is ignored", slog.String("type", m.Type().String()))
	}
}

// replace opens another connection, and ends this one once that is up.
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
		log.Warn("the service asks to reconnect to an endpoint that " + err.Error() + ": reconnecting to the service's own")
	} else {
		log.Info("the service asks to reconnect")
	}
	if !c.server.keepOpen(to, sync.OnceFunc(func() { c.leave(errReplaced) })) {
		c.leave(errors.New("tunnel: the service asks to reconnect")) // without a connection to take over: this one is opened again
	}
}
