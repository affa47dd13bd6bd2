package redact

import "errors"

// Error returns an error with the given text instead of the text of cause, which contains secrets or control characters.
func Error(text string, cause error) error { return &textError{text, cause} }

type textError struct {
	text  string
	cause error
}

func (e *textError) Error() string { return e.text }

// Is and As examine the cause. There is no Unwrap method, because programs that report errors print each wrapped error.
func (e *textError) Is(target error) bool { return errors.Is(e.cause, target) }
func (e *textError) As(target any) bool   { return errors.As(e.cause, target) }

// GoString returns the same text as Error, because %#v would print the cause.
func (e *textError) GoString() string { return e.text }
