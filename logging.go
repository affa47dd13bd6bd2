package webpubsub

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/awps-go/webpubsub/internal/redact"
)

// maxLoggedBody is the maximum size of a body in a Debug record.
const maxLoggedBody = 4 << 10

// WithLogger returns a context with a logger. Calls with this context use the logger instead of ClientOptions.Logger. A
// nil logger disables logging.
//
// Each call logs one record, at level Info, or Warn if the call returns an error. The record contains
//   - always: the operation, the status, the duration of the whole call and the number of attempts (tries).
//   - if the call returns an error, or the logger is enabled for Debug: the method, the URL and the error.
//   - if the logger is enabled for Debug: the headers of the last request and its response, and the first 4 KiB of both
//     bodies. The body of a stream is never logged.
//
// Keys, tokens, the Authorization header and access_token in URLs are never logged. A call with an invalid argument is
// not logged, and neither is [ServiceClient.GetClientAccessToken] with an access key.
func WithLogger(ctx context.Context, log *slog.Logger) context.Context {
	if ctx == nil {
		return nil // every call rejects a nil context
	}
	return context.WithValue(ctx, loggerKey{}, log)
}

// loggerKey is the context key of WithLogger's *slog.Logger.
type loggerKey struct{}

// record collects the log record of one call. Its fields are atomic because an attempt may begin on a goroutine that
// the call no longer waits for.
type record struct {
	log   *slog.Logger
	start time.Time
	tries atomic.Int64
	last  atomic.Pointer[http.Request] // the last attempt
}

// startRecord returns a record for a call, or nil if it will not be logged.
func (c *ServiceClient) startRecord(ctx context.Context) *record {
	log := c.log
	if value := ctx.Value(loggerKey{}); value != nil {
		log = value.(*slog.Logger)
	}
	if log == nil || !log.Enabled(ctx, slog.LevelWarn) {
		return nil
	}
	return &record{log: log, start: time.Now()}
}

// begin records the start of an attempt.
func (r *record) begin(attempt *http.Request) {
	r.tries.Add(1)
	r.last.Store(attempt)
}

// endRecord logs the call.
func (r *request) endRecord(ctx context.Context, err error) {
	log, req, resp := r.record.log, r.record.last.Load(), r.last.Load()
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
	}
	if !log.Enabled(ctx, level) || errors.Is(err, ErrInvalidArgument) {
		return
	}
	if _, ok := errors.AsType[*azcore.ResponseError](err); err != nil && !ok && !r.accepted {
		resp = nil // the response belongs to an earlier attempt
	}
	debug := log.Enabled(ctx, slog.LevelDebug)
	attrs := []slog.Attr{slog.String("operation", r.operation)}
	if req != nil && (debug || err != nil) {
		attrs = append(attrs, slog.String("method", req.Method), slog.String("url", redact.URL(req.URL.String())))
	}
	if resp != nil {
		attrs = append(attrs, slog.Int("status", resp.StatusCode))
	}
	attrs = append(attrs, slog.Duration("duration", time.Since(r.record.start)), slog.Int64("tries", r.record.tries.Load()))
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	if debug {
		attrs = append(attrs, r.details(ctx, req, resp)...)
	}
	log.LogAttrs(ctx, level, "webpubsub call", attrs...)
}

// details returns the headers and bodies of the last attempt.
func (r *request) details(ctx context.Context, req *http.Request, resp *http.Response) (attrs []slog.Attr) {
	var token, key string // the response or a message may contain them
	if keys := r.client.key; keys != nil {
		key, _ = keys.value(ctx)
	}
	if req != nil {
		token = bearerToken(req.Header)
		attrs = append(attrs, headerAttr("requestHeaders", req.Header, token, key))
		if r.stream == nil && len(r.data) > 0 {
			attrs = append(attrs, slog.String("requestBody", redact.Excerpt(r.data, maxLoggedBody, token, key)))
		}
	}
	if resp != nil {
		attrs = append(attrs, headerAttr("responseHeaders", resp.Header, token, key))
		if !r.secret {
			if body, err := runtime.Payload(resp); err == nil && len(body) > 0 {
				attrs = append(attrs, slog.String("responseBody", redact.Excerpt(body, maxLoggedBody, token, key)))
			}
		}
	}
	return attrs
}

func headerAttr(key string, header http.Header, known ...string) slog.Attr {
	attrs := make([]slog.Attr, 0, len(header))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		attrs = append(attrs, slog.String(name, redact.Header(name, header[name], known...)))
	}
	return slog.Attr{Key: key, Value: slog.GroupValue(attrs...)}
}

// bearerToken returns the token that a request carries, or "".
func bearerToken(header http.Header) string {
	return strings.TrimPrefix(header.Get("Authorization"), "Bearer ")
}
