package protocol

import (
	"unicode/utf8"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

// Raw is the codec of clients without one of the service's subprotocols. A frame is only a payload. The client's URL sets the
// meaning of all its frames.
type Raw struct {
	Group  string // the group that every frame is sent to; "" = every frame is the event "message"
	NoEcho bool
}

func (Raw) Encoding() hub.Encoding { return EncodingRaw }

func (c Raw) Decode(text bool, data []byte) (Request, error) {
	r := Request{Kind: RequestEvent, Event: "message", Payload: hub.Payload{Type: hub.DataText, Data: data}}
	if !text {
		r.Payload.Type = hub.DataBinary
	} else if !utf8.Valid(data) {
		return Request{}, &FrameError{CloseInvalidPayload, "The client message is not valid UTF-8.", "a text frame is not valid UTF-8"}
	}
	if c.Group != "" {
		r.Kind, r.Group, r.NoEcho = RequestSend, c.Group, c.NoEcho
	}
	return r, nil
}

func (Raw) Encode(m *hub.Message) *hub.Frame {
	f := &hub.Frame{Text: true, Data: m.Data}
	if m.Type == hub.DataBinary || m.Type == hub.DataProtobuf {
		f.Text = false
	}
	return f
}

func (Raw) Connected(*hub.Connection, string) *hub.Frame { return nil }
func (Raw) Disconnected(string) *hub.Frame               { return nil }
func (Raw) Ack(uint64, *AckError) *hub.Frame             { return nil }
func (Raw) Pong() *hub.Frame                             { return nil }
func (Raw) Sequenced(data []byte, _ uint64) []byte       { return data }
