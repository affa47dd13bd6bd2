package webpubsub

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"unicode/utf8"
)

// The content types that the service takes, and hands to event handlers.
const (
	contentTypeJSON   = "application/json"
	contentTypeText   = "text/plain"
	contentTypeBinary = "application/octet-stream"
)

// Message is the body of one message, with its content type. Make one with [Text], [JSON], [Binary] or
// [BinaryStream]; the zero Message is not a message, and every operation refuses it with [ErrInvalidArgument].
//
// A Message made by Text, JSON or Binary may be sent any number of times, also by several goroutines at once. One made
// by BinaryStream is sent once.
//
// The service takes messages of about 1 MB; a larger one comes back as a 413 error from the service.
type Message struct {
	contentType string
	data        []byte    // the body, unless stream is set
	stream      io.Reader // the body of a BinaryStream
	err         error     // why this is no message: found when it was made, returned when it is used
}

// Text returns a message with the content type text/plain. The text must be UTF-8: sending anything else is an
// [ErrInvalidArgument]. It may be empty.
func Text(text string) Message {
	if !utf8.ValidString(text) {
		return Message{err: errors.New("the text is not valid UTF-8; send it with Binary")}
	}
	return Message{contentType: contentTypeText, data: []byte(text)}
}

// JSON returns a message with the content type application/json that holds v as encoding/json writes it, but with <, >
// and & as they are. The value is encoded at once, so that changing v later does not change the message. A string
// becomes a JSON string, with its quotes, and what is not UTF-8 in it becomes U+FFFD; a [json.RawMessage] is compacted.
//
// Sending a value that does not encode is an [ErrInvalidArgument] which wraps the encoder's error.
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

// Binary returns a message with the content type application/octet-stream. The data is not copied, so do not change it from
// then on: when the service answers before it has read everything, as with 413, a call returns while the data may still be
// read. To use a buffer again, send a copy of it (bytes.Clone). The data may be empty.
func Binary(data []byte) Message {
	return Message{contentType: contentTypeBinary, data: data}
}

// BinaryStream returns a message with the content type application/octet-stream whose body is read from r while it is
// sent, from where r stands now to its end. r is not closed.
//
// If r is an [io.Seeker] that is not empty, nothing is copied: its length is taken by seeking, and it is rewound for a
// retry. Any other stream is read into memory when the message is sent, so that a retry can send it again; more than 16 MiB
// is then an [ErrInvalidArgument]. A call waits for a Read that blocks, also when the service has answered already, until
// its context ends; that Read may outlive the call, and no other begins.
func BinaryStream(r io.Reader) Message {
	if isNil(r) {
		return Message{err: errors.New("the stream is nil")}
	}
	return Message{contentType: contentTypeBinary, stream: r}
}

// ContentType returns text/plain, application/json or application/octet-stream; it is empty for the zero Message and
// for one that could not be made.
func (m Message) ContentType() string {
	return m.contentType
}

// IsZero says whether the message is the zero Message. One that could not be made is not.
func (m Message) IsZero() bool {
	return m.contentType == "" && m.err == nil
}

// Reader returns a reader of the message's body, for code that carries messages elsewhere than to the service (the
// eventhandler package answers events with them). Its error says why there is no body: JSON that did not encode, text
// that is not UTF-8, or the zero Message. For a BinaryStream it is the stream itself, which can be read once.
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

// marshalJSON is json.Marshal that escapes no more than JSON asks for, as the other SDKs do.
func marshalJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	data := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	// Two separators are always escaped.
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
