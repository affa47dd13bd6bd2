package webpubsub

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/awps-go/webpubsub/internal/redact"
)

// The errors that callers act on, for errors.Is. All except ErrInvalidArgument and some of ErrUnavailable come from a
// response of the service: errors.As finds its *azcore.ResponseError, with the status, the service's error code and the
// whole response.
var (
	// ErrInvalidArgument is returned if an argument, an option or a connection string is wrong. The error's text names it
	// and the fault. Nothing was sent.
	ErrInvalidArgument = errors.New("webpubsub: invalid argument")

	// ErrUnauthorized is returned if the service does not accept the credential (401). Causes are a wrong key, an expired
	// token, a clock that is more than an hour slow, or an endpoint that is not the service's own (see
	// ClientOptions.ReverseProxyEndpoint).
	ErrUnauthorized = errors.New("webpubsub: unauthorized")

	// ErrForbidden is returned if the credential is valid but lacks the right to the operation (403), for example because
	// a role assignment is missing.
	ErrForbidden = errors.New("webpubsub: forbidden")

	// ErrNotFound is returned if something that the operation names does not exist (404), for example if a connection that
	// has closed is added to a group.
	ErrNotFound = errors.New("webpubsub: not found")

	// ErrConflict is returned if the state of the service does not allow the operation (409), for example if a connection
	// has as many permissions as it can have.
	ErrConflict = errors.New("webpubsub: conflict")

	// ErrThrottled is returned if the service asks for fewer requests (429), after the retries that ClientOptions.Retry
	// allows. [RetryAfter] returns how long to wait.
	ErrThrottled = errors.New("webpubsub: throttled")

	// ErrUnavailable is returned if the service cannot be reached or is down, after the retries that ClientOptions.Retry
	// allows: a response with 502, 503 or 504, a connection that fails or breaks off, or a host name that does not
	// resolve. A request that failed so may have been carried out. A backend may answer its own client with 503 then, and
	// pass on what [RetryAfter] returns.
	ErrUnavailable = errors.New("webpubsub: service unavailable")
)

// statusErrors are the errors that errors.Is finds in a response with a status.
var statusErrors = map[int]error{
	http.StatusUnauthorized:       ErrUnauthorized,
	http.StatusForbidden:          ErrForbidden,
	http.StatusNotFound:           ErrNotFound,
	http.StatusConflict:           ErrConflict,
	http.StatusTooManyRequests:    ErrThrottled,
	http.StatusBadGateway:         ErrUnavailable,
	http.StatusServiceUnavailable: ErrUnavailable,
	http.StatusGatewayTimeout:     ErrUnavailable,
}

// RetryAfter returns how long the service asked to wait before the next request, and whether the error holds a response
// that says so, in a Retry-After header of seconds or of a date, or in milliseconds in retry-after-ms or
// x-ms-retry-after-ms. A date in the past is zero. Retries of the client have waited already.
func RetryAfter(err error) (time.Duration, bool) {
	response, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || response.RawResponse == nil {
		return 0, false
	}
	header := response.RawResponse.Header
	for _, h := range []struct {
		name string
		unit time.Duration
	}{{"retry-after-ms", time.Millisecond}, {"x-ms-retry-after-ms", time.Millisecond}, {"Retry-After", time.Second}} {
		value := strings.TrimSpace(header.Get(h.name))
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			return time.Duration(min(n, uint64(math.MaxInt64/h.unit))) * h.unit, true
		}
		if date, err := http.ParseTime(value); err == nil {
			return max(0, time.Until(date)), true
		}
	}
	return 0, false
}

// argumentError names the argument of an operation that is wrong. It never holds the argument's value, which may be secret.
type argumentError struct {
	operation string
	argument  string
	problem   string
	cause     error // from encoding/json or the like, or nil
}

func invalid(operation, argument, format string, args ...any) error {
	return &argumentError{operation: operation, argument: argument, problem: fmt.Sprintf(format, args...)}
}

func (e *argumentError) Error() string {
	return "webpubsub: " + e.operation + ": invalid argument " + e.argument + ": " + e.problem
}

func (e *argumentError) Is(target error) bool { return target == ErrInvalidArgument }
func (e *argumentError) Unwrap() error        { return e.cause }

// serviceError is a response of the service that is not a success.
type serviceError struct {
	operation string
	text      string // the service's own words, redacted, on one line
	cause     error  // why there are none: the body could not be read; or nil
	response  *azcore.ResponseError
}

// newServiceError takes over the response. Its body and headers are redacted before anything can print them, as a gateway
// may echo the request's token.
func newServiceError(operation string, resp *http.Response) *serviceError {
	body, cause := runtime.Payload(resp) // which boundedTransport has bounded
	var token string
	if resp.Request != nil {
		request := *resp.Request
		request.Header = request.Header.Clone()
		token = bearerToken(request.Header)
		request.Header.Del("Authorization")
		resp.Request = &request
	}
	body = []byte(redact.Text(string(body), token))
	resp.Body = io.NopCloser(bytes.NewReader(body))
	for _, values := range resp.Header {
		for i, value := range values {
			values[i] = redact.Text(value, token)
		}
	}

	code, text := errorFields(body)
	if cause != nil {
		text = "the response's body could not be read: " + line(redact.Text(cause.Error(), token))
	}
	code = cmp.Or(resp.Header.Get("x-ms-error-code"), code)
	responseError, _ := errors.AsType[*azcore.ResponseError](runtime.NewResponseErrorWithErrorCode(resp, code))
	return &serviceError{operation: operation, text: text, cause: cause, response: responseError}
}

// errorFields returns the code and the text of an error body. The service writes {"code","message"}, gateways the same
// under "error", and others a problem of RFC 9457, {"title","detail"}. Of any other body the body itself is the text.
func errorFields(body []byte) (code, text string) {
	type fields struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Title   string `json:"title"`
		Detail  string `json:"detail"`
	}
	var answer struct {
		fields
		Error json.RawMessage `json:"error"`
	}
	body = bytes.TrimPrefix(body, []byte(byteOrderMark))
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", line(string(body))
	}
	var inner fields
	if json.Unmarshal(answer.Error, &inner) == nil && inner != (fields{}) {
		answer.fields = inner
	}
	text = answer.Message
	if text == "" {
		text = strings.Trim(answer.Title+": "+answer.Detail, ": ")
	}
	if text == "" && answer.Code == "" {
		text = string(body)
	}
	return answer.Code, line(text)
}

// line makes text from elsewhere fit for the middle of an error's text; an HTML page is cut.
func line(text string) string { return redact.Line(text, 300) }

// Error names the request, by the id that the service gave it or, since the service gives none, by the id that the client
// sent.
func (e *serviceError) Error() string {
	text := "webpubsub: " + e.operation + ": " + e.words()
	resp := e.response.RawResponse
	if id := resp.Header.Get("x-ms-request-id"); id != "" {
		return text + " (request id " + line(id) + ")"
	}
	if resp.Request != nil {
		if id := resp.Request.Header.Get("x-ms-client-request-id"); id != "" {
			return text + " (client request id " + line(id) + ")"
		}
	}
	return text
}

// words returns the status, the code and the service's own words.
func (e *serviceError) words() string {
	text := strings.TrimSpace(strconv.Itoa(e.response.StatusCode) + " " + http.StatusText(e.response.StatusCode))
	if e.response.ErrorCode != "" {
		text += ": " + line(e.response.ErrorCode)
	}
	if e.text != "" {
		text += ": " + e.text
	}
	return text
}

func (e *serviceError) Is(target error) bool { return target == statusErrors[e.response.StatusCode] }

func (e *serviceError) Unwrap() []error {
	if e.cause != nil {
		return []error{e.response, e.cause}
	}
	return []error{e.response}
}

// failed returns the error of a call whose last attempt got no response, or whose context has ended.
func (r *request) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		wrapped := wrapError(r.operation, err)
		if last := r.last.Load(); last != nil && !isSuccess(last.StatusCode) {
			return &interruptedError{wrapped, newServiceError(r.operation, last)}
		}
		return wrapped
	}
	if isConnectionFailure(err) {
		return &unavailableError{wrapError(r.operation, err)}
	}
	return wrapError(r.operation, err)
}

// isConnectionFailure reports whether the network is at fault, and not the request, a policy or the configuration of TLS.
func isConnectionFailure(err error) bool {
	if _, ok := errors.AsType[*finalError](err); ok { // the caller's stream or CheckRedirect
		return false
	}
	// A *url.Error is a net.Error whatever it wraps.
	if urlError, ok := errors.AsType[*url.Error](err); ok && !urlError.Timeout() {
		err = urlError.Err
	}
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// unavailableError is an ErrUnavailable without a response.
type unavailableError struct{ error }

func (e *unavailableError) Is(target error) bool { return target == ErrUnavailable }
func (e *unavailableError) Unwrap() error        { return e.error }

// interruptedError is a call whose context ended during its retries.
type interruptedError struct {
	error               // of the context
	last  *serviceError // the last response
}

func (e *interruptedError) Error() string {
	return e.error.Error() + "; the last response was " + e.last.words()
}

func (e *interruptedError) Unwrap() []error { return []error{e.error, e.last} }

// wrapError puts the operation's name before an error from below: the context, the network, the credential.
func wrapError(operation string, err error) error {
	// An http.Client's error holds the URL. The error is copied, as it may be somebody else's too.
	if urlError, ok := err.(*url.Error); ok { //nolint:errorlint // a copy could not be put into an error around it
		clean := *urlError
		clean.URL = redact.URL(clean.URL)
		err = &clean
	}
	if text := redact.Line(redact.Text(err.Error()), 4<<10); text != err.Error() {
		err = &cleanError{text, err}
	}
	return fmt.Errorf("webpubsub: %s: %w", operation, err)
}

// cleanError is an error whose own text holds secrets or control characters.
type cleanError struct {
	text  string
	cause error
}

func (e *cleanError) Error() string { return e.text }
func (e *cleanError) Unwrap() error { return e.cause }
