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

// errAnswerTooLarge is what a handler gets that writes more than a frame can hold.
var errAnswerTooLarge = errors.New("tunnel: the answer is larger than a frame can be (1 MiB)")

// errAnswerTooShort is an answer that lacks what its Content-Length has promised.
var errAnswerTooShort = errors.New("tunnel: the handler wrote less than the declared Content-Length")

// responseWriter keeps a handler's answer until it can be sent as a whole. It treats headers, statuses and lengths as net/http's
// server does.
type responseWriter struct {
	method string
	header http.Header // the handler's
	sent   http.Header // as they were when the handler wrote the status; nil before
	status int
	body   bytes.Buffer
	length int64 // of what was written; of a HEAD request's answer, nothing is kept
	err    error // errAnswerTooLarge or http.ErrContentLength
}

func (w *responseWriter) Header() http.Header { return w.header }

// Flush writes the status, as net/http's does. The body stays until the handler returns.
func (w *responseWriter) Flush() { w.commit(http.StatusOK) }

func (w *responseWriter) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic("tunnel: WriteHeader: invalid status " + strconv.Itoa(status)) // as net/http
	}
	if status >= 200 || status == http.StatusSwitchingProtocols { // the others announce the answer: there is no frame for them
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
		w.err = errAnswerTooLarge
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

// answer returns the whole answer. Its error is one of an answer that is not whole.
func (w *responseWriter) answer(request *tunnelframe.Request) (*tunnelframe.Response, error) {
	w.commit(http.StatusOK)
	if declared, ok := w.declaredLength(); w.err == nil && ok && w.bodyAllowed() &&
		w.method != http.MethodHead && declared != w.length {
		w.err = errAnswerTooShort
	}
	if w.err != nil {
		return nil, w.err
	}
	var body []byte
	if w.body.Len() > 0 {
		body = w.body.Bytes()
		if _, ok := w.sent["Content-Type"]; !ok && w.sent.Get("Content-Encoding") == "" {
			w.sent.Set("Content-Type", http.DetectContentType(body))
		}
	}
	if w.bodyAllowed() && w.method != http.MethodHead {
		w.sent.Set("Content-Length", strconv.Itoa(len(body)))
	}
	return request.Answer(w.status, frameHeaders(w.sent), body), nil
}

// hopHeaders are about a connection of HTTP/1.1, which an answer does not have here.
var hopHeaders = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Trailer", "Transfer-Encoding", "Upgrade"}

var lineBreaks = strings.NewReplacer("\n", " ", "\r", " ")

// frameHeaders returns headers as the official package sends them, with names in lower case. Names and values that net/http's
// server would not send are changed as that changes them.
func frameHeaders(header http.Header) map[string][]string {
	hop := slices.Clone(hopHeaders)
	for _, line := range header["Trailer"] { // trailers come after the body, which has no place in a frame
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

// plainAnswer returns an answer of ours.
func plainAnswer(request *tunnelframe.Request, status int, text string) *tunnelframe.Response {
	return request.Answer(status, map[string][]string{"content-type": {"text/plain; charset=utf-8"}}, []byte(text+"\n"))
}
