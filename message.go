package webpubsub

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"unicode/utf8"
)

// The content types that the service accepts, and sends to event handlers.
const (
	contentTypeJSON   = "application/json"
	contentTypeText   = "text/plain"
	contentTypeBinary = "application/octet-stream"
)

// Message is the body of one message, with its content type. Make one with [Text], [JSON], [Binary] or [BinaryStream].
// Every operation returns [ErrInvalidArgument] for the zero Message.
//
// A Message made by Text, JSON or Binary may be sent any number of times, also by several goroutines at once. A Message
// made by BinaryStream is sent once.
//
// The service accepts messages of up to 1 MiB and answers a larger one with an error.
type Message struct {
	contentType string
	data        []byte    // the body, unless stream is set
	stream      io.Reader // the body of a BinaryStream
	err         error     // the fault of a message that could not be made: found when it was made, returned when it is used
}

// Text returns a message with the content type text/plain. The text must be UTF-8: sending any other text returns
// [ErrInvalidArgument]. The text may be empty.
func Text(text string) Message {
	if !utf8.ValidString(text) {
		return Message{err: errors.New("the text is not valid UTF-8; send it with Binary")}
	}
	return Message{contentType: contentTypeText, data: []byte(text)}
}

// JSON returns a message with the content type application/json that holds v as encoding/json encodes it, except that <, >
// and & are not escaped. The value is encoded at once: changing v later does not change the message. A string becomes a
// JSON string, with its quotes, in which bytes that are not UTF-8 become U+FFFD. A [json.RawMessage] is compacted.
//
// Sending a value that cannot be encoded returns [ErrInvalidArgument], which wraps the encoder's error.
func JSON(v any) Message {
	data, err := marshalJSON(v)
	if err == nil && !utf8.Valid(data) { // a json.RawMessage or a json.Marshaler may be
		err = errors.New("the JSON is not valid UTF-8")
	}
	if err != nil {
		return Message{err: err}
	}
	return Message{contentType: contentTypeJSON, data: data}
}

// Binary returns a message with the content type application/octet-stream. The data is not copied, so do not change it
// afterwards: if the service answers before it has read everything, the call returns while the data may still be read. To
// use a buffer again, send a copy of it (bytes.Clone). The data may be empty.
func Binary(data []byte) Message {
	return Message{contentType: contentTypeBinary, data: data}
}

// BinaryStream returns a message with the content type application/octet-stream whose body is read from r while it is
// sent, from the current position of r to its end. r is not closed.
//
// The service refuses bodies of unknown length, so the length is always measured:
//   - If r is an [io.Seeker] and not empty, nothing is copied. The length is found by seeking, and r is rewound for a
//     retry.
//   - Any other stream is read into memory before it is sent, so that a retry can send it again. More than 16 MiB returns
//     [ErrInvalidArgument].
//
// A call waits for a blocked Read until its context ends, even if the service has answered already. That Read may outlive
// the call; no other one begins. If r panics, the call panics on the caller's goroutine. If Read returns 0 bytes and no
// error a hundred times, the call returns [io.ErrNoProgress].
func BinaryStream(r io.Reader) Message {
	if isNil(r) {
		return Message{err: errors.New("the stream is nil")}
	}
	return Message{contentType: contentTypeBinary, stream: r}
}

// ContentType returns text/plain, application/json or application/octet-stream. It is empty for the zero Message and for a
// message that could not be made.
func (m Message) ContentType() string {
	return m.contentType
}

// IsZero reports whether the message is the zero Message. A message that could not be made is not.
func (m Message) IsZero() bool {
	return m.contentType == "" && m.err == nil
}

// Reader returns a reader of the message's body, for code that sends messages elsewhere than to the service; the
// eventhandler package answers events with them. It returns an error if there is no body: for JSON that could not be
// encoded, for text that is not UTF-8, and for the zero Message. The reader of a BinaryStream is the stream itself, which
// can be read once.
func (m Message) Reader() (io.Reader, error) {
	switch {
	case m.err != nil:
		return nil, m.err
	case m.IsZero():
		return nil, errors.New("the message is empty: make one with Text, JSON, Binary or BinaryStream")
	case m.stream != nil:
		return m.stream, nil
	}
	return bytes.NewReader(m.data), nil
}

// marshalJSON is json.Marshal without the escapes that JSON does not require, as in the other SDKs.
func marshalJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	data := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	// encoding/json escapes two separators even so.
	if bytes.Contains(data, []byte(`\u202`)) {
		data = escapes.ReplaceAllFunc(data, func(escape []byte) []byte {
			switch string(escape) {
			case `\u2028`:
				return []byte("\u2028")
			case `\u2029`:
				return []byte("\u2029")
			}
			return escape
		})
	}
	return data, nil
}

// escapes matches the escapes in a JSON text, among them those of the two separators.
var escapes = regexp.MustCompile(`\\u202[89]|\\.`)
