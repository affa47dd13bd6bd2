package tunnelframe

import (
	"encoding/json"
	"strconv"
	"strings"
)

// parseRequest parses the JSON text of a request, which is valid UTF-8, in its usual form: without escapes, and each member
// known and there at most once. Most of the time that encoding/json takes for an event is for the text as a whole. It
// reports false for any other text, and leaves that to encoding/json; the request is not complete then.
func parseRequest(text string, r *Request) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] == '\\' {
			return false
		}
	}
	s := scanner{rest: text}
	seen := map[string]bool{}
	s.expect('{')
	for first := true; !s.skip('}'); first = false {
		if !first {
			s.expect(',')
		}
		name := s.text()
		s.expect(':')
		if s.failed || seen[name] {
			return false
		}
		seen[name] = true
		s.member(name, r)
		if s.failed {
			return false
		}
	}
	s.space()
	return !s.failed && s.rest == ""
}

// member takes the value of a request's member.
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
	case "Type": // which the frame has too
		s.number()
	default:
		s.failed = true
	}
}

// literal takes a word, and reports whether it was there.
func (s *scanner) literal(word string) bool {
	s.space()
	rest, ok := strings.CutPrefix(s.rest, word)
	s.rest = rest
	return ok
}

// number takes a whole number that is not negative.
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
