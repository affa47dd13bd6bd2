package wsclient

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
)

// decodeFast decodes a message or an acknowledgement in the form in which the service usually writes it. It takes about
// a fifth of the time of encoding/json, which accounted for nearly all the time spent on receiving. It returns false
// for any other data, valid or not; decodeGeneric must then decode the data. The data must be valid UTF-8.
func decodeFast(data []byte) (frame, bool) {
	s := scanner{data}
	var u fastFrame
	if !s.object(func(key []byte) bool { return u.field(&s, key) }) || len(s.rest) > 0 {
		return frame{}, false
	}
	switch string(u.typ) {
	case "ack":
		return frame{kind: frameAck, ackID: u.ackID, success: u.success}, u.success // failures have more fields
	case "message":
		return u.message()
	}
	return frame{}, false
}

// fastFrame holds the fields of a frame. Its slices refer to the data of the frame.
type fastFrame struct {
	typ, from, group, userID, dataType, data, metadata []byte
	sequenceID, ackID                                  uint64
	success                                            bool
}

// field reads the value of a key.
func (u *fastFrame) field(s *scanner, key []byte) bool {
	switch string(key) {
	case "type":
		return s.plain(&u.typ)
	case "from":
		return s.plain(&u.from)
	case "group":
		return s.plain(&u.group)
	case "fromUserId":
		return s.literal("null") || s.plain(&u.userID)
	case "dataType":
		return s.plain(&u.dataType)
	case "data":
		return s.value(&u.data)
	case "metadata":
		return s.value(&u.metadata)
	case "sequenceId":
		return s.number(&u.sequenceID)
	case "ackId":
		return s.number(&u.ackID)
	case "success":
		u.success = s.literal("true")
		return u.success
	}
	return false
}

func (u *fastFrame) message() (frame, bool) {
	if len(u.data) == 0 {
		return frame{}, false
	}
	m := &Message{SequenceID: u.sequenceID, Group: string(u.group), FromUserID: string(u.userID)}
	switch string(u.from) {
	case FromGroup:
		m.From = FromGroup
	case FromServer:
		m.From = FromServer
	default:
		return frame{}, false
	}
	if u.metadata != nil && json.Unmarshal(u.metadata, &m.Metadata) != nil {
		return frame{}, false
	}
	isPlain := u.data[0] == '"' && bytes.IndexByte(u.data, '\\') < 0
	switch string(u.dataType) {
	case "json":
		if !isPlain && !json.Valid(u.data) {
			return frame{}, false
		}
		m.Payload = Payload{DataType: DataJSON, Data: bytes.Clone(u.data)}
	case "text":
		if !isPlain {
			return frame{}, false
		}
		m.Payload = Payload{DataType: DataText, Data: append([]byte{}, u.data[1:len(u.data)-1]...)}
	case "binary":
		if !isPlain {
			return frame{}, false
		}
		encoded := u.data[1 : len(u.data)-1]
		decoded, err := base64.StdEncoding.AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(encoded))), encoded)
		if err != nil {
			return frame{}, false
		}
		m.Payload = Payload{DataType: DataBinary, Data: decoded}
	default:
		return frame{}, false
	}
	return frame{kind: frameMessage, message: m}, true
}

// scanner reads JSON values from the beginning of rest. Its methods return false if they find anything else.
type scanner struct{ rest []byte }

func (s *scanner) space() {
	for len(s.rest) > 0 {
		switch s.rest[0] {
		case ' ', '\t', '\r', '\n':
			s.rest = s.rest[1:]
		default:
			return
		}
	}
}

// take reads one character and the white space around it.
func (s *scanner) take(c byte) bool {
	s.space()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	s.space()
	return true
}

// object reads an object. It calls field to read the value of each key.
func (s *scanner) object(field func(key []byte) bool) bool {
	if !s.take('{') {
		return false
	}
	for {
		var key []byte
		if !s.plain(&key) || !s.take(':') || !field(key) {
			return false
		}
		if s.take('}') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

// plain reads a string without escapes.
func (s *scanner) plain(text *[]byte) bool {
	if len(s.rest) == 0 || s.rest[0] != '"' {
		return false
	}
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			*text, s.rest = s.rest[1:i], s.rest[i+1:]
			return true
		case c == '\\' || c < ' ':
			return false
		}
	}
	return false
}

// literal reads a literal such as true.
func (s *scanner) literal(word string) bool {
	if !bytes.HasPrefix(s.rest, []byte(word)) {
		return false
	}
	s.rest = s.rest[len(word):]
	return true
}

// number reads an unsigned integer of fewer than 18 digits.
func (s *scanner) number(n *uint64) bool {
	const digits = 18
	i, v := 0, uint64(0)
	for ; i < len(s.rest) && i < digits && '0' <= s.rest[i] && s.rest[i] <= '9'; i++ {
		v = 10*v + uint64(s.rest[i]-'0')
	}
	if i == 0 || i == digits || i > 1 && s.rest[0] == '0' {
		return false
	}
	*n, s.rest = v, s.rest[i:]
	return true
}

// value reads any value without decoding it. It only looks for the end of the value, so the value may be invalid unless
// it is a string without escapes.
func (s *scanner) value(raw *[]byte) bool {
	if len(s.rest) == 0 {
		return false
	}
	if s.rest[0] == '"' {
		start := s.rest
		if text := []byte(nil); s.plain(&text) {
			*raw = start[:len(text)+2]
			return true
		}
	}
	depth, inString := 0, false
	for i := 0; i < len(s.rest); i++ {
		c := s.rest[i]
		switch {
		case inString && c == '\\':
			i++
			continue
		case inString && c < ' ':
			return false
		case c == '"':
			inString = !inString
		case inString:
			continue
		case c == '{' || c == '[':
			depth++
		case (c == '}' || c == ']' || c == ',') && depth == 0:
			*raw, s.rest = bytes.TrimRight(s.rest[:i], " \t\r\n"), s.rest[i:]
			return len(*raw) > 0
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
