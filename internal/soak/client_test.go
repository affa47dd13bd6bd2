package soak

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/wsclient"
)

const raw = "" // the protocol of a client without a subprotocol

// protocols are the names of the clients' subprotocols. byName has the wsclient protocol of each name but raw.
var (
	protocols = []string{raw}
	byName    = map[string]wsclient.Protocol{}
)

func init() {
	for _, p := range []wsclient.Protocol{wsclient.JSONPlain, wsclient.JSONReliable, wsclient.ProtobufPlain, wsclient.ProtobufReliable} {
		protocols = append(protocols, p.String())
		byName[p.String()] = p
	}
}

// client is a client of the service. A goroutine receives its messages. It calls message for each one, except for fences,
// which it reports on the channel fences.
//
// The connection is a wsclient.Conn that does not reconnect after a failed recovery. wsclient does not support clients
// without a subprotocol, so a raw client is a bare WebSocket.
type client struct {
	protocol string
	message  func(*wsclient.Message)
	id       string // empty for a raw client
	network  *network
	conn     *wsclient.Conn  // nil for a raw client
	ws       *websocket.Conn // nil for others

	recovered chan struct{} // receives a value after each recovery
	fences    chan struct{} // receives a value for each fence
	ended     chan struct{} // closed when receiving has ended
	err       error         // why receiving has ended; set before ended is closed
	sequence  uint64        // the sequence id of the last message; used by the receiving goroutine only
}

// connect connects a client. Its receiving goroutine calls message for each message.
func connect(ctx context.Context, target, protocol string, message func(*wsclient.Message)) (*client, error) {
	c := &client{protocol: protocol, message: message, network: &network{}, recovered: make(chan struct{}, 1),
		fences: make(chan struct{}, 1), ended: make(chan struct{})}
	var receive func() (*wsclient.Message, error)
	var err error
	if protocol == raw {
		c.ws, _, err = websocket.Dial(ctx, target, &websocket.DialOptions{HTTPClient: c.network.client()})
		receive = c.readRaw
	} else {
		c.conn, err = wsclient.Dial(ctx, wsclient.StaticURL(target), &wsclient.Options{
			Protocol:    byName[protocol],
			HTTPClient:  c.network.client(),
			Reconnect:   wsclient.ReconnectOptions{Disabled: true},
			OnRecovered: func(wsclient.ConnectedEvent) { c.recovered <- struct{}{} },
		})
		receive = func() (*wsclient.Message, error) { return c.conn.Receive(context.Background()) }
	}
	if err != nil {
		return nil, err
	}
	if c.conn != nil {
		c.id = c.conn.ConnectionID()
	} else {
		c.ws.SetReadLimit(8 << 20)
	}
	go c.receiveAll(receive)
	return c, nil
}

func (c *client) readRaw() (*wsclient.Message, error) {
	typ, data, err := c.ws.Read(context.Background())
	m := &wsclient.Message{Payload: wsclient.Payload{DataType: wsclient.DataText, Data: data}}
	if typ == websocket.MessageBinary {
		m.DataType = wsclient.DataBinary
	}
	return m, err
}

func (c *client) receiveAll(receive func() (*wsclient.Message, error)) {
	defer close(c.ended)
	for {
		m, err := receive()
		if err == nil && c.reliable() && m.SequenceID != c.sequence+1 {
			err = fmt.Errorf("message %d came after %d", m.SequenceID, c.sequence)
		}
		switch {
		case err != nil:
			c.err = err
			c.close()
			return
		case string(m.Data) == fence:
			c.fences <- struct{}{}
		default:
			c.message(m)
		}
		c.sequence = m.SequenceID
	}
}

func (c *client) reliable() bool { return strings.Contains(c.protocol, "reliable") }

// fence is the text of a message that marks a point in the messages to a client. When the fence arrives, everything before it
// has arrived.
const fence = "fence"

// drained waits until the client has received everything that was queued for it. send sends the client a message.
func (c *client) drained(send func(text string) error) error {
	if err := send(fence); err != nil {
		return err
	}
	return c.wait(c.fences, "the fence")
}

// settled is like drained. For a reliable client, it also waits until the service has processed the client's acknowledgements.
func (c *client) settled(send func(text string) error) error {
	err := c.drained(send)
	if err == nil && c.reliable() {
		ctx, cancel := waitContext()
		defer cancel()
		err = c.conn.LeaveGroup(ctx, "an unused group") // the service executes it after the acknowledgements sent before
	}
	return err
}

func (c *client) wait(what <-chan struct{}, name string) error {
	ctx, cancel := waitContext()
	defer cancel()
	select {
	case <-what:
		return nil
	case <-c.ended:
		return fmt.Errorf("the connection ended before %s arrived: %w", name, c.err)
	case <-ctx.Done():
		return fmt.Errorf("%s did not arrive within %v", name, patience)
	}
}

// waitRecovered waits until a reliable client has recovered its connection after a cut.
func (c *client) waitRecovered() error { return c.wait(c.recovered, "the recovery") }

// close ends the connection with a close frame.
func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		return
	}
	// Close may fail to see the server's close frame, because the receiving goroutine reads it. That does not matter here.
	c.ws.Close(websocket.StatusNormalClosure, "")
}

// kill ends the connection like a killed process: the client sends nothing and does not recover.
func (c *client) kill() {
	c.network.forbid()
	c.network.cut()
	c.close()
}

// waitEnd waits until receiving has ended.
func (c *client) waitEnd() error {
	ctx, cancel := waitContext()
	defer cancel()
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return errors.New("the connection did not end")
	}
}
