package emulator

import (
	"encoding/json"
	"mime"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// maxMessageSize bounds the body of a REST send and a frame from a client, in bytes.
const maxMessageSize = 1 << 20

// dataType says what a payload is.
type dataType uint8

const (
	dataJSON dataType = iota
	dataText
	dataBinary
	dataProtobuf // a serialised google.protobuf.Any
)

var dataTypeNames = [...]string{"json", "text", "binary", "protobuf"}

func (t dataType) String() string { return dataTypeNames[t] }

func parseDataType(name string) (dataType, bool) {
	for t, n := range dataTypeNames {
		if n == name {
			return dataType(t), true
		}
	}
	return 0, false
}

// contentTypes are what HTTP calls the data types.
var contentTypes = [...]string{"application/json", "text/plain", "application/octet-stream", "application/x-protobuf"}

// parseContentType returns the data type that a Content-Type names.
func parseContentType(contentType string) (dataType, bool) {
	i := slices.Index(contentTypes[:], contentType)
	if i < 0 {
		if mediaType, _, err := mime.ParseMediaType(contentType); err == nil {
			i = slices.Index(contentTypes[:], mediaType)
		}
	}
	return dataType(max(i, 0)), i >= 0
}

// payload is what an application or a client sends: its type, its bytes and what they say about it. Text and JSON
// are UTF-8. A payload does not change once it is made.
type payload struct {
	dataType dataType
	data     []byte
	metadata map[string]string
}

// unfit says what the data should be, for its type, and is not; "" if it is.
func (p *payload) unfit() string {
	switch {
	case (p.dataType == dataJSON || p.dataType == dataText) && !utf8.Valid(p.data):
		return "UTF-8"
	case p.dataType == dataJSON && !json.Valid(p.data):
		return "JSON"
	case p.dataType == dataProtobuf && proto.Unmarshal(p.data, &anypb.Any{}) != nil:
		return "google.protobuf.Any"
	}
	return ""
}

// message is one payload on its way to any number of connections. It is made, and handed to every connection, by one
// goroutine; what it hands out (its frames) is shared and never changes.
type message struct {
	payload
	group    string      // the group it was sent to; "" if it comes from the server
	fromUser string      // the user who sent it, if a client did
	expires  time.Time   // when it is not worth delivering any more; zero = always
	mqtt     *mqttOrigin // nil unless an MQTT client has published it

	frames [codecKinds]*frame
}

// frame is one WebSocket message as a protocol wants it, shared by all connections that get it.
type frame struct {
	typ       websocket.MessageType
	data      []byte
	expires   time.Time
	sequenced bool // a reliable client's copy carries a sequence id, and is kept until the client has acknowledged it
}

// frameFor encodes the message for a protocol, once.
func (m *message) frameFor(c encoder) *frame {
	k := c.kind()
	if m.frames[k] == nil {
		f := c.message(m)
		f.expires, f.sequenced = m.expires, true
		m.frames[k] = f
	}
	return m.frames[k]
}

// expired reports whether a frame is not worth delivering any more. Of one that never expires it asks no clock.
func (f *frame) expired(c *clock) bool { return !f.expires.IsZero() && f.expiredAt(c.now()) }

func (f *frame) expiredAt(now time.Time) bool { return !f.expires.IsZero() && !f.expires.After(now) }
