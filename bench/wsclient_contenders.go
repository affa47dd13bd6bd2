package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/wsclient"
)

// A socket is a client's connection to a hub.
type socket interface {
	receive(ctx context.Context, n int) error // requests n messages from fastHub and receives them
	send(ctx context.Context, n int) error    // sends n messages to a group; each waits for its acknowledgement
	wait()                                    // waits for a message or the end of the connection
}

// A socketContender connects clients. It calls recovered, if not nil, after each recovery of a connection.
type socketContender struct {
	name string
	dial func(ctx context.Context, url string, recovered func()) (socket, error)
}

const wsclientName = "wsclient"

// The floor comes first. All contenders receive the same frames.
var socketContenders = []socketContender{
	{"floor", dialRaw},
	{wsclientName + ", json", dialWsclient(wsclient.JSONPlain)},
	{wsclientName, dialWsclient(wsclient.JSONReliable)},
}

// rawSocket uses wsclient's WebSocket library directly, and decodes the same JSON with encoding/json.
type rawSocket struct{ ws *websocket.Conn }

// rawMessage holds the fields that rawSocket decodes.
type rawMessage struct {
	Type, From, Group, FromUserID, DataType string
	Data                                    json.RawMessage
	SequenceID, AckID                       uint64
	Success                                 bool
}

func dialRaw(ctx context.Context, url string, _ func()) (socket, error) {
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{jsonProtocol}})
	if err != nil {
		return nil, err
	}
	_, err = rawSocket{ws}.read(ctx) // the connected message
	return rawSocket{ws}, err
}

func (s rawSocket) read(ctx context.Context) (m rawMessage, err error) {
	_, data, err := s.ws.Read(ctx)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(data, &m)
}

func (s rawSocket) receive(ctx context.Context, n int) error {
	frame := fmt.Appendf(nil, `{"type":"event","event":"flood","dataType":"text","data":"%d"}`, n)
	if err := s.ws.Write(ctx, websocket.MessageText, frame); err != nil {
		return err
	}
	for range n {
		if m, err := s.read(ctx); err != nil {
			return err
		} else if m.Type != "message" || len(m.Data) != smallBody+2 {
			return fmt.Errorf("received %+v", m)
		}
	}
	return nil
}

func (s rawSocket) send(ctx context.Context, n int) error {
	for i := range n {
		frame, err := json.Marshal(map[string]any{"type": "sendToGroup", "group": group, "ackId": i + 1, "dataType": "text", "data": smallText})
		if err != nil {
			return err
		}
		if err := s.ws.Write(ctx, websocket.MessageText, frame); err != nil {
			return err
		}
		if m, err := s.read(ctx); err != nil {
			return err
		} else if m.AckID != uint64(i+1) || !m.Success {
			return fmt.Errorf("received %+v", m)
		}
	}
	return nil
}

func (s rawSocket) wait() { _, _ = s.read(context.Background()) }

type wsclientSocket struct{ conn *wsclient.Conn }

func dialWsclient(protocol wsclient.Protocol) func(context.Context, string, func()) (socket, error) {
	return func(ctx context.Context, url string, recovered func()) (socket, error) {
		options := &wsclient.Options{Protocol: protocol,
			// With JSONPlain, a full buffer would drop messages.
			Buffer: wsclient.BufferOptions{Messages: math.MaxInt, Bytes: math.MaxInt}}
		if recovered != nil {
			options.OnConnected = func(e wsclient.ConnectedEvent) {
				if e.Resumed {
					recovered()
				}
			}
		}
		conn, err := wsclient.Dial(ctx, wsclient.StaticURL(url), options)
		return wsclientSocket{conn}, err
	}
}

func (s wsclientSocket) receive(ctx context.Context, n int) error {
	err := s.conn.SendEvent(ctx, "flood", wsclient.Text(fmt.Sprint(n)), &wsclient.SendEventOptions{NoAck: true})
	for range n {
		if err != nil {
			return err
		}
		var m *wsclient.Message
		if m, err = s.conn.Receive(ctx); err == nil && len(m.Data) != smallBody {
			return fmt.Errorf("received %+v", m)
		}
	}
	return err
}

func (s wsclientSocket) send(ctx context.Context, n int) error {
	for range n {
		if err := s.conn.SendToGroup(ctx, group, wsclient.Text(smallText), nil); err != nil {
			return err
		}
	}
	return nil
}

func (s wsclientSocket) wait() { _, _ = s.conn.Receive(context.Background()) }

// A socketJob is one measurement of a contender's process. One of its numbers is not 0.
type socketJob struct {
	URL     string
	Receive int // messages to receive over one connection
	Send    int // messages to send over one connection; each waits for its acknowledgement
	Hold    int // connections to add and hold
	Recover int // recoveries to wait for
}

type socketResult struct {
	Took, CPU time.Duration
	Memory    int64 // bytes of heap and stacks of the added connections
	Resident  int64 // bytes of resident memory of the added connections
}

// dialSockets is the main function of a contender's process.
func dialSockets(c socketContender) error {
	p := &socketProcess{contender: c, recovered: make(chan struct{}, 1<<20)}
	return serveJobs(func(j socketJob) (r socketResult, err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		err = p.do(ctx, j, &r)
		return r, err
	})
}

type socketProcess struct {
	contender socketContender
	one       socket // for Receive and Send
	mu        sync.Mutex
	held      []socket
	recovered chan struct{}
}

func (p *socketProcess) do(ctx context.Context, j socketJob, r *socketResult) (err error) {
	if p.one == nil && j.Receive+j.Send > 0 {
		if p.one, err = p.contender.dial(ctx, j.URL, nil); err != nil {
			return err
		}
	}
	var inUse, resident int64
	if j.Hold > 0 {
		inUse, resident = memory()
	}
	start, cpu := time.Now(), cpuTime()
	switch {
	case j.Receive > 0:
		err = p.one.receive(ctx, j.Receive)
	case j.Send > 0:
		err = p.one.send(ctx, j.Send)
	case j.Hold > 0:
		err = p.hold(ctx, j)
	case j.Recover > 0:
		for range j.Recover {
			select {
			case <-p.recovered:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	r.Took, r.CPU = time.Since(start), cpuTime()-cpu
	if j.Hold > 0 {
		nowInUse, nowResident := memory()
		r.Memory, r.Resident = nowInUse-inUse, nowResident-resident
	}
	return err
}

// hold opens connections. A goroutine per connection waits for a message.
func (p *socketProcess) hold(ctx context.Context, j socketJob) error {
	return runLoop(min(32, j.Hold), j.Hold, func(context.Context) error {
		s, err := p.contender.dial(ctx, j.URL, func() { p.recovered <- struct{}{} })
		if err != nil {
			return err
		}
		go s.wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.held = append(p.held, s)
		return nil
	})
}
