package tunnelframe

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// headers are the headers of a message. Decoding them takes only a few allocations. encoding/json makes several
// allocations for each header, which would make an event 50% more expensive.
type headers map[string][]string

// UnmarshalJSON decodes the usual form with parseHeaders, and any other with encoding/json.
func (h *headers) UnmarshalJSON(b []byte) error {
	if usual, ok := parseHeaders(string(b)); ok {
		*h = usual
		return nil
	}
	err := json.Unmarshal(b, (*map[string][]string)(h))
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		wrong.Field = "Headers" // not the name of a header, which is part of the frame's content
	}
	return err
}

// parseHeaders parses a JSON object whose values are arrays of strings. It returns false if the text is anything else. The
// names and values refer to the memory of the text.
func parseHeaders(text string) (map[string][]string, bool) {
	if !utf8.ValidString(text) {
		return nil, false
	}
	s := scanner{rest: text}
	parsed := s.headers()
	s.space()
	return parsed, !s.failed && s.rest == ""
}

// headers reads an object whose values are arrays of strings. The result is valid only if the scanner has not failed.
func (s *scanner) headers() map[string][]string {
	quotes := strings.Count(s.rest, `"`)
	all := make([]string, 0, quotes/2) // all values; the values of each header are a subslice
	parsed := make(map[string][]string, quotes/4)
	s.object(func(name string) {
		s.expect('[')
		start := len(all)
		for !s.failed && !s.skip(']') {
			if len(all) > start {
				s.expect(',')
			}
			all = append(all, s.text())
		}
		parsed[name] = all[start:len(all):len(all)]
	})
	return parsed
}

// scanner reads JSON values from the beginning of rest. It sets failed if it finds anything else.
type scanner struct {
	rest   string
	failed bool
}

// object reads an object. It calls member after each name, to read the value.
func (s *scanner) object(member func(name string)) {
	s.expect('{')
	for first := true; !s.failed && !s.skip('}'); first = false {
		if !first {
			s.expect(',')
		}
		name := s.text()
		s.expect(':')
		if !s.failed {
			member(name)
		}
	}
}

func (s *scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t\r\n") }

// skip reads the character c and the white space before it. It returns false if the next character is not c.
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

// text reads a string. It leaves the escapes of a string to encoding/json.
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
