package wsclient

import (
	"context"
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
