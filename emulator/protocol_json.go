package emulator

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// jsonCodec is json.webpubsub.azure.v1 and json.reliable.webpubsub.azure.v1.
type jsonCodec struct{}

func (jsonCodec) kind() codecKind { return codecJSON }

// jsonUpstream is any frame of a client.
type jsonUpstream struct {
	Type       string            `json:"type"`
	Group      string            `json:"group"`
	Event      string            `json:"event"`
	AckID      *uint64           `json:"ackId"`
	NoEcho     bool              `json:"noEcho"`
	DataType   *string           `json:"dataType"`
	Data       json.RawMessage   `json:"data"`
	Metadata   map[string]string `json:"metadata"`
	TTLSeconds *uint32           `json:"ttlSeconds"`
	SequenceID *uint64           `json:"sequenceId"`
}

func (jsonCodec) decode(typ websocket.MessageType, data []byte) (clientRequest, error) {
	if typ != websocket.MessageText {
		return clientRequest{}, &frameError{websocket.StatusUnsupportedData, "this subprotocol takes text frames only"}
	}
	if !utf8.Valid(data) {
		return clientRequest{}, unreadable("the frame is not valid UTF-8")
	}
	var up jsonUpstream
	if err := json.Unmarshal(data, &up); err != nil {
		return clientRequest{}, unreadable("the frame is not the JSON of a request: %s", jsonFault(err))
	}
	r := clientRequest{ackID: up.AckID, group: up.Group, event: up.Event, noEcho: up.NoEcho}
	switch up.Type {
	case "joinGroup":
		r.kind = requestJoin
	case "leaveGroup":
		r.kind = requestLeave
	case "sendToGroup":
		r.kind = requestSend
		if up.TTLSeconds != nil {
			r.ttlSeconds = *up.TTLSeconds
		}
		r.payload, r.invalid = up.payload()
	case "event":
		r.kind = requestEvent
		r.payload, r.invalid = up.payload()
	case "sequenceAck":
		r.kind = requestSequenceAck
		if up.SequenceID == nil {
			return clientRequest{}, unreadable("sequenceAck without a sequenceId")
		}
		r.sequenceID = *up.SequenceID
	case "ping":
		r.kind = requestPing
	case "":
		return clientRequest{}, unreadable("the frame has no type")
	default:
		return clientRequest{}, unreadable("unknown type %.32q", up.Type)
	}
	return r, nil
}

// payload reads data as dataType says; the string is what is wrong with it.
func (up *jsonUpstream) payload() (payload, string) {
	p := payload{data: up.Data, metadata: up.Metadata}
	if up.DataType != nil {
		var ok bool
		if p.dataType, ok = parseDataType(*up.DataType); !ok {
			return p, fmt.Sprintf("unknown dataType %.32q", *up.DataType)
		}
	}
	if up.Data == nil {
		return p, "data is missing"
	}
	if p.dataType == dataJSON {
		return p, ""
	}
	var s string
	if err := json.Unmarshal(up.Data, &s); err != nil || up.Data[0] != '"' {
		return p, fmt.Sprintf("data of dataType %s is not a string", p.dataType)
	}
	if p.dataType == dataText {
		p.data = []byte(s)
		return p, ""
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return p, fmt.Sprintf("data of dataType %s is not base64", p.dataType)
	}
	if p.dataType == dataProtobuf && proto.Unmarshal(b, &anypb.Any{}) != nil {
		return p, "data of dataType protobuf is not a google.protobuf.Any"
	}
	p.data = b
	return p, ""
}

// jsonFault says what is wrong with JSON in a client's words rather than in Go's.
func jsonFault(err error) string {
	switch e, ok := err.(*json.UnmarshalTypeError); {
	case !ok:
		return err.Error()
	case e.Field == "":
		return "it is no object but of type " + e.Value
	default:
		return fmt.Sprintf("%s is a %s", e.Field, e.Value)
	}
}

func (jsonCodec) message(m *message) *frame {
	b := make([]byte, 0, len(m.data)+len(m.data)/2+200)
	b = append(b, `{"type":"message","from":"`...)
	if m.group == "" {
		b = append(b, `server"`...)
	} else {
		b = append(b, `group","group":`...)
		b = appendJSONString(b, m.group)
	}
	if m.fromUser != "" {
		b = append(b, `,"fromUserId":`...)
		b = appendJSONString(b, m.fromUser)
	}
	b = append(b, `,"dataType":"`...)
	b = append(b, m.dataType.String()...)
	b = append(b, '"')
	if len(m.metadata) > 0 {
		b = append(b, `,"metadata":`...)
		b = append(b, marshalJSON(m.metadata)...)
	}
	b = append(b, `,"data":`...)
	switch m.dataType {
	case dataJSON:
		b = append(b, m.data...) // as it was sent, to the byte
	case dataText:
		b = appendJSONString(b, string(m.data))
	default:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, m.data)
		b = append(b, '"')
	}
	return textFrame(append(b, '}'))
}

// appendJSONString appends a string with its quotes.
func appendJSONString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return append(b, marshalJSON(s)...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

type jsonSystem struct {
	Type              string `json:"type"`
	Event             string `json:"event"`
	UserID            string `json:"userId,omitempty"`
	ConnectionID      string `json:"connectionId,omitempty"`
	ReconnectionToken string `json:"reconnectionToken,omitempty"`
	Message           string `json:"message,omitempty"`
}

func (jsonCodec) connected(c *connection, reconnectionToken string) *frame {
	return textFrame(marshalJSON(jsonSystem{Type: "system", Event: "connected",
		UserID: c.userID, ConnectionID: c.id, ReconnectionToken: reconnectionToken}))
}

func (jsonCodec) disconnected(reason string) *frame {
	return textFrame(marshalJSON(jsonSystem{Type: "system", Event: "disconnected", Message: reason}))
}

func (jsonCodec) ack(id uint64, err *ackError) *frame {
	b := append([]byte(`{"type":"ack","ackId":`), strconv.FormatUint(id, 10)...)
	if err == nil {
		return textFrame(append(b, `,"success":true}`...))
	}
	b = append(b, `,"success":false,"error":`...)
	b = append(b, marshalJSON(struct {
		Name    string `json:"name"`
		Message string `json:"message"`
	}{err.name, err.message})...)
	return textFrame(append(b, '}'))
}

func (jsonCodec) pong() *frame { return textFrame([]byte(`{"type":"pong"}`)) }

func (jsonCodec) sequenced(data []byte, id uint64) []byte {
	b := make([]byte, 0, len(data)+len(`"sequenceId":,`)+20)
	b = append(b, `{"sequenceId":`...)
	b = strconv.AppendUint(b, id, 10)
	b = append(b, ',')
	return append(b, data[1:]...)
}

func textFrame(data []byte) *frame { return &frame{typ: websocket.MessageText, data: data} }

// marshalJSON encodes a value that cannot fail to, with < > & left as they are.
func marshalJSON(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("emulator: %T does not marshal: %v", v, err))
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
