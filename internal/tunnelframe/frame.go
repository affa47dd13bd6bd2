package tunnelframe

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// MaxSize is the maximum size of a frame that the official package declares, including the length: 1 MiB. That package
// does not enforce the limit, so a reader should accept larger frames.
const MaxSize = 1 << 20

// lengthSize is the size of the length in bytes.
const lengthSize = 4

// ErrTooLarge is returned if a frame is larger than the limit.
var ErrTooLarge = errors.New("tunnelframe: the frame is larger than the limit")

// Encode encodes a message as a frame. It returns [ErrTooLarge] if the frame would be larger than limit bytes.
func Encode(m Message, limit int) ([]byte, error) {
	text, body, err := split(m)
	if err != nil {
		return nil, err
	}
	if len(text) > limit || len(body) > limit {
		return nil, ErrTooLarge
	}
	const overhead = 16 // more than the MessagePack formats and the type need
	frame := make([]byte, lengthSize, lengthSize+overhead+len(text)+len(body))
	frame = append(frame, 0x93)
	frame = appendUint(frame, uint32(m.Type()))
	frame = appendText(frame, text)
	frame = appendBody(frame, body)
	if len(frame) > limit || int64(len(frame)) > math.MaxInt32 {
		return nil, ErrTooLarge
	}
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)-lengthSize))
	return frame, nil
}

// split returns the JSON text and the body of a message.
func split(m Message) (text, body []byte, err error) {
	switch m := m.(type) {
	case *Request:
		body = m.Body
	case *Response:
		body = m.Body
	case *Unknown:
		return []byte(m.Text), m.Body, nil
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // like JSON.stringify
	if err := encoder.Encode(withType(m)); err != nil {
		return nil, nil, fmt.Errorf("tunnelframe: %v: %w", m.Type(), err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), body, nil
}

// withType returns the value to encode as the JSON text of a message: the message and its type. Headers are never nil
// in it, because the official package sends an empty object.
func withType(m Message) any {
	switch m := m.(type) {
	case *Request:
		copied := *m
		copied.Headers = orEmpty(m.Headers)
		return struct {
			*Request
			Type Type
		}{&copied, TypeRequest}
	case *Response:
		copied := *m
		copied.Headers = orEmpty(m.Headers)
		return struct {
			*Response
			Type Type
		}{&copied, TypeResponse}
	case *Status:
		return struct {
			*Status
			Type Type
		}{m, TypeStatus}
	case *Reconnect:
		return struct {
			*Reconnect
			Type Type
		}{m, TypeReconnect}
	case *Close:
		return struct {
			*Close
			Type Type
		}{m, TypeClose}
	case *Rebalance:
		return struct {
			*Rebalance
			Type Type
		}{m, TypeRebalance}
	case *Connected:
		return struct {
			*Connected
			Type Type
		}{m, TypeConnected}
	}
	return m
}

func orEmpty(headers map[string][]string) map[string][]string {
	if headers == nil {
		return map[string][]string{}
	}
	return headers
}

// Read reads a WebSocket message. It allocates a buffer for the length that the frame declares, but at most for limit
// bytes. Read does not validate the frame; [Decode] does.
func Read(r io.Reader, limit int) ([]byte, error) {
	var length [lengthSize]byte
	n, err := io.ReadFull(r, length[:])
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // io.ReadFull returns these themselves
		return length[:n], nil
	} else if err != nil {
		return nil, err
	}
	declared := min(int64(binary.LittleEndian.Uint32(length[:])), int64(limit))
	b := bytes.NewBuffer(append(make([]byte, 0, lengthSize+declared+bytes.MinRead), length[:]...))
	_, err = b.ReadFrom(r)
	return b.Bytes(), err
}

// Decode decodes a frame. The body of the message refers to the memory of the frame.
//
// Decode returns [ErrTooLarge] if the frame, or the length that it declares, is larger than limit bytes. It returns
// other errors if the frame is malformed. Their texts contain nothing from the frame's content.
func Decode(frame []byte, limit int) (Message, error) {
	if len(frame) > limit {
		return nil, ErrTooLarge
	}
	if len(frame) < lengthSize {
		return nil, errors.New("tunnelframe: the frame ends within its length")
	}
	declared, rest := int64(binary.LittleEndian.Uint32(frame)), frame[lengthSize:]
	switch have := int64(len(rest)); {
	case declared > int64(limit)-lengthSize:
		return nil, ErrTooLarge
	case declared > have:
		return nil, fmt.Errorf("tunnelframe: the frame declares %d bytes but has %d", declared, have)
	case declared < have:
		return nil, fmt.Errorf("tunnelframe: the frame declares %d bytes, and %d more follow", declared, have-declared)
	}
	r := reader{rest: rest}
	n := r.array()
	if r.err == nil && n != 2 && n != 3 {
		return nil, fmt.Errorf("tunnelframe: the array has %d elements instead of 3", n)
	}
	frameType := Type(r.uint32("the type"))
	text := r.text()
	var body []byte
	if n == 3 { // the official package treats a missing body as nil
		body = r.body()
	}
	if r.err == nil && len(r.rest) > 0 {
		r.fail("%d bytes follow the array", len(r.rest))
	}
	if r.err != nil {
		return nil, r.err
	}
	return decodeMessage(frameType, text, body)
}

func decodeMessage(frameType Type, text, body []byte) (Message, error) {
	var m Message
	var into any // the target of json.Unmarshal; nil means m
	switch frameType {
	case TypeRequest:
		if r := (&Request{Body: body}); parseRequest(string(text), r) {
			return r, nil
		}
		r := &requestText{Request: Request{Body: body}}
		defer func() { r.Request.Headers = r.Headers }()
		m, into = &r.Request, r
	case TypeResponse:
		r := &responseText{Response: Response{Body: body}}
		defer func() { r.Response.Headers = r.Headers }()
		m, into = &r.Response, r
	case TypeStatus:
		m = &Status{}
	case TypeReconnect:
		m = &Reconnect{}
	case TypeClose:
		m = &Close{}
	case TypeRebalance:
		m = &Rebalance{}
	case TypeConnected:
		m = &Connected{}
	default:
		return &Unknown{FrameType: frameType, Text: string(text), Body: body}, nil
	}
	// json.Unmarshal would accept null.
	if trimmed := bytes.TrimLeft(text, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, fmt.Errorf("tunnelframe: %v: the text is not a JSON object", frameType)
	}
	if into == nil {
		into = m
	}
	if err := json.Unmarshal(text, into); err != nil {
		return nil, fmt.Errorf("tunnelframe: %v: %s", frameType, describeJSONError(err))
	}
	return m, nil
}

// requestText and responseText replace Request and Response in json.Unmarshal, because the type headers decodes faster.
type (
	requestText struct {
		Request
		Headers headers
	}
	responseText struct {
		Response
		Headers headers
	}
)

// describeJSONError describes an error of encoding/json without quoting the JSON text.
func describeJSONError(err error) string {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" || len(wrong.Field) > 100 {
			return "the JSON text has a value of the wrong type"
		}
		// Below Headers, the field contains the name of a header, which is part of the frame's content.
		field := strings.TrimPrefix(strings.TrimPrefix(wrong.Field, "Request."), "Response.")
		field, _, _ = strings.Cut(field, ".")
		return fmt.Sprintf("%s has the wrong type in the JSON text", field)
	}
	return "the text is not valid JSON"
}

// The first bytes of MessagePack values. For fixarray and fixstr, the first byte also contains the length.
const (
	formatFixArray = 0x90
	formatFixText  = 0xa0
	formatNil      = 0xc0
	formatBinary8  = 0xc4
	formatBinary16 = 0xc5
	formatBinary32 = 0xc6
	formatUint8    = 0xcc
	formatUint16   = 0xcd
	formatUint32   = 0xce
	formatText8    = 0xd9
	formatText16   = 0xda
	formatText32   = 0xdb
	formatArray16  = 0xdc
	formatArray32  = 0xdd
)

func appendUint(b []byte, n uint32) []byte {
	if n < 0x80 {
		return append(b, byte(n))
	}
	return appendSized(b, n, formatUint8, formatUint16, formatUint32)
}

func appendText(b, text []byte) []byte {
	if len(text) < 32 {
		b = append(b, formatFixText|byte(len(text)))
	} else {
		b = appendSized(b, uint32(len(text)), formatText8, formatText16, formatText32)
	}
	return append(b, text...)
}

func appendBody(b, body []byte) []byte {
	if body == nil {
		return append(b, formatNil)
	}
	return append(appendSized(b, uint32(len(body)), formatBinary8, formatBinary16, formatBinary32), body...)
}

// appendSized appends the smallest format that can hold n, followed by n.
func appendSized(b []byte, n uint32, format8, format16, format32 byte) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(b, format8, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, format16), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, format32), n)
}

// reader reads MessagePack values. After the first error, all methods return zero values.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("tunnelframe: "+format, args...)
	}
}

// take reads the next n bytes. If fewer bytes are left, it fails and returns nil.
func (r *reader) take(n uint32, what string) []byte {
	if r.err == nil && int64(n) > int64(len(r.rest)) {
		r.fail("the frame ends within %s", what)
	}
	if r.err != nil {
		return nil
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

// format reads the first byte of the next value.
func (r *reader) format(what string) byte {
	b := r.take(1, what)
	if b == nil {
		return 0
	}
	return b[0]
}

// number reads a big-endian number of size bytes.
func (r *reader) number(size uint32, what string) uint32 {
	var n uint32
	for _, b := range r.take(size, what) {
		n = n<<8 | uint32(b)
	}
	return n
}

// array reads the beginning of an array and returns the number of elements.
func (r *reader) array() uint32 {
	const what = "the array"
	switch format := r.format(what); {
	case r.err != nil:
	case format&0xf0 == formatFixArray:
		return uint32(format & 0x0f)
	case format == formatArray16:
		return r.number(2, what)
	case format == formatArray32:
		return r.number(4, what)
	default:
		r.fail("the frame is not a MessagePack array (it begins with 0x%02x)", format)
	}
	return 0
}

func (r *reader) uint32(what string) uint32 {
	switch format := r.format(what); {
	case r.err != nil:
	case format < 0x80:
		return uint32(format)
	case format == formatUint8:
		return r.number(1, what)
	case format == formatUint16:
		return r.number(2, what)
	case format == formatUint32:
		return r.number(4, what)
	default:
		r.fail("%s is not a MessagePack number from 0 to 2^32-1 (it begins with 0x%02x)", what, format)
	}
	return 0
}

func (r *reader) text() []byte {
	const what = "the text"
	var size uint32
	switch format := r.format(what); {
	case r.err != nil:
	case format&0xe0 == formatFixText:
		size = uint32(format & 0x1f)
	case format == formatText8:
		size = r.number(1, what)
	case format == formatText16:
		size = r.number(2, what)
	case format == formatText32:
		size = r.number(4, what)
	default:
		r.fail("%s is not a MessagePack string (it begins with 0x%02x)", what, format)
	}
	text := r.take(size, what)
	if !utf8.Valid(text) {
		r.fail("%s is not valid UTF-8", what)
	}
	return text
}

func (r *reader) body() []byte {
	const what = "the body"
	var size uint32
	switch format := r.format(what); {
	case r.err != nil:
	case format == formatNil:
		return nil
	case format == formatBinary8:
		size = r.number(1, what)
	case format == formatBinary16:
		size = r.number(2, what)
	case format == formatBinary32:
		size = r.number(4, what)
	default:
		r.fail("%s is neither MessagePack binary nor nil (it begins with 0x%02x)", what, format)
	}
	return r.take(size, what)
}
