package wsclient

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// TestCloseInEachState checks that Close works in each state and leaves no goroutine: the bubble fails if a goroutine
// does not end.
func TestCloseInEachState(t *testing.T) {
	closeNow := func(t *testing.T, conn *Conn) {
		t.Helper()
		start := time.Now()
		require.NoError(t, conn.Close())
		require.LessOrEqual(t, time.Since(start), closeTimeout)
		require.Equal(t, StateClosed, conn.State())
		require.ErrorIs(t, conn.Err(), ErrClosed)
		require.ErrorIs(t, conn.JoinGroup(context.Background(), "room"), ErrClosed)
		_, err := conn.Receive(context.Background())
		require.ErrorIs(t, err, ErrClosed)
		require.NoError(t, conn.Close(), "again")
	}
	for name, test := range map[string]func(t *testing.T, s *service){
		"connected": func(t *testing.T, s *service) {
			conn, p := s.connect(Options{})
			closeNow(t, conn)
			<-p.ended
			require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(p.err))
		},
		"connected, and the service does not respond": func(t *testing.T, s *service) {
			s.silent = true
			conn, p := s.connect(Options{})
			start := time.Now()
			closeNow(t, conn)
			require.Equal(t, closeTimeout, time.Since(start))
			p.cut()
		},
		"connected, and the service reads late and does not respond": func(t *testing.T, s *service) {
			s.silent = true
			conn, p := s.connect(Options{})
			p.stuck.Store(true)
			time.AfterFunc(3*time.Second, func() { _, _ = io.Copy(io.Discard, p.raw) })
			send(conn, "a", nil)
			synctest.Wait()
			start := time.Now()
			closeNow(t, conn)
			require.Equal(t, closeTimeout, time.Since(start))
			p.cut()
		},
		"recovering, no response to the handshake": func(t *testing.T, s *service) {
			conn, p := s.connect(Options{})
			hang := make(chan struct{})
			defer close(hang)
			s.setHandshakeStatus(func(*http.Request) int { <-hang; return 500 })
			p.cut()
			synctest.Wait()
			require.Equal(t, StateRecovering, conn.State())
			closeNow(t, conn)
		},
		"recovering, no frame": func(t *testing.T, s *service) {
			conn, p := s.connect(Options{})
			p.cut()
			s.next()
			synctest.Wait()
			require.Equal(t, StateRecovering, conn.State())
			closeNow(t, conn)
		},
		"recovering, between attempts": func(t *testing.T, s *service) {
			conn, p := s.connect(Options{})
			s.setHandshakeStatus(func(*http.Request) int { return 500 })
			p.cut()
			synctest.Wait()
			require.Equal(t, StateRecovering, conn.State())
			closeNow(t, conn)
		},
		"reconnecting, between attempts": func(t *testing.T, s *service) {
			conn, p := s.connect(Options{Protocol: JSONPlain})
			s.setHandshakeStatus(func(*http.Request) int { return 500 })
			p.cut()
			synctest.Wait()
			require.Equal(t, StateReconnecting, conn.State())
			closeNow(t, conn)
		},
		"reconnecting, the provider hangs": func(t *testing.T, s *service) {
			provided, asked := false, make(chan struct{})
			conn, p := s.connectTo(func(ctx context.Context) (string, error) {
				if !provided {
					provided = true
					return serviceURL, nil
				}
				close(asked)
				<-ctx.Done()
				return "", ctx.Err()
			}, Options{Protocol: JSONPlain})
			p.cut()
			<-asked
			closeNow(t, conn)
		},
		"reconnecting, no connected frame": func(t *testing.T, s *service) {
			conn, p := s.connect(Options{Protocol: JSONPlain})
			p.cut()
			s.next()
			closeNow(t, conn)
		},
		"sends and receivers wait": func(t *testing.T, s *service) {
			conn, p := s.connect(Options{})
			waiting := make(chan error, 20)
			for range 10 {
				go func() { waiting <- conn.SendToGroup(context.Background(), "room", Text("a"), nil) }()
				go func() { _, err := conn.Receive(context.Background()); waiting <- err }()
			}
			for range 10 {
				p.expect("sendToGroup")
			}
			synctest.Wait()
			closeNow(t, conn)
			for range 20 {
				require.ErrorIs(t, <-waiting, ErrClosed)
			}
		},
		"a write is stuck": func(t *testing.T, s *service) {
			s.silent = true
			conn, p := s.connect(Options{})
			p.stuck.Store(true)
			waiting := make(chan error, 2)
			go func() { waiting <- conn.SendToGroup(context.Background(), "room", Binary(make([]byte, 500_000)), nil) }()
			go func() { waiting <- conn.SendToGroup(context.Background(), "room", Text("a"), nil) }()
			synctest.Wait()
			closeNow(t, conn)
			require.ErrorIs(t, <-waiting, ErrClosed)
			require.ErrorIs(t, <-waiting, ErrClosed)
			p.cut()
		},
		"in a hook": func(t *testing.T, s *service) {
			var closed = make(chan error, 1)
			_, p := s.connect(Options{OnRecovering: func(e RecoveringEvent) { closed <- e.Conn.Close() }})
			p.cut()
			require.NoError(t, <-closed)
		},
		"it has ended": func(t *testing.T, s *service) {
			conn, p := s.connect(Options{Protocol: JSONPlain, Reconnect: ReconnectOptions{Disabled: true}})
			p.cut()
			<-conn.Done()
			require.NoError(t, conn.Close())
			var ce *CloseError
			require.ErrorAs(t, conn.Err(), &ce, "Close does not replace the error")
		},
		"dialing": func(t *testing.T, s *service) {
			ctx, cancel := context.WithCancel(context.Background())
			dialed := s.dial(ctx, freshURL, Options{RetryInitial: true})
			s.next() // never sends the connected frame
			cancel()
			require.ErrorIs(t, (<-dialed).err, context.Canceled)
		},
	} {
		t.Run(name, func(t *testing.T) { bubble(t, test) })
	}
}

// TestNoGoroutineIsLeft checks the same with real sockets and an emulator.
func TestNoGoroutineIsLeft(t *testing.T) {
	h := startHub(t)
	before := goleak.IgnoreCurrent()
	conn := h.dial(t, nil)
	require.NoError(t, conn.JoinGroup(testContext(t), "room"))
	h.DropConnection(hubName, conn.ConnectionID())
	require.NoError(t, conn.LeaveGroup(testContext(t), "room"))
	require.NoError(t, conn.Close())
	http.DefaultClient.CloseIdleConnections()
	h.Close()
	goleak.VerifyNone(t, before)
}

// TestAnIdleClientHasOneGoroutine limits the cost of a client, because load generators run thousands of them.
func TestAnIdleClientHasOneGoroutine(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{OnConnected: func(ConnectedEvent) {}})
		joined := join(conn, "room")
		p.ack(p.expect("joinGroup"))
		require.NoError(t, <-joined)
		p.send(`{"type":"message","from":"server","dataType":"text","data":"a","sequenceId":1}`)
		receive(t, conn)
		p.expect("sequenceAck")
		synctest.Wait()
		require.Equal(t, 1, goroutinesOf("wsclient.(*Conn).run", "wsclient.(*link)", "wsclient.(*hooks)", "net/http.(*persistConn)"))
	})
}

// TestCloseDuringAnUnfinishedFarewell checks that a service that announces the end during a recovery, and then falls silent,
// does not stop the client.
func TestCloseDuringAnUnfinishedFarewell(t *testing.T) {
	farewell := `{"type":"system","event":"disconnected","message":"bye"}`
	t.Run("Close", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := s.connect(Options{})
			s.silent = true
			p.cut()
			p = s.next()
			p.send(farewell)
			synctest.Wait()
			start := time.Now()
			require.NoError(t, conn.Close())
			require.LessOrEqual(t, time.Since(start), closeTimeout)
			p.cut()
		})
	})
	t.Run("the next attempt", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := s.connect(Options{})
			p.cut()
			p = s.next()
			p.send(farewell)
			start := time.Now()
			p = s.next()
			require.LessOrEqual(t, time.Since(start), attemptTimeout+maxRecoveryDelay)
			p.send(`{"type":"pong"}`)
			synctest.Wait()
			require.Equal(t, StateConnected, conn.State())
		})
	})
}

// TestAProviderThatEndsItsGoroutine checks that a provider that calls runtime.Goexit, like a failing assertion of a test
// does, does not block the Conn.
func TestAProviderThatEndsItsGoroutine(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		first := true
		conn, p := s.connectTo(func(context.Context) (string, error) {
			if !first {
				runtime.Goexit()
			}
			first = false
			return serviceURL, nil
		}, Options{Protocol: JSONPlain, Reconnect: ReconnectOptions{MaxAttempts: 2}})
		p.cut()
		<-conn.Done()
		require.EqualError(t, conn.Err(), "wsclient: the URL provider failed: it called runtime.Goexit")
		require.NoError(t, conn.Close())
	})
}

// TestHooksThatEndTheirGoroutine checks that hooks that call runtime.Goexit, like a failing assertion does, stop neither the other
// hooks nor the Conn.
func TestHooksThatEndTheirGoroutine(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		ended := make(chan int, 1)
		conn, p := s.connect(Options{
			OnConnected:    func(ConnectedEvent) { runtime.Goexit() },
			OnDisconnected: func(d DisconnectedEvent) { ended <- d.Err.Code },
			OnServerClose:  func(string) bool { runtime.Goexit(); return true },
		})
		p.send(`{"type":"system","event":"disconnected","message":"bye"}`)
		p.close(websocket.StatusNormalClosure, "")
		require.Equal(t, 1000, <-ended)
		<-conn.Done()
		require.ErrorAs(t, conn.Err(), new(*CloseError))
	})
}

// TestAProviderThatIgnoresItsContext checks that a provider that hangs delays neither Dial nor Close, nor the next attempt.
func TestAProviderThatIgnoresItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		release := make(chan struct{})
		defer close(release)
		asked := make(chan struct{}, 10)
		hang := func(ctx context.Context) (string, error) {
			asked <- struct{}{}
			<-release
			return "", ctx.Err()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := Dial(ctx, hang, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second+providerGrace, time.Since(start))

		<-asked
		first := true
		conn, p := s.connectTo(func(ctx context.Context) (string, error) {
			if first {
				first = false
				return serviceURL, nil
			}
			return hang(ctx)
		}, Options{Protocol: JSONPlain})
		p.cut()
		<-asked
		start = time.Now()
		<-asked
		require.LessOrEqual(t, time.Since(start), attemptTimeout+providerGrace+time.Second)
		start = time.Now()
		require.NoError(t, conn.Close())
		require.Equal(t, providerGrace, time.Since(start))
	})
}

// TestAProviderThatCloses checks that a provider may call Close, for example because the user has logged out.
func TestAProviderThatCloses(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		var conn *Conn
		ready := make(chan struct{})
		first := true
		conn, p := s.connectTo(func(context.Context) (string, error) {
			if first {
				first = false
				return serviceURL, nil
			}
			<-ready
			return "", conn.Close()
		}, Options{Protocol: JSONPlain})
		close(ready)
		p.cut()
		<-conn.Done()
		require.ErrorIs(t, conn.Err(), ErrClosed)
	})
}

// TestAProviderThatPanics checks that the caller of Dial can recover from a panic of its provider.
func TestAProviderThatPanics(t *testing.T) {
	require.Panics(t, func() {
		_, _ = Dial(testContext(t), func(context.Context) (string, error) { panic("no URL") }, nil)
	})
}

// failingSocket is a socket whose writes fail.
type failingSocket struct{ socket }

func (failingSocket) Write(context.Context, websocket.MessageType, []byte) error {
	return io.ErrClosedPipe
}

// TestAFailedWriteDoesNotHideTheCloseCode checks that the reader still gets the last frames and the close code of a service that
// closed the socket right after them. Writes fail then, possibly before the reader has read the frames.
func TestAFailedWriteDoesNotHideTheCloseCode(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, _ := s.connect(Options{})
		l, err := conn.open(context.Background(), serviceURL)
		require.NoError(t, err)
		l.ws = failingSocket{l.ws}
		p := s.next()
		done := make(chan error, 1)
		l.write([]byte("{}"), done)
		require.Error(t, <-done)
		l.writeNow([]byte("{}"), done)
		require.Error(t, <-done, "writes fail from then on")
		go func() {
			p.send(message(1))
			p.close(websocket.StatusNormalClosure, "bye")
		}()
		f, _, err := l.read()
		require.NoError(t, err)
		require.Equal(t, "1", f.message.Text())
		_, _, err = l.read()
		require.Equal(t, 1000, l.closeError(err).Code)
		l.closeNow()

		l, err = conn.open(context.Background(), serviceURL)
		require.NoError(t, err)
		l.ws = failingSocket{l.ws}
		p = s.next()
		start := time.Now()
		l.write([]byte("{}"), done)
		_, _, err = l.read() // nothing comes
		require.Error(t, err)
		require.Equal(t, drainTimeout, time.Since(start))
		p.cut()
	})
}
