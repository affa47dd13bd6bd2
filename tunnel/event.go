package tunnel

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

// serveEvent serves an event on a new goroutine, when fewer than Options.MaxConcurrent events are being served. It does
// not wait for the event, because the reader must keep reading to respond to pings.
func (c *connection) serveEvent(event *tunnelframe.Request, frameSize int) {
	if !c.beginEvent() {
		return
	}
	s := c.server
	size := int64(frameSize + pendingOverhead)
	switch {
	case s.ctx.Err() != nil:
		c.respond(event, plainResponse(event, http.StatusServiceUnavailable, "the server is shutting down"))
		c.endEvent()
		return
	case s.pending.Add(size) > maxPendingBytes:
		s.pending.Add(-size)
		c.log.Warn("too many events are waiting: responding with 503")
		c.respond(event, plainResponse(event, http.StatusServiceUnavailable, "too many events are waiting"))
		c.endEvent()
		return
	}
	s.handlers.Go(func() {
		defer c.endEvent()
		defer s.pending.Add(-size)
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-c.requests.Done():
			c.log.Warn("an event was not served: its connection has ended", slog.Any("error", context.Cause(c.requests)))
			return
		}
		c.respond(event, c.callHandler(event))
	})
}

// callHandler returns the handler's response to an event.
func (c *connection) callHandler(event *tunnelframe.Request) (response *tunnelframe.Response) {
	ctx, cancel := context.WithCancel(c.requests)
	defer cancel()
	r, err := newRequest(ctx, event, c.remoteAddr)
	if err != nil {
		c.log.Warn("malformed event", slog.Any("error", err))
		return plainResponse(event, http.StatusBadRequest, err.Error())
	}
	log := func(level slog.Level, message string, attrs ...slog.Attr) {
		c.log.LogAttrs(ctx, level, message, append(attrs, slog.String("method", r.Method), slog.String("path", r.URL.Path))...)
	}
	start := time.Now()
	w := &responseWriter{method: r.Method, header: http.Header{}}
	failed := func() *tunnelframe.Response {
		return plainResponse(event, http.StatusInternalServerError, "the handler failed")
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		switch v := recover(); v {
		case http.ErrAbortHandler: // aborts the handler without a log record, like in net/http
		case nil: // runtime.Goexit, after which this function cannot return a response
			log(slog.LevelError, "the handler called runtime.Goexit")
			c.respond(event, failed())
		default:
			log(slog.LevelError, "the handler panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		}
		response = failed()
	}()
	c.server.handler.ServeHTTP(w, r)
	returned = true
	response, err = w.response(event)
	if err != nil {
		log(slog.LevelError, "the handler's response cannot be sent", slog.Any("error", err))
		return failed()
	}
	if c.log.Enabled(ctx, slog.LevelDebug) {
		log(slog.LevelDebug, "event served", slog.Int("status", response.StatusCode), slog.Duration("duration", time.Since(start)))
	}
	return response
}

// respond sends the response to an event.
func (c *connection) respond(event *tunnelframe.Request, response *tunnelframe.Response) {
	if err := context.Cause(c.requests); err != nil {
		c.log.Warn("a response was dropped: its connection has ended", slog.Any("error", err))
		return
	}
	frame, err := tunnelframe.Encode(response, tunnelframe.MaxSize)
	if err != nil {
		c.log.Error("the handler's response cannot be sent", slog.Any("error", err))
		frame, err = tunnelframe.Encode(plainResponse(event, http.StatusInternalServerError, "the response is too large"), tunnelframe.MaxSize)
	}
	if err == nil {
		err = c.write(frame)
	}
	if err != nil {
		c.log.Warn("a response could not be sent", slog.Any("error", err))
	}
}
