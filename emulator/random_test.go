package emulator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/internal/pb"
)

// TestEveryMessageIsAccountedFor runs 200 clients of all protocols concurrently. Each joins, leaves, sends, disconnects and
// recovers at random, over WebSocket and REST. Afterwards the test checks all deliveries: each member of a group must have
// received the group's messages once, in the order of their sender, and nobody else may have received them.
//
// A global counter orders the steps. A step takes effect between its start and its end on the counter. For each message and
// client, delivery is therefore
//
//   - required, if the client was a member during the whole send;
//   - forbidden, if the client was not a member at any time during the send;
//   - allowed, if the client joined or left during the send.
func TestEveryMessageIsAccountedFor(t *testing.T) {
	clients, steps := 200, 30
	if testing.Short() {
		clients, steps = 40, 20
	}
	w := &world{t: t, srv: emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.DiscardHandler), ConnectedAfterRecovery: true})}
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 4711))
			a := w.enter(i, random)
			for range steps {
				a = w.step(a, random)
			}
			w.mu.Lock()
			w.present = append(w.present, a)
			w.mu.Unlock()
		})
	}
	running.Wait()
	for _, a := range w.present {
		w.leave(a, nil)
	}
	w.audit()
}

const worldGroups = 8

// world is the state that the clients share.
type world struct {
	t     testing.TB
	srv   *emulator.Server
	count atomic.Int64

	mu      sync.Mutex // guards everything below
	agents  []*agent
	present []*agent
	sent    []sending
}

// sending is a message to a group.
type sending struct {
	sender     string
	number     int
	group      int
	start, end int64
	echo       bool // the sender receives a copy if it is a member
}

func (s *sending) text() string { return fmt.Sprintf("%s %d %d", s.sender, s.number, s.group) }

// membership is a period in a group, on the counter. It begins between start and in, and ends between out and end.
type membership struct{ start, in, out, end int64 }

// agent is one connection, with a record of its memberships and received messages.
type agent struct {
	w           *world
	index       int
	user        string
	protocol    string
	id          string
	token       string
	ws          *websocket.Conn
	ackID       uint64
	numbers     int
	memberships [worldGroups][]membership
	answers     chan string // acks, pongs and fences
	reading     sync.WaitGroup

	// Used only by the reading goroutine until it has ended.
	lastSequence uint64
	got          []string
}

var protocols = []string{"", protocolJSON, protocolJSONReliable, protocolProtobuf, protocolProtobufReliable}

func (w *world) now() int64 { return w.count.Add(1) }

func (w *world) fatal(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// api sends a REST request.
func (w *world) api(want int, method, path, body string) {
	r := rest{w.t, w.srv}.do(method, path, []byte(body), "Content-Type", map[bool]string{true: "application/json", false: "text/plain"}[strings.HasPrefix(body, "{")])
	if r.status != want {
		w.fatal("%s %s: %d %s", method, path, r.status, r.body)
	}
}

// enter connects a new client.
func (w *world) enter(i int, random *rand.Rand) *agent {
	a := &agent{w: w, index: i, protocol: protocols[random.IntN(len(protocols))], answers: make(chan string, 1)}
	w.mu.Lock()
	a.user = fmt.Sprintf("user%d.%d", i, len(w.agents))
	w.agents = append(w.agents, a)
	w.mu.Unlock()
	o := dialOptions{user: a.user, roles: []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"}}
	a.dial(o.url(w.t, w.srv))
	return a
}

func (a *agent) dial(target string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var o websocket.DialOptions
	if a.protocol != "" {
		o.Subprotocols = []string{a.protocol}
	}
	ws, _, err := websocket.Dial(ctx, target, &o)
	if err != nil {
		a.w.fatal("%v", err)
	}
	a.ws = ws
	if a.protocol != "" {
		_, data, err := ws.Read(ctx)
		if err != nil {
			a.w.fatal("%s: %v", a.user, err)
		}
		_, _, a.id, a.token = a.decode(data)
	}
	a.reading.Go(func() {
		for {
			_, data, err := ws.Read(context.Background())
			if err != nil {
				return
			}
			a.receive(data)
		}
	})
}

// decode returns the text and sequence id of a message, or the ids of a connected message. text is "" for all other frames.
func (a *agent) decode(data []byte) (text string, sequence uint64, id, token string) {
	if strings.HasPrefix(a.protocol, "protobuf") {
		var m pb.DownstreamMessage
		if err := proto.Unmarshal(data, &m); err != nil {
			a.w.fatal("%v", err)
		}
		if d := m.GetDataMessage(); d != nil {
			return d.GetData().GetTextData(), d.GetSequenceId(), "", ""
		}
		hello := m.GetSystemMessage().GetConnectedMessage()
		return "", 0, hello.GetConnectionId(), hello.GetReconnectionToken()
	}
	if a.protocol == "" {
		return string(data), 0, "", ""
	}
	var m struct {
		Type, Data, ConnectionID, ReconnectionToken string
		SequenceID                                  uint64
	}
	if err := json.Unmarshal(data, &m); err != nil {
		a.w.fatal("%v", err)
	}
	return m.Data, m.SequenceID, m.ConnectionID, m.ReconnectionToken
}

func (a *agent) reliable() bool { return strings.Contains(a.protocol, "reliable") }

func (a *agent) receive(data []byte) {
	text, sequence, _, _ := a.decode(data)
	switch {
	case text == "" || text == "fence":
		a.answers <- text
	case a.reliable() && sequence <= a.lastSequence: // a duplicate after a recovery
	default:
		if a.reliable() && sequence != a.lastSequence+1 {
			a.w.fatal("%s received %d after %d", a.user, sequence, a.lastSequence)
		}
		a.lastSequence = sequence
		a.got = append(a.got, text)
		if a.reliable() && sequence%10 == 0 {
			a.write(fmt.Sprintf(`{"type":"sequenceAck","sequenceId":%d}`, sequence), fmt.Sprintf(`{"sequenceAckMessage":{"sequenceId":%d}}`, sequence))
		}
	}
}

// write sends a request in the client's protocol. It ignores errors, because the client may be closing.
func (a *agent) write(js, protobuf string) {
	typ, data := websocket.MessageText, []byte(js)
	if strings.HasPrefix(a.protocol, "protobuf") {
		var m pb.UpstreamMessage
		if err := protojson.Unmarshal([]byte(protobuf), &m); err != nil {
			a.w.fatal("%v", err)
		}
		b, err := proto.Marshal(&m)
		if err != nil {
			a.w.fatal("%v", err)
		}
		typ, data = websocket.MessageBinary, b
	}
	_ = a.ws.Write(context.Background(), typ, data)
}

// ask sends a request and waits for the response. The client must have a subprotocol.
func (a *agent) ask(js, protobuf string) {
	a.write(js, protobuf)
	<-a.answers
}

// fence returns when the client has read everything that was queued for it.
func (a *agent) fence() {
	if a.protocol == "" {
		a.w.api(202, "POST", "hubs/chat/users/"+a.user+"/:send", "fence")
		<-a.answers
		return
	}
	a.ask(`{"type":"ping"}`, `{"pingMessage":{}}`)
}

func (a *agent) member(group int) *membership {
	if all := a.memberships[group]; len(all) > 0 && all[len(all)-1].end == 0 {
		return &all[len(all)-1]
	}
	return nil
}

// step performs one random operation.
func (w *world) step(a *agent, random *rand.Rand) *agent {
	group := random.IntN(worldGroups)
	overREST := a.protocol == "" || random.IntN(3) == 0
	switch n := random.IntN(20); {
	case n < 7 && a.member(group) == nil:
		m := membership{start: w.now()}
		a.memberships[group] = append(a.memberships[group], m)
		switch {
		case overREST && random.IntN(2) == 0:
			w.api(200, "POST", "hubs/chat/:addToGroups", fmt.Sprintf(`{"groups":["g%d"],"filter":"userId eq '%s'"}`, group, a.user))
		case overREST:
			w.api(200, "PUT", fmt.Sprintf("hubs/chat/users/%s/groups/g%d", a.user, group), "")
		default:
			a.ackID++
			a.ask(fmt.Sprintf(`{"type":"joinGroup","group":"g%d","ackId":%d}`, group, a.ackID), fmt.Sprintf(`{"joinGroupMessage":{"group":"g%d","ackId":%d}}`, group, a.ackID))
		}
		a.member(group).in = w.now()
	case n < 9 && a.member(group) != nil:
		m := a.member(group)
		m.out = w.now()
		if overREST {
			w.api(204, "DELETE", fmt.Sprintf("hubs/chat/users/%s/groups/g%d", a.user, group), "")
		} else {
			a.ackID++
			a.ask(fmt.Sprintf(`{"type":"leaveGroup","group":"g%d","ackId":%d}`, group, a.ackID), fmt.Sprintf(`{"leaveGroupMessage":{"group":"g%d","ackId":%d}}`, group, a.ackID))
		}
		m.end = w.now()
	case n == 9:
		w.end(a, func() { w.api(204, "DELETE", "hubs/chat/users/"+a.user+"/groups", "") })
	case n == 10 && a.reliable():
		a.ws.CloseNow()
		a.reading.Wait()
		a.dial("ws" + strings.TrimPrefix(w.srv.Endpoint(), "http") + "/client/hubs/chat?awps_connection_id=" + a.id +
			"&awps_reconnection_token=" + url.QueryEscape(a.token))
	case n == 11:
		w.leave(a, func() { a.ws.CloseNow() })
		return w.enter(a.index, random)
	case n == 12:
		w.leave(a, func() { w.api(204, "POST", "hubs/chat/users/"+a.user+"/:closeConnections?reason=bye", "") })
		return w.enter(a.index, random)
	default:
		a.numbers++
		s := sending{sender: a.user, number: a.numbers, group: group, start: w.now(), echo: true}
		if overREST {
			w.api(202, "POST", fmt.Sprintf("hubs/chat/groups/g%d/:send", group), s.text())
		} else {
			s.echo = random.IntN(2) == 0
			a.ackID++
			a.ask(fmt.Sprintf(`{"type":"sendToGroup","group":"g%d","ackId":%d,"noEcho":%t,"dataType":"text","data":%q}`, group, a.ackID, !s.echo, s.text()),
				fmt.Sprintf(`{"sendToGroupMessage":{"group":"g%d","ackId":%d,"noEcho":%t,"data":{"textData":%q}}}`, group, a.ackID, !s.echo, s.text()))
		}
		s.end = w.now()
		w.mu.Lock()
		w.sent = append(w.sent, s)
		w.mu.Unlock()
	}
	return a
}

// end calls how, which removes a client from all its groups, and records the end of the memberships.
func (w *world) end(a *agent, how func()) {
	out := w.now()
	how()
	end := w.now()
	for g := range a.memberships {
		if m := a.member(g); m != nil {
			m.out, m.end = out, end
		}
	}
}

// leave ends a connection after the client has read everything. If how is nil, the client closes the connection.
func (w *world) leave(a *agent, how func()) {
	w.end(a, func() {
		a.fence()
		if how == nil {
			how = func() { a.ws.Close(websocket.StatusNormalClosure, "") }
		}
		how()
	})
	done := make(chan struct{})
	go func() { a.reading.Wait(); close(done) }()
	for {
		select {
		case <-a.answers: // the disconnected message
		case <-done:
			a.ws.CloseNow()
			return
		}
	}
}

// audit checks the deliveries.
func (w *world) audit() {
	t := w.t
	var must, may, delivered, lost, duplicated, misdelivered, disordered int
	texts := make([]string, len(w.sent))
	for i := range w.sent {
		texts[i] = w.sent[i].text()
	}
	for _, a := range w.agents {
		got := make(map[string]int)
		last := make(map[string]int)
		for _, text := range a.got {
			got[text]++
			sender, rest, _ := strings.Cut(text, " ")
			number, _, _ := strings.Cut(rest, " ")
			n, err := strconv.Atoi(number)
			require.NoError(t, err)
			if n <= last[sender] {
				disordered++
			}
			last[sender] = n
		}
		delivered += len(a.got)
		for i, s := range w.sent {
			expected, possible := false, false
			if s.echo || s.sender != a.user {
				for _, m := range a.memberships[s.group] {
					expected = expected || m.in < s.start && s.end < m.out
					possible = possible || m.start < s.end && s.start < m.end
				}
			}
			n := got[texts[i]]
			delete(got, texts[i])
			switch {
			case n > 1:
				duplicated++
			case n == 1 && !possible:
				misdelivered++
			case n == 0 && expected:
				lost++
				t.Logf("%s (%q) did not receive %q", a.user, a.protocol, texts[i])
			}
			if expected {
				must++
			} else if possible {
				may++
			}
		}
		require.Empty(t, got, "%s received a message that nobody sent", a.user)
	}
	t.Logf("connections %d, messages %d; deliveries: %d required, %d allowed, %d made; lost %d, duplicated %d, misdelivered %d, out of order %d",
		len(w.agents), len(w.sent), must, may, delivered, lost, duplicated, misdelivered, disordered)
	require.Greater(t, must, len(w.sent), "too few messages have recipients")
	require.Zero(t, lost)
	require.Zero(t, duplicated)
	require.Zero(t, misdelivered)
	require.Zero(t, disordered)
}
