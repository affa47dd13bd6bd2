package webpubsub

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/awps-go/webpubsub/internal/metadata"
	"github.com/awps-go/webpubsub/internal/names"
)

// request is one call of a REST operation. An operation sets the path, query and body with the methods below, which
// check their arguments. If one of them finds a problem, send returns the error instead of sending the request.
type request struct {
	client      *ServiceClient
	operation   string // the name of the client's method, for errors, spans and logs
	method      string
	path        []byte // escaped
	query       []byte // without the api-version, escaped
	header      http.Header
	contentType string // empty: no body
	data        []byte
	stream      io.Reader               // the body, if not in data
	secret      bool                    // the response must not be logged
	noResult    bool                    // a successful response has no content
	decode      func(body []byte) error // decodes a successful response; nil if the operation does not return JSON
	err         error                   // the first problem

	bodyArgument string // the name of the body's argument, for errors

	record   *record                       // nil: no logging
	last     atomic.Pointer[http.Response] // the response to the last attempt that had one
	accepted bool                          // the last response is a success

	// Buffers that are allocated together with the request.
	pathBuffer [128]byte
	memory     memoryBody
}

func (c *ServiceClient) newRequest(operation, method string) *request {
	r := &request{client: c, operation: operation, method: method}
	if r.checkClient() {
		r.path = append(r.pathBuffer[:0], c.endpoint.base.EscapedPath()...)
	}
	return r
}

// checkClient rejects a zero client. It reports whether the client is valid.
func (r *request) checkClient() bool {
	if r.client == nil || r.client.azure == nil {
		r.reject("client", "was not created by NewClient, NewClientWithKeyCredential or NewClientFromConnectionString")
		return false
	}
	return true
}

// newHubRequest returns a request whose path begins with /api/hubs/{hub}.
func (c *ServiceClient) newHubRequest(operation, method string) *request {
	r := c.newRequest(operation, method)
	if r.err == nil {
		r.literal("/api/hubs/").escaped(c.hub)
	}
	return r
}

func (r *request) reject(argument, format string, args ...any) {
	if r.err == nil {
		r.err = invalid(r.operation, argument, format, args...)
	}
}

// literal appends text to the path without escaping it.
func (r *request) literal(text string) *request {
	r.path = append(r.path, text...)
	return r
}

func (r *request) connection(id string) *request {
	r.check("connectionID", nameProblem(id))
	return r.literal("/connections/").escaped(id)
}

func (r *request) user(id string) *request {
	r.check("userID", nameProblem(id))
	return r.literal("/users/").escaped(id)
}

func (r *request) group(name string) *request {
	r.check("group", groupProblem(name))
	return r.literal("/groups/").escaped(name)
}

func (r *request) escaped(segment string) *request {
	r.path = appendEscaped(r.path, segment)
	return r
}

// check rejects the request if an argument has a problem.
func (r *request) check(argument, problem string) {
	if problem != "" {
		r.reject(argument, "%s", problem)
	}
}

// checkEach rejects the request if an item of a list has a problem.
func (r *request) checkEach(argument string, items []string, problem func(item string) string) {
	for i, item := range items {
		if problem := problem(item); problem != "" {
			r.reject(argument+"["+strconv.Itoa(i)+"]", "%s", problem)
		}
	}
}

// nameProblem returns the problem with a connection ID, a user ID, a group or a role, phrased to follow the argument's
// name, or "" if the name is valid. It rejects names that could change in transit, because clients, proxies and servers
// trim spaces and resolve dots. The rules are the same for every argument.
func nameProblem(name string) string {
	switch {
	case name == "":
		return "is empty"
	case names.IsDots(name):
		// For example, /users/../:send would reach the whole hub.
		return "is " + name + ", which cannot be a segment of a URL path"
	case names.HasDots(name):
		return "has . or .. between slashes, which proxies may resolve in a URL path"
	case !utf8.ValidString(name):
		return "is not valid UTF-8"
	case strings.TrimSpace(name) == "":
		return "is all white space"
	case strings.Trim(name, " ") != name:
		return "begins or ends with a space, which may be trimmed in transit"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "has control characters"
	}
	return ""
}

// groupProblem is nameProblem for a group.
func groupProblem(name string) string {
	if len(name) > names.MaxGroupUnits && names.Units(name) > names.MaxGroupUnits {
		return "is longer than 1,024 UTF-16 code units"
	}
	return nameProblem(name)
}

// param adds a parameter to the query.
func (r *request) param(name, value string) {
	if len(r.query) > 0 {
		r.query = append(r.query, '&')
	}
	r.query = appendEscaped(append(append(r.query, name...), '='), value)
}

func (r *request) excluded(connectionIDs []string) {
	r.checkEach("options.Excluded", connectionIDs, nameProblem)
	for _, id := range connectionIDs {
		r.param("excluded", id)
	}
}

func (r *request) filter(filter Filter) {
	r.check("options.Filter", filter.problem())
	if filter != "" {
		r.param("filter", string(filter))
	}
}

func (r *request) reason(reason string) {
	if !utf8.ValidString(reason) {
		r.reject("options.Reason", "is not valid UTF-8")
	}
	if reason != "" {
		r.param("reason", reason)
	}
}

func (r *request) ttl(ttl time.Duration) {
	const limit = 300 * time.Second
	switch {
	case ttl < 0:
		r.reject("options.MessageTTL", "is negative")
	case ttl > limit:
		r.reject("options.MessageTTL", "is longer than %v", limit)
	case ttl%time.Second != 0:
		r.reject("options.MessageTTL", "must be a whole number of seconds")
	case ttl > 0:
		r.param("messageTtlSeconds", strconv.Itoa(int(ttl/time.Second)))
	}
}

// message sets the request's body and metadata.
func (r *request) message(m Message, metadata map[string]string) {
	if _, err := m.Reader(); err != nil && r.err == nil {
		r.err = &argumentError{operation: r.operation, argument: "message", problem: err.Error(), cause: err}
	}
	r.contentType, r.data, r.stream, r.bodyArgument = m.contentType, m.data, m.stream, "message"
	r.metadata(metadata)
}

// metadata adds the headers for a message's metadata. On HTTP/1.1 the keys keep their case.
func (r *request) metadata(m map[string]string) {
	if len(m) == 0 {
		return
	}
	if item, problem := metadata.Check(m); problem != "" {
		r.reject("options.Metadata"+item, "%s", problem)
	}
	r.header = make(http.Header, len(m))
	for key, value := range m {
		r.header[metadata.Prefix+key] = []string{value}
	}
}

// setTarget sets the path and query to a target that endpoint.within returned.
func (r *request) setTarget(target string) {
	u, err := url.Parse(r.client.endpoint.target + target)
	if err != nil {
		r.err = cmp.Or(r.err, wrapError(r.operation, err))
		return
	}
	r.path, r.query = []byte(u.EscapedPath()), []byte(u.RawQuery)
}

// url returns the URL without the api-version. attemptPolicy adds the version.
func (r *request) url() *url.URL {
	base := r.client.endpoint.base
	path := string(r.path)
	u := &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path, RawQuery: string(r.query)}
	if u.EscapedPath() != path { // net/url would escape the path differently
		u.RawPath = path
		u.Path, _ = url.PathUnescape(path) // cannot fail: the escapes are ours, or have been parsed
	}
	return u
}

// queryValue returns the escaped value of a query parameter, and whether the parameter is present. The case of the name
// does not matter, as in the service. url.ParseQuery would drop parameters with a semicolon.
func queryValue(query, name string) (value string, ok bool) {
	for item := range strings.SplitSeq(query, "&") {
		if key, value, _ := strings.Cut(item, "="); strings.EqualFold(key, name) {
			return value, true
		}
	}
	return "", false
}

// withAPIVersion adds the client's api-version at the beginning of a query that does not have one.
func (c *ServiceClient) withAPIVersion(query string) string {
	if query == "" {
		return c.versionParam
	}
	if _, ok := queryValue(query, "api-version"); ok {
		return query
	}
	return c.versionParam + "&" + query
}

// do sends the request and returns a response with a 2xx status. Any other status is an error.
func (r *request) do(ctx context.Context) (*http.Response, error) {
	return r.send(ctx, isSuccess)
}

// run is do for an operation without a result.
func (r *request) run(ctx context.Context) error {
	r.noResult = true
	_, err := r.do(ctx)
	return err
}

// exists is do for an operation that reports whether something exists. A 404 is false.
func (r *request) exists(ctx context.Context) (bool, error) {
	r.noResult = true
	resp, err := r.send(ctx, func(status int) bool { return isSuccess(status) || status == http.StatusNotFound })
	return err == nil && resp.StatusCode != http.StatusNotFound, err
}

// json is do for an operation that returns JSON. It decodes the response into result, and returns the error of valid if
// the result cannot be used.
func (r *request) json(ctx context.Context, result any, valid func() error) error {
	r.decode = func(body []byte) error {
		if len(body) > 0 {
			if err := json.Unmarshal(bytes.TrimPrefix(body, []byte(byteOrderMark)), result); err != nil {
				return fmt.Errorf("cannot decode the response: %w", err)
			}
		}
		return valid()
	}
	_, err := r.do(ctx)
	return err
}

// byteOrderMark may precede JSON that .NET has written.
const byteOrderMark = "\uFEFF"

var acceptJSON = []string{contentTypeJSON}

func isSuccess(status int) bool { return status >= 200 && status <= 299 }

// send sends the request; every request to the service goes through it. accept reports whether a status is a success.
// The body of the response is in memory.
func (r *request) send(ctx context.Context, accept func(status int) bool) (resp *http.Response, err error) {
	if ctx == nil {
		r.reject("ctx", "is nil")
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
	if r.record = c.startRecord(ctx); r.record != nil {
		defer func() { r.endRecord(ctx, err) }()
	}
	err = errCallPanicked // for the span and the record, if the caller's code panics
	resp, err = r.exchange(ctx, accept)
	return resp, err
}

var errCallPanicked = errors.New("the call panicked")

// exchange is send without the checks, the span and the record.
func (r *request) exchange(ctx context.Context, accept func(status int) bool) (resp *http.Response, err error) {
	req, err := r.httpRequest(ctx)
	if err != nil {
		return nil, wrapError(r.operation, err)
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
		runtime.SkipBodyDownload(req) // it would cost time for an empty body, or log the secret
	}
	pipeline := r.client.azure.Pipeline()
	if stream, ok := req.Body().(*streamBody); ok {
		resp, err = stream.send(pipeline, req)
	} else {
		resp, err = pipeline.Do(req)
	}
	if err != nil {
		return nil, r.callError(ctx, err)
	}
	if !accept(resp.StatusCode) {
		return nil, newServiceError(r.operation, resp)
	}
	r.accepted = true
	if r.noResult && resp.Body != http.NoBody {
		r.discard(resp)
	}
	if r.decode != nil {
		body, err := runtime.Payload(resp)
		if err != nil {
			return nil, r.callError(ctx, err)
		}
		if err := r.decode(body); err != nil {
			return nil, wrapError(r.operation, err)
		}
	}
	return resp, nil
}

// httpRequest returns the request for the pipeline, with all headers except those of the body.
func (r *request) httpRequest(ctx context.Context) (*policy.Request, error) {
	header := make(http.Header, len(r.header)+5)
	maps.Copy(header, r.header)
	if header.Get("Accept") == "" {
		header["Accept"] = acceptJSON
	}
	if header.Get(clientRequestID) == "" { // one id for all attempts; azcore's own policy needs four times the allocations
		header[clientRequestID] = []string{newRequestID()}
	}
	agent := r.client.userAgent
	if own := header["User-Agent"]; len(own) == 0 && agent != nil {
		header["User-Agent"] = agent
	} else if agent != nil {
		header["User-Agent"] = []string{agent[0] + " " + own[0]}
	}
	// http.NewRequest would make the same request, but parse the URL again.
	u := r.url()
	return runtime.NewRequestFromRequest((&http.Request{
		Method: r.method, URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header,
	}).WithContext(context.WithValue(ctx, callKey{}, r)))
}

// clientRequestID is the canonical form of x-ms-client-request-id.
const clientRequestID = "X-Ms-Client-Request-Id"

// newRequestID returns a random UUID.
func newRequestID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	text := make([]byte, 0, 36)
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, part)
	}
	return string(text)
}

// discard reads a body so that the connection can be reused. It keeps the body if the call is logged.
func (r *request) discard(resp *http.Response) {
	if r.record == nil {
		drain(resp)
		return
	}
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxDrain))
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(data))
}

const upperHex = "0123456789ABCDEF"

// appendEscaped appends text as one path segment or query value, with the same escapes as JavaScript's
// encodeURIComponent. The service compares the audience of a token with the URL that was sent, and the other SDKs send
// this form.
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
