package wsclient

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/internal/redact"
)

// Errors to test for with errors.Is, because they may be wrapped. Test for the error types with errors.As.
var (
	// ErrInvalidArgument means that an argument or option is invalid. The error text names the argument. Nothing was sent.
	ErrInvalidArgument = errors.New("wsclient: invalid argument")

	// ErrClosed means that the Conn was closed with [Conn.Close].
	ErrClosed = errors.New("wsclient: closed")

	// ErrSlowConsumer means that the Conn has ended because the application received too slowly: see [BufferOptions].
	ErrSlowConsumer = errors.New("wsclient: the application receives too slowly")

	// ErrOutcomeUnknown means that the request was sent but no response arrived. The service may have executed the
	// request.
	ErrOutcomeUnknown = errors.New("wsclient: the request may have been executed")

	// ErrForbidden means that the client lacks a permission. The error is also an *AckError or a *StreamError.
	ErrForbidden = errors.New("wsclient: forbidden")
)

// AckError reports a request that the service acknowledged with an error. It matches [ErrForbidden] if Name is
// "Forbidden".
type AckError struct {
	// Name is the kind of error, for example "Forbidden" or "InternalServerError". The service may add others.
	Name string

	// Message is the service's error text.
	Message string

	// AckID is the ackId of the request.
	AckID uint64
}

func (e *AckError) Error() string { return "wsclient: " + nameAndMessage(e.Name, e.Message) }

// Is reports whether target is [ErrForbidden] and Name is "Forbidden".
func (e *AckError) Is(target error) bool { return target == ErrForbidden && e.Name == nameForbidden }

// The error names that the package handles.
const (
	nameForbidden     = "Forbidden"
	nameInternalError = "InternalServerError"
	nameDuplicate     = "Duplicate"

	nameStreamNotFound = "StreamNotFound"
)

// InvokeError reports that the service or the event handler failed to handle an invocation.
type InvokeError struct {
	// Name is the kind of error. The service chooses it.
	Name string

	// Message is the service's error text.
	Message string
}

func (e *InvokeError) Error() string { return "wsclient: " + nameAndMessage(e.Name, e.Message) }

// StreamError reports why a group stream ended early. It matches [ErrForbidden] if Name is "Forbidden".
type StreamError struct {
	// Name is the kind of error. Senders receive "StreamNotFound", "Forbidden", "BadRequest", "InternalServerError",
	// "IdleTimeout" or, from this package, "ProtocolViolation". Receivers may also receive "UserError" or "Cancelled".
	Name string

	// Message is the error text: the sender's for a "UserError", otherwise the service's.
	Message string

	// UserErrorCode is the UserErrorCode of the *StreamError that the sender passed to CloseWithError, or empty.
	UserErrorCode string
}

func (e *StreamError) Error() string {
	return "wsclient: group stream: " + nameAndMessage(e.Name, e.Message)
}

// Is reports whether target is [ErrForbidden] and Name is "Forbidden".
func (e *StreamError) Is(target error) bool {
	return target == ErrForbidden && e.Name == nameForbidden
}

// safeText returns a text of the service as part of an error's text or of a log record: without secrets, and on one line.
func safeText(text string) string {
	return redact.Line(redact.Excerpt([]byte(text), maxErrorText), maxErrorText)
}

func nameAndMessage(name, message string) string {
	if name == "" {
		name = "the service reported an error without a name"
	}
	if message == "" {
		return safeText(name)
	}
	return safeText(name + ": " + message)
}

// maxErrorText is the number of bytes of the service's text in the text of an error.
const maxErrorText = 1 << 10

// CloseError reports why a connection ended.
type CloseError struct {
	// Code is the WebSocket close code:
	//
	//   - 1006 if the connection broke without a close frame;
	//   - 1003, 1007 or 1009 if one side could not read a frame of the other;
	//   - otherwise, the code that the service sent.
	//
	// In a browser (GOOS=js) the service's close code is not available. Code is then 1000 if the service sent a
	// disconnected frame, 1008 if it rejected a recovery, and otherwise 1006.
	Code int

	// Reason is the text in the close frame.
	Reason string

	// Message is the text of the service's disconnected frame, such as "Application server closed the connection. Reason:
	// bye". It is empty if there was no such frame.
	Message string

	err    error // the error of the network, or one of the package's errors
	byPeer bool  // the service sent the close frame
}

// codeAbnormal is the close code of a connection that broke without a close frame.
const codeAbnormal = 1006

func (e *CloseError) Error() string {
	text := "wsclient: the connection ended"
	if e.Code != codeAbnormal {
		text += fmt.Sprintf(" with code %d", e.Code)
	}
	add := func(part string) { text = strings.TrimSuffix(text, ".") + ": " + part } // the service's texts end with a period
	if e.Reason != "" {
		add(safeText(e.Reason))
	}
	if e.Message != "" && e.Message != e.Reason {
		add(safeText(e.Message))
	}
	if e.err != nil {
		add(withoutPrefix(e.err))
	}
	return text
}

// Unwrap returns the error of the network, [ErrSlowConsumer], or nil.
func (e *CloseError) Unwrap() error { return e.err }

// HandshakeError reports that the server responded to the handshake with a status other than 101. A browser (GOOS=js)
// does not report the status: a rejected handshake then looks like a network error.
type HandshakeError struct {
	// StatusCode is the HTTP status. It is 401 if the token is invalid or has expired. A connect event handler may choose
	// other statuses.
	StatusCode int

	// Body is the beginning of the response body, at most 1 KiB, without control characters and tokens.
	Body string

	retryAfter time.Duration // from the Retry-After header; 0 if there is none
}

func (e *HandshakeError) Error() string {
	text := fmt.Sprintf("wsclient: the handshake failed: %d", e.StatusCode)
	if name := http.StatusText(e.StatusCode); name != "" { // a connect event handler may choose any status
		text += " " + name
	}
	if e.Body != "" {
		text += ": " + e.Body
	}
	return text
}

// isPermanent reports whether the server rejected the URL or its token, which means that retrying the URL is pointless.
func (e *HandshakeError) isPermanent() bool {
	switch e.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return true
	}
	return false
}

// argumentError reports an invalid argument.
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
