// Package text holds what several rooms do to words before people read them. It knows nothing of the service and
// imports none of the other rooms.
package text

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Shorten cuts s to at most n bytes without breaking a character.
func Shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Plural is a number of things.
func Plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// JSON encodes a value that cannot fail to encode, with < > & left as they are.
func JSON(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("emulator: %T does not marshal: %v", v, err))
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// JSONFault returns what is wrong with JSON in a client's words rather than in Go's.
func JSONFault(err error) string {
	e, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case !ok:
		return err.Error()
	case e.Field == "":
		return "it is no object but of type " + e.Value
	default:
		return fmt.Sprintf("%s is a %s", e.Field, e.Value)
	}
}
