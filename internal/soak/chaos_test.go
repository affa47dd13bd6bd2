package soak

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/wsclient"
)

const (
	chaosHub     = "chaos"
	chaosClients = 200
	chaosRooms   = 10
	chaosPause   = 400 * time.Millisecond // the longest pause between two sends of a client
	chaosFaults  = 25 * time.Millisecond  // the mean time between two faults
)

// TestChaos runs 200 wsclient clients, most of them reliable, that send to each other and to an event handler. At random, it
// cuts connections or makes them half-open, slows down clients and networks, closes clients (also while they recover), and
// stalls event handlers. It checks that within a session no message is lost, duplicated or out of order, and that the test
// caused the end of every session.
func TestChaos(t *testing.T) {
	c := &chaos{t: t, handled: map[string]*history{}}
	c.srv = emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.DiscardHandler)})
	c.service = newClient(t, c.srv.ConnectionString(), chaosHub, nil)
	c.listen()
	r := random(t, 0)
	for i := range chaosClients {
		c.clients = append(c.clients, c.enter(i, random(t, i+1)))
	}
	ctx, stop := context.WithTimeout(t.Context(), *duration)
	defer stop()
	var senders sync.WaitGroup
	for _, s := range c.clients {
		senders.Go(func() { s.sendAll(ctx) })
	}
	// Each kind once, however slow the machine is. The closes are last, so they come first, before a cut can hide their reason.
	for kind := chaosStall - 1; kind >= 0; kind-- {
		for c.caused[kind].Load() == 0 && !t.Failed() {
			c.causeFault(ctx, kind, c.clients[r.IntN(len(c.clients))], r)
		}
	}
	for ctx.Err() == nil && !t.Failed() {
		c.causeFault(ctx, r.IntN(chaosStall), c.clients[r.IntN(len(c.clients))], r)
		pause(ctx, time.Duration(r.Int64N(int64(2*chaosFaults))))
	}
	senders.Wait()
	c.calm.Store(true)
	for _, s := range c.clients {
		senders.Go(s.settle)
	}
	senders.Wait()
	for _, s := range c.clients {
		s.conn.Close()
		<-s.ended
	}
	c.audit()
}

// chaos is the state that the clients share.
type chaos struct {
	t       *testing.T
	srv     *emulator.Server
	service *webpubsub.ServiceClient
	clients []*chaosClient
	calm    atomic.Bool  // the handlers no longer stall
	numbers atomic.Int64 // one sequence that numbers the messages and orders moments
	closes  atomic.Int64
	caused  [chaosKinds]atomic.Int64

	mu      sync.Mutex          // guards everything below
	handled map[string]*history // connection id -> the events that the event handler received
	sent    []*roomMessage
}

const (
	chaosDrop      = iota // the server cuts the connection
	chaosCut              // the client's network cuts the connection
	chaosSilence          // the connection is half-open at the server
	chaosHalfOpen         // the connection is half-open at the client
	chaosSlow             // the network delays everything to the client
	chaosLazy             // the client's application does not call Receive for a while
	chaosRequest          // a request cuts the connection
	chaosClose            // the application sends messages, then closes the connection
	chaosDropClose        // the same, while the client recovers from a cut
	chaosRenew            // the client receives a new reconnection token
	chaosStall            // an event handler is slow
	chaosKinds
)

var chaosNames = [chaosKinds]string{"cut by the server", "cut by the client", "half-open for the server", "half-open for the client",
	"slow networks", "slow receivers", "cut by a request", "closes", "closes during recovery", "new reconnection tokens", "stalled handlers"}

// chaosClient is one client, with the records of its sessions and messages.
type chaosClient struct {
	*chaos
	user    string
	room    string
	plain   bool // the protocol has no recovery
	random  *rand.Rand
	network *network
	conn    *wsclient.Conn
	ended   chan struct{}
	lazy    atomic.Int64 // the Unix time in nanoseconds until which the application does not receive

	mu       sync.Mutex // guards everything below
	sessions []*chaosSession
	received map[int64]bool   // the numbers of the received messages
	last     map[string]int64 // sender -> the number of its last message
	sequence uint64
	faults   int // faults that may have broken the connection
	breaks   int // recoveries that have begun
	fence    string
	fenced   chan struct{}

	delivered, duplicated, disordered, gaps, falseEnds int
}

// chaosSession is a session of a client.
type chaosSession struct {
	id        string
	from, out int64   // the client is in its room from the number from until the number out
	closing   string  // the reason if the application closed the session
	before    []int64 // the messages that were sent to the client before that close
	told      bool    // the client received the reason
	cut       bool    // the connection was cut without recovery, so messages may be missing
}

// roomMessage is an acknowledged message to a room. Its send began at the number by and ended at the number end.
type roomMessage struct {
	room            string
	sender          string
	number, by, end int64
}

// chaosMessage is the content of a message.
type chaosMessage struct {
	From   string `json:"from"`
	Number int64  `json:"number"`
	Fence  string `json:"fence,omitempty"`
}

// enter connects client i.
func (c *chaos) enter(i int, r *rand.Rand) *chaosClient {
	s := &chaosClient{chaos: c, user: fmt.Sprintf("user%d", i), room: fmt.Sprintf("room%d", i%chaosRooms), random: r, network: &network{},
		ended: make(chan struct{}), received: map[int64]bool{}, last: map[string]int64{}, fenced: make(chan struct{}, 1)}
	protocol := []wsclient.Protocol{wsclient.JSONReliable, wsclient.ProtobufReliable, wsclient.JSONReliable, wsclient.ProtobufReliable,
		wsclient.JSONPlain, wsclient.ProtobufPlain}[r.IntN(6)]
	s.plain = protocol == wsclient.JSONPlain || protocol == wsclient.ProtobufPlain
	buffer := wsclient.BufferOptions{}
	if !s.plain && i%2 == 0 {
		buffer.Messages = 50 // messages beyond the buffer are not acknowledged
	}
	ctx, cancel := waitContext()
	defer cancel()
	var err error
	s.conn, err = wsclient.Dial(ctx, func(ctx context.Context) (string, error) {
		access, err := c.service.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: s.user, Groups: []string{s.room},
			Roles: []string{webpubsub.RoleSendToAnyGroup}})
		return access.URL, err
	}, &wsclient.Options{
		Protocol:       protocol,
		HTTPClient:     s.network.client(),
		Buffer:         buffer,
		KeepAlive:      wsclient.KeepAliveOptions{Interval: time.Second, Timeout: 5 * time.Second},
		Reconnect:      wsclient.ReconnectOptions{MaxDelay: time.Second},
		OnConnected:    s.onConnected,
		OnDisconnected: s.onDisconnected,
		OnRecovering:   func(e wsclient.RecoveringEvent) { s.onRecovering(e) },
	})
	require.NoError(c.t, err)
	go s.receiveAll()
	return s
}

func (s *chaosClient) onConnected(e wsclient.ConnectedEvent) {
	if e.Resumed {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = append(s.sessions, &chaosSession{id: e.ConnectionID, from: s.numbers.Add(1), out: never})
}

// session returns the session with an id, or nil if OnConnected has not reported it yet. The caller holds s.mu.
func (s *chaosClient) session(id string) *chaosSession {
	for _, e := range s.sessions {
		if e.id == id {
			return e
		}
	}
	return nil
}

func (s *chaosClient) onDisconnected(e wsclient.DisconnectedEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.session(e.ConnectionID)
	switch {
	case session.closing != "" && strings.HasSuffix(e.Err.Message, "Reason: "+session.closing):
		session.told = true
	case session.closing != "" && s.faults > 0 && e.Err.Message == "": // closed while the client was cut off
	case s.plain && session.cut:
	default:
		s.falseEnds++
		s.t.Errorf("%s: the session %s ended without a cause (closing %q, cut %t): %v", s.user, e.ConnectionID, session.closing, session.cut, e.Err)
	}
}

func (s *chaosClient) onRecovering(e wsclient.RecoveringEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.breaks++; s.breaks > s.faults {
		s.falseEnds++
		s.t.Errorf("%s: the connection %s broke without a fault: %v", s.user, e.ConnectionID, e.Err)
	}
}

func (s *chaosClient) receiveAll() {
	defer close(s.ended)
	for {
		if wait := time.Until(time.Unix(0, s.lazy.Load())); wait > 0 {
			pause(context.Background(), wait)
		}
		m, err := s.conn.Receive(context.Background())
		if err != nil {
			if !errors.Is(err, wsclient.ErrClosed) {
				s.t.Errorf("%s: %v", s.user, err)
			}
			return
		}
		var p chaosMessage
		if err := m.JSON(&p); err != nil {
			s.t.Errorf("%s received %q", s.user, m.Text())
			continue
		}
		s.mu.Lock()
		if !s.plain && m.SequenceID != s.sequence+1 && m.SequenceID != 1 {
			s.gaps++
			s.t.Errorf("%s: message %d came after %d", s.user, m.SequenceID, s.sequence)
		}
		s.sequence = m.SequenceID
		switch {
		case p.Fence != "":
			if p.Fence == s.fence {
				s.fenced <- struct{}{}
			}
		case s.received[p.Number]:
			s.duplicated++
			s.t.Errorf("%s received message %d of %s twice", s.user, p.Number, p.From)
		case p.Number < s.last[p.From]:
			s.disordered++
			s.t.Errorf("%s received message %d of %s after message %d", s.user, p.Number, p.From, s.last[p.From])
		default:
			s.delivered++
			s.received[p.Number], s.last[p.From] = true, p.Number
		}
		s.mu.Unlock()
	}
}

// sendAll sends to the room and to the event handler until ctx ends.
func (s *chaosClient) sendAll(ctx context.Context) {
	for ctx.Err() == nil && !s.t.Failed() {
		// A send that has begun counts even if ctx ends, so it does not use ctx.
		callCtx, cancel := waitContext()
		number := s.numbers.Add(1)
		payload := wsclient.JSON(chaosMessage{From: s.user, Number: number})
		var err error
		if s.random.IntN(3) == 0 {
			err = s.conn.SendEvent(callCtx, "note", payload, &wsclient.SendEventOptions{AtMostOnce: true})
		} else if err = s.conn.SendToGroup(callCtx, s.room, payload, &wsclient.SendToGroupOptions{AtMostOnce: true}); err == nil {
			m := &roomMessage{room: s.room, sender: s.user, number: number, by: number, end: s.numbers.Add(1)}
			s.chaos.mu.Lock()
			s.sent = append(s.sent, m)
			s.chaos.mu.Unlock()
		}
		cancel()
		if err != nil && !errors.Is(err, wsclient.ErrOutcomeUnknown) {
			s.t.Errorf("%s: a send failed: %v", s.user, err)
		}
		pause(ctx, time.Duration(s.random.Int64N(int64(chaosPause))))
	}
}

// fault records that the connection may break, before the fault happens. It returns the connection id, or "" if the client is
// not connected.
func (s *chaosClient) fault() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.session(s.conn.ConnectionID())
	if session == nil || s.conn.State() != wsclient.StateConnected {
		return ""
	}
	s.faults++
	if s.plain {
		session.cut = true
		session.out = min(session.out, s.numbers.Add(1))
	}
	return session.id
}

// causeFault causes a fault of a client, unless the client is not connected.
func (c *chaos) causeFault(ctx context.Context, kind int, s *chaosClient, r *rand.Rand) {
	id := s.conn.ConnectionID()
	switch kind {
	case chaosSlow, chaosLazy, chaosClose, chaosRenew:
	default:
		if id = s.fault(); id == "" {
			return
		}
	}
	switch kind {
	case chaosDrop:
		c.srv.DropConnection(chaosHub, id)
	case chaosCut:
		s.network.cut()
	case chaosSilence:
		c.srv.SilenceConnection(chaosHub, id)
	case chaosHalfOpen:
		s.network.silence()
	case chaosSlow:
		s.network.slow(time.Duration(r.IntN(800)) * time.Millisecond)
	case chaosLazy:
		s.lazy.Store(time.Now().Add(time.Duration(r.IntN(2000)) * time.Millisecond).UnixNano())
	case chaosRequest:
		cut := emulator.CutBeforeEffect
		if r.IntN(2) == 0 {
			cut = emulator.CutAfterEffect
		}
		if err := c.srv.InjectClientFault(emulator.ClientFault{ConnectionID: id, Cut: cut}); err != nil {
			c.t.Error(err)
		}
	case chaosClose, chaosDropClose:
		if kind == chaosDropClose {
			c.srv.DropConnection(chaosHub, id)
		}
		s.closeAfterMessages(ctx, id, r.IntN(10))
	case chaosRenew:
		c.srv.RenewReconnectionToken(chaosHub, id)
	}
	c.caused[kind].Add(1)
}

// closeAfterMessages sends a few messages to a connection and then closes the connection, as an application would.
func (s *chaosClient) closeAfterMessages(ctx context.Context, id string, messages int) {
	s.mu.Lock()
	session := s.session(id)
	known := session != nil && session.closing == ""
	if known {
		session.closing = fmt.Sprintf("chaos %d", s.closes.Add(1))
		session.out = min(session.out, s.numbers.Add(1))
	}
	s.mu.Unlock()
	if !known {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for range messages {
		number := s.numbers.Add(1)
		err := s.service.SendToConnection(ctx, id, webpubsub.JSON(chaosMessage{From: "the application", Number: number}), nil)
		if err != nil {
			s.t.Errorf("%s: %v", s.user, err)
			return
		}
		s.mu.Lock()
		session.before = append(session.before, number)
		s.mu.Unlock()
	}
	err := s.service.CloseConnection(ctx, id, &webpubsub.CloseConnectionOptions{Reason: session.closing})
	if err != nil {
		s.t.Errorf("%s: %v", s.user, err)
	}
}

// settle waits until the client is connected and has received everything.
func (s *chaosClient) settle() {
	ctx, cancel := waitContext()
	defer cancel()
	for attempt := 0; ctx.Err() == nil; attempt++ {
		s.mu.Lock()
		s.fence = fmt.Sprintf("%s-%d", s.user, attempt)
		text := s.fence
		s.mu.Unlock()
		// On a half-open connection, the fence arrives after the recovery. On a new connection, another fence is needed.
		if err := s.service.SendToConnection(ctx, s.conn.ConnectionID(), webpubsub.JSON(chaosMessage{Fence: text}), nil); err != nil {
			s.t.Errorf("%s: sending the fence: %v", s.user, err)
			return
		}
		select {
		case <-s.fenced:
			return
		case <-time.After(10 * time.Second):
		case <-s.ended:
			return
		}
	}
	s.t.Errorf("%s did not settle: %s, %+v", s.user, s.conn.State(), s.conn.Stats())
}

// history is the record of the events of one connection.
type history struct {
	connected, disconnected int
	last                    int64 // the number of the last user event
}

// listen registers an event handler that stalls at random.
func (c *chaos) listen() {
	var mu sync.Mutex
	r := random(c.t, chaosClients+1)
	stall := func(ctx context.Context) {
		mu.Lock()
		d := time.Duration(0)
		if r.IntN(50) == 0 {
			d = time.Duration(r.IntN(1500)) * time.Millisecond
		}
		mu.Unlock()
		if d > 0 && !c.calm.Load() {
			c.caused[chaosStall].Add(1)
			pause(ctx, d)
		}
	}
	record := func(id, what string, note func(*history) bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		h := c.handled[id]
		if h == nil {
			h = &history{}
			c.handled[id] = h
		}
		if h.disconnected > 0 || !note(h) {
			c.t.Errorf("the event handler received %s of connection %s after %+v", what, id, *h)
		}
	}
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub:               chaosHub,
		ConnectionStrings: []string{c.srv.ConnectionString()},
		Logger:            slog.New(slog.DiscardHandler),
		OnConnected: func(ctx context.Context, r *eventhandler.ConnectedRequest) error {
			record(r.ConnectionID, "connected", func(h *history) bool { h.connected++; return h.connected == 1 && h.last == 0 })
			stall(ctx)
			return nil
		},
		OnDisconnected: func(ctx context.Context, r *eventhandler.DisconnectedRequest) error {
			record(r.ConnectionID, "disconnected", func(h *history) bool { h.disconnected++; return h.connected == 1 })
			return nil
		},
		OnUserEvent: func(ctx context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			var p chaosMessage
			if err := r.JSON(&p); err != nil {
				return nil, err
			}
			record(r.ConnectionID, fmt.Sprintf("event %d", p.Number), func(h *history) bool {
				ordered := h.connected == 1 && p.Number > h.last
				h.last = p.Number
				return ordered
			})
			stall(ctx)
			return nil, nil
		},
	})
	require.NoError(c.t, err)
	require.NoError(c.t, c.srv.SetHubSettings(chaosHub, emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
		Handler: handler, SystemEvents: []string{"connected", "disconnected"}, UserEventPattern: "*"}}}))
}

// audit checks the records after all clients have disconnected.
func (c *chaos) audit() {
	ctx, cancel := waitContext()
	defer cancel()
	for _, left := range c.srv.Connections(chaosHub) { // half-open connections of clients with a plain protocol
		c.srv.DropConnection(chaosHub, left.ID)
	}
	require.NoError(c.t, c.srv.WaitForConnections(ctx, chaosHub, 0))
	var f struct{ sessions, closes, told, expected, lost, delivered, duplicated, disordered, gaps, falseEnds int }
	var recoveries uint64
	rooms := map[string][]*roomMessage{}
	for _, m := range c.sent {
		rooms[m.room] = append(rooms[m.room], m)
	}
	for _, s := range c.clients {
		s.mu.Lock()
		f.sessions += len(s.sessions)
		f.delivered, f.duplicated, f.disordered = f.delivered+s.delivered, f.duplicated+s.duplicated, f.disordered+s.disordered
		f.gaps, f.falseEnds = f.gaps+s.gaps, f.falseEnds+s.falseEnds
		recoveries += s.conn.Stats().Recoveries
		expect := func(e *chaosSession, number int64, what string) {
			if f.expected++; !s.received[number] {
				f.lost++
				c.t.Errorf("%s did not receive %d, %s, in the session %+v", s.user, number, what, *e)
			}
		}
		for _, e := range s.sessions {
			if e.closing != "" {
				f.closes++
			}
			if e.told {
				f.told++
				if !e.cut {
					for _, number := range e.before {
						expect(e, number, "sent before the close")
					}
				}
			}
			// A client that was closed while it was cut off misses the messages after the cut. A client without recovery misses
			// the messages that were under way.
			if e.closing != "" && !e.told || e.cut {
				continue
			}
			for _, m := range rooms[s.room] {
				if e.from < m.by && m.end < e.out {
					expect(e, m.number, "sent to the room")
				}
			}
		}
		s.mu.Unlock()
	}
	figures(c.t, "%d clients, %d sessions, %d recoveries, %v", chaosClients, f.sessions, recoveries, *duration)
	var kinds []string
	for kind := range chaosKinds {
		kinds = append(kinds, fmt.Sprintf("%s %d", chaosNames[kind], c.caused[kind].Load()))
	}
	figures(c.t, "%s", strings.Join(kinds, ", "))
	figures(c.t, "messages to rooms %d; deliveries: expected %d, delivered %d; lost %d, duplicated %d, out of order %d, gaps %d; "+
		"sessions closed by the application %d, with the reason received %d; ended without a cause %d", len(c.sent), f.expected, f.delivered, f.lost, f.duplicated,
		f.disordered, f.gaps, f.closes, f.told, f.falseEnds)
	require.Positive(c.t, f.expected)
	require.Positive(c.t, recoveries)
	require.Positive(c.t, f.told)
	require.Zero(c.t, f.lost+f.duplicated+f.disordered+f.gaps+f.falseEnds)
}

// pause waits for a duration or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
