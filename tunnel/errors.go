package tunnel

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/awps-go/webpubsub"
	internalredact "github.com/awps-go/webpubsub/internal/redact"
)

// ErrClosed means that the service closed the last connection with a Close message. [Serve] returns it, wrapped with
// the text of the message.
var ErrClosed = errors.New("tunnel: the service has closed the tunnel")

// HandshakeError reports that the service rejected a connection. It matches:
//
//   - [webpubsub.ErrUnauthorized] for status 401;
//   - [webpubsub.ErrForbidden] for 403;
//   - [webpubsub.ErrNotFound] for 404;
//   - [webpubsub.ErrThrottled] for 429.
type HandshakeError struct {
	StatusCode int
	Message    string // the beginning of the response body, on one line; may be empty
}

func (e *HandshakeError) Error() string {
	text := fmt.Sprintf("tunnel: the service rejected the connection: %d %s", e.StatusCode, http.StatusText(e.StatusCode))
	switch e.StatusCode {
	case http.StatusUnauthorized:
		text += " (does the access key or the identity belong to this service? is the system clock right?)"
	case http.StatusForbidden:
		text += " (does the identity have the role Web PubSub Service Owner?)"
	case http.StatusNotFound:
		text += " (is the endpoint a Web PubSub service that supports tunnels?)"
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Is reports whether target is the error of package webpubsub for the status.
func (e *HandshakeError) Is(target error) bool {
	switch e.StatusCode {
	case http.StatusUnauthorized:
		return target == webpubsub.ErrUnauthorized
	case http.StatusForbidden:
		return target == webpubsub.ErrForbidden
	case http.StatusNotFound:
		return target == webpubsub.ErrNotFound
	case http.StatusTooManyRequests:
		return target == webpubsub.ErrThrottled
	}
	return false
}

// isPermanent reports whether retrying soon is pointless: the service rejected the connection, or the credential cannot
// get a token.
func isPermanent(err error) bool {
	if rejection, ok := errors.AsType[*HandshakeError](err); ok {
		switch rejection.StatusCode {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
			return false
		}
		return rejection.StatusCode < 500
	}
	var credential interface{ NonRetriable() } // implemented by errors of azidentity
	return errors.As(err, &credential)
}

func invalid(operation, argument, problem string) error {
	return fmt.Errorf("tunnel: %s: %w %s: %s", operation, webpubsub.ErrInvalidArgument, argument, problem)
}

// redactedError is an error of a connection without its possible secrets: the URL of the request and the token.
type redactedError struct {
	text  string
	cause error
}

func (e *redactedError) Error() string { return e.text }

// Is reports whether the cause matches target. There is no Unwrap method, because the text of the cause may contain the
// URL.
func (e *redactedError) Is(target error) bool { return errors.Is(e.cause, target) }

func redactError(err error, token string) error {
	text := err.Error()
	if urlError, ok := errors.AsType[*url.Error](err); ok {
		text = urlError.Err.Error()
	}
	return &redactedError{text: redact(text, token), cause: err}
}

// redact returns text without the token, on one line and truncated for a log. It also redacts a token that is truncated
// at the end of text.
func redact(text, token string) string {
	for _, secret := range []string{token, url.QueryEscape(token)} {
		for n := min(len(secret), len(text)); n >= 8; n-- {
			if rest, ok := strings.CutSuffix(text, secret[:n]); ok {
				text = rest + internalredact.Mark
				break
			}
		}
	}
	return internalredact.Line(internalredact.Text(text, token), 300)
}
