package wire

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// Error is an answer other than success.
type Error struct {
	Status     int
	Code       string // also the x-ms-error-code header
	Message    string
	Target     string // what is at fault, if it is one thing
	Validation bool   // the service finds the fault before it runs the operation: the body has another form
	Hint       string // what the developer should do, for the log; may be empty
}

func (e *Error) Error() string { return e.Message }

// CodeBadRequest is the code of every 400.
const CodeBadRequest = "Error.BadRequest"

// BadRequest is a 400 about one thing.
func BadRequest(target, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: CodeBadRequest, Message: fmt.Sprintf(format, args...), Target: target}
}

// Invalid is a 400 about a parameter that does not pass the service's validation.
func Invalid(target, format string, args ...any) *Error {
	e := BadRequest(target, format, args...)
	e.Validation = true
	return e
}

// NotFound is a 404 for a path that means nothing.
func NotFound(format string, args ...any) *Error {
	return &Error{Status: http.StatusNotFound, Code: "NotFound", Message: fmt.Sprintf(format, args...)}
}

// Unauthorized is a 401, for a fault of a token.
func Unauthorized(err error) *Error {
	return &Error{Status: http.StatusUnauthorized, Code: "Unauthorized", Message: err.Error()}
}

// operationError is the JSON of an error, with the fields in the service's order. Details and Inner are always null.
type operationError struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Target  *string `json:"target"`
	Details *string `json:"details"`
	Inner   *string `json:"inner"`
}

// validationError is the JSON of a 400 that the service's validation gives, with the fields in the service's order.
type validationError struct {
	Code       string              `json:"code"`
	Message    string              `json:"message"`
	Target     string              `json:"target"`
	Errors     map[string][]string `json:"errors"`
	Type       *string             `json:"type"`
	Title      string              `json:"title"`
	Status     int                 `json:"status"`
	Detail     *string             `json:"detail"`
	Instance   *string             `json:"instance"`
	Extensions struct{}            `json:"extensions"`
}

// body returns the body of the answer and its type.
func (e *Error) body() (contentType string, body []byte) {
	if e.Validation {
		return "application/problem+json; charset=utf-8", text.JSON(validationError{Code: e.Code, Message: e.Message, Target: e.Target,
			Errors: map[string][]string{e.Target: {e.Message}}, Title: "One or more validation errors occurred.", Status: e.Status})
	}
	plain := operationError{Code: e.Code, Message: e.Message}
	if e.Target != "" {
		plain.Target = &e.Target
	}
	return "application/json; charset=utf-8", text.JSON(plain)
}

// Write answers a request with the error. The answer to HEAD has the headers of the body that it leaves out. A
// Content-Type that is set already is kept.
func (e *Error) Write(w http.ResponseWriter, r *http.Request) {
	contentType, body := e.body()
	h := w.Header()
	h.Set("x-ms-error-code", e.Code)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", contentType)
	}
	w.WriteHeader(e.Status)
	if r.Method != http.MethodHead {
		w.Write(body)
	}
}
