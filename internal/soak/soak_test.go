package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/wsclient"
)

// TestSoak runs 200 clients of every protocol but MQTT in two hubs. At random they join and leave groups, send, drop out and
// come back. The service client makes every kind of send, membership change, permission change and query, and an event handler
// receives all events. A round consists of a few steps of each client. After each round, the test checks its records: every
// message arrived at exactly its recipients, once, unchanged, and in the order of its sender.
//
// The records use a counter that every step increments. A step takes effect between the count before it and the count after
// it. So there are three cases for a message and a client: the message must arrive; it must not arrive; or it may arrive,
// because the client joined or left while the message was sent.
func TestSoak(t *testing.T) {
	const clients = 200
	srv := emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.DiscardHandler), ConnectedAfterRecovery: true})
	w := &soakRun{t: t, srv: srv}
	w.random = random(t, 0)
	for _, name := range []string{"soak", "Other"} {
		h := &soakHub{name: name, client: newClient(t, srv.ConnectionString(), name, nil)}
		h.listen(t, srv)
		w.hubs = append(w.hubs, h)
	}
	var agents []*agent
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range clients {
		wg.Go(func() {
			r := random(t, i+1)
			a, err := w.enter(w.hubs[min(i%4, 1)^1], r) // a quarter of the clients is in the second hub
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			agents = append(agents, a)
			mu.Unlock()
		})
	}
	wg.Wait()
	require.False(t, t.Failed())

	for end := time.Now().Add(*duration); time.Now().Before(end) && !t.Failed(); w.rounds++ {
		for _, h := range w.hubs {
			h.budget.Store(sendsPerRound)
		}
		for i := range agents {
			wg.Go(func() {
				var err error
				for range 1 + agents[i].random.IntN(8) {
					if agents[i], err = w.step(agents[i]); err != nil {
						t.Errorf("%s: %v", agents[i], err)
						return
					}
				}
			})
		}
		wg.Wait()
		for _, a := range agents {
			wg.Go(func() {
				if err := a.settled(); err != nil {
					t.Errorf("%s: %v", a, err)
				}
			})
		}
		wg.Wait()
		w.audit()
	}

	for _, a := range agents {
		if err := w.leave(a, a.disconnect); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, h := range w.hubs {
		ctx, cancel := waitContext()
		defer cancel()
		gone := func() bool { // a killed client may recover for some time after the server has noticed
			ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			srv.Advance(time.Minute)
			return srv.WaitForConnections(ctx, h.name, 0) == nil
		}
		for !gone() {
			require.NoError(t, ctx.Err())
		}
		require.Empty(t, srv.Groups(h.name))
		require.Empty(t, srv.Users(h.name))
		for h.events[connectedEvent].Load() != h.entered.Load() || h.events[disconnectedEvent].Load() != h.entered.Load() {
			select {
			case <-h.newEvent:
			case <-ctx.Done():
				t.Fatalf("%d clients connected to %s, but the event handler received %d connected and %d disconnected events", h.entered.Load(),
					h.name, h.events[connectedEvent].Load(), h.events[disconnectedEvent].Load())
			}
		}
	}
	f := &w.figures
	figures(t, "%d clients, %d connections, %d recovered drops, %d rounds, %v", clients, w.hubs[0].entered.Load()+w.hubs[1].entered.Load(),
		w.recovered.Load(), w.rounds, *duration)
	figures(t, "messages sent %d; deliveries: expected %d, also possible %d, delivered %d; lost %d, duplicated %d, misdelivered %d, "+
		"out of order %d, changed %d", f.sent, f.expected, f.possible, f.delivered, f.lost, f.duplicated, f.misdelivered, f.disordered, f.changed)
	require.Greater(t, f.expected, f.sent, "the messages have recipients")
	require.Positive(t, w.recovered.Load())
	require.Zero(t, f.lost, "lost")
	require.Zero(t, f.duplicated, "duplicated")
	require.Zero(t, f.misdelivered, "misdelivered")
	require.Zero(t, f.disordered, "out of order")
	require.Zero(t, f.changed, "changed")
}

const (
	groupCount = 8
	teamCount  = 12 // users with several connections

	// sendsPerRound is less than the 1,000 messages that a reliable client may leave unacknowledged. All clients have read all
	// messages at the end of a round, so no client reaches that limit.
	sendsPerRound = 800

	never = math.MaxInt64
)

// soakRun is the state that the clients share.
type soakRun struct {
	t         *testing.T
	srv       *emulator.Server
	hubs      []*soakHub
	random    *rand.Rand
	count     atomic.Int64 // the counter of the records
	names     atomic.Int64 // for the names of the agents
	numbers   atomic.Int64 // for the numbers of the messages
	recovered atomic.Int64
	rounds    int
	figures   struct{ sent, expected, possible, delivered, lost, duplicated, misdelivered, disordered, changed int }
}

// soakHub is a hub.
type soakHub struct {
	name     string
	client   *webpubsub.ServiceClient
	budget   atomic.Int64 // the number of sends that remain in this round
	entered  atomic.Int64
	ids      sync.Map        // agent's name -> connection id in the connect event
	events   [2]atomic.Int64 // the events that the event handler received
	newEvent chan struct{}   // receives a value after an event

	mu      sync.Mutex // guards everything below
	present []*agent
	agents  []*agent   // the agents of this round, including those that have left
	sent    []*sending // the messages of this round
}

const (
	connectedEvent = iota
	disconnectedEvent
)

// listen registers an event handler for all events of the hub.
func (h *soakHub) listen(t *testing.T, srv *emulator.Server) {
	h.newEvent = make(chan struct{}, 1)
	record := func(event int) {
		h.events[event].Add(1)
		select {
		case h.newEvent <- struct{}{}:
		default:
		}
	}
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub:               h.name,
		ConnectionStrings: []string{srv.ConnectionString()},
		Logger:            slog.New(slog.NewTextHandler(t.Output(), nil)),
		OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			h.ids.Store(r.Query.Get("agent"), r.ConnectionID)
			var groups []string
			if group := r.Query.Get("handlerGroup"); group != "" {
				groups = append(slices.Clone(r.Claims["webpubsub.group"]), group) // these replace the token's groups
			}
			return &eventhandler.ConnectResponse{Groups: groups, SetState: map[string]any{"agent": r.Query.Get("agent")}}, nil
		},
		OnConnected: func(context.Context, *eventhandler.ConnectedRequest) error {
			record(connectedEvent)
			return nil
		},
		OnDisconnected: func(context.Context, *eventhandler.DisconnectedRequest) error {
			record(disconnectedEvent)
			return nil
		},
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			var agent string
			if _, err := r.State.Get("agent", &agent); err != nil {
				return nil, err
			}
			if id, _ := h.ids.Load(agent); id != r.ConnectionID {
				return nil, fmt.Errorf("the event of connection %s has the state of agent %s", r.ConnectionID, agent)
			}
			message := webpubsub.Binary(r.Data)
			switch r.ContentType {
			case eventhandler.ContentTypeJSON:
				message = webpubsub.JSON(json.RawMessage(r.Data))
			case eventhandler.ContentTypeText:
				message = webpubsub.Text(r.Text())
			}
			return &eventhandler.UserEventResponse{Message: message}, nil
		},
	})
	require.NoError(t, err)
	require.NoError(t, srv.SetHubSettings(h.name, emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
		Handler: handler, SystemEvents: []string{"connect", "connected", "disconnected"}, UserEventPattern: "*"}}}))
}

// sending is the record of one message.
type sending struct {
	number     int64
	sender     *agent
	start, end int64 // the counts before and after the send

	// The recipients: the members of group, the connections of user, the agent only, or everyone if none is set. The message
	// does not reach excluded agents, agents that filter rejects, or anyone if nobody is set.
	group    string
	user     string
	only     *agent
	nobody   bool
	excluded []*agent
	filter   func(a *agent, at func(*spans) bool) bool

	dataType, from, fromUser string // of the message that arrives
}

// text returns the text of a message: its number, and filler of different sizes.
func text(number int64) string {
	size := number % 200
	if number%101 == 0 {
		size = 10_000
	}
	return strconv.FormatInt(number, 10) + " " + strings.Repeat("é", int(size/2))
}

// body returns the text of the message in the form of its data type.
func (s *sending) body() []byte {
	switch body := text(s.number); s.dataType {
	case "json":
		return []byte(`{"text":"` + body + `"}`)
	case "binary":
		return []byte("\xff\x00" + body)
	default:
		return []byte(body)
	}
}

// spans are the times during which an agent is connected or in a group. A span begins between the counts start and in, and ends
// between the counts out and end.
type spans []span

type span struct{ start, in, out, end int64 }

func (s *spans) begin(now int64) { *s = append(*s, span{now, never, never, never}) }

func (s spans) last() *span { return &s[len(s)-1] }

func (s spans) open() bool { return len(s) > 0 && s.last().out == never }

// throughout reports whether one of the spans covers the whole send.
func (s *sending) throughout(all *spans) bool {
	return slices.ContainsFunc(*all, func(at span) bool { return at.in < s.start && s.end < at.out })
}

// meanwhile reports whether one of the spans overlaps the send.
func (s *sending) meanwhile(all *spans) bool {
	return slices.ContainsFunc(*all, func(at span) bool { return at.start < s.end && s.start < at.end })
}

// reaches reports whether the agent is a recipient of the message. at is throughout or meanwhile, and decides whether the agent
// counts as connected and as a member of a group.
func (s *sending) reaches(a *agent, at func(*spans) bool) bool {
	switch {
	case s.nobody, !at(&a.here), slices.Contains(s.excluded, a), s.filter != nil && !s.filter(a, at):
		return false
	case s.only != nil:
		return a == s.only
	case s.user != "":
		return a.user == s.user
	case s.group != "":
		return at(&a.groups[groupIndex(s.group)])
	}
	return true
}

func groupName(i int) string { return fmt.Sprintf("group %d'é?#", i) }

func groupIndex(name string) int {
	i, _ := strconv.Atoi(name[len("group "):strings.Index(name, "'")])
	return i
}

// agent is one client, with the records of its actions and messages.
type agent struct {
	*client
	w       *soakRun
	hub     *soakHub
	random  *rand.Rand
	name    string
	user    string
	alone   bool // no other agent has this user
	toGroup int  // for a raw client: the group that it sends to, or -1 if it sends events
	here    spans
	groups  [groupCount]spans
	dropped time.Time // the time of the last cut

	mu  sync.Mutex
	got []arrival
}

func (a *agent) String() string {
	return fmt.Sprintf("%s of %s in %s (%q)", a.name, a.user, a.hub.name, a.protocol)
}

// arrival is the record of a received message.
type arrival struct {
	number                          int64
	dataType, from, group, fromUser string
	whole                           bool
}

func (a *agent) receive(m *wsclient.Message) {
	got := arrival{dataType: string(m.DataType), from: m.From, group: m.Group, fromUser: m.FromUserID}
	body := m.Data
	if cut, ok := bytes.CutPrefix(body, []byte(`{"text":"`)); ok {
		body = bytes.TrimSuffix(cut, []byte(`"}`))
		got.dataType = "json" // for a raw client, too, which receives it as text
	}
	body = bytes.TrimPrefix(body, []byte("\xff\x00"))
	number, _, _ := strings.Cut(string(body), " ")
	got.number, _ = strconv.ParseInt(number, 10, 64)
	got.whole = bytes.Equal((&sending{number: got.number, dataType: got.dataType}).body(), m.Data)
	a.mu.Lock()
	a.got = append(a.got, got)
	a.mu.Unlock()
}

func (w *soakRun) now() int64 { return w.count.Add(1) }

// enter connects a new client.
func (w *soakRun) enter(h *soakHub, r *rand.Rand) (*agent, error) {
	ctx, cancel := waitContext()
	defer cancel()
	n := w.names.Add(1)
	a := &agent{w: w, hub: h, random: r, name: fmt.Sprintf("a%d", n), alone: r.IntN(2) == 0, toGroup: -1}
	a.user = fmt.Sprintf("user %d'é", n)
	if !a.alone {
		a.user = fmt.Sprintf("team %d", r.IntN(teamCount))
	}
	protocol := protocols[r.IntN(len(protocols))]
	query := "&agent=" + a.name
	if protocol == raw && r.IntN(2) == 0 {
		a.toGroup = r.IntN(groupCount)
		query += "&webpubsub_mode=sendToGroup&group=" + url.QueryEscape(groupName(a.toGroup))
	}
	options := &webpubsub.ClientAccessTokenOptions{UserID: a.user, Roles: []string{webpubsub.RoleJoinLeaveAnyGroup, webpubsub.RoleSendToAnyGroup}}
	a.here.begin(w.now())
	if g := r.IntN(groupCount); r.IntN(2) == 0 {
		a.groups[g].begin(w.now())
		options.Groups = []string{groupName(g)}
	}
	if g := r.IntN(groupCount); r.IntN(3) == 0 && !a.groups[g].open() {
		a.groups[g].begin(w.now())
		query += "&handlerGroup=" + url.QueryEscape(groupName(g))
	}
	h.mu.Lock()
	h.agents = append(h.agents, a)
	h.mu.Unlock()
	access, err := h.client.GetClientAccessToken(ctx, options)
	if err != nil {
		return nil, err
	}
	if a.client, err = connect(ctx, access.URL+query, protocol, a.receive); err != nil {
		return nil, err
	}
	now := w.now()
	a.here.last().in = now
	for g := range a.groups {
		if a.groups[g].open() {
			a.groups[g].last().in = now
		}
	}
	h.entered.Add(1)
	id, _ := h.ids.Load(a.name)
	if a.id == "" {
		a.id, _ = id.(string)
	}
	if a.id != id || a.id == "" {
		return nil, fmt.Errorf("the connection of %[2]s is %[1]q, but the event handler received %[3]v", a.id, a.name, id)
	}
	h.mu.Lock()
	h.present = append(h.present, a)
	h.mu.Unlock()
	return a, nil
}

// settled waits until the client has read everything that was sent to it.
func (a *agent) settled() error {
	return a.client.settled(func(text string) error {
		ctx, cancel := waitContext()
		defer cancel()
		return a.hub.client.SendToConnection(ctx, a.id, webpubsub.Text(text), nil)
	})
}

// someone returns a random client of the hub, which may just have disconnected.
func (h *soakHub) someone(r *rand.Rand) *agent {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.present[r.IntN(len(h.present))]
}

// step does one random action. It returns the agent, or the agent that replaces it.
func (w *soakRun) step(a *agent) (*agent, error) {
	ctx, cancel := waitContext()
	defer cancel()
	g := a.random.IntN(groupCount)
	switch n := a.random.IntN(100); {
	case n < 15 && !a.groups[g].open():
		return a, a.joinGroup(ctx, g)
	case n < 22 && a.groups[g].open():
		return a, a.leaveGroup(ctx, g)
	case n < 24:
		return a, a.leaveAllGroups(ctx)
	case n < 29:
		return a, a.checkService(ctx, g)
	case n < 32 && a.protocol != raw:
		return a, a.forbidden(ctx, g)
	case n < 37 && a.reliable() && a.mayDrop():
		return a, a.dropAndRecover()
	case n < 40 && a.reliable() && a.mayDrop():
		return a, a.dropWhileSending(ctx, g)
	case n < 43:
		if err := w.leave(a, a.disconnect); err != nil {
			return a, err
		}
		fresh, err := w.enter(a.hub, a.random)
		if err != nil {
			return a, err
		}
		return fresh, nil
	case a.hub.budget.Add(-10) < 0: // more than each of the cases below needs
		a.hub.budget.Add(10)
		return a, nil
	case n < 50 && a.toGroup < 0:
		a.hub.budget.Add(9)
		return a, a.event(ctx)
	case n < 70 && (a.protocol != raw || a.toGroup >= 0):
		burst := 1 + a.random.IntN(4)
		a.hub.budget.Add(int64(10 - burst))
		return a, a.publish(ctx, g, burst)
	default:
		a.hub.budget.Add(9)
		return a, a.send(ctx, g)
	}
}

func (a *agent) joinGroup(ctx context.Context, g int) error {
	a.groups[g].begin(a.w.now())
	client, name := a.hub.client, groupName(g)
	var err error
	switch n := a.random.IntN(5); {
	case n == 0:
		err = client.AddConnectionToGroup(ctx, name, a.id, nil)
	case n == 1 && a.alone:
		err = client.AddUserToGroup(ctx, name, a.user, nil)
	case n < 3 || a.protocol == raw:
		err = client.AddConnectionsToGroups(ctx, []string{name}, webpubsub.FormatFilter("connectionId eq %v", a.id), nil)
	default:
		err = a.conn.JoinGroup(ctx, name)
	}
	a.groups[g].last().in = a.w.now()
	return err
}

func (a *agent) leaveGroup(ctx context.Context, g int) error {
	a.groups[g].last().out = a.w.now()
	client, name := a.hub.client, groupName(g)
	var err error
	switch n := a.random.IntN(5); {
	case n == 0:
		err = client.RemoveConnectionFromGroup(ctx, name, a.id, nil)
	case n == 1 && a.alone:
		err = client.RemoveUserFromGroup(ctx, name, a.user, nil)
	case n < 3 || a.protocol == raw:
		err = client.RemoveConnectionsFromGroups(ctx, []string{name}, webpubsub.FormatFilter("connectionId eq %v", a.id), nil)
	default:
		err = a.conn.LeaveGroup(ctx, name)
	}
	a.groups[g].last().end = a.w.now()
	return err
}

func (a *agent) leaveAllGroups(ctx context.Context) error {
	return a.end(a.groups[:], func() error {
		if a.alone && a.random.IntN(2) == 0 {
			return a.hub.client.RemoveUserFromAllGroups(ctx, a.user, nil)
		}
		return a.hub.client.RemoveConnectionFromAllGroups(ctx, a.id, nil)
	})
}

// end records that how ends all open spans.
func (a *agent) end(all []spans, how func() error) error {
	out := a.w.now()
	var ending []*span
	for i := range all {
		if all[i].open() {
			all[i].last().out = out
			ending = append(ending, all[i].last())
		}
	}
	err := how()
	end := a.w.now()
	for _, s := range ending {
		s.end = end
	}
	return err
}

// leave ends a connection after the client has read everything that was sent to it.
func (w *soakRun) leave(a *agent, how func(context.Context) error) error {
	ctx, cancel := waitContext()
	defer cancel()
	a.hub.mu.Lock()
	a.hub.present = slices.DeleteFunc(a.hub.present, func(other *agent) bool { return other == a })
	a.hub.mu.Unlock()
	all := append([]spans{a.here}, a.groups[:]...) // a copy of slices: end changes their elements in place
	return a.end(all, func() error {
		if err := a.settled(); err != nil {
			return err
		}
		if err := how(ctx); err != nil {
			return err
		}
		return a.waitEnd()
	})
}

// disconnect ends the connection in one of five ways.
func (a *agent) disconnect(ctx context.Context) error {
	switch n := a.random.IntN(5); {
	case n == 0:
		return a.hub.client.CloseConnection(ctx, a.id, &webpubsub.CloseConnectionOptions{Reason: "bye"})
	case n == 1 && a.alone:
		return a.hub.client.CloseUserConnections(ctx, a.user, &webpubsub.CloseUserConnectionsOptions{Reason: "bye, user"})
	case n == 2:
		a.kill()
		return nil
	case n == 3:
		a.network.forbid() // keeps a reliable client from recovering
		if !a.w.srv.DropConnection(a.hub.name, a.id) {
			return errors.New("the emulator has no connection to drop")
		}
		a.close()
		return nil
	default:
		a.close()
		return nil
	}
}

// checkService compares the service's responses with the records.
func (a *agent) checkService(ctx context.Context, g int) error {
	client, name := a.hub.client, groupName(g)
	if ok, err := client.ConnectionExists(ctx, a.id, nil); err != nil || !ok {
		return fmt.Errorf("ConnectionExists: %t, %w", ok, err)
	}
	if ok, err := client.UserExists(ctx, a.user, nil); err != nil || !ok {
		return fmt.Errorf("UserExists: %t, %w", ok, err)
	}
	if ok, err := client.GroupExists(ctx, name, nil); err != nil || !ok && a.groups[g].open() {
		return fmt.Errorf("GroupExists: %t, %w", ok, err)
	}
	found := false
	for member, err := range client.ConnectionsInGroup(ctx, name, &webpubsub.ListConnectionsInGroupOptions{MaxPageSize: 7}) {
		if err != nil {
			return err
		}
		found = found || member == webpubsub.GroupMember{ConnectionID: a.id, UserID: a.user}
	}
	if found != a.groups[g].open() {
		return fmt.Errorf("ConnectionsInGroup has the agent: %t; the agent is a member: %t", found, !found)
	}
	return nil
}

// forbidden sends without the permission. The message must reach nobody.
func (a *agent) forbidden(ctx context.Context, g int) error {
	client, name := a.hub.client, groupName(g)
	options := &webpubsub.RevokePermissionOptions{TargetName: name}
	if err := client.RevokePermission(ctx, webpubsub.PermissionSendToGroup, a.id, options); err != nil {
		return err
	}
	m := a.startSend(&sending{group: name, nobody: true})
	err := a.conn.SendToGroup(ctx, name, m.payload(), nil)
	a.recordSend(m)
	if !errors.Is(err, wsclient.ErrForbidden) {
		return fmt.Errorf("a send without the permission: %w", err)
	}
	if err := client.GrantPermission(ctx, webpubsub.PermissionSendToGroup, a.id, &webpubsub.GrantPermissionOptions{TargetName: name}); err != nil {
		return err
	}
	ok, err := client.HasPermission(ctx, webpubsub.PermissionSendToGroup, a.id, &webpubsub.HasPermissionOptions{TargetName: name})
	if err == nil && !ok {
		err = errors.New("HasPermission is false after GrantPermission")
	}
	return err
}

// startSend sets the sender, the number, the start and the data type of a message.
func (a *agent) startSend(m *sending) *sending {
	m.sender, m.number, m.start = a, a.w.numbers.Add(1), a.w.now()
	if m.dataType == "" {
		m.dataType = []string{"json", "text", "binary"}[a.random.IntN(3)]
	}
	if a.protocol == raw && m.dataType == "json" && m.fromUser != "" {
		m.dataType = "text" // a raw client sends text and binary frames only
	}
	m.end = never
	return m
}

// recordSend records a message after its send has ended.
func (a *agent) recordSend(m *sending) {
	m.end = a.w.now()
	a.hub.mu.Lock()
	a.hub.sent = append(a.hub.sent, m)
	a.hub.mu.Unlock()
}

// payload returns the message as a client sends it.
func (s *sending) payload() wsclient.Payload {
	return wsclient.Payload{DataType: wsclient.DataType(s.dataType), Data: s.body()}
}

// write sends the message of a raw client.
func (a *agent) write(ctx context.Context, m *sending) error {
	typ := websocket.MessageText
	if m.dataType == "binary" {
		typ = websocket.MessageBinary
	}
	return a.ws.Write(ctx, typ, m.body())
}

// mayDrop reports whether the client would recover immediately after a cut. A client that was cut less than 6 seconds ago would
// recover after a delay, and the others would have to wait for it.
func (a *agent) mayDrop() bool {
	if !a.dropped.IsZero() && time.Since(a.dropped) < 6*time.Second {
		return false
	}
	a.dropped = time.Now()
	return true
}

// dropAndRecover cuts the connection at either end and waits for the recovery.
func (a *agent) dropAndRecover() error {
	if a.random.IntN(2) == 0 {
		a.network.cut()
	} else {
		a.w.srv.DropConnection(a.hub.name, a.id)
	}
	a.w.recovered.Add(1)
	return a.waitRecovered()
}

// dropWhileSending cuts the connection before a message is acknowledged. The client sends the message again, and the service
// executes it once.
func (a *agent) dropWhileSending(ctx context.Context, g int) error {
	m := a.startSend(&sending{group: groupName(g), from: "group", fromUser: a.user})
	sent := make(chan error, 1)
	go func() { sent <- a.conn.SendToGroup(ctx, m.group, m.payload(), nil) }()
	a.network.cut()
	a.w.recovered.Add(1)
	err := errors.Join(a.waitRecovered(), <-sent)
	a.recordSend(m)
	return err
}

// publish sends a few messages to a group and waits until the service has received the last one.
func (a *agent) publish(ctx context.Context, g, burst int) error {
	if a.toGroup >= 0 {
		g = a.toGroup
	}
	var all []*sending
	for i := range burst {
		m := a.startSend(&sending{group: groupName(g), from: "group", fromUser: a.user})
		all = append(all, m)
		noEcho, last := a.protocol != raw && a.random.IntN(2) == 0, i == burst-1
		if noEcho {
			m.excluded = append(m.excluded, a)
		}
		var err error
		if a.protocol != raw {
			err = a.conn.SendToGroup(ctx, m.group, m.payload(), &wsclient.SendToGroupOptions{NoEcho: noEcho, NoAck: !last})
		} else if err = a.write(ctx, m); err == nil && last {
			err = a.ws.Ping(ctx) // the server reads the ping after the messages
		}
		if err != nil {
			return err
		}
	}
	for _, m := range all {
		a.recordSend(m)
	}
	return nil
}

// event sends an event. The event handler answers with the event's data.
func (a *agent) event(ctx context.Context) error {
	m := a.startSend(&sending{only: a, from: "server", fromUser: ""})
	if a.protocol == raw && m.dataType == "json" {
		m.dataType = "text"
	}
	if a.protocol != raw {
		err := a.conn.SendEvent(ctx, "echo", m.payload(), nil)
		a.recordSend(m)
		return err
	}
	// A raw client has no acknowledgements, so wait for the answer.
	if err := a.write(ctx, m); err != nil {
		return err
	}
	arrived := func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return slices.ContainsFunc(a.got, func(got arrival) bool { return got.number == m.number })
	}
	for !arrived() {
		if err := a.settled(); err != nil {
			return err
		}
	}
	a.recordSend(m)
	return nil
}

// send sends a message through the service client.
func (a *agent) send(ctx context.Context, g int) error {
	m := &sending{from: "server"}
	other := a.hub.someone(a.random)
	var excluded []string
	var filter webpubsub.Filter
	kind := a.random.IntN(4)
	if kind%2 == 0 { // only sends to all and to a group have excluded connections
		for range a.random.IntN(3) {
			someone := a.hub.someone(a.random)
			m.excluded, excluded = append(m.excluded, someone), append(excluded, someone.id)
		}
	}
	if kind != 3 {
		switch a.random.IntN(8) {
		case 0:
			filter = webpubsub.FormatFilter("userId ne %v", other.user)
			m.filter = func(b *agent, _ func(*spans) bool) bool { return b.user != other.user }
		case 1:
			filter = webpubsub.FormatFilter("not (connectionId in %v)", []string{a.id, other.id})
			m.filter = func(b *agent, _ func(*spans) bool) bool { return b != a && b != other }
		case 2:
			filter = "protocol eq null or startswith(protocol, 'protobuf')"
			m.filter = func(b *agent, _ func(*spans) bool) bool { return !strings.HasPrefix(b.protocol, "json") }
		case 3:
			wanted := a.random.IntN(groupCount)
			filter = webpubsub.FormatFilter("%v in groups", groupName(wanted))
			m.filter = func(b *agent, at func(*spans) bool) bool { return at(&b.groups[wanted]) }
		}
	}
	switch kind {
	case 1:
		m.user = other.user
	case 2:
		m.group, m.from = groupName(g), "group"
	case 3:
		m.only = other
	}
	var metadata map[string]string
	var ttl time.Duration
	if a.random.IntN(4) == 0 {
		metadata, ttl = map[string]string{"Agent": a.name}, 5*time.Minute
	}
	a.startSend(m)
	message := webpubsub.Text(text(m.number))
	switch {
	case m.dataType == "json":
		message = webpubsub.JSON(struct {
			Text string `json:"text"`
		}{text(m.number)})
	case m.dataType == "binary" && a.random.IntN(2) == 0:
		message = webpubsub.BinaryStream(bytes.NewReader(m.body()))
	case m.dataType == "binary":
		message = webpubsub.Binary(m.body())
	}
	client := a.hub.client
	var err error
	switch kind {
	case 0:
		err = client.SendToAll(ctx, message, &webpubsub.SendToAllOptions{Excluded: excluded, Filter: filter, MessageTTL: ttl, Metadata: metadata})
	case 1:
		err = client.SendToUser(ctx, m.user, message, &webpubsub.SendToUserOptions{Filter: filter, MessageTTL: ttl, Metadata: metadata})
	case 2:
		err = client.SendToGroup(ctx, m.group, message, &webpubsub.SendToGroupOptions{Excluded: excluded, Filter: filter, MessageTTL: ttl, Metadata: metadata})
	case 3:
		err = client.SendToConnection(ctx, other.id, message, &webpubsub.SendToConnectionOptions{MessageTTL: ttl, Metadata: metadata})
	}
	a.recordSend(m)
	return err
}

// audit checks the records of a round, when no message is under way, and starts new records.
func (w *soakRun) audit() {
	for _, h := range w.hubs {
		w.auditHub(h)
		inside := make(map[string]emulator.Connection)
		for _, c := range w.srv.Connections(h.name) {
			inside[c.ID] = c
		}
		for _, a := range h.present {
			groups := []string{}
			for g := range a.groups {
				if a.groups[g].open() {
					groups = append(groups, groupName(g))
				}
				a.groups[g] = slices.DeleteFunc(a.groups[g], func(s span) bool { return s.out != never })
			}
			c := inside[a.id]
			if !slices.Equal(append([]string{}, c.Groups...), groups) || c.UserID != a.user || c.Recovering {
				w.t.Errorf("%s is in the groups %q, but the server has %+v", a, groups, c)
			}
		}
		h.agents, h.sent = slices.Clone(h.present), nil
	}
}

func (w *soakRun) auditHub(h *soakHub) {
	f := &w.figures
	f.sent += len(h.sent)
	byNumber := make(map[int64]*sending, len(h.sent))
	for _, m := range h.sent {
		byNumber[m.number] = m
	}
	for _, a := range h.agents {
		a.mu.Lock()
		got := a.got
		a.got = nil
		a.mu.Unlock()
		f.delivered += len(got)
		times := make(map[int64]int, len(got))
		last := make(map[*agent]int64)
		for _, arrived := range got {
			m := byNumber[arrived.number]
			times[arrived.number]++
			if m == nil || !m.reaches(a, m.meanwhile) {
				f.misdelivered++
				w.t.Errorf("%s received %+v, but is not a recipient", a, arrived)
				continue
			}
			if times[arrived.number] > 1 {
				f.duplicated++
				w.t.Errorf("%s received %+v twice", a, arrived)
				continue
			}
			if arrived.number < last[m.sender] {
				f.disordered++
				w.t.Errorf("%s received message %d after message %d of %s", a, arrived.number, last[m.sender], m.sender)
			}
			last[m.sender] = arrived.number
			want := arrival{number: m.number, dataType: m.dataType, from: m.from, group: m.group, fromUser: m.fromUser, whole: true}
			if a.protocol == raw {
				want.from, want.group, want.fromUser = "", "", ""
			}
			if strings.HasPrefix(a.protocol, "protobuf") {
				want.fromUser = "" // the protobuf protocols have no field for it
			}
			if arrived != want {
				f.changed++
				w.t.Errorf("%s received %+v, not %+v", a, arrived, want)
			}
		}
		for _, m := range h.sent {
			switch {
			case m.reaches(a, m.throughout):
				f.expected++
				if times[m.number] == 0 {
					f.lost++
					w.t.Errorf("%s did not receive message %d from %s", a, m.number, m.sender)
				}
			case m.reaches(a, m.meanwhile):
				f.possible++
			}
		}
	}
}
