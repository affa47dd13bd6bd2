package wire

import (
	"fmt"
	"net/http"

	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// Error is an answer other than success.
type Error struct {
	Status  int
	Code    string
	Message string
	Target  string // what is at fault, if it is one thing
}

func (e *Error) Error() string { return e.Message }

// BadRequest is a 400 about one thing.
func BadRequest(target, format string, args ...any) *Error {
	return &Error{http.StatusBadRequest, "BadRequest", fmt.Sprintf(format, args...), target}
}

// NotFound is a 404.
func NotFound(format string, args ...any) *Error {
	return &Error{http.StatusNotFound, "NotFound", fmt.Sprintf(format, args...), ""}
}

// Unauthorized is a 401, for a fault of a token.
func Unauthorized(err error) *Error {
	return &Error{http.StatusUnauthorized, "Unauthorized", err.Error(), ""}
}

// errorBody is the JSON of an error. The service's may have an inner one, too; this server has no more to say.
type errorBody struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Target  string      `json:"target,omitempty"`
	Details []errorBody `json:"details"`
}

// Write answers a request with the error.
func (e *Error) Write(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("x-ms-error-code", e.Code)
	if r.Method == http.MethodHead {
		w.WriteHeader(e.Status)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(e.Status)
	w.Write(text.JSON(errorBody{Code: e.Code, Message: e.Message, Target: e.Target, Details: []errorBody{}}))
}
