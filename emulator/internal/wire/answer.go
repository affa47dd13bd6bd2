package wire

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// Error is an HTTP error response.
type Error struct {
	Status     int
	Code       string // also the x-ms-error-code header
	Message    string
	Target     string // the parameter at fault; may be empty
	Validation bool   // found by the service's validation, before the operation; the body then has another format
	Hint       string // for the log: what the developer should do; may be empty
}

func (e *Error) Error() string { return e.Message }

// codeBadRequest is the code of every 400.
const codeBadRequest = "Error.BadRequest"

// BadRequest returns a 400 about a target.
func BadRequest(target, format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: codeBadRequest, Message: fmt.Sprintf(format, args...), Target: target}
}

// Invalid returns a 400 about a parameter that fails the service's validation.
func Invalid(target, format string, args ...any) *Error {
	e := BadRequest(target, format, args...)
	e.Validation = true
	return e
}

// NotFound returns a 404 for an unknown path.
func NotFound(format string, args ...any) *Error {
	return &Error{Status: http.StatusNotFound, Code: "NotFound", Message: fmt.Sprintf(format, args...)}
}

// Unauthorized returns a 401 for a token that is missing or not valid.
func Unauthorized(err error) *Error {
	return &Error{Status: http.StatusUnauthorized, Code: "Unauthorized", Message: err.Error()}
}

// operationError is the JSON of an error, with its fields in the service's order. Details and Inner are always null.
type operationError struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Target  *string `json:"target"`
	Details *string `json:"details"`
	Inner   *string `json:"inner"`
}

// validationError is the JSON of a 400 from the service's validation, with its fields in the service's order.
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

// body returns the body of the response and its content type.
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

// Write writes the error as the response to a request. It keeps a Content-Type that is already set. The response to HEAD has
// the same headers but no body.
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
