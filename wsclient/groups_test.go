package wsclient

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// rejoined ends the session of p and reports which groups the client rejoins on the next connection.
func rejoined(s *service, p *peer) []string {
	p.close(websocket.StatusPolicyViolation, "")
	p = s.next()
	p.sendConnected("c2")
	synctest.Wait()
	var groups []string
	for len(p.frames) > 0 {
		if f := <-p.frames; f.Type == "joinGroup" {
			groups = append(groups, f.Group)
			p.ack(f)
		}
	}
	return groups
}

// TestAGroupIsRejoinedIfAnyJoinSucceeded checks that a failed JoinGroup does not change the outcome of another one for
// the same group.
func TestAGroupIsRejoinedIfAnyJoinSucceeded(t *testing.T) {
	room := []string{"room"}
	for name, test := range map[string]struct {
		run  func(conn *Conn, p *peer)
		want []string
	}{
		"the second of two concurrent calls succeeds": {func(conn *Conn, p *peer) {
			first := join(conn, "room")
			a := p.expect("joinGroup")
			second := join(conn, "room")
			b := p.expect("joinGroup")
			p.ack(b)
			require.NoError(p.t, <-second)
			p.nack(a, "Forbidden")
			require.ErrorIs(p.t, <-first, ErrForbidden)
		}, room},
		"the first of two concurrent calls fails first": {func(conn *Conn, p *peer) {
			first := join(conn, "room")
			a := p.expect("joinGroup")
			second := join(conn, "room")
			b := p.expect("joinGroup")
			p.nack(a, "Forbidden")
			require.ErrorIs(p.t, <-first, ErrForbidden)
			p.ack(b)
			require.NoError(p.t, <-second)
		}, room},
		"both of two concurrent calls fail": {func(conn *Conn, p *peer) {
			first := join(conn, "room")
			a := p.expect("joinGroup")
			second := join(conn, "room")
			b := p.expect("joinGroup")
			p.nack(a, "Forbidden")
			p.nack(b, "Forbidden")
			require.ErrorIs(p.t, <-first, ErrForbidden)
			require.ErrorIs(p.t, <-second, ErrForbidden)
		}, nil},
		"a failure, then a success": {func(conn *Conn, p *peer) {
			first := join(conn, "room")
			p.nack(p.expect("joinGroup"), "Forbidden")
			require.ErrorIs(p.t, <-first, ErrForbidden)
			second := join(conn, "room")
			p.ack(p.expect("joinGroup"))
			require.NoError(p.t, <-second)
		}, room},
		"a success, then a failure": {func(conn *Conn, p *peer) {
			first := join(conn, "room")
			p.ack(p.expect("joinGroup"))
			require.NoError(p.t, <-first)
			second := join(conn, "room")
			p.nack(p.expect("joinGroup"), "Forbidden")
			require.ErrorIs(p.t, <-second, ErrForbidden)
		}, room},
		"a success, LeaveGroup, then a failure": {func(conn *Conn, p *peer) {
			first := join(conn, "room")
			p.ack(p.expect("joinGroup"))
			require.NoError(p.t, <-first)
			left := leave(conn, "room")
			p.ack(p.expect("leaveGroup"))
			require.NoError(p.t, <-left)
			second := join(conn, "room")
			p.nack(p.expect("joinGroup"), "Forbidden")
			require.ErrorIs(p.t, <-second, ErrForbidden)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				conn, p := s.connect(Options{})
				test.run(conn, p)
				require.Equal(t, test.want, rejoined(s, p))
			})
		})
	}
}

// TestAJoinThatWaitsIsSentOnce checks that a JoinGroup that waits for a new connection joins the group itself: the group is
// not rejoined as well, and its rejection is not reported twice.
func TestAJoinThatWaitsIsSentOnce(t *testing.T) {
	for _, sent := range []bool{false, true} {
		t.Run(fmt.Sprintf("sent before %v", sent), func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				o, e := recordEvents(Options{Protocol: JSONPlain})
				conn, p := s.connect(o)
				var joined chan error
				if sent {
					joined = join(conn, "room")
					p.expect("joinGroup")
				}
				p.cut()
				<-p.ended
				synctest.Wait()
				if !sent {
					joined = join(conn, "room")
				}
				p = s.next()
				p.sendConnected("c2")
				p.nack(p.expect("joinGroup"), "Forbidden")
				require.ErrorIs(t, <-joined, ErrForbidden)
				synctest.Wait()
				require.Empty(t, p.frames)
				e.expect(t, "connected c1 false", "disconnected c1 1006", "connected c2 false")
				require.Empty(t, e.all)
				require.Empty(t, rejoined(s, p))
			})
		})
	}
}

// TestAnAcknowledgedJoinIsRejoinedAtOnce checks that a group is rejoined on the next connection even if JoinGroup has not seen
// its acknowledgement yet.
func TestAnAcknowledgedJoinIsRejoinedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, _ := s.connect(Options{})
		conn.groups.beginJoin("room")
		k := &call{request: request{kind: requestJoin, group: "room"}, answer: make(chan *frame, 1)}
		conn.acks.add(1, k)
		conn.handle(nil, &frame{kind: frameAck, ackID: 1, failure: failure{name: nameDuplicate}}, 0)
		require.Equal(t, []string{"room"}, conn.groups.all())
		require.Len(t, k.answer, 1)
	})
}

// TestTheLastRequestDecidesAboutAGroup checks that the groups to rejoin are those that the service has the client in, if
// JoinGroup and LeaveGroup run at the same time.
func TestTheLastRequestDecidesAboutAGroup(t *testing.T) {
	t.Run("a join is retried after a leave", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := s.connect(Options{})
			joined := join(conn, "room")
			p.nack(p.expect("joinGroup"), "InternalServerError")
			synctest.Wait()
			left := leave(conn, "room")
			p.ack(p.expect("leaveGroup"))
			require.NoError(t, <-left)
			p.ack(p.expect("joinGroup"))
			require.NoError(t, <-joined)
			require.Equal(t, []string{"room"}, rejoined(s, p))
		})
	})
	t.Run("a leave is sent before the join is acknowledged", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := s.connect(Options{})
			joined := join(conn, "room")
			a := p.expect("joinGroup")
			left := leave(conn, "room")
			b := p.expect("leaveGroup")
			p.ack(a)
			require.NoError(t, <-joined)
			p.ack(b)
			require.NoError(t, <-left)
			require.Empty(t, rejoined(s, p))
		})
	})
	t.Run("a leave is retried after a join", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := s.connect(Options{})
			left := leave(conn, "room")
			p.nack(p.expect("leaveGroup"), "InternalServerError")
			synctest.Wait()
			joined := join(conn, "room")
			p.ack(p.expect("joinGroup"))
			require.NoError(t, <-joined)
			p.ack(p.expect("leaveGroup"))
			require.NoError(t, <-left)
			require.Empty(t, rejoined(s, p))
		})
	})
	t.Run("nothing is remembered of groups that are not wanted", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := s.connect(Options{})
			joined := join(conn, "room")
			p.nack(p.expect("joinGroup"), "Forbidden")
			require.Error(t, <-joined)
			left := leave(conn, "other")
			p.ack(p.expect("leaveGroup"))
			require.NoError(t, <-left)
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			require.ErrorIs(t, conn.LeaveGroup(ctx, "third"), context.Canceled)
			require.Empty(t, conn.groups.members)

		})
	})
}

// leave calls LeaveGroup in the background.
func leave(conn *Conn, group string) chan error {
	done := make(chan error, 1)
	go func() { done <- conn.LeaveGroup(context.Background(), group) }()
	return done
}

// TestGroupCallsDoNotWaitForABlockedWrite checks that a service that reads nothing does not keep JoinGroup and LeaveGroup from
// observing their contexts.
func TestGroupCallsDoNotWaitForABlockedWrite(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		s.silent = true
		conn, p := s.connect(Options{})
		p.stuck.Store(true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		var calls sync.WaitGroup
		for _, group := range []string{"a", "b", "c"} {
			calls.Go(func() { require.ErrorIs(t, conn.JoinGroup(ctx, group), context.DeadlineExceeded) })
			calls.Go(func() { require.ErrorIs(t, conn.LeaveGroup(ctx, group), context.DeadlineExceeded) })
		}
		calls.Wait()
		require.Equal(t, time.Second, time.Since(start))
	})
}
