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

// fields are the members of a JSON object, by name. Names count with case, which is why encoding/json does not read frames
// into a struct. Of two members with one name the last counts.
type fields map[string]json.RawMessage

// readFields reads an object.
func readFields(data []byte) (fields, error) {
	switch {
	case !utf8.Valid(data):
		return nil, errors.New("the frame is not valid UTF-8")
	case !json.Valid(data):
		return nil, fmt.Errorf("the frame is not valid JSON: %w", json.Unmarshal(data, new(any)))
	}
	f := make(fields, 8)
	if !eachMember(data, func(name string, value []byte) { f[name] = value }) {
		return nil, errors.New("the frame is not a JSON object")
	}
	return f, nil
}

// eachMember calls f for each member of an object, in order, and reports false if the value is not an object. data is valid
// JSON.
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
		name := plainString(data[i:end])
		i = skipSpace(data, skipSpace(data, end)+1) // past the colon
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

// skipValue returns the end of the value at i.
func skipValue(data []byte, i int) int {
	depth := 0
	for ; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth--; depth < 0 { // of what the value is in
				return i
			}
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
			continue
		default: // a number or a word, which ends before something else
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

// plainString decodes a JSON string.
func plainString(raw []byte) string {
	if bytes.IndexByte(raw, '\\') >= 0 {
		var s string
		_ = json.Unmarshal(raw, &s) // it is valid
		return s
	}
	return string(raw[1 : len(raw)-1])
}

// absent reports whether a member is not there, or null where that means the same.
func absent(raw json.RawMessage) bool { return raw == nil || string(raw) == "null" }

// text returns the string that a member is. One that cannot be written in UTF-8 is an error, so that no two become one.
func (f fields) text(name string) (string, error) {
	raw, ok := f[name]
	switch {
	case !ok:
		return "", fmt.Errorf("%s is missing", name)
	case raw[0] != '"':
		return "", fmt.Errorf("%s is not a string", name)
	}
	s := plainString(raw)
	if strings.ContainsRune(s, utf8.RuneError) && loneSurrogate(raw) {
		return "", fmt.Errorf("%s has half of a surrogate pair", name)
	}
	return s, nil
}

// loneSurrogate reports whether a JSON string has an escape for half of a character.
func loneSurrogate(raw []byte) bool {
	high := false // the last escape was the first half of a pair
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

// number returns the whole number that a member is, or nil if it is absent or null.
func (f fields) number(name string, bits int) (*uint64, error) {
	raw := f[name]
	if absent(raw) {
		return nil, nil
	}
	n, err := strconv.ParseUint(string(raw), 10, bits)
	if err != nil {
		return nil, fmt.Errorf("%s is not a whole number of %d bits", name, bits)
	}
	return &n, nil
}

// flag returns the truth value that a member is, or false if it is absent.
func (f fields) flag(name string) (bool, error) {
	switch raw, ok := f[name]; {
	case !ok || string(raw) == "false":
		return false, nil
	case string(raw) == "true":
		return true, nil
	default:
		return false, fmt.Errorf("%s is neither true nor false", name)
	}
}

// strings returns the object of strings that a member is, or nil if it is absent or null. A name that comes twice is an
// error.
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
			err = fmt.Errorf("the key %.64q comes twice", key)
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
