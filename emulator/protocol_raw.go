package emulator

import (
	"unicode/utf8"

	"github.com/coder/websocket"
)

// rawCodec is a client without a protocol of the service: a frame is a payload and nothing else. What it means was
// said once, in the URL it connected to.
type rawCodec struct {
	group  string // the group every frame is sent to; "" = every frame is the event "message"
	noEcho bool
}

func (rawCodec) kind() codecKind { return codecRaw }

func (c rawCodec) decode(typ websocket.MessageType, data []byte) (clientRequest, error) {
	r := clientRequest{kind: requestEvent, event: "message", payload: payload{dataType: dataText, data: data}}
	if typ == websocket.MessageBinary {
		r.payload.dataType = dataBinary
	} else if !utf8.Valid(data) {
		return clientRequest{}, unreadable("the text frame is not valid UTF-8")
	}
	if c.group != "" {
		r.kind, r.group, r.noEcho = requestSend, c.group, c.noEcho
	}
	return r, nil
}

func (rawCodec) message(m *message) *frame {
	f := &frame{typ: websocket.MessageText, data: m.data}
	if m.dataType == dataBinary || m.dataType == dataProtobuf {
		f.typ = websocket.MessageBinary
	}
	return f
}

func (rawCodec) connected(*connection, string) *frame   { return nil }
func (rawCodec) disconnected(string) *frame             { return nil }
func (rawCodec) ack(uint64, *ackError) *frame           { return nil }
func (rawCodec) pong() *frame                           { return nil }
func (rawCodec) sequenced(data []byte, _ uint64) []byte { return data }
