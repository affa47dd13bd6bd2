package protocol

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// JSON is json.webpubsub.azure.v1 and json.reliable.webpubsub.azure.v1.
type JSON struct{}

func (JSON) Encoding() hub.Encoding { return EncodingJSON }

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

func (JSON) Decode(isText bool, data []byte) (Request, error) {
	if !isText {
		return Request{}, &FrameError{CloseUnsupportedData, "this subprotocol takes text frames only"}
	}
	if !utf8.Valid(data) {
		return Request{}, unreadable("the frame is not valid UTF-8")
	}
	var up jsonUpstream
	if err := json.Unmarshal(data, &up); err != nil {
		return Request{}, unreadable("the frame is not the JSON of a request: %s", text.JSONFault(err))
	}
	r := Request{AckID: up.AckID, Group: up.Group, Event: up.Event, NoEcho: up.NoEcho}
	switch up.Type {
	case "joinGroup":
		r.Kind = RequestJoin
	case "leaveGroup":
		r.Kind = RequestLeave
	case "sendToGroup":
		r.Kind = RequestSend
		if up.TTLSeconds != nil {
			r.TTLSeconds = *up.TTLSeconds
		}
		r.Payload, r.Invalid = up.payload()
	case "event":
		r.Kind = RequestEvent
		r.Payload, r.Invalid = up.payload()
	case "sequenceAck":
		r.Kind = RequestSequenceAck
		if up.SequenceID == nil {
			return Request{}, unreadable("sequenceAck without a sequenceId")
		}
		r.SequenceID = *up.SequenceID
	case "ping":
		r.Kind = RequestPing
	case "":
		return Request{}, unreadable("the frame has no type")
	default:
		return Request{}, unreadable("unknown type %.32q", up.Type)
	}
	return r, nil
}

// payload reads the data by its dataType. The string is what is wrong with it.
func (up *jsonUpstream) payload() (hub.Payload, string) {
	p := hub.Payload{Data: up.Data, Metadata: up.Metadata}
	if up.DataType != nil {
		var ok bool
		if p.Type, ok = hub.ParseDataType(*up.DataType); !ok {
			return p, fmt.Sprintf("unknown dataType %.32q", *up.DataType)
		}
	}
	if up.Data == nil {
		return p, "data is missing"
	}
	if p.Type == hub.DataJSON {
		return p, ""
	}
	var s string
	if err := json.Unmarshal(up.Data, &s); err != nil || up.Data[0] != '"' {
		return p, fmt.Sprintf("data of dataType %s is not a string", p.Type)
	}
	if p.Type == hub.DataText {
		p.Data = []byte(s)
		return p, ""
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return p, fmt.Sprintf("data of dataType %s is not base64", p.Type)
	}
	if p.Type == hub.DataProtobuf && proto.Unmarshal(b, &anypb.Any{}) != nil {
		return p, "data of dataType protobuf is not a google.protobuf.Any"
	}
	p.Data = b
	return p, ""
}

func (JSON) Encode(m *hub.Message) *hub.Frame {
	b := make([]byte, 0, len(m.Data)+len(m.Data)/2+200)
	b = append(b, `{"type":"message","from":"`...)
	if m.Group == "" {
		b = append(b, `server"`...)
	} else {
		b = append(b, `group","group":`...)
		b = appendJSONString(b, m.Group)
	}
	if m.FromUser != "" {
		b = append(b, `,"fromUserId":`...)
		b = appendJSONString(b, m.FromUser)
	}
	b = append(b, `,"dataType":"`...)
	b = append(b, m.Type.String()...)
	b = append(b, '"')
	if len(m.Metadata) > 0 {
		b = append(b, `,"metadata":`...)
		b = append(b, text.JSON(m.Metadata)...)
	}
	b = append(b, `,"data":`...)
	switch m.Type {
	case hub.DataJSON:
		b = append(b, m.Data...) // as it was sent, to the byte
	case hub.DataText:
		b = appendJSONString(b, string(m.Data))
	default:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, m.Data)
		b = append(b, '"')
	}
	return textFrame(append(b, '}'))
}

// appendJSONString appends a string with its quotes.
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

type jsonSystem struct {
	Type              string `json:"type"`
	Event             string `json:"event"`
	UserID            string `json:"userId,omitempty"`
	ConnectionID      string `json:"connectionId,omitempty"`
	ReconnectionToken string `json:"reconnectionToken,omitempty"`
	Message           string `json:"message,omitempty"`
}

func (JSON) Connected(c *hub.Connection, reconnectionToken string) *hub.Frame {
	return textFrame(text.JSON(jsonSystem{Type: "system", Event: "connected",
		UserID: c.UserID, ConnectionID: c.ID, ReconnectionToken: reconnectionToken}))
}

func (JSON) Disconnected(reason string) *hub.Frame {
	return textFrame(text.JSON(jsonSystem{Type: "system", Event: "disconnected", Message: reason}))
}

func (JSON) Ack(id uint64, err *AckError) *hub.Frame {
	b := append([]byte(`{"type":"ack","ackId":`), strconv.FormatUint(id, 10)...)
	if err == nil {
		return textFrame(append(b, `,"success":true}`...))
	}
	b = append(b, `,"success":false,"error":`...)
	b = append(b, text.JSON(struct {
		Name    string `json:"name"`
		Message string `json:"message"`
	}{err.Name, err.Message})...)
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
