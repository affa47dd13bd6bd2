package tunnel

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

// serveEvent serves an event on a goroutine of its own, once fewer than Options.MaxConcurrent are being served. It does not wait for
// the event: a reader that waits would answer no pings.
func (c *connection) serveEvent(event *tunnelframe.Request, frameSize int) {
	if !c.beginEvent() {
		return
	}
	s := c.server
	size := int64(frameSize + pendingOverhead)
	switch {
	case s.ctx.Err() != nil:
		c.answer(event, plainAnswer(event, http.StatusServiceUnavailable, "the server is shutting down"))
		c.endEvent()
		return
	case s.pending.Add(size) > maxPendingBytes:
		s.pending.Add(-size)
		c.log.Warn("too many events wait: an event is answered with 503")
		c.answer(event, plainAnswer(event, http.StatusServiceUnavailable, "too many events wait"))
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
			c.log.Warn("an event is not served: its connection has ended", slog.Any("error", context.Cause(c.requests)))
			return
		}
		c.answer(event, c.callHandler(event))
	})
}

// callHandler returns the handler's answer to an event.
func (c *connection) callHandler(event *tunnelframe.Request) (answer *tunnelframe.Response) {
	ctx, cancel := context.WithCancel(c.requests)
	defer cancel()
	r, err := newRequest(ctx, event, c.remoteAddr)
	if err != nil {
		c.log.Warn("an event is malformed", slog.Any("error", err))
		return plainAnswer(event, http.StatusBadRequest, err.Error())
	}
	log := func(level slog.Level, message string, attrs ...slog.Attr) {
		c.log.LogAttrs(ctx, level, message, append(attrs, slog.String("method", r.Method), slog.String("path", r.URL.Path))...)
	}
	start := time.Now()
	w := &responseWriter{method: r.Method, header: http.Header{}}
	failed := func() *tunnelframe.Response {
		return plainAnswer(event, http.StatusInternalServerError, "the handler failed")
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		switch v := recover(); v {
		case http.ErrAbortHandler: // the handler's way not to answer, which it has logged itself
		case nil: // runtime.Goexit, after which this function cannot return the answer
			log(slog.LevelError, "the handler ended its goroutine")
			c.answer(event, failed())
		default:
			log(slog.LevelError, "the handler panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		}
		answer = failed()
	}()
	c.server.handler.ServeHTTP(w, r)
	returned = true
	answer, err = w.answer(event)
	if err != nil {
		log(slog.LevelError, "the handler's answer cannot be sent", slog.Any("error", err))
		return failed()
	}
	if c.log.Enabled(ctx, slog.LevelDebug) {
		log(slog.LevelDebug, "an event is answered", slog.Int("status", answer.StatusCode), slog.Duration("duration", time.Since(start)))
	}
	return answer
}

// answer sends the answer to an event.
func (c *connection) answer(event *tunnelframe.Request, answer *tunnelframe.Response) {
	if err := context.Cause(c.requests); err != nil {
		c.log.Warn("an answer is dropped: its connection has ended", slog.Any("error", err))
		return
	}
	frame, err := tunnelframe.Encode(answer, tunnelframe.MaxSize)
	if err != nil {
		c.log.Error("the handler's answer cannot be sent", slog.Any("error", err))
		frame, err = tunnelframe.Encode(plainAnswer(event, http.StatusInternalServerError, "the answer is too large"), tunnelframe.MaxSize)
	}
	if err == nil {
		err = c.write(frame)
	}
	if err != nil {
		c.log.Warn("an answer could not be sent", slog.Any("error", err))
	}
}
