package emulator

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
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/odata"
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

// restRoutes are all operations, family by family.
func restRoutes() []route {
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

// call is a REST request on its way through an operation.
type call struct {
	*Server
	request *http.Request
	writer  http.ResponseWriter
	route   *route
	path    []string // decoded
	query   url.Values
	hub     *hub
	result  any // the body of the answer; nil = none
}

// value returns the segment of the path that the route calls {name}.
func (c *call) value(name string) string {
	return c.path[slices.Index(c.route.path, "{"+name+"}")]
}

// restError is an answer other than success.
type restError struct {
	status  int
	code    string
	message string
	target  string // what is at fault, if it is one thing
}

func (e *restError) Error() string { return e.message }

func badRequest(target, format string, args ...any) *restError {
	return &restError{http.StatusBadRequest, "BadRequest", fmt.Sprintf(format, args...), target}
}

func notFound(format string, args ...any) *restError {
	return &restError{http.StatusNotFound, "NotFound", fmt.Sprintf(format, args...), ""}
}

func unauthorized(err error) *restError {
	return &restError{http.StatusUnauthorized, "Unauthorized", err.Error(), ""}
}

// errorBody is the JSON of an error. The service's may have an inner one, too; this server has no more to say.
type errorBody struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Target  string      `json:"target,omitempty"`
	Details []errorBody `json:"details"`
}

func writeError(w http.ResponseWriter, r *http.Request, e *restError) {
	w.Header().Set("x-ms-error-code", e.code)
	if r.Method == http.MethodHead {
		w.WriteHeader(e.status)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(e.status)
	w.Write(marshalJSON(errorBody{Code: e.code, Message: e.message, Target: e.target, Details: []errorBody{}}))
}

// serveREST answers a request of the data plane.
func (s *Server) serveREST(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	c := &call{Server: s, request: r, writer: w}
	w.Header().Set("x-ms-request-id", strconv.FormatUint(s.requestIDs.Add(1), 10))
	status := 0
	defer func() { c.record(status, time.Since(started)) }() // also when a fault cuts the connection
	code, err := c.serve()
	if err != nil {
		var e *restError
		if !errors.As(err, &e) {
			e = &restError{http.StatusInternalServerError, "InternalServerError", err.Error(), ""}
		}
		status = e.status
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		writeError(w, r, e)
		s.log.Info("REST", "method", r.Method, "path", r.URL.EscapedPath(), "status", status, "error", e.message)
		return
	}
	status = code
	c.answer(status)
	if s.log.Enabled(r.Context(), slog.LevelDebug) {
		s.log.Debug("REST", "method", r.Method, "path", r.URL.EscapedPath(), "status", status, "duration", time.Since(started))
	}
}

// record remembers a request and shows it to those who watch.
func (c *call) record(status int, took time.Duration) {
	r := Request{Method: c.request.Method, Path: c.request.RequestURI, Status: status, Time: c.clock.now()}
	if c.route != nil {
		r.Operation = c.route.operation
	}
	c.requests.add(r)
	c.notifier.notify()
	if c.traffic.on() {
		e := trafficEvent{Kind: "rest", Status: status, Text: r.Method + " " + r.Path,
			Milliseconds: took.Seconds() * 1000}
		if c.hub != nil {
			e.Hub = c.hub.name
		}
		c.traffic.publish(e)
	}
}

func (c *call) answer(status int) {
	if c.result == nil {
		c.writer.WriteHeader(status)
		return
	}
	c.writer.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.writer.WriteHeader(status)
	c.writer.Write(marshalJSON(c.result))
}

func (c *call) serve() (int, error) {
	if err := c.findRoute(); err != nil {
		return 0, err
	}
	var err error
	if c.query, err = url.ParseQuery(c.request.URL.RawQuery); err != nil {
		return 0, badRequest("", "the query cannot be read: %v", err)
	}
	if v := c.query.Get("api-version"); c.query.Has("api-version") && !slices.Contains(apiVersions, v) {
		return 0, badRequest("api-version", "the api-version %.32q is none of %s", v, strings.Join(apiVersions, ", "))
	}
	if c.route.operation != opGetServiceStatus {
		if err := c.authorize(c.request); err != nil {
			return 0, unauthorized(err)
		}
		if err := c.checkNames(); err != nil {
			return 0, err
		}
	}
	f := c.takeFault(c.route.operation)
	if err := c.strike(f, c.writer, c.request); err != nil {
		return 0, err
	}
	if c.route.operation != opGetServiceStatus {
		c.hub = c.Server.hub(c.value("hub")) // as it is after a delay
	}
	status, err := c.route.run(c)
	if f.Cut == CutAfterEffect {
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
			return badRequest("", "the path cannot be decoded")
		}
	}
	var allowed []string
	for i := range c.routes {
		r := &c.routes[i]
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
		return &restError{http.StatusMethodNotAllowed, "MethodNotAllowed", "this path does not take " + c.request.Method, ""}
	}
	return notFound("there is no operation at this path")
}

// checkNames checks every name in the path.
func (c *call) checkNames() error {
	for i, name := range c.route.path {
		value, fault := c.path[i], ""
		switch name {
		case "{hub}":
			if !hubPattern.MatchString(value) {
				fault = fmt.Sprintf("the hub name %.140q does not match %s", value, hubPattern)
			}
		case "{group}":
			fault = checkGroup(value)
		case "{connectionId}", "{userId}":
			if value == "" {
				fault = "the id is empty"
			}
		case "{permission}":
			if _, ok := parsePermission(value); !ok {
				fault = fmt.Sprintf("the permission %.32q is none of %s", value, strings.Join(permissionNames[:], ", "))
			}
		}
		if fault != "" {
			return badRequest(strings.Trim(name, "{}"), "%s", fault)
		}
	}
	return nil
}

// parseFilter reads the filter of a request; an empty one is none.
func parseFilter(filter string) (*odata.Expr, error) {
	if filter == "" {
		return nil, nil
	}
	expr, err := odata.Parse(filter)
	if err != nil {
		return nil, badRequest("filter", "%v", err)
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
		return 0, badRequest(name, "%s is not a whole number from %d to %d", name, low, high)
	}
	return n, nil
}

// targetConnection is the connection that the path names.
func (c *call) targetConnection() *target { return &target{connection: c.value("connectionId")} }

// body reads the body of a request, up to the size of a message.
func (c *call) body() ([]byte, error) {
	b := make([]byte, 0, max(0, min(c.request.ContentLength, maxMessageSize))+bytes.MinRead)
	buf := bytes.NewBuffer(b)
	_, err := buf.ReadFrom(http.MaxBytesReader(c.writer, c.request.Body, maxMessageSize))
	if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
		return nil, &restError{http.StatusRequestEntityTooLarge, "PayloadTooLarge",
			fmt.Sprintf("the body has more than %d bytes", maxMessageSize), ""}
	}
	if err != nil {
		return nil, badRequest("", "the body was cut short")
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
		return badRequest("", "the body is not the JSON of this operation: %s", jsonFault(err))
	}
	return nil
}

// payload reads the message in the body of a request, with the metadata in its headers.
func (c *call) payload() (p payload, err error) {
	contentType := c.request.Header.Get("Content-Type")
	var ok bool
	if p.dataType, ok = parseContentType(contentType); !ok || p.dataType == dataProtobuf {
		return p, badRequest("Content-Type", "the Content-Type %.64q is none of %s", contentType,
			strings.Join(contentTypes[:dataProtobuf], ", "))
	}
	if p.data, err = c.body(); err != nil {
		return p, err
	}
	if what := p.unfit(); what != "" {
		return p, badRequest("", "the body is not valid %s", what)
	}
	if p.metadata = metadata(c.request); p.metadata != nil {
		if fault := checkMetadata(p.metadata); fault != "" {
			return p, badRequest("metadata", "%s", fault)
		}
	}
	return p, nil
}

// metadata returns what the metadata headers of a request say, with the case of the keys as it was sent.
func metadata(r *http.Request) map[string]string {
	var m map[string]string
	for name, values := range r.Header {
		key, ok := cutMetadataHeader(name)
		if !ok {
			continue
		}
		if m == nil {
			m = make(map[string]string)
		}
		m[r.Context().Value(netConnKey{}).(*netConn).metadataKey(key)] = values[len(values)-1]
	}
	return m
}
