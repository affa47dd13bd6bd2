package tunnelframe

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// headers are the headers of a message. They decode in a few allocations: with those of encoding/json, which makes several
// for each header, an event would cost half as much again.
type headers map[string][]string

// UnmarshalJSON decodes the usual form, and leaves any other to encoding/json.
func (h *headers) UnmarshalJSON(b []byte) error {
	if usual, ok := parseHeaders(string(b)); ok {
		*h = usual
		return nil
	}
	err := json.Unmarshal(b, (*map[string][]string)(h))
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		wrong.Field = "Headers" // and not the name of a header, which is the sender's text
	}
	return err
}

// parseHeaders parses an object of lists of strings. The names and values are parts of the text. It reports false if the text
// is anything else.
func parseHeaders(text string) (map[string][]string, bool) {
	if !utf8.ValidString(text) {
		return nil, false
	}
	s := scanner{rest: text}
	parsed := s.headers()
	s.space()
	return parsed, !s.failed && s.rest == ""
}

// headers takes an object of lists of strings. What it returns counts only if the scanner has not failed.
func (s *scanner) headers() map[string][]string {
	quotes := strings.Count(s.rest, `"`)
	all := make([]string, 0, quotes/2) // names and values; the values of a header are a part of it
	parsed := make(map[string][]string, quotes/4)
	s.expect('{')
	for first := true; !s.skip('}'); first = false {
		if !first {
			s.expect(',')
		}
		name := s.text()
		s.expect(':')
		s.expect('[')
		start := len(all)
		for !s.skip(']') {
			if len(all) > start {
				s.expect(',')
			}
			all = append(all, s.text())
			if s.failed {
				return nil
			}
		}
		parsed[name] = all[start:len(all):len(all)]
		if s.failed {
			return nil
		}
	}
	return parsed
}

// scanner takes a text apart, until something else comes than expected.
type scanner struct {
	rest   string
	failed bool
}

func (s *scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t\r\n") }

// skip takes a character and the white space before it, and reports whether it was there.
func (s *scanner) skip(c byte) bool {
	s.space()
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) expect(c byte) {
	if !s.skip(c) {
		s.failed = true
	}
}

// text reads a string. Its escapes are left to encoding/json.
func (s *scanner) text() string {
	s.expect('"')
	escaped := false
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			s.failed = true
			return ""
		case c == '"':
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			if escaped && json.Unmarshal([]byte(`"`+text+`"`), &text) != nil {
				s.failed = true
			}
			return text
		}
	}
	s.failed = true
	return ""
}
