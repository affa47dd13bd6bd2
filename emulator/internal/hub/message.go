package hub

import (
	"fmt"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// MaxMessageSize bounds the body of a REST send and a frame from a client, in bytes.
const MaxMessageSize = 1 << 20

// DataType is the type of a payload's data.
type DataType uint8

const (
	DataJSON DataType = iota
	DataText
	DataBinary
	DataProtobuf // a serialised google.protobuf.Any
)

var dataTypeNames = [...]string{"json", "text", "binary", "protobuf"}

func (t DataType) String() string { return dataTypeNames[t] }

// ParseDataType returns the data type of a name, in any case.
func ParseDataType(name string) (DataType, bool) {
	for t, n := range dataTypeNames {
		if strings.EqualFold(n, name) {
			return DataType(t), true
		}
	}
	return 0, false
}

// Payload is what an application or a client sends: its type, its bytes and their metadata. Text and JSON
// are UTF-8. A payload does not change once it is made.
type Payload struct {
	Type     DataType
	Data     []byte
	Metadata map[string]string
}

// maxExcerpt is how much of a payload an excerpt keeps, in bytes. It is more than people are shown, so that whoever
// looks for tokens in an excerpt does not find half of one.
const maxExcerpt = 4 << 10

// Excerpt returns the beginning of a payload, for people.
func (p *Payload) Excerpt() string {
	if p.Type == DataBinary || p.Type == DataProtobuf {
		return fmt.Sprintf("%s, %s", p.Type, text.Plural(len(p.Data), "byte"))
	}
	return text.Shorten(string(p.Data[:min(len(p.Data), maxExcerpt+4)]), maxExcerpt)
}

// Message is one payload on its way to any number of connections. It is made, and handed to every connection, by one
// goroutine. Its frames are shared and never change.
type Message struct {
	Payload
	Group    string          // the group it was sent to; "" if it comes from the server
	FromUser string          // the user who sent it, if a client did
	Expires  time.Time       // when it is not worth delivering any more; zero = never
	Stream   *StreamFragment // the part of a stream that it is; nil for most
	Origin   any             // what only clients of the sender's own protocol can read of it; nil for most

	frames [MaxEncodings]*Frame
}

// StreamFragment is which part of a group stream a message is.
type StreamFragment struct {
	ID     string         `json:"streamId"`
	Number uint64         `json:"streamSequenceId"`
	End    bool           `json:"endOfStream,omitempty"` // the message has no data; JSON clients get empty text
	Error  *StreamFailure `json:"error,omitempty"`       // why the stream has not ended well
}

// StreamFailure is why a stream has not ended well.
type StreamFailure struct {
	Name          string `json:"name"`
	Message       string `json:"message,omitempty"`
	UserErrorCode string `json:"userErrorCode,omitempty"`
}

// Encoding tells the forms apart in which messages are written. A message is encoded once for each.
type Encoding uint8

// MaxEncodings is how many encodings there may be.
const MaxEncodings = 5

// Encoder is how a protocol writes a message.
type Encoder interface {
	// Encoding is below MaxEncodings. Two encoders with the same encoding write every message alike.
	Encoding() Encoding
	Encode(m *Message) *Frame
}

// Frame is what is written to a client at once, as its protocol puts it. The frame of a message is shared by all
// connections that get it.
type Frame struct {
	Text bool // it is text; otherwise binary
	Data []byte

	expires time.Time
	message bool // a reliable client's copy carries a sequence id, and is kept until the client has acknowledged it
}

// FrameFor encodes the message for a protocol, once.
func (m *Message) FrameFor(e Encoder) *Frame {
	k := e.Encoding()
	if m.frames[k] == nil {
		f := e.Encode(m)
		f.expires, f.message = m.Expires, true
		m.frames[k] = f
	}
	return m.frames[k]
}

// Expired reports whether a frame is not worth delivering any more. It does not read the clock for a frame that never
// expires.
func (f *Frame) Expired(c *Clock) bool { return !f.expires.IsZero() && f.ExpiredAt(c.Now()) }

// ExpiredAt reports whether a frame is not worth delivering any more at a moment.
func (f *Frame) ExpiredAt(now time.Time) bool { return !f.expires.IsZero() && !f.expires.After(now) }

// Left returns how long the frame is still worth delivering, and false if it never expires.
func (f *Frame) Left(c *Clock) (time.Duration, bool) {
	if f.expires.IsZero() {
		return 0, false
	}
	return f.expires.Sub(c.Now()), true
}
