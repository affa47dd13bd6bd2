package eventhandler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/internal/names"
)

// defaultMaxBodyBytes leaves room for the service's largest message (about 1 MB) and for any connect event.
const defaultMaxBodyBytes = 2 << 20

// Options are the options of a [Handler]. At least one hub and one key are required.
type Options struct {
	// Hub is the hub whose events the handler serves. Hub names are case-insensitive. Events of other hubs are rejected
	// with 404.
	Hub string

	// Hubs are further hubs. [Event.Hub] is the hub of an event. Hub or Hubs must name at least one hub. There is no
	// wildcard.
	Hubs []string

	// AccessKeys, KeyCredentials and ConnectionStrings hold the keys of the service, in three forms. An event must be
	// signed with one of these keys. The service signs with both its primary and its secondary key, so one key is enough
	// unless keys are being rotated. KeyCredential.Update takes effect with the next event. The endpoint of a connection
	// string is ignored.
	AccessKeys        []string
	KeyCredentials    []*azcore.KeyCredential
	ConnectionStrings []string

	// DangerouslyDisableSignatureVerification makes the handler accept events with any signature or none: anyone who can
	// reach the handler can act as any user. Use it only to inspect events on a developer's machine. It cannot be combined
	// with a key.
	DangerouslyDisableSignatureVerification bool

	// AllowedOrigins are the hosts of the services that may send events here, such as NAME.webpubsub.azure.com or
	// *.webpubsub.azure.com. They are case-insensitive and must match the whole host. * matches any run of characters, so
	// "*" matches any host. A host without a port matches every port.
	//
	// The service asks for permission before its first event (CloudEvents calls this abuse protection), and names its host
	// again with each event. With custom domains and replicas it may name several hosts. The validation response then
	// allows the hosts that match, and an event is accepted if one of its hosts matches. Requests of other services are
	// rejected with 403.
	//
	// Empty allows any host. The origin is not signed, so only the signature protects against forged events.
	AllowedOrigins []string

	// MaxBodyBytes is the size limit for request bodies. Larger bodies are rejected with 413. Zero means 2 MiB.
	MaxBodyBytes int64

	// Logger receives a record for:
	//
	//   - Debug: each ignored system event
	//   - Warn: each rejected request, each response that may not do what its author expects, and each event whose
	//     request was canceled, for example because its client has gone
	//   - Error: each panic, each invalid response, and each other returned error that is not a [RejectError]
	//
	// The records do not contain keys, signatures or bodies. If Logger is nil, nothing is logged and the errors of
	// callbacks are lost.
	Logger *slog.Logger

	// OnConnect decides whether a client may connect, and as which user. If OnConnect is nil or returns a nil response,
	// the client is accepted as its token describes it.
	OnConnect func(ctx context.Context, r *ConnectRequest) (*ConnectResponse, error)

	// OnConnected is called after a client has connected. The client does not wait for it.
	OnConnected func(ctx context.Context, r *ConnectedRequest) error

	// OnUserEvent is called for each user event of a client. A nil response means success without a message. If
	// OnUserEvent is nil, user events are rejected with 404, so that clients receive an error.
	OnUserEvent func(ctx context.Context, r *UserEventRequest) (*UserEventResponse, error)

	// OnDisconnected is called when a connection has ended permanently.
	OnDisconnected func(ctx context.Context, r *DisconnectedRequest) error

	// OnGroupJoined and OnGroupLeft are called after a connection has joined or left a group, if the service is
	// configured to send these events.
	OnGroupJoined func(ctx context.Context, r *GroupRequest) error
	OnGroupLeft   func(ctx context.Context, r *GroupRequest) error
}

// Handler is an [http.Handler] that serves the events of one or more hubs. Create one with [New]. It is safe for
// concurrent use.
type Handler struct {
	options Options
	hubs    map[string]bool // in lower case
	keys    []func() (string, error)
	origins []string // in lower case; empty means any
	logger  *slog.Logger
}

// New returns a handler for the events of options.Hub and options.Hubs. It returns [webpubsub.ErrInvalidArgument], in
// an error that names the option, if
//
//   - no hub is given, or the name of a hub is not valid,
//   - no key is given, a key is empty, or keys are combined with DangerouslyDisableSignatureVerification,
//   - a connection string or an origin is not valid, or
//   - MaxBodyBytes is negative.
//
// New copies the options, so later changes have no effect. Nil options are invalid, because they name no hub.
func New(options *Options) (*Handler, error) {
	if options == nil {
		options = &Options{}
	}
	hubs, err := options.hubs()
	if err != nil {
		return nil, err
	}
	if options.MaxBodyBytes < 0 {
		return nil, invalid("MaxBodyBytes", "is negative")
	}
	keys, err := options.keys()
	if err != nil {
		return nil, err
	}
	h := &Handler{options: *options, hubs: hubs, keys: keys, logger: options.Logger}
	h.options.MaxBodyBytes = cmp.Or(options.MaxBodyBytes, defaultMaxBodyBytes)
	// Drop the keys from the options, so that printing a Handler reveals no secret.
	h.options.AccessKeys, h.options.KeyCredentials, h.options.ConnectionStrings = nil, nil, nil
	for i, origin := range options.AllowedOrigins {
		if origin == "" || strings.ContainsAny(origin, "/, \t") {
			return nil, invalid(fmt.Sprintf("AllowedOrigins[%d]", i), "is not a host, such as NAME.webpubsub.azure.com")
		}
		h.origins = append(h.origins, strings.ToLower(origin))
	}
	if h.logger == nil {
		h.logger = slog.New(slog.DiscardHandler)
	}
	return h, nil
}

// hubs returns the hubs to serve, in lower case.
func (o *Options) hubs() (map[string]bool, error) {
	hubs := map[string]bool{}
	if o.Hub != "" || len(o.Hubs) == 0 {
		if problem := names.HubProblem(o.Hub); problem != "" {
			return nil, invalid("Hub", problem)
		}
		hubs[strings.ToLower(o.Hub)] = true
	}
	for i, hub := range o.Hubs {
		if problem := names.HubProblem(hub); problem != "" {
			return nil, invalid(fmt.Sprintf("Hubs[%d]", i), problem)
		}
		hubs[strings.ToLower(hub)] = true
	}
	return hubs, nil
}

func invalid(option, problem string) error {
	return fmt.Errorf("eventhandler: New: %w: Options.%s %s", webpubsub.ErrInvalidArgument, option, problem)
}

// ServeHTTP handles one request of the service: an event (POST), or a validation request (OPTIONS, or GET if something
// in front of the handler blocks OPTIONS).
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var err error
	switch r.Method {
	case http.MethodPost:
		err = h.serveEvent(w, r)
	case http.MethodOptions, http.MethodGet:
		err = h.serveValidation(w, r)
	default:
		w.Header().Set("Allow", "POST, OPTIONS, GET")
		err = requestErrorf(http.StatusMethodNotAllowed, "the method must be POST, OPTIONS or GET")
	}
	if rejected, ok := errors.AsType[*requestError](err); ok {
		h.logger.LogAttrs(r.Context(), slog.LevelWarn, "request rejected", append(attributes(r),
			slog.Int("status", rejected.status), slog.String("reason", rejected.reason))...)
		version := 0
		if r.Method == http.MethodPost {
			version = h.failedMQTTVersion(w, r, rejected.body)
		}
		writeFailure(w, rejected.status, rejected.reason, version)
	}
}

// writeFailure writes the response to a request that is invalid or has failed. mqttVersion is 0 except for the connect
// event of an MQTT client, whose response has a code for the CONNACK packet.
func writeFailure(w http.ResponseWriter, status int, reason string, mqttVersion int) {
	if mqttVersion == 0 {
		http.Error(w, reason, status)
		return
	}
	a := mqttFailure(status, reason, mqttVersion)
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = io.Copy(w, a.body)
}

// requestError describes an invalid request, for which no callback was called.
type requestError struct {
	status int
	reason string
	body   []byte // the request's body, if it was read
}

func requestErrorf(status int, format string, args ...any) error {
	return &requestError{status: status, reason: fmt.Sprintf(format, args...)}
}

func (e *requestError) Error() string { return e.reason }

// serveEvent responds to an event. If it returns an error, the error is a *requestError and nothing has been written.
func (h *Handler) serveEvent(w http.ResponseWriter, r *http.Request) error {
	kind, event, err := h.parseEvent(r)
	if err != nil {
		return err
	}
	read := func(body any) error { return h.readSystemBody(w, r, body) }
	switch kind {
	case kindConnect:
		request := &ConnectRequest{Event: event}
		if err := read(request); err != nil {
			return err
		}
		h.respond(w, r, &event, request.mqttVersion(), func(ctx context.Context) (*answer, error) {
			if h.options.OnConnect == nil {
				return nil, nil
			}
			response, err := h.options.OnConnect(ctx, request)
			if response == nil || err != nil {
				return nil, err
			}
			return response.answer(request)
		})
	case kindUserEvent:
		if h.options.OnUserEvent == nil {
			return requestErrorf(http.StatusNotFound, "this handler does not receive user events")
		}
		request := &UserEventRequest{Event: event}
		if err := h.readUserEvent(w, r, request); err != nil {
			return err
		}
		h.respond(w, r, &event, 0, func(ctx context.Context) (*answer, error) {
			response, err := h.options.OnUserEvent(ctx, request)
			if response == nil || err != nil {
				return nil, err
			}
			return response.answer(request)
		})
	case kindConnected:
		return notify(h, w, r, &event, &ConnectedRequest{Event: event}, h.options.OnConnected)
	case kindDisconnected:
		return notify(h, w, r, &event, &DisconnectedRequest{Event: event}, h.options.OnDisconnected)
	case kindGroupJoined:
		return notify(h, w, r, &event, &GroupRequest{Event: event}, h.options.OnGroupJoined)
	case kindGroupLeft:
		return notify(h, w, r, &event, &GroupRequest{Event: event}, h.options.OnGroupLeft)
	case kindUnknown: // a system event that the service may add later
		h.logger.LogAttrs(r.Context(), slog.LevelDebug, "event ignored", attributes(r)...)
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

// notify responds to an event that can only succeed or fail.
func notify[R any](h *Handler, w http.ResponseWriter, r *http.Request, event *Event, request *R,
	function func(context.Context, *R) error,
) error {
	if err := h.readSystemBody(w, r, request); err != nil {
		return err
	}
	h.respond(w, r, event, 0, func(ctx context.Context) (*answer, error) {
		if function == nil {
			return nil, nil
		}
		return nil, function(ctx, request)
	})
	return nil
}

// respond calls function and writes its answer, or 204 if the answer is nil. A [RejectError] becomes a rejection. The
// response to any other error does not contain the error's text. mqttVersion is as in writeFailure.
func (h *Handler) respond(w http.ResponseWriter, r *http.Request, event *Event, mqttVersion int,
	function func(context.Context) (*answer, error),
) {
	begun := false
	err := catchPanic(func() error {
		a, err := function(r.Context())
		if rejection, ok := errors.AsType[*RejectError](err); ok {
			a, err = rejection.answer(mqttVersion)
		}
		if err != nil {
			return err
		}
		if a == nil {
			a = &answer{status: http.StatusNoContent, body: http.NoBody}
		}
		if len(a.warnings) > 0 {
			h.logger.LogAttrs(r.Context(), slog.LevelWarn, strings.Join(a.warnings, "; "),
				append(attributes(r), slog.String("eventId", event.EventID))...)
		}
		body := &errorReader{r: a.body}
		var first [512]byte
		n, _ := io.ReadAtLeast(body, first[:], 1)
		if body.err != nil { // nothing has been written yet
			return body.err
		}
		begun = true
		maps.Copy(w.Header(), a.header)
		w.WriteHeader(a.status)
		if n > 0 { // write errors do not matter: the service has gone
			_, _ = w.Write(first[:n])
			_, _ = io.Copy(w, body)
		}
		return body.err
	})
	if err == nil {
		return
	}
	if begun { // abort, so that the service does not mistake a partial response for a whole one
		h.logError(r, event, slog.LevelError, "response aborted", err)
		panic(http.ErrAbortHandler)
	}
	level := slog.LevelError
	status, message := http.StatusInternalServerError, "event failed; the service retries it"
	if _, permanent := errors.AsType[*faultError](err); permanent {
		status, message = faultStatus, "event failed: the response cannot be sent; the service does not retry it"
	} else if errors.Is(err, context.Canceled) && errors.Is(r.Context().Err(), context.Canceled) {
		// Nobody receives the response. The service cancels a request when its client has gone.
		level, message = slog.LevelWarn, "event aborted: its request was canceled"
	}
	h.logError(r, event, level, message, err)
	writeFailure(w, status, "the event handler failed", mqttVersion)
}

// errorReader remembers the error of a reader, which may be a stream of the application. It also fails if the reader
// returns an impossible count or never makes progress, so a broken stream cannot crash or block the process.
type errorReader struct {
	r   io.Reader
	err error
}

func (e *errorReader) Read(p []byte) (n int, err error) {
	const maxEmptyReads = 100
	for range maxEmptyReads {
		n, err = e.r.Read(p)
		if n < 0 || n > len(p) {
			n, err = 0, errors.New("eventhandler: the stream's Read returned an impossible count")
		}
		if n > 0 || err != nil || len(p) == 0 {
			break
		}
	}
	if n == 0 && err == nil && len(p) > 0 {
		err = io.ErrNoProgress
	}
	if err != nil && err != io.EOF { //nolint:errorlint // a Reader returns io.EOF unwrapped
		e.err = err
	}
	return n, err
}

// catchPanic calls a callback and turns its panic into an error.
func catchPanic(function func() error) (err error) {
	defer func() {
		switch v := recover(); {
		case v == http.ErrAbortHandler: //nolint:errorlint // as net/http compares it
			panic(v)
		case v != nil:
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return function()
}

// panicError is a panic of a callback.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func (h *Handler) logError(r *http.Request, event *Event, level slog.Level, message string, err error) {
	attrs := append(attributes(r), slog.String("eventId", event.EventID), slog.Any("error", err))
	if panicked, ok := errors.AsType[*panicError](err); ok {
		attrs = append(attrs, slog.String("stack", string(panicked.stack)))
	}
	h.logger.LogAttrs(r.Context(), level, message, attrs...)
}

// attributes returns the log attributes that identify a request. Values are cut to 200 bytes because anybody may have
// sent them.
func attributes(r *http.Request) []slog.Attr {
	cut := func(name string) slog.Attr {
		value := r.Header.Get("ce-" + name)
		return slog.String(name, strings.ToValidUTF8(value[:min(len(value), 200)], ""))
	}
	return []slog.Attr{cut("type"), cut("hub"), cut("connectionId"), slog.String("remote", r.RemoteAddr)}
}
