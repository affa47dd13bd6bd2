package wsclient

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// jsonCodec implements json.webpubsub.azure.v1 and json.reliable.webpubsub.azure.v1.
type jsonCodec struct{}

func (jsonCodec) messageType() websocket.MessageType { return websocket.MessageText }

// jsonFrame has the fields of all frames of the service.
type jsonFrame struct {
	Type              string            `json:"type"`
	From              string            `json:"from"`
	Group             string            `json:"group"`
	FromUserID        string            `json:"fromUserId"`
	DataType          string            `json:"dataType"`
	Data              json.RawMessage   `json:"data"`
	Metadata          map[string]string `json:"metadata"`
	SequenceID        uint64            `json:"sequenceId"`
	AckID             uint64            `json:"ackId"`
	Success           bool              `json:"success"`
	Error             *jsonFailure      `json:"error"`
	Event             string            `json:"event"`
	UserID            string            `json:"userId"`
	ConnectionID      string            `json:"connectionId"`
	ReconnectionToken string            `json:"reconnectionToken"`
	Message           string            `json:"message"`
	InvocationID      string            `json:"invocationId"`
	StreamID          string            `json:"streamId"`
	Expected          uint64            `json:"expectedSequenceId"`
	Name              string            `json:"name"`
	Stream            *jsonStream       `json:"stream"`
}

type jsonFailure struct {
	Name          string `json:"name"`
	Message       string `json:"message"`
	UserErrorCode string `json:"userErrorCode"`
}

type jsonStream struct {
	StreamID    string       `json:"streamId"`
	Sequence    uint64       `json:"streamSequenceId"`
	EndOfStream bool         `json:"endOfStream"`
	Error       *jsonFailure `json:"error"`
}

func (jsonCodec) decode(data []byte) (frame, error) {
	if !utf8.Valid(data) {
		return frame{}, unreadable("a frame that is not valid UTF-8")
	}
	if f, ok := decodeFast(data); ok {
		return f, nil
	}
	return decodeGeneric(data)
}

// decodeGeneric decodes any frame with encoding/json. The data must be valid UTF-8.
func decodeGeneric(data []byte) (frame, error) {
	var j jsonFrame
	if err := json.Unmarshal(data, &j); err != nil {
		if errors.As(err, new(*json.UnmarshalTypeError)) && j.isUnknown() {
			return frame{}, nil
		}
		return frame{}, unreadable("a frame that is not valid JSON, or has a field of the wrong type")
	}
	switch j.Type {
	case "message":
		return j.toMessage()
	case "ack":
		return frame{kind: frameAck, ackID: j.AckID, success: j.Success, failure: j.Error.failure()}, nil
	case "pong":
		return frame{kind: framePong}, nil
	case "system":
		switch j.Event {
		case "connected":
			return frame{kind: frameConnected, connectionID: j.ConnectionID, userID: j.UserID,
				reconnectionToken: j.ReconnectionToken}, nil
		case "disconnected":
			return frame{kind: frameDisconnected, reason: j.Message}, nil
		}
	case "invokeResponse":
		f := frame{kind: frameInvokeResponse, invocationID: j.InvocationID, success: j.Success, failure: j.Error.failure()}
		if !j.hasData() {
			return f, nil
		}
		var err error
		f.answer, err = j.payload()
		return f, err
	case "streamAck":
		return frame{kind: frameStreamAck, streamID: j.StreamID, expected: j.Expected}, nil
	case "streamNack":
		return frame{kind: frameStreamNack, streamID: j.StreamID, expected: j.Expected,
			failure: failure{j.Name, j.Message}}, nil
	case "streamClosed":
		return frame{kind: frameStreamClosed, streamID: j.StreamID, success: j.Error == nil, failure: j.Error.failure()}, nil
	case "":
		return frame{}, unreadable("a frame without a type")
	}
	return frame{}, nil
}

// isUnknown reports whether the frame is of a kind that decodeGeneric does not know. Its fields may have any type.
func (j *jsonFrame) isUnknown() bool {
	switch j.Type {
	case "system":
		return j.Event != "" && j.Event != "connected" && j.Event != "disconnected"
	case "", "message", "ack", "invokeResponse", "streamAck", "streamNack", "streamClosed":
		return false
	}
	return true
}

func (f *jsonFailure) failure() failure {
	if f == nil {
		return failure{}
	}
	return failure{f.Name, f.Message}
}

func (j *jsonFrame) toMessage() (frame, error) {
	m := &Message{From: j.From, Group: j.Group, FromUserID: j.FromUserID, Metadata: j.Metadata, SequenceID: j.SequenceID}
	if s := j.Stream; s != nil {
		m.Stream = &StreamFragment{StreamID: s.StreamID, Number: s.Sequence, End: s.EndOfStream}
		if s.Error != nil {
			m.Stream.End = true
			m.Stream.Err = &StreamError{Name: s.Error.Name, Message: s.Error.Message, UserErrorCode: s.Error.UserErrorCode}
		}
	}
	if !j.hasData() && j.Stream != nil { // the end of a stream may have no data
		return frame{kind: frameMessage, message: m}, nil
	}
	var err error
	m.Payload, err = j.payload()
	return frame{kind: frameMessage, message: m}, err
}

// hasData reports whether a frame that may lack data has some. A null means that it has none, except as JSON.
func (j *jsonFrame) hasData() bool {
	return j.Data != nil && (DataType(j.DataType) == DataJSON || string(j.Data) != "null")
}

// payload decodes the data according to dataType.
func (j *jsonFrame) payload() (Payload, error) {
	p := Payload{DataType: DataType(j.DataType)}
	if j.Data == nil {
		return p, unreadable("a frame without data")
	}
	if j.DataType == "" || p.DataType == DataJSON {
		return Payload{DataType: DataJSON, Data: j.Data}, nil
	}
	switch p.DataType {
	case DataText, DataBinary, DataProtobuf:
	default: // a newer data type that the application may know
		return Payload{DataType: p.DataType, Data: j.Data}, nil
	}
	var s string
	if j.Data[0] != '"' || json.Unmarshal(j.Data, &s) != nil {
		return p, unreadable("%.32s data that is not a string", j.DataType)
	}
	if p.DataType == DataText {
		p.Data = []byte(s)
		return p, nil
	}
	var err error
	if p.Data, err = base64.StdEncoding.DecodeString(s); err != nil {
		return p, unreadable("%s data that is not base64", j.DataType)
	}
	return p, nil
}

// typeNames are the values of the type field in the frames of a client.
var typeNames = [...]string{
	requestJoin:             "joinGroup",
	requestLeave:            "leaveGroup",
	requestSend:             "sendToGroup",
	requestEvent:            "event",
	requestPing:             "ping",
	requestSequenceAck:      "sequenceAck",
	requestInvoke:           "invoke",
	requestCancelInvocation: "cancelInvocation",
	requestStreamOpen:       "sendToGroup",
	requestStreamData:       "streamData",
	requestStreamEnd:        "streamEnd",
}

func (jsonCodec) encode(r *request) ([]byte, error) {
	w := jsonWriter{make([]byte, 0, 128+len(r.payload.Data)*4/3+len(r.group))}
	w.open()
	w.text("type", typeNames[r.kind])
	switch r.kind {
	case requestJoin, requestLeave:
		w.text("group", r.group)
	case requestSend:
		w.text("group", r.group)
		w.flag("noEcho", r.noEcho)
		w.number("ttlSeconds", uint64(r.ttl/time.Second))
		w.metadata(r.metadata)
		w.payload(r.payload)
	case requestEvent:
		w.text("event", r.event)
		w.metadata(r.metadata)
		w.payload(r.payload)
	case requestSequenceAck:
		w.number("sequenceId", r.sequenceID)
	case requestInvoke:
		w.text("invocationId", r.invocationID)
		w.text("target", "event")
		w.text("event", r.event)
		w.payload(r.payload)
	case requestCancelInvocation:
		w.text("invocationId", r.invocationID)
	case requestStreamOpen:
		w.text("group", r.group)
		w.flag("noEcho", r.noEcho)
		w.metadata(r.metadata)
		w.key("stream")
		w.open()
		w.text("streamId", r.streamID)
		w.number("idleTimeoutMs", uint64(r.idleTimeout/time.Millisecond))
		w.close()
	case requestStreamData:
		w.text("streamId", r.streamID)
		if r.fragment > 0 {
			w.number("streamSequenceId", r.fragment)
			w.payload(r.payload)
		}
	case requestStreamEnd:
		w.text("streamId", r.streamID)
		if r.end != nil {
			w.key("error")
			w.open()
			w.text("message", r.end.Message)
			if r.end.UserErrorCode != "" {
				w.text("userErrorCode", r.end.UserErrorCode)
			}
			w.close()
		}
	case requestPing:
	}
	w.number("ackId", r.ackID)
	w.close()
	return w.b, nil
}

// jsonWriter writes a JSON object directly, without a map or a struct that would hold a second copy of the data.
type jsonWriter struct{ b []byte }

func (w *jsonWriter) open()  { w.b = append(w.b, '{') }
func (w *jsonWriter) close() { w.b = append(w.b, '}') }

func (w *jsonWriter) key(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

func (w *jsonWriter) text(name, value string) {
	w.key(name)
	w.b = appendJSONString(w.b, value)
}

// number writes a number. It omits 0, which is the service's default.
func (w *jsonWriter) number(name string, value uint64) {
	if value != 0 {
		w.key(name)
		w.b = strconv.AppendUint(w.b, value, 10)
	}
}

// flag writes a boolean. It omits false, which is the service's default.
func (w *jsonWriter) flag(name string, value bool) {
	if value {
		w.key(name)
		w.b = append(w.b, "true"...)
	}
}

func (w *jsonWriter) metadata(items map[string]string) {
	if len(items) > 0 {
		w.key("metadata")
		data, _ := marshalJSON(items) // cannot fail for strings
		w.b = append(w.b, data...)
	}
}

func (w *jsonWriter) payload(p Payload) {
	w.text("dataType", string(p.DataType))
	w.key("data")
	switch p.DataType {
	case DataJSON:
		w.b = append(w.b, p.Data...)
	case DataText:
		w.b = appendJSONString(w.b, string(p.Data))
	default:
		w.b = append(w.b, '"')
		w.b = base64.StdEncoding.AppendEncode(w.b, p.Data)
		w.b = append(w.b, '"')
	}
}

// appendJSONString appends s as a JSON string.
func appendJSONString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			data, _ := marshalJSON(s) // cannot fail for a string
			return append(b, data...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// marshalJSON is json.Marshal without escapes for <, > and &.
func marshalJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
