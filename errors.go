package webpubsub

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// The errors that callers act on, for errors.Is. All but ErrInvalidArgument are the service's answer: errors.As finds the
// *azcore.ResponseError behind them, with the status, the service's error code and the whole response.
var (
	// ErrInvalidArgument: an argument, an option or a connection string is wrong; the message names it and says what is
	// wrong with it. Nothing was sent.
	ErrInvalidArgument = errors.New("webpubsub: invalid argument")

	// ErrUnauthorized: the service did not accept the credential (401): a wrong key, an expired token, a clock that is more
	// than an hour slow, or an endpoint that is not the service's own (see ClientOptions.ReverseProxyEndpoint).
	ErrUnauthorized = errors.New("webpubsub: unauthorized")

	// ErrForbidden: the credential is valid but may not do this (403), as when a role assignment is missing.
	ErrForbidden = errors.New("webpubsub: forbidden")

	// ErrNotFound: what the operation names does not exist (404), as when a connection that has gone is added to a group.
	ErrNotFound = errors.New("webpubsub: not found")

	// ErrConflict: the operation does not go together with the state of the service (409), as when a connection has as
	// many permissions as it can have.
	ErrConflict = errors.New("webpubsub: conflict")

	// ErrThrottled: the service asks for fewer requests (429), also after the retries that ClientOptions.Retry allows. The
	// response's Retry-After header says how long to wait.
	ErrThrottled = errors.New("webpubsub: throttled")
)

// statusErrors are the errors that errors.Is finds in the answer with a status.
var statusErrors = map[int]error{
	http.StatusUnauthorized:    ErrUnauthorized,
	http.StatusForbidden:       ErrForbidden,
	http.StatusNotFound:        ErrNotFound,
	http.StatusConflict:        ErrConflict,
	http.StatusTooManyRequests: ErrThrottled,
}

// argumentError says which argument of which operation is wrong. It never holds the argument's value, which may be secret.
type argumentError struct {
	operation string
	argument  string
	problem   string
	cause     error // what encoding/json or the like had to say, or nil
}

func invalid(operation, argument, format string, args ...any) error {
	return &argumentError{operation: operation, argument: argument, problem: fmt.Sprintf(format, args...)}
}

func (e *argumentError) Error() string {
	return "webpubsub: " + e.operation + ": invalid argument " + e.argument + ": " + e.problem
}

func (e *argumentError) Is(target error) bool { return target == ErrInvalidArgument }
func (e *argumentError) Unwrap() error        { return e.cause }

// serviceError is an answer of the service that is no success.
type serviceError struct {
	operation string
	text      string // the service's own words, redacted, on one line
	cause     error  // why there are none: the body could not be read; or nil
	response  *azcore.ResponseError
}

// newServiceError takes the response over. What the service says is redacted before anything can print it, as a gateway
// may echo the request's token.
func newServiceError(operation string, resp *http.Response) error {
	body, cause := runtime.Payload(resp)
	var token string
	if resp.Request != nil {
		request := *resp.Request
		request.Header = request.Header.Clone()
		token = bearerToken(request.Header)
		request.Header.Del("Authorization")
		resp.Request = &request
	}
	body = []byte(redact(string(body), token))
	resp.Body = io.NopCloser(bytes.NewReader(body))
	for _, values := range resp.Header {
		for i, value := range values {
			values[i] = redact(value, token)
		}
	}

	code, text := errorFields(body)
	if cause != nil {
		text = "its body could not be read: " + oneLine(redact(cause.Error(), token))
	}
	if code == "" {
		code = resp.Header.Get("x-ms-error-code")
	}
	responseError, _ := errors.AsType[*azcore.ResponseError](runtime.NewResponseErrorWithErrorCode(resp, code))
	return &serviceError{operation: operation, text: text, cause: cause, response: responseError}
}

// errorFields finds the code and the text of an error body: {"code","message"}, the same under "error", or, where there is
// no such JSON, the body itself as the text.
func errorFields(body []byte) (code, text string) {
	type fields struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	var answer struct {
		fields
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", oneLine(string(body))
	}
	var inner fields
	if json.Unmarshal(answer.Error, &inner) == nil && inner != (fields{}) {
		answer.fields = inner
	}
	if answer.fields == (fields{}) {
		return "", oneLine(string(body))
	}
	return answer.Code, oneLine(answer.Message)
}

// oneLine makes text fit for the middle of an error message; an HTML page is cut.
func oneLine(text string) string {
	const limit = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "..."
	}
	return text
}

func (e *serviceError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "webpubsub: %s: %d %s", e.operation, e.response.StatusCode, http.StatusText(e.response.StatusCode))
	if e.response.ErrorCode != "" {
		b.WriteString(": " + oneLine(e.response.ErrorCode))
	}
	if e.text != "" {
		b.WriteString(": " + e.text)
	}
	if resp := e.response.RawResponse; resp != nil {
		if id := resp.Header.Get("x-ms-request-id"); id != "" {
			b.WriteString(" (request id " + oneLine(id) + ")")
		}
	}
	return b.String()
}

func (e *serviceError) Is(target error) bool { return target == statusErrors[e.response.StatusCode] }

func (e *serviceError) Unwrap() []error {
	if e.cause != nil {
		return []error{e.response, e.cause}
	}
	return []error{e.response}
}

// wrapError puts the operation's name before an error that came from below: the context, the network, the credential.
func wrapError(operation string, err error) error {
	// An http.Client's error holds the URL. It is copied, not changed: it may be somebody else's too.
	if urlError, ok := err.(*url.Error); ok {
		clean := *urlError
		clean.URL = redactURL(clean.URL)
		err = &clean
	}
	if text := err.Error(); redact(text) != text {
		err = &redactedError{redact(text), err}
	}
	return fmt.Errorf("webpubsub: %s: %w", operation, err)
}

type redactedError struct {
	text  string
	cause error
}

func (e *redactedError) Error() string { return e.text }
func (e *redactedError) Unwrap() error { return e.cause }
