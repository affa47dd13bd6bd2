package webpubsub

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// maxLoggedBody is how much of a body a Debug record holds.
const maxLoggedBody = 4 << 10

const redacted = "REDACTED"

// WithLogger returns a context that logs the calls made with it, as ClientOptions.Logger logs those of a client; for these
// calls it takes that one's place. A nil logger logs nothing.
//
// A call is one record: at level Info, or Warn if it ended in an error. It has the operation, the method, the URL, the
// status, the duration from begin to end, the number of tries and the headers of the last try and its answer. If the
// logger is enabled for Debug, it has the first 4 KiB of both bodies too; the body of a stream is never logged. Keys,
// tokens, the Authorization header and access_token in URLs are always left out. A call that is refused for its arguments
// leaves no record, nor does a client access token that is made without a request.
func WithLogger(ctx context.Context, log *slog.Logger) context.Context {
	if ctx == nil {
		return nil // which every call refuses
	}
	return context.WithValue(ctx, loggerKey{}, log)
}

type (
	loggerKey struct{} // the *slog.Logger of WithLogger
	recordKey struct{} // the *record of the call
)

// record is what is logged of one call.
type record struct {
	log     *slog.Logger
	request *request
	start   time.Time
	tries   int
	last    *http.Request  // the last try
	answer  *http.Response // to the last try, if there was one
}

// startRecord begins the record of a call; it is nil if nothing listens.
func (c *ServiceClient) startRecord(ctx context.Context, r *request) (context.Context, *record) {
	log := c.log
	if value := ctx.Value(loggerKey{}); value != nil {
		log = value.(*slog.Logger)
	}
	if log == nil || !log.Enabled(ctx, slog.LevelWarn) {
		return ctx, nil
	}
	record := &record{log: log, request: r, start: time.Now()}
	return context.WithValue(ctx, recordKey{}, record), record
}

// recordTry notes that a try of the call is on its way.
func recordTry(req *http.Request) {
	if record, ok := req.Context().Value(recordKey{}).(*record); ok {
		record.tries++
		record.last = req
	}
}

func (r *record) end(ctx context.Context, err error) {
	level, resp := slog.LevelInfo, r.answer
	if err != nil {
		level = slog.LevelWarn
	}
	if !r.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("operation", r.request.operation)}
	if r.last != nil {
		attrs = append(attrs, slog.String("method", r.last.Method), slog.String("url", redactURL(r.last.URL.String())))
	}
	if resp != nil {
		attrs = append(attrs, slog.Int("status", resp.StatusCode))
	}
	attrs = append(attrs, slog.Duration("duration", time.Since(r.start)), slog.Int("tries", r.tries))
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	debug := r.log.Enabled(ctx, slog.LevelDebug)
	var token, key string // which the service may echo, or a message hold
	if keys := r.request.client.key; keys != nil {
		key, _ = keys.value(ctx)
	}
	if r.last != nil {
		token = bearerToken(r.last.Header)
		attrs = append(attrs, headerAttr("requestHeaders", r.last.Header, token, key))
		if debug && r.request.stream == nil && len(r.request.data) > 0 {
			attrs = append(attrs, bodyAttr("requestBody", r.request.data, token, key))
		}
	}
	if resp != nil {
		attrs = append(attrs, headerAttr("responseHeaders", resp.Header, token, key))
		if debug && !r.request.secret {
			if body, err := runtime.Payload(resp); err == nil && len(body) > 0 {
				attrs = append(attrs, bodyAttr("responseBody", body, token, key))
			}
		}
	}
	r.log.LogAttrs(ctx, level, "webpubsub: "+r.request.operation, attrs...)
}

func headerAttr(key string, header http.Header, known ...string) slog.Attr {
	attrs := make([]slog.Attr, 0, len(header))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		value := redacted
		if !sensitive(name) {
			value = redact(strings.Join(header[name], ", "), known...)
		}
		attrs = append(attrs, slog.String(name, value))
	}
	return slog.Attr{Key: key, Value: slog.GroupValue(attrs...)}
}

// bodyAttr redacts more of a body than it logs: half a secret is one too, and does not look like it.
func bodyAttr(key string, body []byte, known ...string) slog.Attr {
	const longestSecret = 16 << 10
	text := redact(string(body[:min(len(body), maxLoggedBody+longestSecret)]), known...)
	return slog.String(key, strings.ToValidUTF8(text[:min(len(text), maxLoggedBody)], "\uFFFD"))
}

// sensitive says whether a header or a query parameter of that name holds a secret.
func sensitive(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"authorization", "cookie", "token", "key", "secret", "signature", "password"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return name == "sig" || name == "code"
}

// redactURL takes the secrets in the query out of a URL.
func redactURL(text string) string {
	text, query, found := strings.Cut(text, "?")
	if !found {
		return text
	}
	items := strings.Split(query, "&")
	for i, item := range items {
		name, _, _ := strings.Cut(item, "=")
		if plain, err := url.QueryUnescape(name); err != nil || sensitive(plain) {
			items[i] = name + "=" + redacted
		}
	}
	return redact(text + "?" + strings.Join(items, "&"))
}

// secrets are what keys and tokens look like in other people's words: JWTs, bearer tokens, and the values of names that
// hold them, as in a query or in JSON.
var secrets = regexp.MustCompile(`eyJ[\w-]*\.[\w-]+\.[\w-]*` +
	`|((?i:\bbearer\s+))[\w.~+/=-]{16,}` +
	`|((?i:(?:\w*token|access[_-]?key|subscription-key|\bsig|signature|secret|password)(?:=|\\*["']\s*:\s*\\*["'])))(?:[^\s&;"'<>\\]|\\+[^"'\\])+`)

// redact takes secrets out of text: what looks like one, and what is known to be one.
func redact(text string, known ...string) string {
	for _, secret := range known {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, redacted)
		}
	}
	return secrets.ReplaceAllString(text, "${1}${2}"+redacted)
}

// bearerToken returns the token that a request carries, or nothing.
func bearerToken(header http.Header) string {
	return strings.TrimPrefix(header.Get("Authorization"), "Bearer ")
}
