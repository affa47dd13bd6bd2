package hub

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nobody observes nothing.
type nobody struct{}

func (nobody) Changed()             {}
func (nobody) Watched() bool        { return false }
func (nobody) Traffic(TrafficEvent) {}

// recorder is an application that records what it is told, and does to a user event what a test wants.
type recorder struct {
	deaf    bool
	connect func(*Connection) (ConnectReply, error)
	event   func(context.Context, *Connection, *UserEvent)

	mu   sync.Mutex
	told []string
}

func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, fmt.Sprintf(format, args...))
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told)
}

func (r *recorder) Listens(string) bool { return !r.deaf }

func (r *recorder) Connect(_ context.Context, c *Connection, _ *ConnectRequest) (ConnectReply, error) {
	r.note("connect %d", c.NextEventID())
	if r.connect != nil {
		return r.connect(c)
	}
	return ConnectReply{}, nil
}

func (r *recorder) Connected(_ context.Context, c *Connection) {
	r.note("connected %d", c.NextEventID())
}

func (r *recorder) UserEvent(ctx context.Context, c *Connection, e *UserEvent) (*Payload, error) {
	if r.deaf {
		return nil, ErrNoHandler
	}
	r.note("%s %d", e.Name, c.NextEventID())
	if r.event != nil {
		r.event(ctx, c, e)
	}
	return nil, nil
}

func (r *recorder) Disconnected(_ context.Context, c *Connection, reason string) {
	r.note("disconnected %d: %s", c.NextEventID(), reason)
}

// inbox is a link that keeps what it is given.
type inbox struct {
	mu       sync.Mutex
	messages []*Message
	reason   string
}

func (l *inbox) Deliver(m *Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.messages = append(l.messages, m)
}

func (l *inbox) Close(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason = reason
}

func (l *inbox) Drop() func() bool { return nil }
func (l *inbox) Away() bool        { return false }

func newTestService(t *testing.T, app Application) *Service {
	s := NewService(slog.New(slog.DiscardHandler), &Clock{}, nobody{})
	s.Application = app
	t.Cleanup(func() {
		s.Life.BeginClose()
		s.Life.Stop()
		s.Life.Wait()
	})
	return s
}

// settle waits until the application has heard of everything.
func settle(s *Service) {
	for s.Life.Telling() {
	}
}

// enter lets a client into the hub "chat".
func enter(t *testing.T, s *Service, id string, groups ...string) (*Connection, *inbox) {
	t.Helper()
	link := &inbox{}
	c := &Connection{ID: id, Hub: s.Hub("chat"), UserID: "user of " + id, Link: link}
	reply, err := c.Connect(t.Context(), []string{"webpubsub.sendToGroup.token"}, groups, func() *ConnectRequest { return &ConnectRequest{} })
	require.NoError(t, err)
	c.SetRoles(reply.Roles, func(string) string { return "" })
	c.Hub.Add(c, reply.Groups, func() {})
	return c, link
}

func raise(c *Connection, name string) (result chan error) {
	result = make(chan error, 1)
	c.Raise(&UserEvent{Name: name}, func(_ *Payload, err error) { result <- err })
	return result
}

func TestTheApplicationHearsOfAConnectionInOrder(t *testing.T) {
	app := &recorder{}
	s := newTestService(t, app)
	c, link := enter(t, s, "a")
	first, second := raise(c, "first"), raise(c, "second")
	require.NoError(t, <-first)
	require.NoError(t, <-second)
	c.End("enough")
	c.End("again")
	settle(s)
	require.Equal(t, []string{"connect 0", "connected 1", "first 2", "second 3", "disconnected 4: enough"}, app.all())
	require.Equal(t, "again", link.reason)
}

func TestNothingFollowsDisconnected(t *testing.T) {
	app := &recorder{}
	s := newTestService(t, app)
	c, _ := enter(t, s, "a")
	c.Left("the connection was lost")
	require.ErrorIs(t, <-raise(c, "late"), ErrGone)
	c.AdoptState(c)
	settle(s)
	require.Equal(t, []string{"connect 0", "connected 1", "disconnected 2: the connection was lost"}, app.all())
}

func TestWhatWaitsAtTheEndIsDropped(t *testing.T) {
	for name, lost := range map[string]bool{"the service ends it": false, "the client is gone": true} {
		t.Run(name, func(t *testing.T) {
			begun, release := make(chan struct{}), make(chan struct{})
			ended := make(chan error, 1)
			app := &recorder{event: func(ctx context.Context, _ *Connection, _ *UserEvent) {
				close(begun)
				if lost {
					<-ctx.Done()
				}
				<-release
				ended <- ctx.Err()
			}}
			s := newTestService(t, app)
			c, _ := enter(t, s, "a")
			first, second := raise(c, "first"), raise(c, "second")
			<-begun
			if lost {
				c.Lost("cut")
			} else {
				c.End("enough")
			}
			require.ErrorIs(t, <-second, ErrGone)
			close(release)
			require.Equal(t, lost, <-ended != nil, "its request ends with the client only")
			require.Equal(t, lost, <-first != nil)
			settle(s)
			require.Equal(t, map[bool]string{false: "disconnected 3: enough", true: "disconnected 3: "}[lost], app.all()[3])
			require.Len(t, app.all(), 4)
		})
	}
}

func TestAHandlerThatComesLaterIsTold(t *testing.T) {
	app := &recorder{deaf: true}
	s := newTestService(t, app)
	c, _ := enter(t, s, "a")
	require.ErrorIs(t, <-raise(c, "e"), ErrNoHandler)
	app.deaf = false
	require.NoError(t, <-raise(c, "e"))
	c.End("bye")
	settle(s)
	require.Equal(t, []string{"connected 1", "e 2", "disconnected 3: bye"}, app.all())
}

func TestEventsAndTheEndMayComeAtOnce(t *testing.T) {
	for range 200 {
		app := &recorder{}
		s := newTestService(t, app)
		c, _ := enter(t, s, "a")
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				if err := <-raise(c, "event"); err != nil {
					assert.ErrorIs(t, err, ErrGone)
				}
			})
		}
		clients.Go(func() { c.End("enough") })
		clients.Wait()
		settle(s)
		told := app.all()
		require.Contains(t, told[len(told)-1], "disconnected", "%v", told)
	}
}

func TestAClientWithManyEventsWaitsForTheApplication(t *testing.T) {
	release := make(chan struct{})
	app := &recorder{event: func(context.Context, *Connection, *UserEvent) { <-release }}
	s := newTestService(t, app)
	c, _ := enter(t, s, "a")
	const many = 2 * maxPendingEvents
	done := make(chan error, many)
	var raised sync.WaitGroup
	raised.Go(func() {
		for range many {
			c.Raise(&UserEvent{Name: "e"}, func(_ *Payload, err error) { done <- err })
		}
	})
	close(release)
	raised.Wait()
	for range many {
		require.NoError(t, <-done)
	}
}

func TestNobodyListens(t *testing.T) {
	s := newTestService(t, &recorder{deaf: true})
	c, _ := enter(t, s, "a", "g")
	require.ErrorIs(t, <-raise(c, "e"), ErrNoHandler)
	require.Equal(t, map[string]int{"g": 1}, c.Hub.Groups(), "the token's groups count")
	c.End("bye")
}

func TestTheApplicationsAnswerReplacesTheTokenOrKeepsIt(t *testing.T) {
	bob, none := "bob", ""
	for name, test := range map[string]struct {
		reply  ConnectReply
		user   string
		groups []string
		own    bool // it has the role of the answer
		token  bool // it has the role of the token
	}{
		"nothing is said":    {ConnectReply{}, "user of a", []string{"token's"}, false, true},
		"all is said":        {ConnectReply{UserID: &bob, Groups: []string{"its"}, Roles: []string{"webpubsub.joinLeaveGroup"}}, "bob", []string{"its"}, true, false},
		"nothing is left":    {ConnectReply{UserID: &none, Groups: []string{}, Roles: []string{}}, "", []string{"token's"}, false, false},
		"groups, not roles":  {ConnectReply{Groups: []string{"x", "y"}}, "user of a", []string{"x", "y"}, false, true},
		"roles, not groups":  {ConnectReply{Roles: []string{"webpubsub.joinLeaveGroup"}}, "user of a", []string{"token's"}, true, false},
		"a user, no groups":  {ConnectReply{UserID: &bob}, "bob", []string{"token's"}, false, true},
		"a role of nobody's": {ConnectReply{Roles: []string{"webpubsub.none"}}, "user of a", []string{"token's"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			app := &recorder{connect: func(c *Connection) (ConnectReply, error) { c.SetState("state"); return test.reply, nil }}
			s := newTestService(t, app)
			c, _ := enter(t, s, "a", "token's")
			require.Equal(t, Info{ID: "a", UserID: test.user, Groups: test.groups}, c.Inspect())
			require.Equal(t, test.own, c.Allows(JoinLeaveGroup, ""))
			require.Equal(t, test.token, c.Allows(SendToGroup, "token"))
			state, set := c.State()
			require.True(t, set)
			require.Equal(t, "state", state)
		})
	}
}

func TestAnEmptyStateIsOne(t *testing.T) {
	s := newTestService(t, &recorder{connect: func(c *Connection) (ConnectReply, error) {
		_, set := c.State()
		require.False(t, set)
		c.SetState("")
		return ConnectReply{}, nil
	}})
	c, _ := enter(t, s, "a")
	state, set := c.State()
	require.True(t, set)
	require.Empty(t, state)
}

func TestARejectedClientLeavesNoTrace(t *testing.T) {
	app := &recorder{connect: func(*Connection) (ConnectReply, error) { return ConnectReply{}, &Rejection{Status: 401, Reason: "no"} }}
	s := newTestService(t, app)
	c := &Connection{ID: "a", Hub: s.Hub("chat"), Link: &inbox{}}
	_, err := c.Connect(t.Context(), nil, nil, func() *ConnectRequest { return &ConnectRequest{} })
	require.EqualError(t, err, "401: no")
	c.Left("never there")
	settle(s)
	require.Equal(t, []string{"connect 0"}, app.all())
}

func TestAMessageReachesWhomItIsFor(t *testing.T) {
	s := newTestService(t, &recorder{deaf: true})
	a, inA := enter(t, s, "a", "g")
	_, inB := enter(t, s, "b", "g")
	_, inC := enter(t, s, "c")
	h := s.Hub("CHAT")
	m := func() *Message { return &Message{Payload: Payload{Type: DataText, Data: []byte("x")}, Group: "g"} }
	got := func() string {
		counts := ""
		for _, l := range []*inbox{inA, inB, inC} {
			counts += fmt.Sprint(len(l.messages))
			l.messages = nil
		}
		return counts
	}
	require.Equal(t, 3, h.Send(m(), &Target{}))
	require.Equal(t, "111", got())
	require.Equal(t, 1, h.Send(m(), &Target{Group: "g", Excluded: []string{"a"}}))
	require.Equal(t, "010", got())
	require.Equal(t, 1, h.Send(m(), &Target{User: "user of c"}))
	require.Equal(t, "001", got())
	a.Publish(m(), true)
	require.Equal(t, "010", got())
	a.Publish(m(), false)
	require.Equal(t, "user of a", inB.messages[0].FromUser)
	require.Equal(t, "110", got())
	a.End("bye")
	require.Equal(t, 1, h.Send(m(), &Target{Group: "g"}))
	require.Equal(t, "010", got())
	require.Equal(t, "bye", inA.reason)
}

func TestAConnectionThatIsGoneChangesNoGroupsOfItsSuccessor(t *testing.T) {
	s := newTestService(t, &recorder{deaf: true})
	old, _ := enter(t, s, "device")
	old.Left("gone")
	next, _ := enter(t, s, "device", "a")
	old.Join("b")
	require.False(t, old.Leave("a"))
	require.Equal(t, []string{"a"}, next.Inspect().Groups)
	require.NotContains(t, next.Hub.Groups(), "b")
}

func TestAHubThatNobodyOpenedIsSeenByNobody(t *testing.T) {
	s := newTestService(t, &recorder{})
	require.Zero(t, s.Hub("ghost").Count(&Target{}))
	require.Empty(t, s.Hubs())
	h := s.Hub("Chat")
	require.Same(t, h, s.Hub("chat"), "whoever has looked it up before the first client finds it there")
	enter(t, s, "a")
	require.Equal(t, []*Hub{h}, s.Hubs())
	require.Equal(t, 1, h.Count(&Target{}))
}
