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
	chaosPause   = 400 * time.Millisecond // the longest between two sends of a client
	chaosFaults  = 25 * time.Millisecond  // the mean time between two faults
)

// TestChaos lets 200 clients of wsclient, most of them reliable, send to each other and to an event handler, while at random
// connections are cut or become half-open, clients read slowly, the application closes them, also while they recover, and
// event handlers stall. Nothing is lost or comes twice within a session, all is in order, and every client that is
// closed is closed for a reason that the test gave.
func TestChaos(t *testing.T) {
	c := &chaos{t: t, names: map[string]*subject{}, handled: map[string]*history{}}
	c.srv = emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.DiscardHandler)})
	c.service = newClient(t, c.srv.ConnectionString(), chaosHub, nil)
	c.listen()
	r := random(t, 0)
	for i := range chaosClients {
		c.subjects = append(c.subjects, c.enter(i, random(t, i+1)))
	}
	ctx, stop := context.WithTimeout(t.Context(), *duration)
	defer stop()
	var senders sync.WaitGroup
	for _, s := range c.subjects {
		senders.Go(func() { s.sendAll(ctx) })
	}
	for ctx.Err() == nil && !t.Failed() {
		c.causeFault(ctx, c.subjects[r.IntN(len(c.subjects))], r)
		pause(ctx, time.Duration(r.Int64N(int64(2*chaosFaults))))
	}
	senders.Wait()
	c.calm.Store(true)
	for _, s := range c.subjects {
		senders.Go(s.settle)
	}
	senders.Wait()
	for _, s := range c.subjects {
		s.conn.Close()
		<-s.ended
	}
	c.audit()
}

// chaos is what the clients have in common.
type chaos struct {
	t        *testing.T
	srv      *emulator.Server
	service  *webpubsub.ServiceClient
	subjects []*subject
	names    map[string]*subject // by user
	calm     atomic.Bool         // the handlers do not stall any more
	numbers  atomic.Int64
	closes   atomic.Int64
	caused   [chaosKinds]atomic.Int64

	mu      sync.Mutex          // guards everything below
	handled map[string]*history // connection id -> what the event handler was told
	sent    []*broadcast
}

const (
	chaosDrop      = iota // the server's end is cut
	chaosCut              // the client's end is cut
	chaosSilence          // the server hears and says nothing
	chaosHalfOpen         // the client hears and says nothing
	chaosSlow             // nothing reaches the client for a while
	chaosLazy             // the client's application receives nothing for a while
	chaosRequest          // the connection is cut by a request
	chaosClose            // messages, then a close
	chaosDropClose        // a cut, then messages and a close while the client recovers
	chaosRenew            // the client is given a new reconnection token
	chaosStall            // an event handler takes its time
	chaosKinds
)

var chaosNames = [chaosKinds]string{"cut by the server", "cut by the client", "half-open for the server", "half-open for the client",
	"slow networks", "slow receivers", "cut by a request", "closes", "closes during recovery", "new reconnection tokens", "stalled handlers"}

// subject is one client, with the books of what it sent and received.
type subject struct {
	*chaos
	user    string
	room    string
	plain   bool // it has no recovery
	random  *rand.Rand
	network *network
	conn    *wsclient.Conn
	ended   chan struct{}
	lazy    atomic.Int64 // nothing is received before

	mu       sync.Mutex // guards everything below
	sessions []*episode
	received map[int64]bool   // what has come, by number
	last     map[string]int64 // sender -> the number of its last message
	sequence uint64
	faults   int // that may have broken the connection
	breaks   int // recoveries that began
	fence    string
	fenced   chan struct{}

	delivered, duplicated, disordered, gaps, falseEnds int
}

// episode is a session of a client.
type episode struct {
	id        string
	from, out int64   // it is in its room from the one number to the other
	closing   string  // the reason that the application gave for its end
	before    []int64 // what was sent to it before that
	told      bool    // the client was told the reason
	cut       bool    // without recovery, it may miss messages
}

// broadcast is a message to a room that was acknowledged.
type broadcast struct {
	room            string
	sender          string
	number, by, end int64
}

// parcel is what a message holds.
type parcel struct {
	From   string `json:"from"`
	Number int64  `json:"number"`
	Fence  string `json:"fence,omitempty"`
}

func (c *chaos) enter(i int, r *rand.Rand) *subject {
	s := &subject{chaos: c, user: fmt.Sprintf("user%d", i), room: fmt.Sprintf("room%d", i%chaosRooms), random: r, network: &network{},
		ended: make(chan struct{}), received: map[int64]bool{}, last: map[string]int64{}, fenced: make(chan struct{}, 1)}
	protocol := []wsclient.Protocol{wsclient.JSONReliable, wsclient.ProtobufReliable, wsclient.JSONReliable, wsclient.ProtobufReliable,
		wsclient.JSONPlain, wsclient.ProtobufPlain}[r.IntN(6)]
	s.plain = protocol == wsclient.JSONPlain || protocol == wsclient.ProtobufPlain
	buffer := wsclient.BufferOptions{}
	if !s.plain && i%2 == 0 {
		buffer.Messages = 50 // and what is beyond is not acknowledged
	}
	ctx, cancel := patient()
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

func (s *subject) onConnected(e wsclient.ConnectedEvent) {
	if e.Resumed {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = append(s.sessions, &episode{id: e.ConnectionID, from: s.numbers.Add(1), out: never})
}

// session returns the session with an id, or nil if the client has not said yet that it began. The caller holds s.mu.
func (s *subject) session(id string) *episode {
	for _, e := range s.sessions {
		if e.id == id {
			return e
		}
	}
	return nil
}

func (s *subject) onDisconnected(e wsclient.DisconnectedEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session := s.session(e.ConnectionID)
	switch {
	case session.closing != "" && strings.HasSuffix(e.Err.Message, "Reason: "+session.closing):
		session.told = true
	case session.closing != "" && s.faults > 0 && e.Err.Message == "": // while it was cut off
	case s.plain && session.cut:
	default:
		s.falseEnds++
		s.t.Errorf("%s: the session %s ended for no reason that there is (%q, cut %t): %v", s.user, e.ConnectionID, session.closing, session.cut, e.Err)
	}
}

func (s *subject) onRecovering(e wsclient.RecoveringEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.breaks++; s.breaks > s.faults {
		s.falseEnds++
		s.t.Errorf("%s: the connection %s broke without a fault: %v", s.user, e.ConnectionID, e.Err)
	}
}

func (s *subject) receiveAll() {
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
		var p parcel
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
			s.t.Errorf("%s received %d of %s again", s.user, p.Number, p.From)
		case p.Number < s.last[p.From]:
			s.disordered++
			s.t.Errorf("%s received %d of %s after %d", s.user, p.Number, p.From, s.last[p.From])
		default:
			s.delivered++
			s.received[p.Number], s.last[p.From] = true, p.Number
		}
		s.mu.Unlock()
	}
}

// sendAll sends to the room and to the event handler.
func (s *subject) sendAll(ctx context.Context) {
	for ctx.Err() == nil && !s.t.Failed() {
		// What was sent counts also when the time is over, so the call has a context of its own.
		one, cancel := patient()
		number := s.numbers.Add(1)
		payload := wsclient.JSON(parcel{From: s.user, Number: number})
		var err error
		if s.random.IntN(3) == 0 {
			err = s.conn.SendEvent(one, "note", payload, &wsclient.SendEventOptions{AtMostOnce: true})
		} else if err = s.conn.SendToGroup(one, s.room, payload, &wsclient.SendToGroupOptions{AtMostOnce: true}); err == nil {
			m := &broadcast{room: s.room, sender: s.user, number: number, by: number, end: s.numbers.Add(1)}
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

// fault notes, before it happens, that the connection may break. It returns its id, or "" if it is not up.
func (s *subject) fault() string {
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

// causeFault lets something go wrong with a client.
func (c *chaos) causeFault(ctx context.Context, s *subject, r *rand.Rand) {
	kind := r.IntN(chaosStall)
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

// closeAfterMessages closes a connection, in the name of the application, after it was sent a few messages.
func (s *subject) closeAfterMessages(ctx context.Context, id string, messages int) {
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
		err := s.service.SendToConnection(ctx, id, webpubsub.JSON(parcel{From: "the application", Number: number}), nil)
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
func (s *subject) settle() {
	ctx, cancel := patient()
	defer cancel()
	for attempt := 0; ctx.Err() == nil; attempt++ {
		s.mu.Lock()
		s.fence = fmt.Sprintf("%s-%d", s.user, attempt)
		text := s.fence
		s.mu.Unlock()
		// A connection that is half-open without anybody knowing gets it once it is recovered; a new one needs another.
		if err := s.service.SendToConnection(ctx, s.conn.ConnectionID(), webpubsub.JSON(parcel{Fence: text}), nil); err != nil {
			s.t.Errorf("%s: the fence: %v", s.user, err)
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
	s.t.Errorf("%s does not settle: %s, %+v", s.user, s.conn.State(), s.conn.Stats())
}

// history is what the event handler was told of one connection.
type history struct {
	connected, disconnected int
	last                    int64
}

// listen makes an event handler that stalls at random.
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
	tell := func(id, what string, note func(*history) bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		h := c.handled[id]
		if h == nil {
			h = &history{}
			c.handled[id] = h
		}
		if h.disconnected > 0 || !note(h) {
			c.t.Errorf("the event handler was told %s of %s after %+v", what, id, *h)
		}
	}
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub:               chaosHub,
		ConnectionStrings: []string{c.srv.ConnectionString()},
		Logger:            slog.New(slog.DiscardHandler),
		OnConnected: func(ctx context.Context, r *eventhandler.ConnectedRequest) error {
			tell(r.ConnectionID, "connected", func(h *history) bool { h.connected++; return h.connected == 1 && h.last == 0 })
			stall(ctx)
			return nil
		},
		OnDisconnected: func(ctx context.Context, r *eventhandler.DisconnectedRequest) error {
			tell(r.ConnectionID, "disconnected", func(h *history) bool { h.disconnected++; return h.connected == 1 })
			return nil
		},
		OnUserEvent: func(ctx context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			var p parcel
			if err := r.JSON(&p); err != nil {
				return nil, err
			}
			tell(r.ConnectionID, fmt.Sprintf("event %d", p.Number), func(h *history) bool {
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

// audit goes through the books, once all clients are gone.
func (c *chaos) audit() {
	ctx, cancel := patient()
	defer cancel()
	require.NoError(c.t, c.srv.WaitForConnections(ctx, chaosHub, 0))
	var f struct{ sessions, closes, told, expected, lost, delivered, duplicated, disordered, gaps, falseEnds int }
	var recoveries uint64
	rooms := map[string][]*broadcast{}
	for _, m := range c.sent {
		rooms[m.room] = append(rooms[m.room], m)
	}
	for _, s := range c.subjects {
		s.mu.Lock()
		f.sessions += len(s.sessions)
		f.delivered, f.duplicated, f.disordered = f.delivered+s.delivered, f.duplicated+s.duplicated, f.disordered+s.disordered
		f.gaps, f.falseEnds = f.gaps+s.gaps, f.falseEnds+s.falseEnds
		recoveries += s.conn.Stats().Recoveries
		expect := func(e *episode, number int64, what string) {
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
			// One that was closed while it was cut off misses the rest, and one without recovery what was on its way.
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
		"sessions closed by the application %d, told why %d; ended for a false reason %d", len(c.sent), f.expected, f.delivered, f.lost, f.duplicated,
		f.disordered, f.gaps, f.closes, f.told, f.falseEnds)
	require.Positive(c.t, f.expected)
	require.Positive(c.t, recoveries)
	require.Positive(c.t, f.told)
	require.Zero(c.t, f.lost+f.duplicated+f.disordered+f.gaps+f.falseEnds)
}

// pause lets time pass, or ctx end.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
