// Package text formats text that people read. It imports no other package of the emulator.
package text

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Shorten cuts s to at most n bytes without splitting a UTF-8 character.
func Shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Plural formats a count, such as "1 byte" or "2 bytes".
func Plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// JSON encodes a value without escaping <, > and &. It panics if the value cannot be encoded.
func JSON(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("emulator: %T does not marshal: %v", v, err))
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// JSONFault describes an error of encoding/json in terms of JSON rather than of Go types.
func JSONFault(err error) string {
	e, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case !ok:
		return err.Error()
	case e.Field == "":
		return "it is not an object but of type " + e.Value
	default:
		return fmt.Sprintf("%s is a %s", e.Field, e.Value)
	}
}
