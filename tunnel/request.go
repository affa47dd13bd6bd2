package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"golang.org/x/net/http/httpguts"

	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

// newRequest returns the request for an event, in the form in which net/http's server would pass it to a handler. Its
// errors contain nothing from the event.
func newRequest(ctx context.Context, event *tunnelframe.Request, remoteAddr string) (*http.Request, error) {
	if !httpguts.ValidHeaderFieldName(event.Method) { // methods and header names are both HTTP tokens
		return nil, errors.New("the method is not an HTTP token")
	}
	absolute, err := url.Parse(event.URL)
	if err != nil || event.URL == "" || absolute.Opaque != "" {
		return nil, errors.New("the URL is not valid")
	}
	target := absolute.RequestURI()
	u, err := url.ParseRequestURI(target)
	if err != nil || target[0] != '/' {
		return nil, errors.New("the URL has no absolute path")
	}
	r := &http.Request{
		Method: event.Method, URL: u, RequestURI: target, Host: absolute.Host, RemoteAddr: remoteAddr,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(event.Headers)+1), Body: http.NoBody,
	}
	for name, values := range event.Headers {
		if !httpguts.ValidHeaderFieldName(name) {
			return nil, errors.New("a header name is not an HTTP token")
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return nil, errors.New("a header value contains a control character")
			}
		}
		name = http.CanonicalHeaderKey(name)
		if other, ok := r.Header[name]; ok { // the same name in a different case
			values = slices.Concat(other, values)
		}
		r.Header[name] = values
	}
	if r.Host == "" {
		r.Host = r.Header.Get("Host")
	}
	delete(r.Header, "Host") // net/http's server moves these two headers to fields of the request
	delete(r.Header, "Transfer-Encoding")
	r.ContentLength = int64(len(event.Body))
	if _, ok := r.Header["Content-Length"]; ok || len(event.Body) > 0 {
		r.Header.Set("Content-Length", strconv.Itoa(len(event.Body)))
	}
	if len(event.Body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(event.Body))
	}
	return r.WithContext(ctx), nil
}
