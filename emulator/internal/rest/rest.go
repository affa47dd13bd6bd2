// Package rest serves the REST API: operations, status codes, error bodies and paging. An operation is a route and a method of
// call, which calls at most one method of the kernel. The package depends on the kernel, not on how clients connect.
package rest

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/faults"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/recent"
	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/emulator/internal/token"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// route is one REST operation.
type route struct {
	operation string // the name in the service client, such as "SendToAll"
	method    string
	path      []string // a segment that begins with { matches any segment
	run       func(*call) (status int, err error)
	check     func(*call) error // checks the query parameters that the service checks before the token; may be nil
}

// routes returns all operations.
func routes() []route {
	return slices.Concat(hubRoutes(), sendRoutes(), connectionRoutes(), groupRoutes(), userRoutes(), permissionRoutes())
}

func newRoute(operation, method, path string, run func(*call) (int, error)) route {
	return route{operation: operation, method: method, path: strings.Split(path, "/"), run: run}
}

// checked returns the route with a check.
func (r route) checked(check func(*call) error) route {
	r.check = check
	return r
}

// match reports whether the route matches a path.
func (r *route) match(path []string) bool {
	if len(path) != len(r.path) {
		return false
	}
	for i, want := range r.path {
		if !strings.HasPrefix(want, "{") && want != path[i] {
			return false
		}
	}
	return true
}

// Options are the parts that an API uses.
type Options struct {
	Service  *hub.Service
	Endpoint wire.Endpoint
	Tokens   *token.Authority
	Faults   *faults.List
}

// API is the handler of the REST API.
type API struct {
	Options
	routes []route
	log    recent.Log[string, Request]
}

// New returns an API.
func New(o Options) *API { return &API{Options: o, routes: routes()} }

// Operations returns the names of all operations.
func (a *API) Operations() []string {
	names := make([]string, len(a.routes))
	for i, r := range a.routes {
		names[i] = r.operation
	}
	return names
}

// call is a REST request and its state while it is served.
type call struct {
	api     *API
	request *http.Request
	writer  http.ResponseWriter
	route   *route
	path    []string   // decoded, except for %2F
	query   url.Values // by lower-case name: the service ignores the case of names
	allowed bool       // the request has passed all checks that precede its operation
	body    []byte     // the part that has been read
	result  any        // the body of the response; nil = none

	// Set by the route's check.
	minutes    int // the lifetime of a token
	ttl        time.Duration
	page       page
	permission hub.Permission
	target     string // targetName
}

// value returns the path segment for {name}.
func (c *call) value(name string) string {
	return c.path[slices.Index(c.route.path, "{"+name+"}")]
}

// hub returns the hub in the path.
func (c *call) hub() *hub.Hub { return c.api.Service.Hub(c.value("hub")) }

// ServeHTTP serves a request of the data-plane REST API.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	c := &call{api: a, request: r, writer: w}
	w.Header().Set("api-supported-versions", supportedVersions)
	if a.Endpoint.Scheme == "https" && r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == "" {
		// Not for browsers, which would not open http://localhost for a year.
		w.Header().Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	}
	status := 0
	defer func() { c.record(status, time.Since(started)) }() // deferred because an injected fault may panic to cut the connection
	code, err := c.serve()
	if err != nil {
		status = c.respondError(err)
		return
	}
	status = code
	c.respond(status)
	if a.Service.Log.Enabled(r.Context(), slog.LevelDebug) {
		a.Service.Log.Debug("REST", "method", r.Method, "path", r.URL.EscapedPath(), "status", status, "duration", time.Since(started))
	}
}

// respondError writes the response to a failed request and returns its status.
func (c *call) respondError(err error) int {
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		e = &wire.Error{Status: http.StatusInternalServerError, Code: "InternalServerError", Message: err.Error()}
	}
	h := c.writer.Header()
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if e.Validation {
		h.Del("api-supported-versions")
		if c.route.operation == opGetClientAccessToken {
			h.Set("Content-Type", jsonType)
		}
	}
	e.Write(c.writer, c.request)
	fields := []any{"method", c.request.Method, "path", c.request.URL.EscapedPath(), "status", e.Status, "error", e.Message}
	if e.Hint != "" {
		fields = append(fields, "hint", e.Hint)
	}
	c.api.Service.Log.Info("REST", fields...)
	return e.Status
}

// record logs a request for inspection and reports it to the traffic observers.
func (c *call) record(status int, took time.Duration) {
	r := Request{Method: c.request.Method, Path: c.request.RequestURI, Status: status, Time: c.api.Service.Clock.Now(),
		Header: c.request.Header, Body: c.body[:min(len(c.body), maxBody)]}
	if c.route != nil {
		r.Operation = c.route.operation
	}
	c.api.logRequest(r)
	c.api.Service.Observer.Changed()
	if c.api.Service.Observer.Watched() {
		e := hub.TrafficEvent{Kind: "rest", Status: status, Text: r.Method + " " + r.Path,
			Milliseconds: took.Seconds() * 1000}
		if c.allowed && c.route.operation != opGetServiceStatus {
			e.Hub = c.hub().Name
		}
		c.api.Service.Observer.Traffic(e)
	}
}

// jsonType is the Content-Type of JSON.
const jsonType = "application/json; charset=utf-8"

// respond writes the response to a successful request.
func (c *call) respond(status int) {
	if c.result == nil {
		c.writer.WriteHeader(status)
		return
	}
	body, h := text.JSON(c.result), c.writer.Header()
	h.Set("Content-Type", jsonType)
	if c.route.operation != opGetClientAccessToken { // for which the service sends a chunked response
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	c.writer.WriteHeader(status)
	c.writer.Write(body)
	if h.Get("Content-Length") == "" {
		_ = http.NewResponseController(c.writer).Flush()
	}
}

// serve checks the request and runs the operation. The order of the checks is the service's:
//
//  1. the API version
//  2. the names in the path
//  3. the typed query parameters
//  4. the token
//  5. the operation's own checks: the filter, the headers and the body
func (c *call) serve() (int, error) {
	if err := c.findRoute(); err != nil {
		return 0, err
	}
	if c.route.operation == opGetServiceStatus {
		c.writer.Header().Del("api-supported-versions")
	}
	if err := c.readQuery(); err != nil {
		return 0, err
	}
	if err := c.checkNames(); err != nil {
		return 0, err
	}
	if c.route.check != nil {
		if err := c.route.check(c); err != nil {
			return 0, err
		}
	}
	if err := c.authorize(); err != nil {
		return 0, wire.Unauthorized(err)
	}
	c.allowed = true
	f := c.api.Faults.Next(c.route.operation)
	if err := c.api.Faults.Apply(f, c.writer); err != nil {
		return 0, err
	}
	status, err := c.route.run(c)
	c.logEncodedSlashes()
	if f.CutAfterEffect {
		panic(http.ErrAbortHandler)
	}
	return status, err
}

func (c *call) authorize() error {
	switch c.route.operation {
	case opGetServiceStatus:
		return nil
	case opGetClientAccessToken:
		return c.api.Tokens.AuthorizeEntra(c.request)
	default:
		return c.api.Tokens.AuthorizeRequest(c.request)
	}
}

// findRoute splits the path at its slashes, and then decodes each segment. http.ServeMux would decode encoded slashes, and
// would redirect a path with an empty name instead of rejecting it.
func (c *call) findRoute() error {
	segments := strings.Split(strings.TrimPrefix(c.request.URL.EscapedPath(), "/api/"), "/")
	for i, segment := range segments {
		var err error
		if segments[i], err = decodeSegment(segment); err != nil {
			return wire.BadRequest("Request", "the path cannot be decoded")
		}
		if segments[i] == "." || segments[i] == ".." {
			e := wire.BadRequest("Request", "the path has the segment %q", segments[i])
			e.Hint = "the service treats it as a relative path, so a group, user or connection with this name cannot be addressed"
			return e
		}
	}
	var allowed []string
	for i := range c.api.routes {
		r := &c.api.routes[i]
		if !r.match(segments) {
			continue
		}
		if r.method == c.request.Method {
			c.route, c.path = r, segments
			return nil
		}
		allowed = append(allowed, r.method)
	}
	if allowed != nil {
		c.writer.Header().Set("Allow", strings.Join(allowed, ", "))
		return &wire.Error{Status: http.StatusMethodNotAllowed, Code: "MethodNotAllowed", Message: "this path does not allow the method " + c.request.Method}
	}
	return wire.NotFound("there is no operation at this path")
}
