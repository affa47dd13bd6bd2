package hub

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nobody is an observer that ignores everything.
type nobody struct{}

func (nobody) Changed()             {}
func (nobody) Watched() bool        { return false }
func (nobody) Traffic(TrafficEvent) {}

// recorder is an application that records the calls it receives. Its hooks, if not nil, handle connect and user events.
type recorder struct {
	noHandler bool // nobody listens to the hub's events
	connect   func(*Connection) (ConnectReply, error)
	event     func(context.Context, *Connection, *UserEvent)

	mu    sync.Mutex
	calls []string
}

func (r *recorder) record(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

func (r *recorder) Listens(string) bool { return !r.noHandler }

func (r *recorder) Connect(_ context.Context, c *Connection, _ *ConnectRequest) (ConnectReply, error) {
	r.record("connect %d", c.NextEventID())
	if r.connect != nil {
		return r.connect(c)
	}
	return ConnectReply{}, nil
}

func (r *recorder) Connected(_ context.Context, c *Connection) {
	r.record("connected %d", c.NextEventID())
}

func (r *recorder) UserEvent(ctx context.Context, c *Connection, e *UserEvent) (*Payload, error) {
	if r.noHandler {
		return nil, ErrNoHandler
	}
	r.record("%s %d", e.Name, c.NextEventID())
	if r.event != nil {
		r.event(ctx, c, e)
	}
	return nil, nil
}

func (r *recorder) Disconnected(_ context.Context, c *Connection, reason string) {
	r.record("disconnected %d: %s", c.NextEventID(), reason)
}

// inbox is a link that stores the messages it receives.
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

// onChange is an observer that calls a function for each change.
type onChange func()

func (f onChange) Changed()           { f() }
func (onChange) Watched() bool        { return false }
func (onChange) Traffic(TrafficEvent) {}

// A test may wait until a connection is gone, and then close the server. The close must wait for the disconnected event.
func TestTheServiceIsTellingWhileAConnectionLeaves(t *testing.T) {
	app := &recorder{}
	s := newTestService(t, app)
	var leaving atomic.Pointer[Connection]
	s.Observer = onChange(func() {
		if c := leaving.Load(); c != nil && !c.Member() && !s.Life.Telling() {
			assert.Contains(t, app.all(), "disconnected 2: bye", "the event of a connection that is gone is queued or handled")
		}
	})
	c, _ := connect(t, s, "a")
	waitForEvents(s)
	leaving.Store(c)
	c.Left("bye")
	waitForEvents(s)
	require.Contains(t, app.all(), "disconnected 2: bye")
}

// waitForEvents waits until the application has handled every queued event.
func waitForEvents(s *Service) {
	for s.Life.Telling() {
	}
}

// connect connects a client to the hub "chat".
func connect(t *testing.T, s *Service, id string, groups ...string) (*Connection, *inbox) {
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

func TestEventsOfAConnectionArriveInOrder(t *testing.T) {
	app := &recorder{}
	s := newTestService(t, app)
	c, link := connect(t, s, "a")
	first, second := raise(c, "first"), raise(c, "second")
	require.NoError(t, <-first)
	require.NoError(t, <-second)
	c.End("enough")
	c.End("again")
	waitForEvents(s)
	require.Equal(t, []string{"connect 0", "connected 1", "first 2", "second 3", "disconnected 4: enough"}, app.all())
	require.Equal(t, "again", link.reason)
}

func TestNothingFollowsDisconnected(t *testing.T) {
	app := &recorder{}
	s := newTestService(t, app)
	c, _ := connect(t, s, "a")
	c.Left("the connection was lost")
	require.ErrorIs(t, <-raise(c, "late"), ErrGone)
	c.AdoptState(c)
	waitForEvents(s)
	require.Equal(t, []string{"connect 0", "connected 1", "disconnected 2: the connection was lost"}, app.all())
}

func TestAnEventAfterTheServiceHasStoppedIsDropped(t *testing.T) {
	app := &recorder{}
	s := NewService(slog.New(slog.DiscardHandler), &Clock{}, nobody{})
	s.Application = app
	c, _ := connect(t, s, "a")
	waitForEvents(s)
	s.Life.BeginClose()
	s.Life.Stop()
	result := raise(c, "late")
	s.Life.Wait()
	select {
	case err := <-result:
		require.ErrorIs(t, err, ErrGone)
	default:
		t.Fatal("the event has no result")
	}
	require.Equal(t, []string{"connect 0", "connected 1"}, app.all())
}

func TestEventsThatWaitAtTheEndAreDropped(t *testing.T) {
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
			c, _ := connect(t, s, "a")
			first, second := raise(c, "first"), raise(c, "second")
			<-begun
			if lost {
				c.Lost("cut")
			} else {
				c.End("enough")
			}
			require.ErrorIs(t, <-second, ErrGone)
			close(release)
			require.Equal(t, lost, <-ended != nil, "the request must be canceled only if the client is gone")
			require.Equal(t, lost, <-first != nil)
			waitForEvents(s)
			require.Equal(t, map[bool]string{false: "disconnected 3: enough", true: "disconnected 3: "}[lost], app.all()[3])
			require.Len(t, app.all(), 4)
		})
	}
}

func TestAHandlerThatIsAddedLaterReceivesEvents(t *testing.T) {
	app := &recorder{noHandler: true}
	s := newTestService(t, app)
	c, _ := connect(t, s, "a")
	require.ErrorIs(t, <-raise(c, "e"), ErrNoHandler)
	app.noHandler = false
	require.NoError(t, <-raise(c, "e"))
	c.End("bye")
	waitForEvents(s)
	require.Equal(t, []string{"connected 1", "e 2", "disconnected 3: bye"}, app.all())
}

func TestEventsMayRaceWithTheEnd(t *testing.T) {
	for range 200 {
		app := &recorder{}
		s := newTestService(t, app)
		c, _ := connect(t, s, "a")
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
		waitForEvents(s)
		calls := app.all()
		require.Contains(t, calls[len(calls)-1], "disconnected", "%v", calls)
	}
}

func TestAClientWithManyEventsWaitsForTheApplication(t *testing.T) {
	release := make(chan struct{})
	app := &recorder{event: func(context.Context, *Connection, *UserEvent) { <-release }}
	s := newTestService(t, app)
	c, _ := connect(t, s, "a")
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
	s := newTestService(t, &recorder{noHandler: true})
	c, _ := connect(t, s, "a", "g")
	require.ErrorIs(t, <-raise(c, "e"), ErrNoHandler)
	require.Equal(t, map[string]int{"g": 1}, c.Hub.Groups(), "the client must be in the token's groups")
	c.End("bye")
}

func TestTheConnectReplyReplacesTheTokenOrKeepsIt(t *testing.T) {
	bob, none := "bob", ""
	for name, test := range map[string]struct {
		reply  ConnectReply
		user   string
		groups []string
		own    bool // the connection has the reply's role
		token  bool // the connection has the token's role
	}{
		"a zero reply":      {ConnectReply{}, "user of a", []string{"token's"}, false, true},
		"everything":        {ConnectReply{UserID: &bob, Groups: []string{"its"}, Roles: []string{"webpubsub.joinLeaveGroup"}}, "bob", []string{"its"}, true, false},
		"everything empty":  {ConnectReply{UserID: &none, Groups: []string{}, Roles: []string{}}, "", []string{"token's"}, false, false},
		"groups, not roles": {ConnectReply{Groups: []string{"x", "y"}}, "user of a", []string{"x", "y"}, false, true},
		"roles, not groups": {ConnectReply{Roles: []string{"webpubsub.joinLeaveGroup"}}, "user of a", []string{"token's"}, true, false},
		"a user, no groups": {ConnectReply{UserID: &bob}, "bob", []string{"token's"}, false, true},
		"an unknown role":   {ConnectReply{Roles: []string{"webpubsub.none"}}, "user of a", []string{"token's"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			app := &recorder{connect: func(c *Connection) (ConnectReply, error) { c.SetState("state"); return test.reply, nil }}
			s := newTestService(t, app)
			c, _ := connect(t, s, "a", "token's")
			require.Equal(t, Info{ID: "a", UserID: test.user, Groups: test.groups}, c.Inspect())
			require.Equal(t, test.own, c.Allows(JoinLeaveGroup, ""))
			require.Equal(t, test.token, c.Allows(SendToGroup, "token"))
			state, set := c.State()
			require.True(t, set)
			require.Equal(t, "state", state)
		})
	}
}

func TestAnEmptyStateIsSet(t *testing.T) {
	s := newTestService(t, &recorder{connect: func(c *Connection) (ConnectReply, error) {
		_, set := c.State()
		require.False(t, set)
		c.SetState("")
		return ConnectReply{}, nil
	}})
	c, _ := connect(t, s, "a")
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
	c.Left("not in the hub")
	waitForEvents(s)
	require.Equal(t, []string{"connect 0"}, app.all())
}

func TestAMessageReachesItsRecipients(t *testing.T) {
	s := newTestService(t, &recorder{noHandler: true})
	a, inA := connect(t, s, "a", "g")
	_, inB := connect(t, s, "b", "g")
	_, inC := connect(t, s, "c")
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

func TestAClosedConnectionDoesNotChangeTheGroupsOfItsSuccessor(t *testing.T) {
	s := newTestService(t, &recorder{noHandler: true})
	old, _ := connect(t, s, "device")
	old.Left("gone")
	next, _ := connect(t, s, "device", "a")
	old.Join("b")
	require.False(t, old.Leave("a"))
	require.Equal(t, []string{"a"}, next.Inspect().Groups)
	require.NotContains(t, next.Hub.Groups(), "b")
}

func TestAnUnusedHubIsNotListed(t *testing.T) {
	s := newTestService(t, &recorder{})
	require.Zero(t, s.Hub("ghost").Count(&Target{}))
	require.Empty(t, s.Hubs())
	h := s.Hub("Chat")
	require.Same(t, h, s.Hub("chat"), "a hub that was looked up must be the one that the first client connects to")
	connect(t, s, "a")
	require.Equal(t, []*Hub{h}, s.Hubs())
	require.Equal(t, 1, h.Count(&Target{}))
}
