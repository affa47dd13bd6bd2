package tunnel

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

const (
	// maxFrame bounds a frame in both directions, in bytes. The official package declares 1 MiB but reads larger frames. An
	// event of 1 MiB with its headers needs one.
	maxFrame = 2 << 20
	// maxResponse bounds the body of a response that arrives in parts, in bytes. It exceeds the limit for a response to an event.
	maxResponse = 17 << 20
	// writeTimeout bounds the write of one part of a frame. A server that does not read for this long is considered gone.
	writeTimeout = 30 * time.Second
)

// state decides which events a connection receives.
type state int

const (
	active   state = iota // its share of the events
	draining              // events only if no connection is active
	closing               // no events
)

// conn is one connection of a server to the tunnel.
type conn struct {
	tunnels *Tunnels
	id      string
	hub     string
	user    string
	target  string // the service instance that the server requested
	ws      *websocket.Conn
	nc      *wire.Conn
	state   state         // guarded by Tunnels.mu
	ended   chan struct{} // closed when reading has ended

	mu      sync.Mutex // guards everything below
	lastID  int64
	waiting map[int64]*exchange // by AckID
}

// exchange is an event that waits for its response.
type exchange struct {
	response chan *tunnelframe.Response // receives the complete response
	parts    *tunnelframe.Response      // the parts of the response that have arrived
}

var (
	errLost    = errors.New("the tunnel connection was lost before the response arrived")
	errTooLong = &FinalError{fmt.Sprintf("the response is longer than %d bytes", maxResponse)}
)

func newConn(t *Tunnels, ws *websocket.Conn, nc *wire.Conn) *conn {
	nc.LimitWrites(writeTimeout)
	return &conn{tunnels: t, id: rand.Text(), ws: ws, nc: nc, waiting: make(map[int64]*exchange), ended: make(chan struct{})}
}

func (c *conn) info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Info{ID: c.id, UserID: c.user, Target: c.target, Unanswered: len(c.waiting)}
}

// restrict moves the connection to a state with fewer events. A closing connection remains closing.
func (c *conn) restrict(s state) {
	c.tunnels.mu.Lock()
	defer c.tunnels.mu.Unlock()
	c.state = max(c.state, s)
}

// do sends an event and waits for the response.
func (c *conn) do(ctx context.Context, event *tunnelframe.Request) (*tunnelframe.Response, error) {
	e := &exchange{response: make(chan *tunnelframe.Response, 1)}
	c.mu.Lock()
	c.lastID++
	event.AckID = c.lastID
	c.waiting[event.AckID] = e
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, event.AckID)
		c.mu.Unlock()
	}()
	if err := c.write(event); err != nil {
		return nil, err
	}
	select {
	case response := <-e.response:
		return complete(response)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.ended:
		select {
		case response := <-e.response:
			return complete(response)
		default:
			return nil, errLost
		}
	}
}

// complete returns a response. It returns errTooLong if the response was cut at maxResponse.
func complete(response *tunnelframe.Response) (*tunnelframe.Response, error) {
	if response.NotCompleted {
		return nil, errTooLong
	}
	return response, nil
}

// write sends a message. It returns a *FinalError if the message is too large for a frame. If the write fails, it closes the
// connection and returns errLost.
func (c *conn) write(m tunnelframe.Message) error {
	frame, err := tunnelframe.Encode(m, maxFrame)
	if err != nil {
		return &FinalError{fmt.Sprintf("the event does not fit into a frame of %d bytes", maxFrame)}
	}
	if c.ws.Write(context.Background(), websocket.MessageBinary, frame) != nil { // the end of the event's context would close the connection
		c.nc.Close() // the reader notices
		return errLost
	}
	return nil
}

// read reads the connection until it ends.
func (c *conn) read() {
	defer c.nc.Untrack()
	c.ws.SetReadLimit(maxFrame)
	reason := c.readFrames()
	c.tunnels.remove(c)
	close(c.ended)
	c.ws.CloseNow()
	c.nc.Close()
	c.tunnels.Service.Log.Info("a server's tunnel has ended", "hub", c.hub, "tunnel", c.id, "reason", reason, "unanswered", c.info().Unanswered)
	c.tunnels.show(c.hub, 0, "tunnel "+c.id+" ended: "+reason)
}

// readFrames handles frames until reading fails or a frame is invalid. It returns the reason.
func (c *conn) readFrames() (reason string) {
	for {
		kind, r, err := c.ws.Reader(context.Background())
		if err != nil {
			return lostReason(err)
		}
		data, err := tunnelframe.Read(r, maxFrame)
		if err != nil {
			return lostReason(err)
		}
		if kind != websocket.MessageBinary {
			return c.closeInvalid("a text message; frames must be binary")
		}
		m, err := tunnelframe.Decode(data, maxFrame)
		if err != nil {
			return c.closeInvalid("a malformed frame: " + err.Error())
		}
		switch m := m.(type) {
		case *tunnelframe.Response:
			c.handleResponse(m)
		case *tunnelframe.Request:
			c.rejectCall(m)
		default:
			c.tunnels.Service.Log.Debug("a tunnel frame was ignored", "hub", c.hub, "tunnel", c.id, "type", m.Type().String())
		}
	}
}

// lostReason returns the reason why reading failed.
func lostReason(err error) string {
	if ce, ok := errors.AsType[websocket.CloseError](err); ok {
		return fmt.Sprintf("the server closed the connection: %d", ce.Code)
	}
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return fmt.Sprintf("the server sent a frame of more than %d bytes", maxFrame)
	}
	return "the connection was lost"
}

// closeInvalid closes the connection because the server sent something that is not a valid frame. It returns the reason.
func (c *conn) closeInvalid(what string) (reason string) {
	handshake.CloseSocket(c.ws, c.nc, protocol.ClosePolicyViolation, "the server sent "+what)
	return "the server sent " + what
}

// rejectCall responds with 501 to a request from the server, which is a call of the REST API.
func (c *conn) rejectCall(call *tunnelframe.Request) {
	c.tunnels.Service.Log.Info("a server called the REST API through its tunnel, which the emulator does not support",
		"hub", c.hub, "tunnel", c.id, "next", "the response is 501; call the REST API over HTTP")
	body := []byte("the emulator does not serve the REST API through a tunnel")
	_ = c.write(call.Answer(501, map[string][]string{"Content-Type": {"text/plain"}}, body)) // a failure ends the connection
}

// handleResponse adds a part to the response of an event. When the response is complete or too long, it passes the response to
// the waiting event.
func (c *conn) handleResponse(part *tunnelframe.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.waiting[part.AckID]
	if e == nil {
		c.tunnels.Service.Log.Debug("a tunnel response was ignored: no event waits for it", "hub", c.hub, "tunnel", c.id, "ackId", part.AckID)
		return
	}
	if e.parts == nil {
		e.parts = part
	} else {
		e.parts.Body = append(e.parts.Body, part.Body...)
		e.parts.NotCompleted = part.NotCompleted
	}
	if !e.parts.NotCompleted || len(e.parts.Body) > maxResponse {
		delete(c.waiting, part.AckID) // a second response is ignored
		e.response <- e.parts
	}
}

// closeGoingAway closes the connection because the emulator closes.
func (c *conn) closeGoingAway() {
	c.restrict(closing)
	handshake.CloseSocket(c.ws, c.nc, int(websocket.StatusGoingAway), hub.ClosingReason)
}
