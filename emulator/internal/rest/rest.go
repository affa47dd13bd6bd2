// Package rest is the REST API: its operations family by family, status codes, error bodies and paging. An operation is a
// route and a method of call, which calls at most one method of the kernel. It knows the kernel, and nothing of how
// clients are connected.
package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/faults"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/odata"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/emulator/internal/token"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// apiVersions are the versions of the REST API that are generally available. All of them are answered alike.
var apiVersions = []string{"2021-10-01", "2022-11-01", "2023-07-01", "2024-01-01", "2024-12-01"}

// route is one REST operation. A segment of its path that begins with { matches any one segment of a request's.
type route struct {
	operation string // its name in the service client, such as "SendToAll"
	method    string
	path      []string
	run       func(*call) (status int, err error)
}

// routes are all operations, family by family.
func routes() []route {
	return slices.Concat(hubRoutes(), sendRoutes(), connectionRoutes(), groupRoutes(), userRoutes(), permissionRoutes())
}

func newRoute(operation, method, path string, run func(*call) (int, error)) route {
	return route{operation, method, strings.Split(path, "/"), run}
}

// match reports whether a path has the shape of the route's.
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

// API serves the REST API.
type API struct {
	service  *hub.Service
	endpoint wire.Endpoint
	tokens   *token.Authority
	faults   *faults.List

	routes     []route
	requestIDs atomic.Uint64
	log        requestLog
}

// New makes an API.
func New(o Options) *API {
	return &API{service: o.Service, endpoint: o.Endpoint, tokens: o.Tokens, faults: o.Faults, routes: routes()}
}

// Operations returns the names of all operations.
func (a *API) Operations() []string {
	names := make([]string, len(a.routes))
	for i, r := range a.routes {
		names[i] = r.operation
	}
	return names
}

// call is a REST request on its way through an operation.
type call struct {
	api     *API
	request *http.Request
	writer  http.ResponseWriter
	route   *route
	path    []string // decoded
	query   url.Values
	hub     *hub.Hub
	result  any // the body of the answer; nil = none
}

// value returns the segment of the path that the route calls {name}.
func (c *call) value(name string) string {
	return c.path[slices.Index(c.route.path, "{"+name+"}")]
}

// ServeHTTP answers a request of the data plane.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	c := &call{api: a, request: r, writer: w}
	w.Header().Set("x-ms-request-id", strconv.FormatUint(a.requestIDs.Add(1), 10))
	status := 0
	defer func() { c.record(status, time.Since(started)) }() // also when a fault cuts the connection
	code, err := c.serve()
	if err != nil {
		var e *wire.Error
		if !errors.As(err, &e) {
			e = &wire.Error{Status: http.StatusInternalServerError, Code: "InternalServerError", Message: err.Error()}
		}
		status = e.Status
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		e.Write(w, r)
		a.service.Log.Info("REST", "method", r.Method, "path", r.URL.EscapedPath(), "status", status, "error", e.Message)
		return
	}
	status = code
	c.answer(status)
	if a.service.Log.Enabled(r.Context(), slog.LevelDebug) {
		a.service.Log.Debug("REST", "method", r.Method, "path", r.URL.EscapedPath(), "status", status, "duration", time.Since(started))
	}
}

// record remembers a request and shows it to those who watch.
func (c *call) record(status int, took time.Duration) {
	r := Request{Method: c.request.Method, Path: c.request.RequestURI, Status: status, Time: c.api.service.Clock.Now()}
	if c.route != nil {
		r.Operation = c.route.operation
	}
	c.api.log.add(r)
	c.api.service.Observer.Changed()
	if c.api.service.Observer.Watched() {
		e := hub.TrafficEvent{Kind: "rest", Status: status, Text: r.Method + " " + r.Path,
			Milliseconds: took.Seconds() * 1000}
		if c.hub != nil {
			e.Hub = c.hub.Name
		}
		c.api.service.Observer.Traffic(e)
	}
}

func (c *call) answer(status int) {
	if c.result == nil {
		c.writer.WriteHeader(status)
		return
	}
	c.writer.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.writer.WriteHeader(status)
	c.writer.Write(text.JSON(c.result))
}

func (c *call) serve() (int, error) {
	if err := c.findRoute(); err != nil {
		return 0, err
	}
	var err error
	if c.query, err = url.ParseQuery(c.request.URL.RawQuery); err != nil {
		return 0, wire.BadRequest("", "the query cannot be read: %v", err)
	}
	if v := c.query.Get("api-version"); c.query.Has("api-version") && !slices.Contains(apiVersions, v) {
		return 0, wire.BadRequest("api-version", "the api-version %.32q is none of %s", v, strings.Join(apiVersions, ", "))
	}
	if c.route.operation != opGetServiceStatus {
		if err := c.api.tokens.AuthorizeRequest(c.request); err != nil {
			return 0, wire.Unauthorized(err)
		}
		if err := c.checkNames(); err != nil {
			return 0, err
		}
	}
	f := c.api.faults.Next(c.route.operation)
	if err := c.api.faults.Apply(f, c.writer); err != nil {
		return 0, err
	}
	if c.route.operation != opGetServiceStatus {
		c.hub = c.api.service.Hub(c.value("hub")) // as it is after a delay
	}
	status, err := c.route.run(c)
	if f.CutAfterEffect {
		panic(http.ErrAbortHandler)
	}
	return status, err
}

// findRoute splits the path at its slashes, then decodes each segment: a name may contain an encoded slash. This is
// why it is not left to http.ServeMux, which also would redirect a path with an empty name instead of refusing it.
func (c *call) findRoute() error {
	segments := strings.Split(strings.TrimPrefix(c.request.URL.EscapedPath(), "/api/"), "/")
	for i, segment := range segments {
		var err error
		if segments[i], err = url.PathUnescape(segment); err != nil {
			return wire.BadRequest("", "the path cannot be decoded")
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
		return &wire.Error{Status: http.StatusMethodNotAllowed, Code: "MethodNotAllowed", Message: "this path does not take " + c.request.Method}
	}
	return wire.NotFound("there is no operation at this path")
}

// checkNames checks every name in the path.
func (c *call) checkNames() error {
	for i, name := range c.route.path {
		value, fault := c.path[i], ""
		switch name {
		case "{hub}":
			if !protocol.HubPattern.MatchString(value) {
				fault = fmt.Sprintf("the hub name %.140q does not match %s", value, protocol.HubPattern)
			}
		case "{group}":
			fault = protocol.CheckGroup(value)
		case "{connectionId}", "{userId}":
			if value == "" {
				fault = "the id is empty"
			}
		case "{permission}":
			if _, ok := hub.ParsePermission(value); !ok {
				fault = fmt.Sprintf("the permission %.32q is none of %s", value, strings.Join(hub.PermissionNames(), ", "))
			}
		}
		if fault != "" {
			return wire.BadRequest(strings.Trim(name, "{}"), "%s", fault)
		}
	}
	return nil
}

// parseFilter reads the filter of a request; it returns nil for an empty one.
func parseFilter(filter string) (*odata.Expr, error) {
	if filter == "" {
		return nil, nil
	}
	expr, err := odata.Parse(filter)
	if err != nil {
		return nil, wire.BadRequest("filter", "%v", err)
	}
	return expr, nil
}

// integer reads a number of the query; one that is absent is def.
func (c *call) integer(name string, def, low, high int) (int, error) {
	if !c.query.Has(name) {
		return def, nil
	}
	n, err := strconv.Atoi(c.query.Get(name))
	if err != nil || n < low || n > high {
		return 0, wire.BadRequest(name, "%s is not a whole number from %d to %d", name, low, high)
	}
	return n, nil
}

// targetConnection is the connection that the path names.
func (c *call) targetConnection() *hub.Target {
	return &hub.Target{Connection: c.value("connectionId")}
}

// body reads the body of a request, up to the size of a message.
func (c *call) body() ([]byte, error) {
	b := make([]byte, 0, max(0, min(c.request.ContentLength, hub.MaxMessageSize))+bytes.MinRead)
	buf := bytes.NewBuffer(b)
	_, err := buf.ReadFrom(http.MaxBytesReader(c.writer, c.request.Body, hub.MaxMessageSize))
	if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
		return nil, &wire.Error{Status: http.StatusRequestEntityTooLarge, Code: "PayloadTooLarge",
			Message: fmt.Sprintf("the body has more than %d bytes", hub.MaxMessageSize)}
	}
	if err != nil {
		return nil, wire.BadRequest("", "the body was cut short")
	}
	return buf.Bytes(), nil
}

// jsonBody reads the body of a request into v.
func (c *call) jsonBody(v any) error {
	b, err := c.body()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return wire.BadRequest("", "the body is not the JSON of this operation: %s", text.JSONFault(err))
	}
	return nil
}

// payload reads the message in the body of a request, with the metadata in its headers.
func (c *call) payload() (p hub.Payload, err error) {
	contentType := c.request.Header.Get("Content-Type")
	var ok bool
	if p.Type, ok = protocol.ParseContentType(contentType); !ok || p.Type == hub.DataProtobuf {
		return p, wire.BadRequest("Content-Type", "the Content-Type %.64q is none of %s", contentType,
			strings.Join(protocol.ContentTypes[:hub.DataProtobuf], ", "))
	}
	if p.Data, err = c.body(); err != nil {
		return p, err
	}
	if what := protocol.Unfit(&p); what != "" {
		return p, wire.BadRequest("", "the body is not valid %s", what)
	}
	if p.Metadata = metadata(c.request); p.Metadata != nil {
		if fault := protocol.CheckMetadata(p.Metadata); fault != "" {
			return p, wire.BadRequest("metadata", "%s", fault)
		}
	}
	return p, nil
}

// metadata returns what the metadata headers of a request say, with the case of the keys as it was sent.
func metadata(r *http.Request) map[string]string {
	var m map[string]string
	for name, values := range r.Header {
		key, ok := protocol.CutMetadataHeader(name)
		if !ok {
			continue
		}
		if m == nil {
			m = make(map[string]string)
		}
		m[wire.ConnOf(r).MetadataKey(key)] = values[len(values)-1]
	}
	return m
}
