package webpubsub

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"unicode/utf8"
)

// The content types that the service accepts, and that it sends to event handlers.
const (
	contentTypeJSON   = "application/json"
	contentTypeText   = "text/plain"
	contentTypeBinary = "application/octet-stream"
)

// Message is the body of a message and its content type. Make one with [Text], [JSON], [Binary] or [BinaryStream].
// Operations return [ErrInvalidArgument] for the zero Message.
//
// A Message from Text, JSON or Binary can be sent any number of times, and by several goroutines at the same time. A
// Message from BinaryStream can be sent only once.
//
// The service rejects messages of more than 1 MiB.
type Message struct {
	contentType string
	data        []byte    // the body, unless stream is set
	stream      io.Reader // the body of a BinaryStream
	err         error     // the error of Text, JSON, Binary or BinaryStream, which operations return
}

// Text returns a message with the content type text/plain. The text may be empty. If the text is not valid UTF-8,
// sending the message returns [ErrInvalidArgument].
func Text(text string) Message {
	if !utf8.ValidString(text) {
		return Message{err: errors.New("the text is not valid UTF-8; send it with Binary")}
	}
	return Message{contentType: contentTypeText, data: []byte(text)}
}

// JSON returns a message with the content type application/json. It encodes v immediately, so later changes to v do not
// affect the message. The encoding is that of encoding/json, without escapes for <, > and &. Some values are special:
//   - A string becomes a JSON string, with quotes. Bytes that are not valid UTF-8 become U+FFFD.
//   - A [json.RawMessage] is JSON already. It is compacted.
//
// If v cannot be encoded, sending the message returns [ErrInvalidArgument], which wraps the encoder's error.
func JSON(v any) Message {
	data, err := marshalJSON(v)
	if err == nil && !utf8.Valid(data) { // possible with a json.RawMessage or a json.Marshaler
		err = errors.New("the JSON is not valid UTF-8")
	}
	if err != nil {
		return Message{err: err}
	}
	return Message{contentType: contentTypeJSON, data: data}
}

// Binary returns a message with the content type application/octet-stream. The data may be empty.
//
// The data is not copied, so do not modify it, even after the call has returned: if the service responds early, the
// transport may still be reading the data. To reuse a buffer, send a copy ([bytes.Clone]).
func Binary(data []byte) Message {
	return Message{contentType: contentTypeBinary, data: data}
}

// BinaryStream returns a message with the content type application/octet-stream. The body is read from r while it is
// sent, from the current position of r to its end. r is not closed.
//
// The service rejects bodies of unknown length, so the client determines the length first:
//   - If r is an [io.Seeker] and not empty, the client finds the length by seeking and copies nothing. It rewinds r for
//     a retry.
//   - Any other stream is read into memory before it is sent, so that a retry can resend it. If it has more than 16
//     MiB, sending the message returns [ErrInvalidArgument].
//
// A call waits for a blocked Read until the context ends, even if the service has already responded. The blocked Read
// may outlive the call, but no other Read begins after the call has returned. If r panics, the call panics on the
// caller's goroutine. If Read returns 0 bytes without an error a hundred times in a row, the call returns
// [io.ErrNoProgress].
func BinaryStream(r io.Reader) Message {
	if isNil(r) {
		return Message{err: errors.New("the stream is nil")}
	}
	return Message{contentType: contentTypeBinary, stream: r}
}

// ContentType returns text/plain, application/json or application/octet-stream. It returns "" for the zero Message and
// for a message that could not be encoded.
func (m Message) ContentType() string {
	return m.contentType
}

// IsZero reports whether m is the zero Message. A message that could not be encoded is not the zero Message.
func (m Message) IsZero() bool {
	return m.contentType == "" && m.err == nil
}

// Reader returns a reader for the message's body. It is for code that uses messages without a ServiceClient, such as
// package eventhandler. The reader of a BinaryStream message is the stream itself, which can be read once.
//
// Reader returns an error if the message has no body: for JSON that could not be encoded, text that is not valid UTF-8,
// a nil stream, and the zero Message.
func (m Message) Reader() (io.Reader, error) {
	switch {
	case m.err != nil:
		return nil, m.err
	case m.IsZero():
		return nil, errors.New("the message is the zero Message; make one with Text, JSON, Binary or BinaryStream")
	case m.stream != nil:
		return m.stream, nil
	}
	return bytes.NewReader(m.data), nil
}

// marshalJSON is json.Marshal without the escapes that JSON does not require. The other SDKs do not write them either.
func marshalJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	data := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	// encoding/json still escapes U+2028 and U+2029.
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

// escapes matches every escape in a JSON text, including \u2028 and \u2029.
var escapes = regexp.MustCompile(`\\u202[89]|\\.`)
