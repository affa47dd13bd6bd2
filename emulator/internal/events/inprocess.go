package events

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/textproto"
	"runtime/debug"
	"strconv"
)

// inProcess is a transport that calls a handler, so that a test needs no second port.
type inProcess struct {
	handler http.Handler
	log     *slog.Logger // of panics, as net/http's server has its own
}

// errBrokeOff is a handler that has ended without an answer, by a panic or by runtime.Goexit (as in t.FailNow), where
// net/http's server would cut the connection.
var errBrokeOff = errors.New("the event handler broke off")

// RoundTrip calls the handler on a goroutine of its own, so that one that ends its goroutine takes no other with it,
// and one that outlasts its context, which is the application's own affair, holds nobody up.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI = r.URL.RequestURI()
	in.Host = r.URL.Host
	in.RemoteAddr = "127.0.0.1:0"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.Header = received(r.Header)
	type outcome struct {
		w        *answerWriter // nil = it broke off
		panicked any
		stack    []byte
	}
	ended := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if o.panicked = recover(); o.panicked != nil {
				o.stack = debug.Stack()
			}
			ended <- o
		}()
		w := &answerWriter{header: make(http.Header)} // this goroutine's own until the handler has returned
		t.handler.ServeHTTP(w, in)
		w.end()
		o.w = w
	}()
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case o := <-ended:
		if o.panicked != nil && o.panicked != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so too
			t.log.Error("the event handler panicked", "panic", fmt.Sprint(o.panicked), "stack", string(o.stack))
		}
		if err := r.Context().Err(); err != nil {
			return nil, err // the handler may have returned because of it: that is no answer
		}
		w := o.w
		if w == nil {
			return nil, errBrokeOff
		}
		return &http.Response{
			StatusCode: w.status, Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status),
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: w.sent, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
		}, nil
	}
}

// received returns a header as the other end of a network would have read it.
func received(header http.Header) http.Header {
	h := make(http.Header, len(header))
	for name, values := range header {
		for _, value := range values {
			h.Add(name, textproto.TrimString(value))
		}
	}
	return h
}

// answerWriter keeps what a handler answers, as net/http's server would have sent it.
type answerWriter struct {
	header http.Header
	status int // 0 = not yet written
	sent   http.Header
	body   bytes.Buffer
}

func (w *answerWriter) Header() http.Header { return w.header }

func (w *answerWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *answerWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.status == http.StatusNoContent || w.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	return w.body.Write(p)
}

// Flush is as in [http.Flusher]: the headers are sent, before there is a body to tell a content type from. The service takes
// an answer when all of it is there.
func (w *answerWriter) Flush() {
	w.WriteHeader(http.StatusOK)
	if _, typed := w.sent["Content-Type"]; !typed && w.body.Len() == 0 {
		w.sent["Content-Type"] = nil
	}
}

// end finishes the answer when the handler has returned. What it has written without a content type gets one.
func (w *answerWriter) end() {
	w.WriteHeader(http.StatusOK)
	_, typed := w.sent["Content-Type"]
	if w.sent = received(w.sent); !typed && w.body.Len() > 0 && w.sent.Get("Content-Encoding") == "" {
		w.sent.Set("Content-Type", http.DetectContentType(w.body.Bytes()))
	}
}
