package protocol

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// JSON is the codec of json.webpubsub.azure.v1 and json.reliable.webpubsub.azure.v1.
type JSON struct{}

func (JSON) Encoding() hub.Encoding { return EncodingJSON }

// jsonKinds maps the type of a frame, in lower case, to the kind of request. Types are case-insensitive.
var jsonKinds = map[string]RequestKind{"joingroup": RequestJoin, "leavegroup": RequestLeave, "sendtogroup": RequestSend,
	"event": RequestEvent, "sequenceack": RequestSequenceAck, "ping": RequestPing, "invoke": RequestInvoke,
	"cancelinvocation": RequestCancelInvocation, "streamdata": RequestStreamData, "streamend": RequestStreamEnd}

// Decode decodes a text frame or a binary frame. The documentation allows both; Microsoft's emulator accepts only text
// frames.
func (JSON) Decode(_ bool, data []byte) (Request, error) {
	r, err := decodeJSON(data)
	if err != nil {
		return Request{}, &FrameError{CloseInvalidPayload, "The client message is not a valid JSON protocol message.", err.Error()}
	}
	return r, nil
}

func decodeJSON(data []byte) (r Request, err error) {
	f, err := readFields(data)
	if err != nil {
		return r, err
	}
	name, err := f.text("type")
	if err != nil {
		return r, err
	}
	kind, ok := jsonKinds[strings.ToLower(name)]
	if !ok {
		return r, fmt.Errorf("unknown type %.32q", name)
	}
	r.Kind = kind
	if r.AckID, err = f.number("ackId", 64); err != nil {
		return r, err
	}
	switch kind {
	case RequestPing:
	case RequestSequenceAck:
		err = r.readSequenceAck(f)
	case RequestEvent:
		err = r.readEvent(f)
	case RequestSend:
		err = r.readSend(f)
	case RequestInvoke:
		err = r.readInvoke(f)
	case RequestCancelInvocation:
		r.InvocationID, err = f.id("invocationId")
	case RequestStreamData:
		err = r.readFragment(f)
	case RequestStreamEnd:
		err = r.readStreamEnd(f)
	default:
		r.Group, err = f.text("group")
	}
	if err == nil {
		err = r.check()
	}
	if err == nil && (kind == RequestEvent || kind == RequestInvoke) {
		r.mergeMetadata(f)
	}
	return r, err
}

func (r *Request) readSequenceAck(f fields) error {
	id, err := f.number("sequenceId", 64)
	if err != nil {
		return err
	}
	if id == nil {
		return errors.New("sequenceId is missing")
	}
	r.SequenceID = *id
	return nil
}

func (r *Request) readEvent(f fields) (err error) {
	if r.Event, err = f.text("event"); err != nil {
		return err
	}
	return r.readPayload(f)
}

// mergeMetadata removes the metadata of an event whose key, apart from case, occurs again later in the frame. Events carry
// metadata in HTTP headers, whose names are case-insensitive.
func (r *Request) mergeMetadata(f fields) {
	if len(r.Payload.Metadata) < 2 {
		return
	}
	keys := make(map[string]string)
	eachMember(f["metadata"], func(key string, _ []byte) {
		lower := strings.ToLower(key)
		if earlier, twice := keys[lower]; twice {
			delete(r.Payload.Metadata, earlier)
		}
		keys[lower] = key
	})
}

// readSend reads a sendToGroup, which sends a message or opens a stream.
func (r *Request) readSend(f fields) (err error) {
	if r.Group, err = f.text("group"); err != nil {
		return err
	}
	if r.NoEcho, err = f.flag("noEcho"); err != nil {
		return err
	}
	ttl, err := f.number("ttlSeconds", 32)
	if err != nil {
		return err
	}
	if ttl != nil {
		r.TTLSeconds = uint32(*ttl)
	}
	if f["stream"] != nil {
		return r.readStreamStart(f)
	}
	return r.readPayload(f)
}

// readPayload reads the members of a payload. Metadata without data counts as empty text.
func (r *Request) readPayload(f fields) (err error) {
	p := &r.Payload
	if p.Metadata, err = f.strings("metadata"); err != nil {
		return err
	}
	if _, ok := f["dataType"]; ok {
		name, err := f.text("dataType")
		if err != nil {
			return err
		}
		if p.Type, ok = hub.ParseDataType(name); !ok {
			return fmt.Errorf("unknown dataType %.32q", name)
		}
	}
	data, ok := f["data"]
	switch {
	case !ok && p.Metadata != nil:
		p.Type = hub.DataText
		return nil
	case !ok:
		return errors.New("data is missing")
	case p.Type == hub.DataJSON && absent(data):
		return errors.New("data is null")
	case p.Type == hub.DataJSON:
		p.Data = data
		return nil
	}
	s, err := f.text("data")
	if err != nil {
		return fmt.Errorf("dataType %s: %w", p.Type, err)
	}
	p.Data = []byte(s)
	if p.Type == hub.DataText {
		return nil
	}
	if p.Data, err = base64.StdEncoding.DecodeString(s); err != nil {
		return fmt.Errorf("dataType %s: data is not base64", p.Type)
	}
	if what := Unfit(p); what != "" {
		return fmt.Errorf("dataType %s: data is not a valid %s", p.Type, what)
	}
	return nil
}

func (JSON) Encode(m *hub.Message) *hub.Frame {
	b := make([]byte, 0, len(m.Data)+len(m.Data)/2+200)
	b = append(b, `{"type":"message","from":"`...)
	if m.Group == "" {
		b = append(b, `server"`...)
	} else {
		b = append(b, `group","group":`...)
		b = appendJSONString(b, m.Group)
		b = append(b, `,"fromUserId":`...)
		if m.FromUser != "" {
			b = appendJSONString(b, m.FromUser)
		} else {
			b = append(b, "null"...) // sent by the application or by a client without a user
		}
	}
	if m.Stream != nil {
		b = append(b, `,"stream":`...)
		b = append(b, text.JSON(m.Stream)...)
	}
	if m.Stream != nil && m.Stream.End {
		// The official JavaScript client drops a message with an unknown data type, and would wait for the end forever.
		b = append(b, `,"dataType":"text","data":""`...)
	} else {
		b = append(b, ',')
		b = appendPayload(b, &m.Payload)
	}
	return textFrame(append(b, '}'))
}

// appendPayload appends the members of a payload.
func appendPayload(b []byte, p *hub.Payload) []byte {
	b = append(b, `"dataType":"`...)
	b = append(b, p.Type.String()...)
	b = append(b, '"')
	if len(p.Metadata) > 0 {
		b = append(b, `,"metadata":`...)
		b = append(b, text.JSON(p.Metadata)...)
	}
	b = append(b, `,"data":`...)
	switch p.Type {
	case hub.DataJSON:
		return append(b, p.Data...) // unchanged, byte for byte
	case hub.DataText:
		return appendJSONString(b, string(p.Data))
	default:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, p.Data)
		return append(b, '"')
	}
}

// appendJSONString appends a JSON string, with its quotes.
func appendJSONString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return append(b, text.JSON(s)...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func (JSON) Connected(c *hub.Connection, reconnectionToken string) *hub.Frame {
	var user *string // null if there is none
	if c.UserID != "" {
		user = &c.UserID
	}
	return textFrame(text.JSON(struct {
		Type              string  `json:"type"`
		Event             string  `json:"event"`
		UserID            *string `json:"userId"`
		ConnectionID      string  `json:"connectionId"`
		ReconnectionToken string  `json:"reconnectionToken,omitempty"`
	}{"system", "connected", user, c.ID, reconnectionToken}))
}

func (JSON) Disconnected(reason string) *hub.Frame {
	return textFrame(text.JSON(struct {
		Type    string `json:"type"`
		Event   string `json:"event"`
		Message string `json:"message"`
	}{"system", "disconnected", reason}))
}

func (JSON) Ack(id uint64, err *AckError) *hub.Frame {
	b := append([]byte(`{"type":"ack","ackId":`), strconv.FormatUint(id, 10)...)
	if err == nil {
		return textFrame(append(b, `,"success":true}`...))
	}
	b = append(b, `,"success":false,"error":`...)
	b = append(b, text.JSON(err)...)
	return textFrame(append(b, '}'))
}

func (JSON) Pong() *hub.Frame { return textFrame([]byte(`{"type":"pong"}`)) }

func (JSON) Sequenced(data []byte, id uint64) []byte {
	b := make([]byte, 0, len(data)+len(`"sequenceId":,`)+20)
	b = append(b, `{"sequenceId":`...)
	b = strconv.AppendUint(b, id, 10)
	b = append(b, ',')
	return append(b, data[1:]...)
}

func textFrame(data []byte) *hub.Frame { return &hub.Frame{Text: true, Data: data} }
