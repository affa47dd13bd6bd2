package eventhandler

import (
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

// Options are the options of a [Handler]. Hub is required, and so is a key, in one of its three forms.
type Options struct {
	// Hub is the hub whose events the handler takes, in any case. Events of other hubs are refused.
	Hub string

	// AccessKeys, KeyCredentials and ConnectionStrings hold the keys of the service, each in the form the application
	// has it in. An event is genuine if one of these keys has signed it. The service signs with both of its keys, the
	// primary and the secondary, so that one is enough but for the time in which keys are rotated. A KeyCredential's
	// Update holds from the next event on. Of a connection string only the key counts.
	AccessKeys        []string
	KeyCredentials    []*azcore.KeyCredential
	ConnectionStrings []string

	// DangerouslyDisableSignatureVerification takes every event for genuine, so that anyone who reaches the handler can
	// speak as any user. It is meant for looking at events on a developer's machine; no key may be given with it.
	DangerouslyDisableSignatureVerification bool

	// AllowedOrigins are the hosts of the services that may send events here, such as NAME.webpubsub.azure.com or
	// *.webpubsub.azure.com, in any case; * stands for any run of characters, and "*" is any host. A host without a
	// port stands for that host at every port. A service asks before it sends its first event (CloudEvents calls it
	// abuse protection), and others are told that they may not. Empty means any: it is the signature that proves where
	// an event is from.
	AllowedOrigins []string

	// MaxBodyBytes is the size of the largest body that is read; a larger one is refused with 413. Zero means 2 MiB.
	MaxBodyBytes int64

	// Logger takes a record of each refused request (Warn), each returned error that is no rejection and each panic
	// (Error). Keys, signatures and bodies are not in them. Nil means slog.Default().
	Logger *slog.Logger

	// OnConnect decides whether a client may connect, and as whom. A nil response accepts it as it is. If OnConnect is
	// nil, every client is accepted so.
	OnConnect func(ctx context.Context, r *ConnectRequest) (*ConnectResponse, error)

	// OnConnected is called when a client has connected. The client does not wait for it.
	OnConnected func(ctx context.Context, r *ConnectedRequest) error

	// OnUserEvent is called for what a client sends. A nil response answers with success and no message. If OnUserEvent
	// is nil, user events are refused with 404, so that a client learns that nobody takes what it sends.
	OnUserEvent func(ctx context.Context, r *UserEventRequest) (*UserEventResponse, error)

	// OnDisconnected is called when a connection has ended for good.
	OnDisconnected func(ctx context.Context, r *DisconnectedRequest) error

	// OnGroupJoined and OnGroupLeft are called when a connection has joined or left a group.
	OnGroupJoined func(ctx context.Context, r *GroupRequest) error
	OnGroupLeft   func(ctx context.Context, r *GroupRequest) error
}

// Handler is an [http.Handler] that takes the events of one hub. Make one with [New]; it is safe for use by many
// goroutines at once.
type Handler struct {
	options Options
	keys    []func() (string, error)
	origins []string // lower case; empty means any
	logger  *slog.Logger
}

// New returns a handler of the events of options.Hub. Its errors are [webpubsub.ErrInvalidArgument] and name the
// option: no hub or a name that none has, no key or an empty one, keys along with
// DangerouslyDisableSignatureVerification, a connection string or an origin that is none, or a negative MaxBodyBytes.
func New(options Options) (*Handler, error) {
	if problem := hubname.Problem(options.Hub); problem != "" {
		return nil, invalid("Hub", problem)
	}
	if options.MaxBodyBytes < 0 {
		return nil, invalid("MaxBodyBytes", "is negative")
	}
	if options.MaxBodyBytes == 0 {
		options.MaxBodyBytes = defaultMaxBodyBytes
	}
	keys, err := options.keys()
	if err != nil {
		return nil, err
	}
	options.AccessKeys, options.KeyCredentials, options.ConnectionStrings = nil, nil, nil // whoever prints a Handler prints no key
	h := &Handler{options: options, keys: keys, logger: options.Logger}
	for i, origin := range options.AllowedOrigins {
		if origin == "" || strings.ContainsAny(origin, "/, \t") {
			return nil, invalid(fmt.Sprintf("AllowedOrigins[%d]", i), "is not a host, such as NAME.webpubsub.azure.com")
		}
		h.origins = append(h.origins, strings.ToLower(origin))
	}
	if h.logger == nil {
		h.logger = slog.Default()
	}
	return h, nil
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
		err = refuse(http.StatusMethodNotAllowed, "the method is none of POST, OPTIONS and GET")
	}
	if refusal, ok := errors.AsType[*refusedError](err); ok {
		h.logger.LogAttrs(r.Context(), slog.LevelWarn, "event refused", append(attributes(r),
			slog.Int("status", refusal.status), slog.String("reason", refusal.reason))...)
		http.Error(w, refusal.reason, refusal.status)
	}
}

// refusedError is a request that is not in order: no function of the application has been called for it.
type refusedError struct {
	status int
	reason string
}

func refuse(status int, format string, args ...any) error {
	return &refusedError{status, fmt.Sprintf(format, args...)}
}

func (e *refusedError) Error() string { return e.reason }

// serveEvent answers an event. The error it returns is a *refusedError, and nothing has been written then.
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
		h.answer(w, r, &event, func(ctx context.Context) (*answer, error) {
			if h.options.OnConnect == nil {
				return nil, nil
			}
			response, err := h.options.OnConnect(ctx, request)
			if response == nil || err != nil {
				return nil, mqttRejection(request, err)
			}
			return response.answer(request)
		})
	case kindUserEvent:
		if h.options.OnUserEvent == nil {
			return refuse(http.StatusNotFound, "nobody takes user events here")
		}
		request := &UserEventRequest{Event: event}
		if err := h.readUserEvent(w, r, request); err != nil {
			return err
		}
		h.answer(w, r, &event, func(ctx context.Context) (*answer, error) {
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
	}
	return nil
}

// notify answers an event whose answer says no more than whether it was taken.
func notify[R any](h *Handler, w http.ResponseWriter, r *http.Request, event *Event, request *R,
	function func(context.Context, *R) error,
) error {
	if err := h.readSystemBody(w, r, request); err != nil {
		return err
	}
	h.answer(w, r, event, func(ctx context.Context) (*answer, error) {
		if function == nil {
			return nil, nil
		}
		return nil, function(ctx, request)
	})
	return nil
}

// answer calls function and writes what it returns, 204 for nil. An error is a rejection or a bare 500.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, event *Event,
	function func(context.Context) (*answer, error),
) {
	begun := false
	err := protect(func() error {
		a, err := function(r.Context())
		if rejection, ok := errors.AsType[*RejectError](err); ok {
			a, err = rejection.answer()
		}
		if err != nil {
			return err
		}
		if a == nil {
			a = &answer{http.StatusNoContent, nil, http.NoBody}
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
		if n > 0 { // if the service has gone, there is nobody to tell
			_, _ = w.Write(first[:n])
			_, _ = io.Copy(w, body)
		}
		return body.err
	})
	switch {
	case err == nil:
	case begun: // the service must not take what it got for the whole
		h.logError(r, event, "the answer broke off", err)
		panic(http.ErrAbortHandler)
	default:
		h.logError(r, event, "event failed", err)
		http.Error(w, "the event handler failed", http.StatusInternalServerError)
	}
}

// errorReader remembers the error of a reader.
type errorReader struct {
	r   io.Reader
	err error
}

func (e *errorReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && err != io.EOF {
		e.err = err
	}
	return n, err
}

// protect calls a function of the application, and makes an error of its panic.
func protect(function func() error) (err error) {
	defer func() {
		switch v := recover(); {
		case v == http.ErrAbortHandler:
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

// attributes says in a log record which request it is about. What a stranger may have sent is cut to a sane length.
func attributes(r *http.Request) []slog.Attr {
	cut := func(name string) slog.Attr {
		value := r.Header.Get("ce-" + name)
		return slog.String(name, strings.ToValidUTF8(value[:min(len(value), 200)], ""))
	}
	return []slog.Attr{cut("type"), cut("hub"), cut("connectionId"), slog.String("remote", r.RemoteAddr)}
}
