package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

const jsonSubprotocol = "json.webpubsub.azure.v1"

// client is one WebSocket client of the hub: a raw one, or one of the JSON subprotocol.
type client struct {
	name         string
	conn         *websocket.Conn
	json         bool
	connectionID string // what the service told a JSON client
}

// frame is what the service sends to JSON clients.
type frame struct {
	Type         string          `json:"type"`
	Event        string          `json:"event"`
	ConnectionID string          `json:"connectionId"`
	Message      string          `json:"message"`
	DataType     string          `json:"dataType"`
	Data         json.RawMessage `json:"data"`
	Success      bool            `json:"success"`
}

func connect(ctx context.Context, name, url, subprotocol string) (*client, error) {
	var options websocket.DialOptions
	if subprotocol != "" {
		options.Subprotocols = []string{subprotocol}
	}
	conn, _, err := websocket.Dial(ctx, url, &options)
	if err != nil {
		return nil, fmt.Errorf("%s cannot connect: %w", name, err)
	}
	c := &client{name: name, conn: conn, json: subprotocol != ""}
	if c.json {
		connected, err := c.read(ctx)
		if err != nil {
			return nil, err
		}
		c.connectionID = connected.ConnectionID
	}
	return c, nil
}

func (c *client) close() { c.conn.CloseNow() }

func (c *client) read(ctx context.Context) (frame, error) {
	var f frame
	if err := wsjson.Read(ctx, c.conn, &f); err != nil {
		return f, fmt.Errorf("%s: %w", c.name, err)
	}
	return f, nil
}

// expect waits for the client's next message, which must be this one.
func (c *client) expect(ctx context.Context, want string) error {
	got, err := c.next(ctx)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s received %q, not %q", c.name, got, want)
	}
	return nil
}

func (c *client) next(ctx context.Context) (string, error) {
	if !c.json {
		_, data, err := c.conn.Read(ctx)
		return string(data), err
	}
	f, err := c.read(ctx)
	if err != nil {
		return "", err
	}
	if f.Type != "message" {
		return "", fmt.Errorf("%s received a frame of type %q, not a message", c.name, f.Type)
	}
	if f.DataType == "json" {
		return string(f.Data), nil
	}
	var text string
	if err := json.Unmarshal(f.Data, &text); err != nil {
		return "", err
	}
	if f.DataType == "binary" {
		data, err := base64.StdEncoding.DecodeString(text)
		return string(data), err
	}
	return text, nil
}

// sendToGroup publishes a text to a group, as a client may that has the permission, and waits for the acknowledgement.
func (c *client) sendToGroup(ctx context.Context, group, text string) error {
	err := wsjson.Write(ctx, c.conn, map[string]any{
		"type": "sendToGroup", "group": group, "ackId": 1, "noEcho": true, "dataType": "text", "data": text})
	if err != nil {
		return err
	}
	ack, err := c.read(ctx)
	if err != nil {
		return err
	}
	if ack.Type != "ack" || !ack.Success {
		return fmt.Errorf("%s may not send to the group", c.name)
	}
	return nil
}

// expectClose waits for the service to say why it closes the connection, and to close it.
func (c *client) expectClose(ctx context.Context, reason string) error {
	f, err := c.read(ctx)
	if err != nil {
		return err
	}
	if f.Event != "disconnected" || f.Message != reason {
		return fmt.Errorf("%s received the event %q with %q, not disconnected with %q", c.name, f.Event, f.Message, reason)
	}
	if _, err := c.read(ctx); websocket.CloseStatus(err) == -1 {
		return fmt.Errorf("%s: the connection is not closed: %w", c.name, err)
	}
	return nil
}
