package soak

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protowire"
)

// This file is a client of the service in all its WebSocket protocols. It reads and writes the wire by itself, so that it
// agrees with the emulator only as far as both agree with the protocol.

const (
	raw              = ""
	jsonPlain        = "json.webpubsub.azure.v1"
	jsonReliable     = "json.reliable.webpubsub.azure.v1"
	protobufPlain    = "protobuf.webpubsub.azure.v1"
	protobufReliable = "protobuf.reliable.webpubsub.azure.v1"
)

var protocols = []string{raw, jsonPlain, jsonReliable, protobufPlain, protobufReliable}

// request is a frame from a client.
type request struct {
	Type       string  `json:"type"` // as in JSON
	Group      string  `json:"group,omitempty"`
	Event      string  `json:"event,omitempty"`
	AckID      *uint64 `json:"ackId,omitempty"`
	NoEcho     bool    `json:"noEcho,omitempty"`
	DataType   string  `json:"dataType,omitempty"`
	Data       any     `json:"data,omitempty"` // JSON's; made from data
	SequenceID uint64  `json:"sequenceId,omitempty"`

	data []byte
}

// encode writes a request for a protocol; for a raw client it is the data alone.
func (r request) encode(protocol string) (websocket.MessageType, []byte) {
	switch protocol {
	case raw:
		if r.DataType == "binary" {
			return websocket.MessageBinary, r.data
		}
		return websocket.MessageText, r.data
	case protobufPlain, protobufReliable:
		return websocket.MessageBinary, r.protobuf()
	}
	switch r.DataType {
	case "json":
		r.Data = json.RawMessage(r.data)
	case "text":
		r.Data = string(r.data)
	case "binary":
		r.Data = r.data // base64
	}
	frame, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return websocket.MessageText, frame
}

func appendBytes(b []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), value)
}

func appendVarint(b []byte, number protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), value)
}

// protobuf writes an UpstreamMessage.
func (r request) protobuf() []byte {
	ack := func(b []byte, number protowire.Number) []byte {
		if r.AckID != nil {
			b = appendVarint(b, number, *r.AckID)
		}
		return b
	}
	data := appendBytes(nil, map[string]protowire.Number{"text": 1, "binary": 2, "json": 4}[r.DataType], r.data)
	switch r.Type {
	case "joinGroup":
		return appendBytes(nil, 6, ack(appendBytes(nil, 1, []byte(r.Group)), 2))
	case "leaveGroup":
		return appendBytes(nil, 7, ack(appendBytes(nil, 1, []byte(r.Group)), 2))
	case "sendToGroup":
		b := appendBytes(ack(appendBytes(nil, 1, []byte(r.Group)), 2), 3, data)
		return appendBytes(nil, 1, appendVarint(b, 4, protowire.EncodeBool(r.NoEcho)))
	case "event":
		return appendBytes(nil, 5, ack(appendBytes(appendBytes(nil, 1, []byte(r.Event)), 2, data), 3))
	case "sequenceAck":
		return appendBytes(nil, 8, appendVarint(nil, 1, r.SequenceID))
	case "ping":
		return appendBytes(nil, 9, nil)
	}
	panic("no request " + r.Type)
}

// frame is what the service sends to a client.
type frame struct {
	kind string // "message", "ack", "pong", "connected" or "disconnected"

	from, group, fromUser, dataType string // of a message
	data                            []byte
	sequence                        uint64

	ackID     uint64
	ackError  string // its name; "" for a success
	id, token string // of the client, when it is connected
	reason    string // why it is disconnected
}

func decode(protocol string, typ websocket.MessageType, b []byte) (frame, error) {
	switch protocol {
	case raw:
		f := frame{kind: "message", dataType: "text", data: b}
		if typ == websocket.MessageBinary {
			f.dataType = "binary"
		}
		return f, nil
	case protobufPlain, protobufReliable:
		if typ != websocket.MessageBinary {
			return frame{}, fmt.Errorf("a text frame: %q", b)
		}
		return decodeProtobuf(b)
	}
	if typ != websocket.MessageText {
		return frame{}, fmt.Errorf("a binary frame: %q", b)
	}
	return decodeJSON(b)
}

func decodeJSON(b []byte) (frame, error) {
	var m struct {
		Type, From, Group, FromUserID, DataType string
		Event, ConnectionID, ReconnectionToken  string
		Message                                 string
		Data                                    json.RawMessage
		SequenceID, AckID                       uint64
		Success                                 bool
		Error                                   struct{ Name string }
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return frame{}, fmt.Errorf("%q: %w", b, err)
	}
	f := frame{kind: m.Type, from: m.From, group: m.Group, fromUser: m.FromUserID, dataType: m.DataType, data: m.Data,
		sequence: m.SequenceID, ackID: m.AckID, id: m.ConnectionID, token: m.ReconnectionToken, reason: m.Message}
	switch {
	case m.Type == "system":
		f.kind = m.Event
	case m.Type == "ack" && !m.Success:
		f.ackError = m.Error.Name
	case m.Type == "message" && m.DataType != "json":
		var text string
		if err := json.Unmarshal(m.Data, &text); err != nil {
			return frame{}, fmt.Errorf("%q: %w", b, err)
		}
		f.data = []byte(text)
		if m.DataType == "binary" {
			var err error
			if f.data, err = base64.StdEncoding.DecodeString(text); err != nil {
				return frame{}, fmt.Errorf("%q: %w", b, err)
			}
		}
	}
	return f, nil
}

// fields are those of a protobuf message: numbers and bytes, the last of each.
type fields struct {
	numbers map[protowire.Number]uint64
	bytes   map[protowire.Number][]byte
}

func parseFields(b []byte) (fields, error) {
	f := fields{map[protowire.Number]uint64{}, map[protowire.Number][]byte{}}
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return f, protowire.ParseError(n)
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			f.numbers[number], n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.bytes[number], n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, typ, b)
		}
		if n < 0 {
			return f, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return f, nil
}

// decodeProtobuf reads a DownstreamMessage.
func decodeProtobuf(b []byte) (frame, error) {
	var first error
	in := func(b []byte) fields {
		f, err := parseFields(b)
		if first == nil {
			first = err
		}
		return f
	}
	var f frame
	for number, body := range in(b).bytes {
		m := in(body)
		switch number {
		case 1:
			f = frame{kind: "ack", ackID: m.numbers[1]}
			if m.numbers[2] == 0 {
				f.ackError = string(in(m.bytes[3]).bytes[1])
			}
		case 2:
			f = frame{kind: "message", from: string(m.bytes[1]), group: string(m.bytes[2]), sequence: m.numbers[4]}
			for kind, data := range in(m.bytes[3]).bytes {
				f.dataType, f.data = map[protowire.Number]string{1: "text", 2: "binary", 4: "json"}[kind], data
			}
		case 3:
			if connected, ok := m.bytes[1]; ok {
				c := in(connected)
				f = frame{kind: "connected", id: string(c.bytes[1]), token: string(c.bytes[3])}
			} else {
				f = frame{kind: "disconnected", reason: string(in(m.bytes[2]).bytes[1])}
			}
		case 4:
			f = frame{kind: "pong"}
		}
	}
	if first == nil && f.kind == "" {
		first = errors.New("no kind of frame")
	}
	if first != nil {
		return frame{}, fmt.Errorf("%x: %w", b, first)
	}
	return f, nil
}

// client is a WebSocket client. A goroutine reads what comes: messages go to the function that it was made with,
// everything else to whoever asks for it.
type client struct {
	protocol string
	message  func(frame)
	id       string // known of clients with a protocol of the service
	token    string // of a reliable one
	ackID    uint64

	ws      *websocket.Conn
	answers chan frame
	ended   chan struct{} // closed when ws cannot be read any more
	err     error         // why, then

	sequence uint64 // of the last message; the reader's alone
	mu       sync.Mutex
	reason   string // what a disconnected frame said
}

// connect connects a client.
func connect(ctx context.Context, target, protocol string, message func(frame)) (*client, error) {
	c := &client{protocol: protocol, message: message}
	return c, c.dial(ctx, target)
}

func (c *client) reliable() bool { return strings.Contains(c.protocol, "reliable") }

func (c *client) dial(ctx context.Context, target string) error {
	var options websocket.DialOptions
	if c.protocol != raw {
		options.Subprotocols = []string{c.protocol}
	}
	ws, _, err := websocket.Dial(ctx, target, &options)
	if err != nil {
		return err
	}
	ws.SetReadLimit(8 << 20)
	if c.protocol != raw {
		f, err := c.read(ctx, ws)
		if err == nil && f.kind != "connected" {
			err = fmt.Errorf("the first frame is %+v", f)
		}
		if err == nil && c.id != "" && c.id != f.id {
			err = fmt.Errorf("the connection %s came back as %s", c.id, f.id)
		}
		if err != nil {
			ws.CloseNow()
			return err
		}
		if c.token = f.token; c.id == "" { // others read it
			c.id = f.id
		}
	}
	c.ws, c.answers, c.ended = ws, make(chan frame, 1), make(chan struct{})
	go c.readAll(ws, c.answers, c.ended)
	return nil
}

func (c *client) read(ctx context.Context, ws *websocket.Conn) (frame, error) {
	typ, data, err := ws.Read(ctx)
	if err != nil {
		return frame{}, err
	}
	return decode(c.protocol, typ, data)
}

func (c *client) readAll(ws *websocket.Conn, answers chan<- frame, ended chan<- struct{}) {
	defer close(ended)
	defer ws.CloseNow()
	for {
		f, err := c.read(context.Background(), ws)
		switch {
		case err != nil:
			c.err = err
			return
		case f.kind == "disconnected":
			c.mu.Lock()
			c.reason = f.reason
			c.mu.Unlock()
		case f.kind != "message":
			answers <- f
		case c.protocol == raw && string(f.data) == fence:
			answers <- f
		case c.reliable() && f.sequence <= c.sequence: // sent again after a drop
		case c.reliable() && f.sequence != c.sequence+1:
			c.err = fmt.Errorf("message %d came after %d", f.sequence, c.sequence)
			return
		default:
			c.sequence = f.sequence
			c.message(f)
			if c.reliable() && f.sequence%10 == 0 {
				c.acknowledge()
			}
		}
	}
}

// acknowledge acknowledges everything that the reader has read. It may fail, when the connection is being cut.
func (c *client) acknowledge() {
	_ = c.write(request{Type: "sequenceAck", SequenceID: c.sequence})
}

func (c *client) write(r request) error {
	ctx, cancel := patient()
	defer cancel()
	typ, data := r.encode(c.protocol)
	return c.ws.Write(ctx, typ, data)
}

// answer waits for the answer to what was asked.
func (c *client) answer() (frame, error) {
	ctx, cancel := patient()
	defer cancel()
	select {
	case f := <-c.answers:
		return f, nil
	case <-c.ended:
		c.mu.Lock()
		defer c.mu.Unlock()
		return frame{}, fmt.Errorf("no answer: the connection has ended: %q: %w", c.reason, c.err)
	case <-ctx.Done():
		return frame{}, fmt.Errorf("no answer within %v", patience)
	}
}

// withAckID makes the request one to be acknowledged.
func (c *client) withAckID(r request) request {
	c.ackID++
	id := c.ackID
	r.AckID = &id
	return r
}

// ask sends a request and returns the name of its ack's error, "" for success.
func (c *client) ask(r request) (string, error) {
	r = c.withAckID(r)
	if err := c.write(r); err != nil {
		return "", err
	}
	return c.acked(*r.AckID)
}

func (c *client) acked(id uint64) (string, error) {
	f, err := c.answer()
	if err == nil && (f.kind != "ack" || f.ackID != id) {
		err = fmt.Errorf("the answer to request %d is %+v", id, f)
	}
	return f.ackError, err
}

// fence is what a raw client is sent, who cannot ask for anything, to know that it has read what came before.
const fence = "fence"

// drained returns when everything that was queued for the client before has been read. send sends it a message.
func (c *client) drained(send func(text string) error) error {
	want := "pong"
	var err error
	if c.protocol == raw {
		want, err = "message", send(fence)
	} else {
		err = c.write(request{Type: "ping"})
	}
	if err != nil {
		return err
	}
	f, err := c.answer()
	if err == nil && f.kind != want {
		err = fmt.Errorf("%+v came in place of a %s", f, want)
	}
	return err
}

// settled is drained for what the client has to say, too: the service has taken in what it has acknowledged.
func (c *client) settled(send func(text string) error) error {
	err := c.drained(send)
	if err == nil && c.reliable() {
		err = c.drained(send)
	}
	return err
}

// waitEnd waits until the connection can be read no more.
func (c *client) waitEnd() error {
	ctx, cancel := patient()
	defer cancel()
	for {
		select {
		case <-c.ended:
			return nil
		case <-c.answers: // to what was asked when the connection was cut
		case <-ctx.Done():
			return errors.New("the connection does not end")
		}
	}
}

// comeBack connects a reliable client again, after its connection has ended.
func (c *client) comeBack(ctx context.Context, baseURL string) error {
	return c.dial(ctx, baseURL+"?awps_connection_id="+url.QueryEscape(c.id)+"&awps_reconnection_token="+url.QueryEscape(c.token))
}
