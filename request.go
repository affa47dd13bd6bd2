package webpubsub

import (
	"cmp"
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/awps-go/webpubsub/internal/metadata"
)

// request is one REST operation on its way. An operation names its path, its query and its body by the methods below,
// each of which checks what it is given; send, the one way to the service, refuses the request if any found fault.
type request struct {
	client      *ServiceClient
	operation   string // the name of the client's method, for errors, spans and logs
	method      string
	path        []byte // escaped
	query       []byte // without the api-version, escaped
	header      http.Header
	contentType string // of the body; empty for a request without one
	data        []byte
	stream      io.Reader // the body, instead of data
	secret      bool      // the answer is secret: it is in no log
	noResult    bool      // there is nothing to read in an answer that is a success
	err         error     // the first fault

	bodyArgument string // the argument that the body is from, for errors

	// Parts of a request that are made with it, in one allocation.
	pathBuffer [128]byte
	memory     memoryBody
}

func (c *ServiceClient) newRequest(operation, method string) *request {
	r := &request{client: c, operation: operation, method: method}
	if c == nil || c.azure == nil {
		r.refuse("client", "is not made by one of the package's constructors")
		return r
	}
	r.path = append(r.pathBuffer[:0], c.endpoint.base.EscapedPath()...)
	return r
}

// newHubRequest begins the path with the client's hub.
func (c *ServiceClient) newHubRequest(operation, method string) *request {
	r := c.newRequest(operation, method)
	if r.err == nil {
		r.literal("/api/hubs/").escaped(c.hub)
	}
	return r
}

func (r *request) refuse(argument, format string, args ...any) {
	if r.err == nil {
		r.err = invalid(r.operation, argument, format, args...)
	}
}

// literal adds to the path what needs no escaping.
func (r *request) literal(text string) *request {
	r.path = append(r.path, text...)
	return r
}

func (r *request) connection(id string) *request {
	r.checkID("connectionID", id)
	return r.literal("/connections/").escaped(id)
}

func (r *request) user(id string) *request {
	r.checkID("userID", id)
	return r.literal("/users/").escaped(id)
}

func (r *request) group(name string) *request {
	r.checkGroup("group", name)
	return r.literal("/groups/").escaped(name)
}

func (r *request) escaped(segment string) *request {
	r.path = appendEscaped(r.path, segment)
	return r
}

func (r *request) checkID(argument, id string) {
	switch {
	case id == "":
		r.refuse(argument, "is empty")
	case id == "." || id == "..":
		// Clients, proxies and servers resolve these out of the path: /users/../:send would reach the whole hub.
		r.refuse(argument, "is %q, which no path can name", id)
	case !utf8.ValidString(id):
		r.refuse(argument, "is not valid UTF-8")
	}
}

func (r *request) checkGroup(argument, name string) {
	const limit = 1024
	r.checkID(argument, name)
	switch {
	case utf8.RuneCountInString(name) > limit:
		r.refuse(argument, "is longer than %d characters", limit)
	case strings.TrimSpace(name) == "":
		r.refuse(argument, "is all white space")
	}
}

// param adds an item to the query.
func (r *request) param(name, value string) {
	if len(r.query) > 0 {
		r.query = append(r.query, '&')
	}
	r.query = appendEscaped(append(append(r.query, name...), '='), value)
}

func (r *request) excluded(connectionIDs []string) {
	for i, id := range connectionIDs {
		r.checkID("options.Excluded["+strconv.Itoa(i)+"]", id)
		r.param("excluded", id)
	}
}

func (r *request) filter(filter Filter) {
	r.checkFilter("options.Filter", filter)
	if filter != "" {
		r.param("filter", string(filter))
	}
}

func (r *request) checkFilter(argument string, filter Filter) {
	if problem := filter.problem(); problem != "" {
		r.refuse(argument, "%s", problem)
	}
}

func (r *request) reason(reason string) {
	if !utf8.ValidString(reason) {
		r.refuse("options.Reason", "is not valid UTF-8")
	}
	if reason != "" {
		r.param("reason", reason)
	}
}

func (r *request) ttl(ttl time.Duration) {
	const limit = 300 * time.Second
	switch {
	case ttl < 0:
		r.refuse("options.MessageTTL", "is negative")
	case ttl > limit:
		r.refuse("options.MessageTTL", "is longer than %v", limit)
	case ttl%time.Second != 0:
		r.refuse("options.MessageTTL", "is not whole seconds")
	case ttl > 0:
		r.param("messageTtlSeconds", strconv.Itoa(int(ttl/time.Second)))
	}
}

// message makes m the request's body.
func (r *request) message(m Message, metadata map[string]string) {
	if _, err := m.Reader(); err != nil && r.err == nil {
		r.err = &argumentError{operation: r.operation, argument: "message", problem: err.Error(), cause: err}
	}
	r.contentType, r.data, r.stream, r.bodyArgument = m.contentType, m.data, m.stream, "message"
	r.metadata(metadata)
}

// metadata adds the headers that carry a message's metadata, their names' case kept.
func (r *request) metadata(m map[string]string) {
	if len(m) == 0 {
		return
	}
	if item, problem := metadata.Check(m); problem != "" {
		r.refuse("options.Metadata"+item, "%s", problem)
	}
	r.header = make(http.Header, len(m))
	for key, value := range m {
		r.header[metadata.Prefix+key] = []string{value}
	}
}

// goTo sets path and query to what came from elsewhere, below the client's endpoint.
func (r *request) goTo(target string) {
	u, err := url.Parse(r.client.endpoint.target + target)
	if err != nil {
		r.err = cmp.Or(r.err, wrapError(r.operation, err))
		return
	}
	r.path, r.query = []byte(u.EscapedPath()), []byte(u.RawQuery)
}

// url returns the URL without its api-version, which tryPolicy adds.
func (r *request) url() *url.URL {
	base := r.client.endpoint.base
	path := string(r.path)
	u := &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path, RawQuery: string(r.query)}
	if u.EscapedPath() != path { // it has escapes, or goes without one that net/url would make
		u.RawPath = path
		u.Path, _ = url.PathUnescape(path) // whose escapes are ours or have been parsed
	}
	return u
}

// queryValue returns the value of a name in a query, escaped, and whether there is one; url.Values would drop an item with a
// semicolon.
func queryValue(query, name string) (value string, ok bool) {
	for item := range strings.SplitSeq(query, "&") {
		if key, value, _ := strings.Cut(item, "="); key == name {
			return value, true
		}
	}
	return "", false
}

// withAPIVersion adds the client's api-version, in front, to a query that has none.
func (c *ServiceClient) withAPIVersion(query string) string {
	if query == "" {
		return c.versionParam
	}
	if _, ok := queryValue(query, "api-version"); ok {
		return query
	}
	return c.versionParam + "&" + query
}

// do sends the request through the pipeline and returns any answer with a 2xx status; every other one is an error.
func (r *request) do(ctx context.Context) (*http.Response, error) {
	return r.send(ctx, isSuccess)
}

// run is do for an operation that has no result.
func (r *request) run(ctx context.Context) error {
	r.noResult = true
	_, err := r.do(ctx)
	return err
}

// exists is do for an operation that asks whether there is something: 404 says no.
func (r *request) exists(ctx context.Context) (bool, error) {
	r.noResult = true
	resp, err := r.send(ctx, func(status int) bool { return isSuccess(status) || status == http.StatusNotFound })
	return err == nil && resp.StatusCode != http.StatusNotFound, err
}

// json is do for an operation that answers with JSON.
func (r *request) json(ctx context.Context, answer any) error {
	resp, err := r.do(ctx)
	if err != nil {
		return err
	}
	if err := runtime.UnmarshalAsJSON(resp, answer); err != nil {
		return wrapError(r.operation, err)
	}
	return nil
}

var acceptJSON = []string{contentTypeJSON}

func isSuccess(status int) bool { return status >= 200 && status <= 299 }

// send is the one way to the service. The answer's body, if it has one, is read already.
func (r *request) send(ctx context.Context, accept func(status int) bool) (resp *http.Response, err error) {
	if ctx == nil {
		r.refuse("ctx", "is nil")
	}
	if r.err != nil {
		return nil, r.err
	}
	c := r.client
	if tracer := c.azure.Tracer(); tracer.Enabled() {
		var end func(error)
		ctx, end = runtime.StartSpan(ctx, "ServiceClient."+r.operation, tracer, nil)
		defer func() { end(err) }()
	}
	ctx, record := c.startRecord(ctx, r)
	if record != nil {
		defer func() { record.end(ctx, err) }()
	}

	// As http.NewRequest makes it, which would parse a URL.
	u, header := r.url(), make(http.Header, len(r.header)+4)
	maps.Copy(header, r.header)
	req, err := runtime.NewRequestFromRequest((&http.Request{
		Method: r.method, URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header,
	}).WithContext(ctx))
	if err != nil {
		return nil, wrapError(r.operation, err)
	}
	if header.Get("Accept") == "" {
		header["Accept"] = acceptJSON
	}
	if r.contentType != "" {
		body, err := r.body(ctx)
		if err != nil {
			return nil, err
		}
		defer body.detach()
		if err := req.SetBody(body, r.contentType); err != nil {
			return nil, wrapError(r.operation, err)
		}
	}
	if r.noResult || r.secret {
		runtime.SkipBodyDownload(req) // which would copy nothing at some cost, or the secret into azcore's log
	}
	if stream, ok := req.Body().(*streamBody); ok {
		resp, err = stream.send(c.azure.Pipeline(), req)
	} else {
		resp, err = c.azure.Pipeline().Do(req)
	}
	if err != nil {
		return nil, wrapError(r.operation, err)
	}
	if record != nil {
		record.answer = resp
	}
	if !accept(resp.StatusCode) {
		return nil, newServiceError(r.operation, resp)
	}
	if r.noResult && resp.Body != http.NoBody {
		_, _ = runtime.Payload(resp) // so that the connection can be used again
	}
	return resp, nil
}

const upperHex = "0123456789ABCDEF"

// appendEscaped appends text as one path segment or query value, as JavaScript's encodeURIComponent writes it: the
// service compares tokens' audiences with what was sent, and the other SDKs send this.
func appendEscaped(b []byte, text string) []byte {
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_.!~*'()", c) >= 0:
			b = append(b, c)
		default:
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}
