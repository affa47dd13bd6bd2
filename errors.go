package webpubsub

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/awps-go/webpubsub/internal/redact"
)

// Errors for use with errors.Is. Except for ErrInvalidArgument and some cases of ErrUnavailable, the error comes from a
// response of the service. Then errors.As finds an *azcore.ResponseError, with the status, the error code and the
// response.
var (
	// ErrInvalidArgument is returned if an argument, an option or a connection string is invalid. The error text names
	// the argument and the problem. Nothing was sent.
	ErrInvalidArgument = errors.New("webpubsub: invalid argument")

	// ErrUnauthorized is returned if the service rejects the credential (401). Possible causes are a wrong key, an expired
	// token, a clock that is more than an hour slow, or a proxy's URL as the endpoint (use
	// ClientOptions.ReverseProxyEndpoint).
	ErrUnauthorized = errors.New("webpubsub: unauthorized")

	// ErrForbidden is returned if the credential is valid but does not allow the operation (403), for example because a
	// role assignment is missing.
	ErrForbidden = errors.New("webpubsub: forbidden")

	// ErrNotFound is returned if a connection or user of the operation does not exist (404), for example when a closed
	// connection is added to a group.
	ErrNotFound = errors.New("webpubsub: not found")

	// ErrConflict is returned if the state of the service does not allow the operation (409), for example if a
	// connection already has the maximum number of permissions.
	ErrConflict = errors.New("webpubsub: conflict")

	// ErrThrottled is returned if the service is throttling requests (429) and all retries have failed. [RetryAfter]
	// returns how long to wait.
	ErrThrottled = errors.New("webpubsub: throttled")

	// ErrUnavailable is returned if the service is unreachable or down and all retries have failed. The cause is a
	// response with 502, 503 or 504, a connection that failed or broke off, or a host name that does not resolve. The
	// service may still have executed the request. A server can pass the error on to its own client as a 503, with the
	// delay that [RetryAfter] returns.
	ErrUnavailable = errors.New("webpubsub: service unavailable")
)

// statusErrors maps the status of a response to the error that errors.Is matches.
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

// RetryAfter returns how long the service asked the client to wait before the next request. It reads the header
// Retry-After (seconds or a date), retry-after-ms or x-ms-retry-after-ms (milliseconds) of the response that err wraps.
// For a date in the past, the duration is zero. RetryAfter returns false if there is no such response or header.
//
// The client's own retries already wait that long, unless the delay exceeds ClientOptions.Retry.MaxRetryDelay.
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

// argumentError is an ErrInvalidArgument. Its text never contains the argument's value, which may be secret.
type argumentError struct {
	operation string
	argument  string
	problem   string
	cause     error // such as an error of encoding/json; may be nil
}

func invalid(operation, argument, format string, args ...any) error {
	return &argumentError{operation: operation, argument: argument, problem: fmt.Sprintf(format, args...)}
}

func (e *argumentError) Error() string {
	return "webpubsub: " + e.operation + ": invalid argument " + e.argument + ": " + e.problem
}

func (e *argumentError) Is(target error) bool { return target == ErrInvalidArgument }
func (e *argumentError) Unwrap() error        { return e.cause }

// serviceError is an error response of the service.
type serviceError struct {
	operation string
	text      string // the service's message, redacted, on one line
	cause     error  // the error of reading the body, or nil
	response  *azcore.ResponseError
}

// newServiceError returns the error for a response. It takes ownership of the response and redacts the body and
// headers, because a gateway may echo the request's token.
func newServiceError(operation string, resp *http.Response) *serviceError {
	body, cause := runtime.Payload(resp) // boundedTransport limits its size
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
	if text == "" {
		text = line(challengeReason(resp.Header))
	}
	if cause != nil {
		text = "the response body could not be read: " + line(redact.Text(cause.Error(), token))
	}
	code = cmp.Or(resp.Header.Get("x-ms-error-code"), code)
	responseError, _ := errors.AsType[*azcore.ResponseError](runtime.NewResponseErrorWithErrorCode(resp, code))
	return &serviceError{operation: operation, text: text, cause: cause, response: responseError}
}

// errorFields returns the code and the message of an error body:
//   - {"code","message"} from the service.
//   - {"error":{"code","message"}} from gateways.
//   - {"title","detail"}, a problem of RFC 9457, from other servers. ASP.NET adds {"errors": {name: [message]}}.
//
// For any other body, the message is the body itself.
func errorFields(body []byte) (code, text string) {
	type fields struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Title   string `json:"title"`
		Detail  string `json:"detail"`
	}
	var parsed struct {
		fields
		Error  json.RawMessage `json:"error"`
		Errors json.RawMessage `json:"errors"`
	}
	body = bytes.TrimPrefix(body, []byte(byteOrderMark))
	if err := json.Unmarshal(body, &parsed); err != nil {
		return "", line(string(body))
	}
	var inner fields
	if json.Unmarshal(parsed.Error, &inner) == nil && inner != (fields{}) {
		parsed.fields = inner
	}
	text = parsed.Message
	if text == "" {
		text = strings.Trim(parsed.Title+": "+parsed.Detail, ": ")
		var invalid map[string][]string
		_ = json.Unmarshal(parsed.Errors, &invalid) // another form is ignored
		for _, name := range slices.Sorted(maps.Keys(invalid)) {
			text += " " + name + ": " + strings.Join(invalid[name], " ")
		}
	}
	if text == "" && parsed.Code == "" {
		text = string(body)
	}
	return parsed.Code, line(text)
}

var (
	challengeDescription = regexp.MustCompile(`(?i)\berror_description="((?:[^"\\]|\\.)*)"`)
	challengeError       = regexp.MustCompile(`(?i)(?:^|[\s,])error="((?:[^"\\]|\\.)*)"`)
	quotedPair           = regexp.MustCompile(`\\(.)`)
)

// challengeReason returns the reason in a WWW-Authenticate header (RFC 6750), or "". It is the only reason in a 401 with
// an empty body.
func challengeReason(header http.Header) string {
	challenges := strings.Join(header.Values("WWW-Authenticate"), ", ")
	for _, pattern := range []*regexp.Regexp{challengeDescription, challengeError} {
		if match := pattern.FindStringSubmatch(challenges); match != nil {
			return quotedPair.ReplaceAllString(match[1], "$1")
		}
	}
	return ""
}

// line formats untrusted text for use in an error text: on one line, and cut at 300 bytes, because it may be an HTML
// page.
func line(text string) string { return redact.Line(text, 300) }

// Error includes a request ID: that of the response or, because the service does not send one, the ID that the client
// sent.
func (e *serviceError) Error() string {
	text := "webpubsub: " + e.operation + ": " + e.summary()
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

// summary returns the status, the code and the message.
func (e *serviceError) summary() string {
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

// callError returns the error of a call whose last attempt had no response, or whose context has ended.
func (r *request) callError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		wrapped := wrapError(r.operation, err)
		if last := r.last.Load(); last != nil && !isSuccess(last.StatusCode) {
			return &interruptedError{wrapped, newServiceError(r.operation, last)}
		}
		return wrapped
	}
	if err == io.EOF { //nolint:errorlint // an error that wraps EOF has a text of its own
		err = fmt.Errorf("the connection was closed before the response: %w", err)
	}
	if isConnectionFailure(err) {
		return &unavailableError{wrapError(r.operation, err)}
	}
	return wrapError(r.operation, err)
}

// isConnectionFailure reports whether err is a network error, rather than a fault of the request, a policy or the TLS
// configuration.
func isConnectionFailure(err error) bool {
	if _, ok := errors.AsType[*finalError](err); ok { // the caller's stream or CheckRedirect
		return false
	}
	// Every *url.Error is a net.Error, whatever it wraps.
	if urlError, ok := errors.AsType[*url.Error](err); ok && !urlError.Timeout() {
		err = urlError.Err
	}
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	return slices.ContainsFunc(brokenConnections, func(prefix string) bool { return strings.HasPrefix(err.Error(), prefix) })
}

// brokenConnections are the texts of net/http's errors for connections and HTTP/2 streams that break off. net/http does not
// export these errors. For the first one, a response that ends within a line of its header is malformed, not cut off.
var brokenConnections = []string{"net/http: HTTP/1.x transport connection broken: ", "stream error: ", "connection error: ",
	"http2: connection error: ", "http2: client conn", "http2: closing connection", "http2: server sent GOAWAY", "http2: Transport received"}

// unavailableError is an ErrUnavailable without a response.
type unavailableError struct{ error }

func (e *unavailableError) Is(target error) bool { return target == ErrUnavailable }
func (e *unavailableError) Unwrap() error        { return e.error }

// interruptedError is the error of a call whose context ended during retries.
type interruptedError struct {
	error               // the context's error
	last  *serviceError // the last response
}

func (e *interruptedError) Error() string {
	return e.error.Error() + "; the last response was " + e.last.summary()
}

func (e *interruptedError) Unwrap() []error { return []error{e.error, e.last} }

// wrapError adds the operation's name to an error of the context, the network or the credential.
func wrapError(operation string, err error) error {
	return fmt.Errorf("webpubsub: %s: %w", operation, cleaned(err))
}

// cleaned returns the error without secrets and control characters in its text.
func cleaned(err error) error {
	// An http.Client's error contains the URL. Redact a copy, because others may hold the same error.
	if urlError, ok := err.(*url.Error); ok { //nolint:errorlint // a wrapped error cannot be replaced by a copy
		clean := *urlError
		clean.URL = redact.URL(clean.URL)
		err = &clean
	}
	if text := redact.Line(redact.Text(err.Error()), 4<<10); text != err.Error() {
		err = redact.Error(text, err)
	}
	return err
}

// cleanCredential is a credential whose errors are cleaned. They may repeat a response with secrets, and azcore logs them.
type cleanCredential struct {
	azcore.TokenCredential
}

func (c cleanCredential) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := c.TokenCredential.GetToken(ctx, options)
	if err != nil {
		return azcore.AccessToken{}, cleaned(err)
	}
	return token, nil
}
