package hub

import (
	"fmt"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// MaxMessageSize is the maximum size of a REST send's body and of a client's frame, in bytes.
const MaxMessageSize = 1 << 20

// DataType is the type of a payload's data.
type DataType uint8

const (
	DataJSON DataType = iota
	DataText
	DataBinary
	DataProtobuf // a serialized google.protobuf.Any
)

var dataTypeNames = [...]string{"json", "text", "binary", "protobuf"}

func (t DataType) String() string { return dataTypeNames[t] }

// ParseDataType returns the data type with a name, and false if there is none. Names are case-insensitive.
func ParseDataType(name string) (DataType, bool) {
	for t, n := range dataTypeNames {
		if strings.EqualFold(n, name) {
			return DataType(t), true
		}
	}
	return 0, false
}

// Payload is the data that an application or a client sends. Text and JSON are UTF-8. A payload is immutable.
type Payload struct {
	Type     DataType
	Data     []byte
	Metadata map[string]string
}

// maxExcerpt is the maximum length of an excerpt, in bytes. Viewers show less, so redaction finds whole tokens in what they
// show, and not halves.
const maxExcerpt = 4 << 10

// Excerpt returns the beginning of text or JSON, or the type and size of binary data, for people to read.
func (p *Payload) Excerpt() string {
	if p.Type == DataBinary || p.Type == DataProtobuf {
		return fmt.Sprintf("%s, %s", p.Type, text.Plural(len(p.Data), "byte"))
	}
	return text.Shorten(string(p.Data[:min(len(p.Data), maxExcerpt+4)]), maxExcerpt)
}

// Message is one payload for any number of connections. One goroutine creates it and delivers it to every connection. Its
// frames are shared and never change.
type Message struct {
	Payload
	Group    string          // the group that the message was sent to; "" if it comes from the server
	FromUser string          // the user of the client that sent it; "" if there is none
	Expires  time.Time       // the message is not delivered after this time; zero = never expires
	Stream   *StreamFragment // nil unless the message is part of a group stream
	Origin   any             // only for clients with the sender's own protocol; nil for most

	frames [MaxEncodings]*Frame
}

// StreamFragment identifies a message as part of a group stream.
type StreamFragment struct {
	ID     string         `json:"streamId"`
	Number uint64         `json:"streamSequenceId"`
	End    bool           `json:"endOfStream,omitempty"` // the message has no data; JSON clients receive empty text
	Error  *StreamFailure `json:"error,omitempty"`       // set if the stream ended with an error
}

// StreamFailure describes why a stream ended with an error.
type StreamFailure struct {
	Name          string `json:"name"`
	Message       string `json:"message,omitempty"`
	UserErrorCode string `json:"userErrorCode,omitempty"`
}

// Encoding identifies a wire format of messages. A message is encoded once for each encoding.
type Encoding uint8

// MaxEncodings is the maximum number of encodings.
const MaxEncodings = 5

// Encoder encodes messages for a protocol.
type Encoder interface {
	// Encoding returns a number below MaxEncodings. Two encoders with the same number must encode every message identically.
	Encoding() Encoding
	Encode(m *Message) *Frame
}

// Frame is one frame to a client, encoded for the client's protocol. All connections that receive a message share its frame.
type Frame struct {
	Text bool // a text frame; otherwise a binary frame
	Data []byte

	expires time.Time
	message bool // a reliable client receives the frame with a sequence id and must acknowledge it
}

// FrameFor returns the message's frame for a protocol. The message is encoded only once for each encoding.
func (m *Message) FrameFor(e Encoder) *Frame {
	k := e.Encoding()
	if m.frames[k] == nil {
		f := e.Encode(m)
		f.expires, f.message = m.Expires, true
		m.frames[k] = f
	}
	return m.frames[k]
}

// Expired reports whether the frame has expired. It does not read the clock for a frame that never expires.
func (f *Frame) Expired(c *Clock) bool { return !f.expires.IsZero() && f.ExpiredAt(c.Now()) }

// ExpiredAt reports whether the frame has expired at a given time.
func (f *Frame) ExpiredAt(now time.Time) bool { return !f.expires.IsZero() && !f.expires.After(now) }

// Left returns the time until the frame expires, and false if it never expires.
func (f *Frame) Left(c *Clock) (time.Duration, bool) {
	if f.expires.IsZero() {
		return 0, false
	}
	return f.expires.Sub(c.Now()), true
}
