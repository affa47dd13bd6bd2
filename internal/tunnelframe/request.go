package tunnelframe

import (
	"encoding/json"
	"strconv"
	"strings"
)

// parseRequest parses the JSON text of a request without unknown members and without duplicate members. The text must be
// valid UTF-8. For any other text, parseRequest returns false and may leave r incomplete: the caller must then use
// encoding/json, which takes five times as long.
func parseRequest(text string, r *Request) bool {
	s := scanner{rest: text}
	seen := map[string]bool{}
	s.object(func(name string) {
		s.failed = seen[name]
		seen[name] = true
		if !s.failed {
			s.member(name, r)
		}
	})
	s.space()
	return !s.failed && s.rest == ""
}

// member reads the value of a member.
func (s *scanner) member(name string, r *Request) {
	switch name {
	case "AckId":
		r.AckID = s.number()
	case "LocalRouting":
		r.LocalRouting = s.literal("true")
		if !r.LocalRouting && !s.literal("false") {
			s.failed = true
		}
	case "ChannelName":
		if !s.literal("null") {
			channel := s.text()
			r.ChannelName = &channel
		}
	case "HttpMethod":
		r.Method = s.text()
	case "Url":
		r.URL = s.text()
	case "Headers":
		r.Headers = s.headers()
	case "TracingId":
		s.space()
		before := s.rest
		switch {
		case s.literal("null"):
		case strings.HasPrefix(before, `"`):
			s.text()
		default:
			s.number()
		}
		r.TracingID = json.RawMessage(before[:len(before)-len(s.rest)])
	case "Type": // redundant: the frame has the type too
		s.number()
	default:
		s.failed = true
	}
}

// literal reads a literal such as true. It returns false if the text does not start with it.
func (s *scanner) literal(word string) bool {
	s.space()
	rest, ok := strings.CutPrefix(s.rest, word)
	s.rest = rest
	return ok
}

// number reads a non-negative integer.
func (s *scanner) number() int64 {
	s.space()
	rest := strings.TrimLeft(s.rest, "0123456789")
	digits := s.rest[:len(s.rest)-len(rest)]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || digits[0] == '0' && len(digits) > 1 {
		s.failed = true
	}
	s.rest = rest
	return n
}
