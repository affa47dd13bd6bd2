package tunnel

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/awps-go/webpubsub"
)

// ErrClosed is the error of [Serve] when the service has closed the last connection by a Close message.
var ErrClosed = errors.New("tunnel: the service has closed the tunnel")

// HandshakeError is an answer of the service that refuses a connection. With errors.Is it is
// [webpubsub.ErrUnauthorized] (401), [webpubsub.ErrForbidden] (403), [webpubsub.ErrNotFound] (404) or
// [webpubsub.ErrThrottled] (429).
type HandshakeError struct {
	StatusCode int
	Message    string // the beginning of the answer's body, on one line; it may be empty
}

func (e *HandshakeError) Error() string {
	text := fmt.Sprintf("tunnel: the service refused the connection: %d %s", e.StatusCode, http.StatusText(e.StatusCode))
	switch e.StatusCode {
	case http.StatusUnauthorized:
		text += " (is it the service's access key, or an identity of its tenant? is the clock right?)"
	case http.StatusForbidden:
		text += " (does the identity have the role Web PubSub Service Owner?)"
	case http.StatusNotFound:
		text += " (is the endpoint a Web PubSub service that has the tunnel?)"
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Is reports whether target is the sentinel of the status.
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

// isPermanent reports whether trying again soon cannot help: the service refused the connection, or the credential has no
// token to give.
func isPermanent(err error) bool {
	if refusal, ok := errors.AsType[*HandshakeError](err); ok {
		switch refusal.StatusCode {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
			return false
		}
		return refusal.StatusCode < 500
	}
	var credential interface{ NonRetriable() } // azidentity's errors
	return errors.As(err, &credential)
}

func invalid(operation, argument, problem string) error {
	return fmt.Errorf("tunnel: %s: %w %s: %s", operation, webpubsub.ErrInvalidArgument, argument, problem)
}

// cleanError takes out of an error of a dial what may be secret: the URL of the request, and the token.
type cleanError struct {
	text  string
	cause error
}

func (e *cleanError) Error() string { return e.text }

// Is keeps errors.Is for the cause. There is no Unwrap, since the cause can print the URL.
func (e *cleanError) Is(target error) bool { return errors.Is(e.cause, target) }

func clean(err error, token string) error {
	text := err.Error()
	if urlError, ok := errors.AsType[*url.Error](err); ok {
		text = urlError.Err.Error()
	}
	return &cleanError{text: redact(text, token), cause: err}
}

// jwtPattern matches what looks like a JWT, also one that was cut.
var jwtPattern = regexp.MustCompile(`eyJ[\w-]{6,}(\.[\w-]*)*`)

// redact returns text without the token, on one line that is not too long for a log. The text may be cut in the middle of the
// token.
func redact(text, token string) string {
	const redacted = "REDACTED"
	for _, secret := range []string{token, url.QueryEscape(token)} {
		if secret == "" {
			continue
		}
		text = strings.ReplaceAll(text, secret, redacted)
		for n := min(len(secret), len(text)); n >= 8; n-- {
			if rest, ok := strings.CutSuffix(text, secret[:n]); ok {
				text = rest + redacted
				break
			}
		}
	}
	text = jwtPattern.ReplaceAllString(text, redacted)
	const limit = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > limit {
		text = text[:limit] + "..."
	}
	return strings.ToValidUTF8(text, "")
}
