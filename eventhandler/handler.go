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
	"github.com/awps-go/webpubsub/internal/hubname"
)

// defaultMaxBodyBytes leaves room for the service's largest message, of about 1 MB, and for any connect event.
const defaultMaxBodyBytes = 2 << 20

// Options are the options of a [Handler]. A hub is required, and so is a key, in one of its three forms.
type Options struct {
	// Hub is the hub whose events the handler serves, in any case. Events of other hubs are refused with 404.
	Hub string

	// Hubs are further hubs, each in any case. [Event.Hub] tells the functions which one an event is from. Without Hub and
	// Hubs a handler serves no hub, so that New returns an error; there is no name for every hub.
	Hubs []string

	// AccessKeys, KeyCredentials and ConnectionStrings hold the keys of the service, each in the form that the application
	// has it in. An event is genuine if one of these keys has signed it. The service signs with both of its keys, the
	// primary and the secondary, so one is enough unless keys are being rotated. A KeyCredential's Update takes effect with
	// the next event. Only the key of a connection string counts.
	AccessKeys        []string
	KeyCredentials    []*azcore.KeyCredential
	ConnectionStrings []string

	// DangerouslyDisableSignatureVerification accepts every event as genuine, so that anyone who reaches the handler can
	// speak as any user. It is meant for looking at events on a developer's machine; no key may be given with it.
	DangerouslyDisableSignatureVerification bool

	// AllowedOrigins are the hosts of the services that may send events here, such as NAME.webpubsub.azure.com or
	// *.webpubsub.azure.com, in any case. A host is compared whole; * stands for any run of characters, and "*" is any
	// host. A host without a port stands for that host at every port.
	//
	// A service asks before it sends its first event (CloudEvents calls it abuse protection), and names its host again
	// with each event. With custom domains and replicas it may name several hosts: validation allows those that match, and
	// an event is accepted if one of its hosts matches. Other services are refused with 403.
	//
	// Empty means any host: the signature proves where an event is from.
	AllowedOrigins []string

	// MaxBodyBytes is the size of the largest body that is read; a larger one is refused with 413. Zero means 2 MiB.
	MaxBodyBytes int64

	// Logger receives a record for each refused request (Warn), for each returned error that is not a rejection and each
	// panic (Error), and for each answer that may not do what its maker expects (Warn). Keys, signatures and bodies are
	// not in them. Nil logs nothing; then nobody learns of a function's error.
	Logger *slog.Logger

	// OnConnect decides whether a client may connect, and as which user. A nil response accepts the client as its token
	// describes it, and so does a nil OnConnect.
	OnConnect func(ctx context.Context, r *ConnectRequest) (*ConnectResponse, error)

	// OnConnected is called when a client has connected. The client does not wait for it.
	OnConnected func(ctx context.Context, r *ConnectedRequest) error

	// OnUserEvent is called for what a client sends. A nil response answers with success and no message. If OnUserEvent
	// is nil, user events are refused with 404, so that a client learns that nobody receives what it sends.
	OnUserEvent func(ctx context.Context, r *UserEventRequest) (*UserEventResponse, error)

	// OnDisconnected is called when a connection has ended for good.
	OnDisconnected func(ctx context.Context, r *DisconnectedRequest) error

	// OnGroupJoined and OnGroupLeft are called when a connection has joined or left a group, if the event handler's setting
	// in the service asks for these events.
	OnGroupJoined func(ctx context.Context, r *GroupRequest) error
	OnGroupLeft   func(ctx context.Context, r *GroupRequest) error
}

// Handler is an [http.Handler] that serves the events of one or more hubs. Make one with [New]; it is safe for use by many
// goroutines at once.
type Handler struct {
	options Options
	hubs    map[string]bool // in lower case
	keys    []func() (string, error)
	origins []string // in lower case; empty means any
	logger  *slog.Logger
}

// New returns a handler for the events of options.Hub and options.Hubs. It returns [webpubsub.ErrInvalidArgument], and names the
// option, if
//
//   - there is no hub, as with nil options, or the name of a hub is not valid,
//   - there is no key, a key is empty, or there are keys along with DangerouslyDisableSignatureVerification,
//   - a connection string or an origin is not valid, or
//   - MaxBodyBytes is negative.
//
// New copies the options: later changes to them have no effect.
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
	// Without the keys, printing a Handler prints no secret.
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
		if problem := hubname.Problem(o.Hub); problem != "" {
			return nil, invalid("Hub", problem)
		}
		hubs[strings.ToLower(o.Hub)] = true
	}
	for i, hub := range o.Hubs {
		if problem := hubname.Problem(hub); problem != "" {
			return nil, invalid(fmt.Sprintf("Hubs[%d]", i), problem)
		}
		hubs[strings.ToLower(hub)] = true
	}
	return hubs, nil
}

func invalid(option, problem string) error {
	return fmt.Errorf("eventhandler: New: %w: Options.%s %s", webpubsub.ErrInvalidArgument, option, problem)
}

// ServeHTTP answers one request of the service: an event (POST), or the question whether events may be sent (OPTIONS,
// or GET where something before the handler does not let OPTIONS through).
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var err error
	switch r.Method {
	case http.MethodPost:
		err = h.serveEvent(w, r)
	case http.MethodOptions, http.MethodGet:
		err = h.serveValidation(w, r)
	default:
		w.Header().Set("Allow", "POST, OPTIONS, GET")
		err = refuse(http.StatusMethodNotAllowed, "the method must be POST, OPTIONS or GET")
	}
	if refusal, ok := errors.AsType[*refusedError](err); ok {
		h.logger.LogAttrs(r.Context(), slog.LevelWarn, "event refused", append(attributes(r),
			slog.Int("status", refusal.status), slog.String("reason", refusal.reason))...)
		version := 0
		if r.Method == http.MethodPost {
			version = h.refusedMQTTVersion(w, r, refusal.body)
		}
		fail(w, refusal.status, refusal.reason, version)
	}
}

// fail writes the answer to a request that is refused or has failed. mqttVersion is 0 unless the request is the connect
// event of an MQTT client, which is answered with the code for its CONNACK packet.
func fail(w http.ResponseWriter, status int, reason string, mqttVersion int) {
	if mqttVersion == 0 {
		http.Error(w, reason, status)
		return
	}
	a := mqttFailure(status, reason, mqttVersion)
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = io.Copy(w, a.body)
}

// refusedError is a request that is not in order: no function of the application has been called for it.
type refusedError struct {
	status int
	reason string
	body   []byte // the request's body, if it was read
}

func refuse(status int, format string, args ...any) error {
	return &refusedError{status: status, reason: fmt.Sprintf(format, args...)}
}

func (e *refusedError) Error() string { return e.reason }

// serveEvent answers an event. Its error is a *refusedError, and nothing has been written then.
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
		h.answer(w, r, &event, request.mqttVersion(), func(ctx context.Context) (*answer, error) {
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
			return refuse(http.StatusNotFound, "this handler does not receive user events")
		}
		request := &UserEventRequest{Event: event}
		if err := h.readUserEvent(w, r, request); err != nil {
			return err
		}
		h.answer(w, r, &event, 0, func(ctx context.Context) (*answer, error) {
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
	case kindUnknown: // the service may send events of its own that came after this package
		h.logger.LogAttrs(r.Context(), slog.LevelDebug, "event ignored", attributes(r)...)
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

// notify answers an event whose answer is success or failure and nothing else.
func notify[R any](h *Handler, w http.ResponseWriter, r *http.Request, event *Event, request *R,
	function func(context.Context, *R) error,
) error {
	if err := h.readSystemBody(w, r, request); err != nil {
		return err
	}
	h.answer(w, r, event, 0, func(ctx context.Context) (*answer, error) {
		if function == nil {
			return nil, nil
		}
		return nil, function(ctx, request)
	})
	return nil
}

// answer calls function and writes its answer, 204 for nil. An error becomes a rejection, or an answer with none of the
// error's words. mqttVersion is as in fail.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, event *Event, mqttVersion int,
	function func(context.Context) (*answer, error),
) {
	begun := false
	err := protect(func() error {
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
		for _, warning := range a.warnings {
			h.logger.LogAttrs(r.Context(), slog.LevelWarn, warning, append(attributes(r), slog.String("eventId", event.EventID))...)
		}
		body := &errorReader{r: a.body}
		var first [512]byte
		n, _ := io.ReadAtLeast(body, first[:], 1)
		if body.err != nil { // nothing of the answer has been written yet
			return body.err
		}
		begun = true
		maps.Copy(w.Header(), a.header)
		w.WriteHeader(a.status)
		if n > 0 { // if the service has gone, nobody reads the answer
			_, _ = w.Write(first[:n])
			_, _ = io.Copy(w, body)
		}
		return body.err
	})
	if err == nil {
		return
	}
	if begun { // the service must not take half an answer for a whole one
		h.logError(r, event, "the answer broke off", err)
		panic(http.ErrAbortHandler)
	}
	status, message := http.StatusInternalServerError, "event failed; the service retries it"
	if _, permanent := errors.AsType[*faultError](err); permanent {
		status, message = faultStatus, "event failed: the answer cannot be sent; the service does not retry it"
	}
	h.logError(r, event, message, err)
	fail(w, status, "the event handler failed", mqttVersion)
}

// errorReader keeps the error of a reader, which may be a stream of the application. A reader that claims more than there
// was room for, or that never makes progress, is an error as well: it must neither crash nor occupy the process.
type errorReader struct {
	r   io.Reader
	err error
}

func (e *errorReader) Read(p []byte) (n int, err error) {
	const maxEmptyReads = 100
	for range maxEmptyReads {
		n, err = e.r.Read(p)
		if n < 0 || n > len(p) {
			n, err = 0, errors.New("eventhandler: the stream's Read returned a count that is not possible")
		}
		if n > 0 || err != nil || len(p) == 0 {
			break
		}
	}
	if n == 0 && err == nil && len(p) > 0 {
		err = io.ErrNoProgress
	}
	if err != nil && err != io.EOF { //nolint:errorlint // a Reader ends with io.EOF itself
		e.err = err
	}
	return n, err
}

// protect calls a function of the application and turns its panic into an error.
func protect(function func() error) (err error) {
	defer func() {
		switch v := recover(); {
		case v == http.ErrAbortHandler: //nolint:errorlint // net/http compares it so too
			panic(v)
		case v != nil:
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return function()
}

// panicError is a panic of a function of the application.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

func (h *Handler) logError(r *http.Request, event *Event, message string, err error) {
	attrs := append(attributes(r), slog.String("eventId", event.EventID), slog.Any("error", err))
	if panicked, ok := errors.AsType[*panicError](err); ok {
		attrs = append(attrs, slog.String("stack", string(panicked.stack)))
	}
	h.logger.LogAttrs(r.Context(), slog.LevelError, message, attrs...)
}

// attributes identify the request that a log record is about. What a stranger may have sent is cut to a sane length.
func attributes(r *http.Request) []slog.Attr {
	cut := func(name string) slog.Attr {
		value := r.Header.Get("ce-" + name)
		return slog.String(name, strings.ToValidUTF8(value[:min(len(value), 200)], ""))
	}
	return []slog.Attr{cut("type"), cut("hub"), cut("connectionId"), slog.String("remote", r.RemoteAddr)}
}
