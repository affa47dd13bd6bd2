package tunnel

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

// errResponseTooLarge is returned by Write if the response does not fit in a frame.
var errResponseTooLarge = errors.New("tunnel: the response is larger than a frame can be (1 MiB)")

// errResponseTooShort means that the body is shorter than its Content-Length.
var errResponseTooShort = errors.New("tunnel: the handler wrote less than the declared Content-Length")

// responseWriter buffers the response of a handler. It treats headers, statuses and lengths like net/http's server.
type responseWriter struct {
	method   string
	header   http.Header // the header that the handler can modify
	sent     http.Header // copy of header from when the handler wrote the status; nil before
	status   int
	complete bool // completeHeader has run
	body     bytes.Buffer
	length   int64 // number of bytes written; for a HEAD request, body stays empty
	err      error // errResponseTooLarge, errResponseTooShort or http.ErrContentLength
}

func (w *responseWriter) Header() http.Header { return w.header }

// Flush fixes the status and the header, like net/http's Flush. Nothing is sent before the handler returns.
func (w *responseWriter) Flush() {
	w.commit(http.StatusOK)
	w.completeHeader(false)
}

// completeHeader adds the headers that net/http's server adds when it sends the header: the type of the body so far, and the
// length if the handler has returned. Only the first call has an effect.
func (w *responseWriter) completeHeader(returned bool) {
	if w.complete {
		return
	}
	w.complete = true
	_, typed := w.sent["Content-Type"]
	if !typed && w.body.Len() > 0 && w.sent.Get("Content-Encoding") == "" && w.sent.Get("Transfer-Encoding") == "" {
		w.sent.Set("Content-Type", http.DetectContentType(w.body.Bytes()))
	}
	if returned && w.bodyAllowed() && w.method != http.MethodHead {
		w.sent.Set("Content-Length", strconv.Itoa(w.body.Len()))
	}
}

func (w *responseWriter) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic("tunnel: WriteHeader: invalid status " + strconv.Itoa(status)) // like net/http
	}
	if status >= 200 || status == http.StatusSwitchingProtocols { // there are no frames for informational responses
		w.commit(status)
	}
}

func (w *responseWriter) commit(status int) {
	if w.sent == nil {
		w.status, w.sent = status, w.header.Clone()
		if w.sent == nil {
			w.sent = http.Header{}
		}
	}
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.commit(http.StatusOK)
	if w.err != nil {
		return 0, w.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !w.bodyAllowed() {
		return 0, http.ErrBodyNotAllowed
	}
	w.length += int64(len(p))
	declared, ok := w.declaredLength()
	switch {
	case ok && w.length > declared:
		w.err = http.ErrContentLength
	case w.method == http.MethodHead:
		return len(p), nil
	case w.length > tunnelframe.MaxSize:
		w.err = errResponseTooLarge
	default:
		return w.body.Write(p)
	}
	return 0, w.err
}

func (w *responseWriter) bodyAllowed() bool {
	return w.status >= 200 && w.status != http.StatusNoContent && w.status != http.StatusNotModified
}

func (w *responseWriter) declaredLength() (int64, bool) {
	n, err := strconv.ParseInt(w.sent.Get("Content-Length"), 10, 64)
	return n, err == nil && n >= 0
}

// response returns the complete response. It returns an error if the response is not complete.
func (w *responseWriter) response(request *tunnelframe.Request) (*tunnelframe.Response, error) {
	w.commit(http.StatusOK)
	if declared, ok := w.declaredLength(); w.err == nil && ok && w.bodyAllowed() &&
		w.method != http.MethodHead && declared != w.length {
		w.err = errResponseTooShort
	}
	if w.err != nil {
		return nil, w.err
	}
	w.completeHeader(true)
	return request.Answer(w.status, frameHeaders(w.sent), w.body.Bytes()), nil
}

// hopHeaders are the headers that apply to an HTTP/1.1 connection. They are not sent in a frame.
var hopHeaders = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Trailer", "Transfer-Encoding", "Upgrade"}

var lineBreaks = strings.NewReplacer("\n", " ", "\r", " ")

// frameHeaders returns the headers of a frame. The names are in lower case, like those of the official package. Names
// and values that are invalid in HTTP are dropped or changed like in net/http's server.
func frameHeaders(header http.Header) map[string][]string {
	hop := slices.Clone(hopHeaders)
	for _, line := range header["Trailer"] { // a frame has no place for trailers
		for name := range strings.SplitSeq(line, ",") {
			hop = append(hop, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	sent := make(map[string][]string, len(header))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		if slices.Contains(hop, name) || strings.HasPrefix(name, http.TrailerPrefix) || !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		for _, value := range header[name] {
			value = strings.TrimSpace(lineBreaks.Replace(value))
			lower := strings.ToLower(name)
			sent[lower] = append(sent[lower], value)
		}
	}
	return sent
}

// plainResponse returns a text response that this package generates.
func plainResponse(request *tunnelframe.Request, status int, text string) *tunnelframe.Response {
	return request.Answer(status, map[string][]string{"content-type": {"text/plain; charset=utf-8"}}, []byte(text+"\n"))
}
