package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/textproto"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// inProcess is an [http.RoundTripper] that calls a handler directly, so a test needs no second port.
type inProcess struct {
	handler http.Handler
	log     *slog.Logger // receives panics, like http.Server.ErrorLog
}

// errNoResponse is returned if a handler panics, calls runtime.Goexit (for example by t.FailNow), or writes less than it has
// declared. net/http's server would cut the connection.
var errNoResponse = errors.New("the event handler ended without a response")

// server is the server in the context of each request. Without one, a httputil.ReverseProxy whose response breaks off would not
// panic, and the beginning would be the response.
var server = new(http.Server)

// RoundTrip calls the handler in a separate goroutine. A handler may call runtime.Goexit, which must not end the caller's
// goroutine, or outlive its context, which must not block the caller.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, end := context.WithCancel(r.Context()) // ends with the handler, like in net/http
	in := r.Clone(context.WithValue(ctx, http.ServerContextKey, server))
	in.RequestURI = r.URL.RequestURI()
	in.Host = r.URL.Host
	in.URL.Scheme, in.URL.Host, in.URL.User = "", "", nil // a server's requests have only the path and the query
	in.RemoteAddr = "127.0.0.1:0"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	body := &requestBody{r: in.Body}
	in.Body = body
	in.Header = received(r.Header)
	type outcome struct {
		w        *answerWriter // nil = there is no response
		panicked any
		stack    []byte
	}
	ended := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			end()
			_ = body.Close() // returns nil
			if o.panicked = recover(); o.panicked != nil {
				o.stack = debug.Stack()
			}
			ended <- o
		}()
		w := &answerWriter{header: make(http.Header)} // used by this goroutine only, until the handler has returned
		t.handler.ServeHTTP(w, in)
		if w.end() {
			o.w = w
		}
	}()
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case o := <-ended:
		if o.panicked != nil && o.panicked != http.ErrAbortHandler { //nolint:errorlint // like net/http
			t.log.Error("the event handler panicked", "panic", fmt.Sprint(o.panicked), "stack", string(o.stack))
		}
		if err := r.Context().Err(); err != nil {
			return nil, err // the handler may have returned because its context ended, without a response to use
		}
		w := o.w
		if w == nil {
			return nil, errNoResponse
		}
		return &http.Response{
			StatusCode: w.status, Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status),
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: w.sent, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
		}, nil
	}
}

// requestBody is the body of a request. Like in net/http, it cannot be read after the handler has returned.
type requestBody struct {
	mu     sync.Mutex // guards everything below
	r      io.Reader
	closed bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.r.Read(p)
}

func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// newlines replaces line breaks in header values, like net/http when it sends a header.
var newlines = strings.NewReplacer("\n", " ", "\r", " ")

// received returns a header the way a peer would receive it over the network: canonical names, and trimmed values of one line.
// It omits headers with invalid names, which net/http does not send.
func received(header http.Header) http.Header {
	h := make(http.Header, len(header))
	for name, values := range header {
		if !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		for _, value := range values {
			h.Add(name, textproto.TrimString(newlines.Replace(value)))
		}
	}
	return h
}

// answerWriter is an [http.ResponseWriter] that keeps the response. It behaves like that of net/http's server.
type answerWriter struct {
	header http.Header
	status int // 0 = not written yet
	sent   http.Header
	body   bytes.Buffer
}

func (w *answerWriter) Header() http.Header { return w.header }

func (w *answerWriter) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %d", status)) // like net/http
	}
	if w.status == 0 && status >= 200 { // others are informational
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *answerWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	declared, ok := w.declaredLength()
	switch {
	case len(p) == 0:
		return 0, nil
	case !w.bodyAllowed():
		return 0, http.ErrBodyNotAllowed
	case ok && w.body.Len()+len(p) > declared:
		return 0, http.ErrContentLength
	}
	return w.body.Write(p)
}

func (w *answerWriter) bodyAllowed() bool {
	return w.status != http.StatusNoContent && w.status != http.StatusNotModified
}

// declaredLength returns the length of the body according to the handler, if the handler has set one.
func (w *answerWriter) declaredLength() (int, bool) {
	n, err := strconv.Atoi(w.sent.Get("Content-Length"))
	return n, err == nil && n >= 0
}

// Flush implements [http.Flusher]. Flushing before the first write disables the detection of the content type, like in
// net/http. The body stays in the buffer because the service uses a response only when it is complete.
func (w *answerWriter) Flush() {
	w.WriteHeader(http.StatusOK)
	if _, typed := w.sent["Content-Type"]; !typed && w.body.Len() == 0 {
		w.sent["Content-Type"] = nil
	}
}

// end completes the response after the handler has returned. It detects the content type of a body that has none. It returns
// false if the body is shorter than the handler has declared, for which net/http's server cuts the connection.
func (w *answerWriter) end() bool {
	w.WriteHeader(http.StatusOK)
	if declared, ok := w.declaredLength(); ok && w.bodyAllowed() && w.body.Len() < declared {
		return false
	}
	_, typed := w.sent["Content-Type"]
	if w.sent = received(w.sent); !typed && w.body.Len() > 0 && w.sent.Get("Content-Encoding") == "" {
		w.sent.Set("Content-Type", http.DetectContentType(w.body.Bytes()))
	}
	return true
}
