package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// fields maps the names of a JSON object's members to their values. Names are case-sensitive, which is why frames are not
// decoded into structs with encoding/json. If a name is repeated, the last value counts.
type fields map[string]json.RawMessage

// readFields parses a frame that is a JSON object.
func readFields(data []byte) (fields, error) {
	switch {
	case !utf8.Valid(data):
		return nil, errors.New("the frame is not valid UTF-8")
	case !json.Valid(data):
		return nil, fmt.Errorf("the frame is not valid JSON: %w", json.Unmarshal(data, new(any)))
	case tooDeep(data):
		return nil, fmt.Errorf("the frame's JSON has more than %d levels", maxJSONDepth)
	}
	f, ok := members(data)
	if !ok {
		return nil, errors.New("the frame is not a JSON object")
	}
	return f, nil
}

// members returns the members of a JSON object, and false if the value is not an object. data must be valid JSON.
func members(data []byte) (fields, bool) {
	f := make(fields, 8)
	return f, eachMember(data, func(name string, value []byte) { f[name] = value })
}

// eachMember calls f for each member of a JSON object, in order. It returns false if the value is not an object. data must
// be valid JSON.
func eachMember(data []byte, f func(name string, value []byte)) bool {
	i := skipSpace(data, 0)
	if data[i] != '{' {
		return false
	}
	for i = skipSpace(data, i+1); data[i] != '}'; i = skipSpace(data, i) {
		if data[i] == ',' {
			i = skipSpace(data, i+1)
		}
		end := skipValue(data, i)
		name := decodeString(data[i:end])
		i = skipSpace(data, skipSpace(data, end)+1) // skip the colon
		end = skipValue(data, i)
		f(name, data[i:end:end])
		i = end
	}
	return true
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r') {
		i++
	}
	return i
}

// endOfString returns the index of the closing quote of the string that begins at i.
func endOfString(data []byte, i int) int {
	for i++; data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i
}

// skipValue returns the index after the value at i.
func skipValue(data []byte, i int) int {
	depth := 0
	for ; i < len(data); i++ {
		switch data[i] {
		case '"':
			i = endOfString(data, i)
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth--; depth < 0 { // the end of the enclosing object or array
				return i
			}
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
			continue
		default: // a number, true, false or null
			if depth == 0 {
				for i < len(data) && !strings.ContainsRune(",:}] \t\n\r", rune(data[i])) {
					i++
				}
				return i
			}
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// decodeString decodes a valid JSON string.
func decodeString(raw []byte) string {
	if bytes.IndexByte(raw, '\\') >= 0 {
		var s string
		_ = json.Unmarshal(raw, &s) // cannot fail: raw is valid
		return s
	}
	return string(raw[1 : len(raw)-1])
}

// absent reports whether a member is missing or null.
func absent(raw json.RawMessage) bool { return raw == nil || string(raw) == "null" }

// text returns the value of a string member. It returns an error if the string has an unpaired surrogate: UTF-8 cannot
// express it, and different strings would become equal.
func (f fields) text(name string) (string, error) {
	raw, ok := f[name]
	switch {
	case !ok:
		return "", fmt.Errorf("%s is missing", name)
	case raw[0] != '"':
		return "", fmt.Errorf("%s is not a string", name)
	}
	s := decodeString(raw)
	if strings.ContainsRune(s, utf8.RuneError) && hasUnpairedSurrogate(raw) {
		return "", fmt.Errorf("%s has an unpaired surrogate", name)
	}
	return s, nil
}

// hasUnpairedSurrogate reports whether a JSON string has an escape for half of a surrogate pair.
func hasUnpairedSurrogate(raw []byte) bool {
	high := false // the last escape was a high surrogate
	for i := 0; i < len(raw); i++ {
		var unit uint64
		if raw[i] == '\\' {
			if i++; raw[i] == 'u' {
				unit, _ = strconv.ParseUint(string(raw[i+1:i+5]), 16, 16)
				i += 4
			}
		}
		low := unit >= 0xDC00 && unit < 0xE000
		if low != high {
			return true
		}
		high = unit >= 0xD800 && unit < 0xDC00
	}
	return high
}

// number returns the value of an unsigned integer member, or nil if the member is absent or null.
func (f fields) number(name string, bits int) (*uint64, error) {
	raw := f[name]
	if absent(raw) {
		return nil, nil
	}
	n, err := strconv.ParseUint(string(raw), 10, bits)
	if err != nil {
		return nil, fmt.Errorf("%s must be an unsigned %d-bit integer", name, bits)
	}
	return &n, nil
}

// flag returns the value of a boolean member, or false if the member is absent. null is an error.
func (f fields) flag(name string) (bool, error) {
	switch raw, ok := f[name]; {
	case !ok || string(raw) == "false":
		return false, nil
	case string(raw) == "true":
		return true, nil
	default:
		return false, fmt.Errorf("%s must be true or false", name)
	}
}

// strings returns the value of a member that is an object of strings, or nil if the member is absent or null. It returns an
// error if the object repeats a key.
func (f fields) strings(name string) (map[string]string, error) {
	raw := f[name]
	if absent(raw) {
		return nil, nil
	}
	all := make(map[string]string)
	var fault error
	ok := eachMember(raw, func(key string, value []byte) {
		s, err := fields{key: value}.text(key)
		if _, twice := all[key]; twice {
			err = fmt.Errorf("duplicate key %.64q", key)
		}
		if err != nil && fault == nil {
			fault = fmt.Errorf("%s: %w", name, err)
		}
		all[key] = s
	})
	if !ok {
		return nil, fmt.Errorf("%s is not an object", name)
	}
	return all, fault
}
