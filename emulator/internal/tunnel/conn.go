package tunnel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

const (
	// maxFrame bounds a frame in both directions. The official package declares 1 MiB and reads larger frames, which an event
	// of 1 MiB with its headers needs.
	maxFrame = 2 << 20
	// maxAnswer bounds the body of an answer that comes in parts. It is more than the longest answer to an event.
	maxAnswer = 17 << 20
	// writeTimeout is for one frame. A server that does not read for so long has gone.
	writeTimeout = 30 * time.Second
)

// state is which events a connection receives.
type state int32

const (
	staying state = iota // its share
	leaving              // those for which there is no other connection
	closing              // none
)

// conn is one connection of a server.
type conn struct {
	tunnels *Tunnels
	id      string
	hub     string
	user    string
	target  string // the instance of the service that the server asked for
	ws      *websocket.Conn
	nc      *wire.Conn
	state   atomic.Int32
	ended   chan struct{} // closed when nothing more is read

	mu      sync.Mutex // guards everything below
	lastID  int64
	waiting map[int64]*exchange // by AckID
}

// exchange is an event that waits for its answer.
type exchange struct {
	answer chan *tunnelframe.Response // receives the whole answer
	parts  *tunnelframe.Response      // what has come of an answer in parts
}

var (
	errLost = errors.New("the tunnel's connection was lost before the answer came")
	errLong = &FinalError{fmt.Sprintf("the answer is longer than %d bytes", maxAnswer)}
)

func (c *conn) info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Info{ID: c.id, UserID: c.user, Target: c.target, Unanswered: len(c.waiting)}
}

// leave lets the connection receive fewer events. A connection that is closing stays so.
func (c *conn) leave(s state) {
	if s == closing || c.state.Load() == int32(staying) {
		c.state.Store(int32(s))
	}
}

// do sends an event and waits for its answer.
func (c *conn) do(ctx context.Context, event *tunnelframe.Request) (*tunnelframe.Response, error) {
	e := &exchange{answer: make(chan *tunnelframe.Response, 1)}
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
	case answer := <-e.answer:
		return complete(answer)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.ended:
		select {
		case answer := <-e.answer:
			return complete(answer)
		default:
			return nil, errLost
		}
	}
}

// complete returns an answer, or an error if it is not a whole one.
func complete(answer *tunnelframe.Response) (*tunnelframe.Response, error) {
	if answer.NotCompleted {
		return nil, errLong
	}
	return answer, nil
}

// write sends a message. It closes the connection if that fails.
func (c *conn) write(m tunnelframe.Message) error {
	frame, err := tunnelframe.Encode(m, maxFrame)
	if err != nil {
		return &FinalError{fmt.Sprintf("the event does not fit into a frame of %d bytes", maxFrame)}
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout) // the event's would end the connection
	defer cancel()
	if c.ws.Write(ctx, websocket.MessageBinary, frame) != nil {
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

// readFrames handles frames, and returns why there are no more.
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
			return c.refuse("a text message, and frames are binary")
		}
		m, err := tunnelframe.Decode(data, maxFrame)
		if err != nil {
			return c.refuse("a malformed frame: " + err.Error())
		}
		switch m := m.(type) {
		case *tunnelframe.Response:
			c.answered(m)
		case *tunnelframe.Request:
			c.refuseCall(m)
		default:
			c.tunnels.Service.Log.Debug("a frame of a tunnel is ignored", "hub", c.hub, "tunnel", c.id, "type", m.Type().String())
		}
	}
}

// lostReason returns why the connection could not be read any more.
func lostReason(err error) string {
	if ce, ok := errors.AsType[websocket.CloseError](err); ok {
		return fmt.Sprintf("the server closed the connection: %d", ce.Code)
	}
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return fmt.Sprintf("the server sent a frame of more than %d bytes", maxFrame)
	}
	return "the connection was lost"
}

// refuse closes a connection whose server has sent something that is not a frame.
func (c *conn) refuse(what string) (reason string) {
	handshake.CloseSocket(c.ws, c.nc, protocol.ClosePolicyViolation, "the server sent "+what)
	return "the server sent " + what
}

// refuseCall answers a request of the server, which would be a call of the REST API.
func (c *conn) refuseCall(call *tunnelframe.Request) {
	c.tunnels.Service.Log.Info("a server calls the REST API through its tunnel, which the emulator does not serve",
		"hub", c.hub, "tunnel", c.id, "next", "it is answered with 501; call the REST API over HTTP")
	body := []byte("the emulator does not serve the REST API through a tunnel")
	_ = c.write(call.Answer(501, map[string][]string{"Content-Type": {"text/plain"}}, body)) // a failure ends the connection
}

// answered hands an answer, once all its parts have come, to the event that waits for it.
func (c *conn) answered(part *tunnelframe.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.waiting[part.AckID]
	if e == nil {
		c.tunnels.Service.Log.Debug("an answer to no event of a tunnel is ignored", "hub", c.hub, "tunnel", c.id, "ackId", part.AckID)
		return
	}
	if e.parts == nil {
		e.parts = part
	} else {
		e.parts.Body = append(e.parts.Body, part.Body...)
		e.parts.NotCompleted = part.NotCompleted
	}
	if !e.parts.NotCompleted || len(e.parts.Body) > maxAnswer {
		delete(c.waiting, part.AckID) // a second answer is to nothing
		e.answer <- e.parts
	}
}

// goAway closes the connection because the server closes.
func (c *conn) goAway() {
	c.leave(closing)
	handshake.CloseSocket(c.ws, c.nc, int(websocket.StatusGoingAway), hub.ClosingReason)
}
