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

// protocols are those of the clients, by the names of their subprotocols.
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

// client is a client of the service. A goroutine receives: messages go to the function that it was made with, fences to
// whoever waits for them.
//
// It is a wsclient.Conn that never makes a new connection, or a bare WebSocket for the clients without a subprotocol, which
// wsclient does not have.
type client struct {
	protocol string
	message  func(*wsclient.Message)
	id       string // known of clients with a protocol of the service
	network  *network
	conn     *wsclient.Conn  // nil for a raw client
	ws       *websocket.Conn // nil for others

	recovered chan struct{} // receives something for each recovery
	fences    chan struct{}
	ended     chan struct{} // closed when nothing is received any more
	err       error         // why, then
	sequence  uint64        // of the last message; the receiver's alone
}

// connect connects a client.
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

// fence is a message that a client is sent, to know that it has received what came before.
const fence = "fence"

// drained returns when everything that was queued for the client before has been received. send sends it a message.
func (c *client) drained(send func(text string) error) error {
	if err := send(fence); err != nil {
		return err
	}
	return c.wait(c.fences, "the fence")
}

// settled is drained for what the client has to say, too: the service has taken in what it has acknowledged.
func (c *client) settled(send func(text string) error) error {
	err := c.drained(send)
	if err == nil && c.reliable() {
		ctx, cancel := patient()
		defer cancel()
		err = c.conn.LeaveGroup(ctx, "a group of nobody") // which the service carries out after the acknowledgements before it
	}
	return err
}

func (c *client) wait(what <-chan struct{}, name string) error {
	ctx, cancel := patient()
	defer cancel()
	select {
	case <-what:
		return nil
	case <-c.ended:
		return fmt.Errorf("%s did not come, and the connection has ended: %w", name, c.err)
	case <-ctx.Done():
		return fmt.Errorf("%s did not come within %v", name, patience)
	}
}

// comeBack waits until a reliable client whose connection was cut has recovered it.
func (c *client) comeBack() error { return c.wait(c.recovered, "the recovery") }

// close ends the connection with a close frame.
func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		return
	}
	// The other side's answer may be lost, as the receiver reads it: that is the library's business.
	c.ws.Close(websocket.StatusNormalClosure, "")
}

// die ends the connection as a process does that is killed: nothing is sent, and the client does not come back.
func (c *client) die() {
	c.network.forbid()
	c.network.cut()
	c.close()
}

// waitEnd waits until nothing is received any more.
func (c *client) waitEnd() error {
	ctx, cancel := patient()
	defer cancel()
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return errors.New("the connection does not end")
	}
}
