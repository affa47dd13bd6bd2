package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/awps-go/webpubsub/wsclient"
)

// display prints the messages of a connected client and the changes of its connection. It is safe for concurrent use.
type display interface {
	message(*wsclient.Message) error
	connected(wsclient.ConnectedEvent, wsclient.Protocol)
	recovering(wsclient.RecoveringEvent)
	recovered(wsclient.ConnectedEvent)
	disconnected(wsclient.DisconnectedEvent)
	notSent(error)
}

// textDisplay prints for people.
type textDisplay struct {
	mu       sync.Mutex
	messages io.Writer
	events   io.Writer
}

const clock = "15:04:05.000"

func (d *textDisplay) message(m *wsclient.Message) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s, %s%s", time.Now().Format(clock), origin(m), m.DataType, details(m))
	switch m.DataType {
	case wsclient.DataText:
		fmt.Fprintf(&b, ": %s\n", printableText(m.Text()))
	case wsclient.DataJSON:
		b.WriteString(":\n" + indentedJSON(m.Data) + "\n")
	default:
		b.WriteString(":\n" + hex.Dump(m.Data))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, err := io.WriteString(d.messages, b.String())
	return err
}

// origin describes the sender of a message.
func origin(m *wsclient.Message) string {
	if m.From != wsclient.FromGroup {
		return "server"
	}
	text := "group " + printable(m.Group)
	if m.FromUserID != "" {
		text += ", user " + printable(m.FromUserID)
	}
	return text
}

// details describes the size, metadata and stream of a message, if any.
func details(m *wsclient.Message) string {
	var parts []string
	if m.DataType == wsclient.DataBinary || m.DataType == wsclient.DataProtobuf {
		parts = append(parts, fmt.Sprintf("%d bytes", len(m.Data)))
	}
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		parts = append(parts, printable(key+"="+m.Metadata[key]))
	}
	if s := m.Stream; s != nil {
		part := fmt.Sprintf("stream %s, fragment %d", printable(s.StreamID), s.Number)
		if s.End {
			part += ", the last"
		}
		if s.Err != nil {
			part += ", " + printable(s.Err.Error())
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func indentedJSON(data []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		return printableText(string(data)) // unlikely: the service checks JSON
	}
	return printableText(b.String())
}

func (d *textDisplay) event(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.events, "%s %s\n", time.Now().Format(clock), printable(fmt.Sprintf(format, args...)))
}

func (d *textDisplay) connected(e wsclient.ConnectedEvent, protocol wsclient.Protocol) {
	text := "connected"
	if !e.First {
		text = "reconnected, messages may be missing"
	}
	if e.UserID != "" {
		text += ", user " + e.UserID
	}
	d.event("%s, connection %s, %s", text, e.ConnectionID, protocol)
}

func (d *textDisplay) recovering(e wsclient.RecoveringEvent) {
	d.event("connection lost, recovering: %s", errorLine(e.Err))
}

func (d *textDisplay) recovered(e wsclient.ConnectedEvent) {
	d.event("recovered, no messages lost, connection %s", e.ConnectionID)
}

func (d *textDisplay) disconnected(e wsclient.DisconnectedEvent) {
	d.event("disconnected: %s", errorLine(e.Err))
}

func (d *textDisplay) notSent(err error) { d.event("not sent: %s", errorLine(err)) }

// jsonDisplay prints for programs: one JSON object a line.
type jsonDisplay struct {
	mu sync.Mutex
	w  io.Writer
}

// jsonEvent is a line of jsonDisplay. Its JSON names are part of the program's interface.
type jsonEvent struct {
	Time         time.Time `json:"time"`
	Event        string    `json:"event"`
	ConnectionID string    `json:"connectionId,omitempty"`
	UserID       string    `json:"userId,omitempty"`
	Protocol     string    `json:"protocol,omitempty"`
	First        bool      `json:"first,omitempty"`
	Error        string    `json:"error,omitempty"`
	Code         int       `json:"code,omitempty"` // the close code
}

// jsonMessage is a line of jsonDisplay for a message.
type jsonMessage struct {
	Time       time.Time         `json:"time"`
	Event      string            `json:"event"`
	From       string            `json:"from"`
	Group      string            `json:"group,omitempty"`
	FromUserID string            `json:"fromUserId,omitempty"`
	DataType   wsclient.DataType `json:"dataType"`
	Data       any               `json:"data"` // a JSON value, a string, or bytes in base64
	Metadata   map[string]string `json:"metadata,omitempty"`
	SequenceID uint64            `json:"sequenceId,omitempty"`
	Stream     *jsonStream       `json:"stream,omitempty"`
}

type jsonStream struct {
	StreamID string `json:"streamId"`
	Number   uint64 `json:"number"`
	End      bool   `json:"end,omitempty"`
	Error    string `json:"error,omitempty"`
}

func (d *jsonDisplay) print(v any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return printJSON(d.w, v)
}

// event prints an event. It ignores errors: if the output is closed, the next message fails.
func (d *jsonDisplay) event(e jsonEvent) {
	e.Time = time.Now()
	_ = d.print(e)
}

func (d *jsonDisplay) message(m *wsclient.Message) error {
	line := jsonMessage{
		Time: time.Now(), Event: "message", From: m.From, Group: m.Group, FromUserID: m.FromUserID,
		DataType: m.DataType, Metadata: m.Metadata, SequenceID: m.SequenceID,
	}
	switch {
	case m.DataType == wsclient.DataJSON && json.Valid(m.Data):
		line.Data = json.RawMessage(m.Data)
	case m.DataType == wsclient.DataText, m.DataType == wsclient.DataJSON:
		line.Data = m.Text()
	default:
		line.Data = m.Data
	}
	if s := m.Stream; s != nil {
		line.Stream = &jsonStream{StreamID: s.StreamID, Number: s.Number, End: s.End}
		if s.Err != nil {
			line.Stream.Error = s.Err.Error()
		}
	}
	return d.print(line)
}

func (d *jsonDisplay) connected(e wsclient.ConnectedEvent, protocol wsclient.Protocol) {
	d.event(jsonEvent{Event: "connected", ConnectionID: e.ConnectionID, UserID: e.UserID, Protocol: protocol.String(), First: e.First})
}

func (d *jsonDisplay) recovering(e wsclient.RecoveringEvent) {
	d.event(jsonEvent{Event: "recovering", ConnectionID: e.ConnectionID, Error: errorLine(e.Err), Code: e.Err.Code})
}

func (d *jsonDisplay) recovered(e wsclient.ConnectedEvent) {
	d.event(jsonEvent{Event: "recovered", ConnectionID: e.ConnectionID, UserID: e.UserID})
}

func (d *jsonDisplay) disconnected(e wsclient.DisconnectedEvent) {
	d.event(jsonEvent{Event: "disconnected", ConnectionID: e.ConnectionID, Error: errorLine(e.Err), Code: e.Err.Code})
}

func (d *jsonDisplay) notSent(err error) {
	d.event(jsonEvent{Event: "not-sent", Error: errorLine(err)})
}
