package wsclient

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// The errors that callers act on, for errors.Is.
var (
	// ErrInvalidArgument: an argument or an option is wrong. The message names it. Nothing was sent.
	ErrInvalidArgument = errors.New("wsclient: invalid argument")

	// ErrClosed: the Conn was closed by Close.
	ErrClosed = errors.New("wsclient: closed")

	// ErrSlowConsumer: the application received too slowly: messages beyond Options.Buffer were not acknowledged, and the
	// service ended the connection.
	ErrSlowConsumer = errors.New("wsclient: the application receives too slowly")

	// ErrOutcomeUnknown: the request was sent, and its answer did not come. The service may have executed it.
	ErrOutcomeUnknown = errors.New("wsclient: the request may have been executed")

	// ErrForbidden: the client lacks the permission. It is inside an *AckError or a *StreamError.
	ErrForbidden = errors.New("wsclient: forbidden")
)

// AckError is a request that the service did not execute, as its acknowledgement says. errors.Is finds [ErrForbidden] in
// one whose Name is "Forbidden".
type AckError struct {
	// Name is the kind of error: "Forbidden", "InternalServerError", and more that the service may add.
	Name string

	// Message is the service's text.
	Message string

	// AckID is the id under which the request was sent.
	AckID uint64
}

func (e *AckError) Error() string { return "wsclient: " + nameAndMessage(e.Name, e.Message) }

// Is reports whether target is ErrForbidden and the name is that of a lacking permission.
func (e *AckError) Is(target error) bool { return target == ErrForbidden && e.Name == nameForbidden }

// The names of errors that the package acts on.
const (
	nameForbidden     = "Forbidden"
	nameInternalError = "InternalServerError"
	nameDuplicate     = "Duplicate"
)

// InvokeError is an invocation that failed in the service or in the event handler.
type InvokeError struct {
	// Name is the kind of error, as the service names it.
	Name string

	// Message is the service's text.
	Message string
}

func (e *InvokeError) Error() string { return "wsclient: " + nameAndMessage(e.Name, e.Message) }

// StreamError is why a group stream ended early.
type StreamError struct {
	// Name is the kind of error: "StreamNotFound", "Forbidden", "BadRequest", "InternalServerError" or "IdleTimeout", and
	// for receivers also "UserError" or "Cancelled".
	Name string

	// Message is the service's text, or that of the sender for a "UserError".
	Message string

	// UserErrorCode is the code that the sender gave with CloseWithError, if any.
	UserErrorCode string
}

func (e *StreamError) Error() string {
	return "wsclient: group stream: " + nameAndMessage(e.Name, e.Message)
}

// Is reports whether target is ErrForbidden and the name is that of a lacking permission.
func (e *StreamError) Is(target error) bool {
	return target == ErrForbidden && e.Name == nameForbidden
}

func nameAndMessage(name, message string) string {
	switch {
	case name == "":
		name = "the service reported an error without a name"
	case message == "":
		return name
	}
	return name + ": " + message
}

// CloseError is why a connection ended.
type CloseError struct {
	// Code is the close code of the WebSocket protocol that the service sent, or that this package sent after a frame that
	// it cannot read (1003, 1007, 1009). It is 1006 if the connection broke without one.
	Code int

	// Reason is the text in the close frame.
	Reason string

	// Message is the text of the service's disconnected frame, such as "Application server closed the connection.
	// Reason: bye".
	Message string

	err    error // what the network or the decoder reported, or one of the package's sentinels
	byPeer bool  // the service sent the close frame
}

// codeAbnormal is the close code for a connection that broke without a close frame.
const codeAbnormal = 1006

func (e *CloseError) Error() string {
	var b strings.Builder
	b.WriteString("wsclient: the connection ended")
	if e.Code != codeAbnormal {
		fmt.Fprintf(&b, " with code %d", e.Code)
	}
	if e.Reason != "" {
		b.WriteString(": " + e.Reason)
	}
	if e.Message != "" && e.Message != e.Reason {
		b.WriteString(": " + e.Message)
	}
	if e.err != nil {
		b.WriteString(": " + withoutPrefix(e.err))
	}
	return b.String()
}

// Unwrap returns what the network reported, or ErrSlowConsumer, or nil.
func (e *CloseError) Unwrap() error { return e.err }

// HandshakeError is a handshake that the server answered with a status other than 101.
type HandshakeError struct {
	// StatusCode is the HTTP status: 401 for a token that is wrong or has expired, and what a connect handler chose.
	StatusCode int

	// Body is the beginning of the answer, at most 1 KiB, without control characters and tokens.
	Body string
}

func (e *HandshakeError) Error() string {
	text := fmt.Sprintf("wsclient: the handshake failed: %d %s", e.StatusCode, http.StatusText(e.StatusCode))
	if e.Body != "" {
		text += ": " + e.Body
	}
	return text
}

// refused reports whether the server rejects the URL or its token, so that the same URL cannot succeed later.
func (e *HandshakeError) refused() bool {
	switch e.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return true
	}
	return false
}

// argumentError names a wrong argument of a call.
type argumentError struct {
	operation, argument string
	problem             error
}

func invalid(operation, argument, format string, args ...any) error {
	return &argumentError{operation, argument, fmt.Errorf(format, args...)}
}

func (e *argumentError) Error() string {
	return fmt.Sprintf("wsclient: %s: %s %v", e.operation, e.argument, e.problem)
}

func (e *argumentError) Is(target error) bool { return target == ErrInvalidArgument }

func (e *argumentError) Unwrap() error { return e.problem }
