package wsclient

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// These tests run in synctest bubbles, so timeouts of 10, 20 and 30 seconds pass without waiting.

// events records the calls of a client's hooks.
type events struct{ all chan string }

func recordEvents(o Options) (Options, *events) {
	e := &events{make(chan string, 1000)}
	o.OnConnected = func(c ConnectedEvent) { e.all <- fmt.Sprintf("connected %s %v", c.ConnectionID, c.Resumed) }
	o.OnDisconnected = func(d DisconnectedEvent) { e.all <- fmt.Sprintf("disconnected %s %d", d.ConnectionID, d.Err.Code) }
	o.OnRecovering = func(r RecoveringEvent) { e.all <- "recovering " + r.ConnectionID }
	o.OnRecovered = func(c ConnectedEvent) { e.all <- "recovered " + c.ConnectionID }
	o.OnRejoinFailed = func(r RejoinFailedEvent) { e.all <- "not joined " + r.Group }
	return o, e
}

func (e *events) next(t *testing.T) string {
	t.Helper()
	select {
	case s := <-e.all:
		return s
	case <-time.After(time.Hour):
		require.Fail(t, "no event")
		return ""
	}
}

func (e *events) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		require.Equal(t, w, e.next(t))
	}
}

// bubble runs a test with a scripted service in a synctest bubble.
func bubble(t *testing.T, test func(t *testing.T, s *service)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newService(t)) })
}

func TestRecoveryWithoutAConnectedFrame(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		o, e := recordEvents(Options{})
		conn, p := s.connect(o)
		p.send(`{"type":"message","from":"server","dataType":"text","data":"a","sequenceId":1}`)
		require.Equal(t, "a", receive(t, conn).Text())
		p.cut()
		p = s.next()
		query := p.request.URL.Query()
		require.Equal(t, "c1", query.Get("awps_connection_id"))
		require.Equal(t, "token-c1", query.Get("awps_reconnection_token"))
		require.False(t, query.Has("access_token"))
		p.expect("ping")
		require.EqualValues(t, 1, p.expect("sequenceAck").SequenceID)
		synctest.Wait()
		require.Equal(t, StateRecovering, conn.State())
		p.send(`{"type":"pong"}`)
		e.expect(t, "connected c1 false", "recovering c1", "recovered c1", "connected c1 true")
		require.Equal(t, StateConnected, conn.State())
	})
}

// A frame of which only the beginning has arrived is not a message, wherever the cut is. After the recovery it arrives again.
func TestACutInTheMiddleOfAFrame(t *testing.T) {
	const text = `{"type":"message","from":"server","dataType":"text","data":"a","sequenceId":1}`
	const half = len(text) / 2
	whole := slices.Concat([]byte{0x01, byte(half)}, []byte(text[:half]), []byte{0x80, byte(len(text) - half)}, []byte(text[half:])) // two fragments
	for _, protocol := range []Protocol{JSONReliable, JSONPlain} {
		for n := 1; n < len(whole); n++ {
			bubble(t, func(t *testing.T, s *service) {
				o, e := recordEvents(Options{Protocol: protocol})
				conn, p := s.connect(o)
				_, err := p.raw.Write(whole[:n])
				require.NoError(t, err)
				p.cut()
				if protocol == JSONPlain {
					e.expect(t, "connected c1 false", "disconnected c1 1006")
					return
				}
				p = s.next()
				require.Equal(t, "c1", p.request.URL.Query().Get("awps_connection_id"), "cut after %d bytes", n)
				p.send(text)
				e.expect(t, "connected c1 false", "recovering c1", "recovered c1")
				require.Equal(t, "a", receive(t, conn).Text())
			})
		}
	}
}

func TestAnOpenSocketIsNotARecovery(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		o, e := recordEvents(Options{})
		_, p := s.connect(o)
		start := time.Now()
		p.cut()
		s.next() // never sends a frame
		p = s.next()
		require.InDelta(t, 10.5, time.Since(start).Seconds(), 0.5)
		p.send(`{"type":"pong"}`)
		e.expect(t, "connected c1 false", "recovering c1", "recovered c1", "connected c1 true")
	})
}

func TestRecoveryGoesOnAfterErrorsFor30Seconds(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		o, e := recordEvents(Options{})
		_, p := s.connect(o)
		attempts := 0
		start := time.Now()
		s.setHandshakeStatus(func(r *http.Request) int {
			if r.URL.Query().Get("awps_connection_id") == "" {
				return 0
			}
			attempts++
			return http.StatusBadGateway
		})
		p.cut()
		p = s.next()
		require.InDelta(t, 30, time.Since(start).Seconds(), 2.5)
		require.Equal(t, secretToken, p.request.URL.Query().Get("access_token"))
		require.Greater(t, attempts, 14)
		p.sendConnected("c2")
		e.expect(t, "connected c1 false", "recovering c1", "disconnected c1 1006", "connected c2 false")
	})
}

func TestRefusedRecovery(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		o, e := recordEvents(Options{})
		conn, p := s.connect(o)
		joined := join(conn, "room")
		p.ack(p.expect("joinGroup"))
		require.NoError(t, <-joined)
		p.cut()
		p = s.next()
		p.close(websocket.StatusPolicyViolation, "The connection could not be recovered.")
		p = s.next()
		require.Empty(t, p.request.URL.Query().Get("awps_connection_id"))
		p.sendConnected("c2")
		f := p.expect("joinGroup")
		require.Equal(t, "room", f.Group)
		e.expect(t, "connected c1 false", "recovering c1", "disconnected c1 1008", "connected c2 false")
		p.nack(f, "Forbidden")
		e.expect(t, "not joined room")
		require.Equal(t, []string{"room"}, conn.groups.all(), "the permission may come back")
		joined = join(conn, "other")
		p.nack(p.expect("joinGroup"), "Forbidden")
		require.ErrorIs(t, <-joined, ErrForbidden)
		require.Equal(t, []string{"room"}, conn.groups.all())
	})
}

func TestTheSilentLinkIsCut(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		o, e := recordEvents(Options{})
		_, p := s.connect(o)
		start := time.Now()
		p.expect("ping")
		require.Equal(t, 10*time.Second, time.Since(start))
		p.send(`{"type":"pong"}`) // restarts the timeout
		<-p.ended
		require.Equal(t, 30*time.Second, time.Since(start).Round(time.Millisecond))
		require.Equal(t, websocket.StatusCode(-1), websocket.CloseStatus(p.err), "a close frame may end the session: %v", p.err)
		s.next().send(`{"type":"pong"}`)
		e.expect(t, "connected c1 false", "recovering c1", "recovered c1", "connected c1 true")
	})
}

func TestANewTokenDuringTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		p.send(`{"type":"system","event":"connected","userId":"user1","connectionId":"c1","reconnectionToken":"token-2"}`)
		p.send(`{"type":"message","from":"server","dataType":"text","data":"a","sequenceId":1}`)
		receive(t, conn)
		p.cut()
		require.Equal(t, "token-2", s.next().request.URL.Query().Get("awps_reconnection_token"))
	})
}

func TestServerClose(t *testing.T) {
	const message = "Application server closed the connection. Reason: banned"
	farewell := `{"type":"system","event":"disconnected","message":"` + message + `"}`
	t.Run("by default a new connection is made, without a recovery", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			o, e := recordEvents(Options{})
			_, p := s.connect(o)
			p.send(farewell)
			p.close(websocket.StatusNormalClosure, "")
			p = s.next()
			require.Empty(t, p.request.URL.Query().Get("awps_connection_id"))
			p.sendConnected("c2")
			e.expect(t, "connected c1 false", "disconnected c1 1000", "connected c2 false")
		})
	})
	t.Run("the application decides", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			reasons := make(chan string, 1)
			conn, p := s.connect(Options{OnServerClose: func(reason string) bool { reasons <- reason; return false }})
			p.send(farewell)
			p.close(websocket.StatusNormalClosure, "")
			<-conn.Done()
			require.Equal(t, message, <-reasons)
			var ce *CloseError
			require.ErrorAs(t, conn.Err(), &ce)
			require.Equal(t, CloseError{Code: 1000, Message: message, byPeer: true}, *ce)
			_, err := conn.Receive(context.Background())
			require.ErrorAs(t, err, &ce)
		})
	})
}

func TestReconnectDelays(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		o, e := recordEvents(Options{Protocol: JSONPlain})
		conn, p := s.connect(o)
		var attempts []time.Time
		s.setHandshakeStatus(func(*http.Request) int {
			attempts = append(attempts, time.Now())
			return http.StatusServiceUnavailable
		})
		start := time.Now()
		p.cut()
		time.Sleep(30 * time.Minute)
		s.setHandshakeStatus(nil)
		s.next().sendConnected("c2")
		limit := 500 * time.Millisecond
		long := 0
		for i, at := range attempts {
			if i > 0 {
				start = attempts[i-1]
			}
			require.LessOrEqual(t, at.Sub(start), limit+time.Millisecond)
			if at.Sub(start) > 15*time.Second {
				long++
			}
			limit = min(2*limit, 30*time.Second)
		}
		require.InDelta(t, 120, len(attempts), 50, "one attempt per 15 seconds on average, for 30 minutes")
		require.Greater(t, long, 20, "full jitter: half of the delays are more than half of the limit")
		e.expect(t, "connected c1 false", "disconnected c1 1006", "connected c2 false")
		require.NotZero(t, conn.attempt, "a connection that was up only briefly does not reset the delay")
	})
}

// TestRetryAfter checks that the client waits as long as the server asks when it rejects a new connection, but not when it
// rejects a recovery.
func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{"5": 5 * time.Second, "3600": 10 * time.Second, "-1": 0, "soon": 0} {
		t.Run(header, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				o := Options{Reconnect: ReconnectOptions{MinDelay: time.Millisecond, MaxDelay: 10 * time.Second}}
				_, p := s.connect(o)
				s.retryAfter = header
				var recoveries, attempts []time.Time
				s.setHandshakeStatus(func(r *http.Request) int {
					if r.URL.Query().Has("awps_connection_id") {
						recoveries = append(recoveries, time.Now())
					} else {
						attempts = append(attempts, time.Now())
						if len(attempts) == 3 {
							return 0
						}
					}
					return http.StatusTooManyRequests
				})
				p.cut()
				s.next().sendConnected("c2")
				require.Greater(t, len(recoveries), 14)
				for i := 1; i < 3; i++ {
					require.GreaterOrEqual(t, attempts[i].Sub(attempts[i-1]), want)
					require.Less(t, attempts[i].Sub(attempts[i-1]), want+time.Second)
				}
			})
		})
	}
	bubble(t, func(t *testing.T, _ *service) { // the time of a bubble begins with a whole second
		require.Equal(t, 5*time.Second, retryAfter(time.Now().Add(5*time.Second).UTC().Format(http.TimeFormat)))
		require.Zero(t, retryAfter(time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)))
	})
}

func TestRejectedURLsEndTheClient(t *testing.T) {
	for _, test := range []struct {
		name     string
		provider URLProvider
		attempts int
	}{
		{"a static URL immediately", StaticURL(serviceURL), 1},
		{"fresh URLs after three rejections", freshURL, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				conn, p := s.connectTo(test.provider, Options{})
				attempts := 0
				s.setHandshakeStatus(func(*http.Request) int { attempts++; return http.StatusUnauthorized })
				p.close(websocket.StatusPolicyViolation, "")
				<-conn.Done()
				require.Equal(t, test.attempts, attempts)
				var he *HandshakeError
				require.ErrorAs(t, conn.Err(), &he)
				require.Equal(t, 401, he.StatusCode)
				require.Equal(t, `no: REDACTED\u0001`, he.Body)
			})
		})
	}
}

// TestAStuckWriteCutsTheLink checks that a connection is dropped and recovered if the service does not read.
func TestAStuckWriteCutsTheLink(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		s.silent = true
		o, e := recordEvents(Options{KeepAlive: KeepAliveOptions{Interval: time.Hour}})
		conn, p := s.connect(o)
		p.stuck.Store(true)
		start := time.Now()
		s.silent = false
		done := send(conn, "a", nil)
		p2 := s.next()
		require.Equal(t, writeTimeout, time.Since(start))
		p2.send(`{"type":"pong"}`)
		p2.ack(p2.expect("sendToGroup"))
		require.NoError(t, <-done)
		e.expect(t, "connected c1 false", "recovering c1", "recovered c1", "connected c1 true")
		p.cut()
	})
}

// The pong to a WebSocket ping does not wait for a large frame, which the slowest supported link needs 16 seconds to send.
func TestAPingDuringALargeFrameOnASlowLink(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		o, e := recordEvents(Options{KeepAlive: KeepAliveOptions{Interval: time.Hour}})
		conn, p := s.connect(o)
		s.listener.pace.Store(int64(4 << 10 * time.Second / slowestLink))
		text := strings.Repeat("a", 1_000_000)
		start := time.Now()
		done := send(conn, text, nil)
		time.Sleep(time.Second)
		require.NoError(t, p.ws.Ping(t.Context()))
		require.Less(t, time.Since(start), 4*time.Second)
		f := p.expect("sendToGroup")
		require.Equal(t, strconv.Quote(text), string(f.Data))
		require.Greater(t, time.Since(start), 15*time.Second)
		p.ack(f)
		require.NoError(t, <-done)
		e.expect(t, "connected c1 false")
		require.Empty(t, e.all)
	})
}

// TestRecoveryAcknowledgesWhatWasReceivedMeanwhile checks that messages that the application receives while there is no
// link are acknowledged after the recovery.
func TestRecoveryAcknowledgesWhatWasReceivedMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{Buffer: BufferOptions{Messages: 1}})
		p.send(message(1), message(2))
		require.EqualValues(t, 1, p.expect("sequenceAck").SequenceID)
		p.cut()
		p = s.next()
		require.EqualValues(t, 1, p.expect("sequenceAck").SequenceID)
		receive(t, conn)
		time.Sleep(ackDelay)
		p.send(`{"type":"pong"}`)
		require.EqualValues(t, 2, p.expect("sequenceAck").SequenceID)
	})
}

// TestAFlappingConnectionKeepsTheDelay checks that the reconnect delay keeps growing if the service accepts every
// connection and drops it again.
func TestAFlappingConnectionKeepsTheDelay(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		_, p := s.connect(Options{Protocol: JSONPlain, KeepAlive: KeepAliveOptions{Interval: time.Hour}})
		start := time.Now()
		const drops = 50
		for i := range drops {
			p.cut()
			p = s.next()
			p.sendConnected(fmt.Sprintf("c%d", i+2))
			synctest.Wait()
		}
		require.Greater(t, time.Since(start), drops*5*time.Second, "half of 30 seconds on average, once the delay has grown")
		time.Sleep(resetDelayAfter)
		start = time.Now()
		p.cut()
		s.next()
		require.LessOrEqual(t, time.Since(start), 500*time.Millisecond)
	})
}

// TestAFlappingRecovery checks that there is a delay between recoveries if the service accepts every recovery and drops
// the connection again.
func TestAFlappingRecovery(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{KeepAlive: KeepAliveOptions{Interval: time.Hour}})
		start := time.Now()
		p.cut()
		p = s.next()
		require.Zero(t, time.Since(start), "the first recovery is immediate")
		const drops = 20
		for range drops {
			p.send(`{"type":"pong"}`)
			synctest.Wait()
			p.cut()
			p = s.next()
		}
		require.Greater(t, time.Since(start), drops*time.Second*2/3)
		p.send(`{"type":"pong"}`)
		time.Sleep(immediateRecoveryAfter)
		start = time.Now()
		p.cut()
		s.next()
		require.Zero(t, time.Since(start))
		require.EqualValues(t, 1, conn.Stats().Connections)
	})
}

// TestACloseWithoutAReason checks that a connection that was closed with code 1000, but without the disconnected frame that
// comes before a close on purpose, is recovered, and that OnServerClose decides if that is not possible.
func TestACloseWithoutAReason(t *testing.T) {
	for _, refused := range []bool{false, true} {
		t.Run(fmt.Sprintf("refused %v", refused), func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				o, e := recordEvents(Options{})
				reasons := make(chan string, 1)
				o.OnServerClose = func(reason string) bool { reasons <- reason; return false }
				conn, p := s.connect(o)
				p.close(websocket.StatusNormalClosure, "restart")
				p = s.next()
				require.Equal(t, "c1", p.request.URL.Query().Get("awps_connection_id"))
				if !refused {
					p.send(`{"type":"message","from":"server","dataType":"text","data":"a","sequenceId":1}`)
					require.Equal(t, "a", receive(t, conn).Text())
					e.expect(t, "connected c1 false", "recovering c1", "recovered c1", "connected c1 true")
					require.Empty(t, reasons)
					return
				}
				p.close(websocket.StatusPolicyViolation, "The connection could not be recovered.")
				<-conn.Done()
				require.Equal(t, "restart", <-reasons)
				require.EqualError(t, conn.Err(), "wsclient: the connection ended with code 1000: restart")
				e.expect(t, "connected c1 false", "recovering c1", "disconnected c1 1000")
			})
		})
	}
}

// TestTheReasonSurvivesARejectedRecovery checks that OnDisconnected gets the text of the service's disconnected frame if the
// connection then broke instead of being closed.
func TestTheReasonSurvivesARejectedRecovery(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		ends := make(chan *CloseError, 1)
		_, p := s.connect(Options{OnDisconnected: func(d DisconnectedEvent) { ends <- d.Err }})
		p.send(`{"type":"system","event":"disconnected","message":"bye"}`)
		p.cut()
		s.next().close(websocket.StatusPolicyViolation, "The connection could not be recovered.")
		require.EqualError(t, <-ends, "wsclient: the connection ended with code 1008: The connection could not be recovered: bye")
	})
}

// TestAServerCloseDuringARecovery checks that a close by the server ends the session during a recovery too.
func TestAServerCloseDuringARecovery(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		o, e := recordEvents(Options{})
		_, p := s.connect(o)
		p.cut()
		p = s.next()
		p.send(`{"type":"system","event":"disconnected","message":"bye"}`)
		p.close(websocket.StatusNormalClosure, "")
		s.next().sendConnected("c2")
		e.expect(t, "connected c1 false", "recovering c1", "disconnected c1 1000", "connected c2 false")
	})
}

// TestAHookThatWaitsDoesNotDelayTheDecision checks that OnServerClose is asked while another hook waits for the connection
// whose fate OnServerClose decides.
func TestAHookThatWaitsDoesNotDelayTheDecision(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		sent := make(chan error, 1)
		_, p := s.connect(Options{
			OnConnected: func(e ConnectedEvent) {
				if e.First {
					sent <- e.Conn.SendToGroup(context.Background(), "room", Text("hello"), nil)
				}
			},
			OnServerClose: func(string) bool { return true },
		})
		p.expect("sendToGroup")
		p.send(`{"type":"system","event":"disconnected","message":"bye"}`)
		p.close(websocket.StatusNormalClosure, "")
		p = s.next()
		p.sendConnected("c2")
		p.ack(p.expect("sendToGroup"))
		require.NoError(t, <-sent)
	})
}

// TestARecoveryThatIsAnotherConnection checks that a service or proxy that ignores the parameters of a recovery, and makes a
// new connection, is not mistaken for one that recovered: its sequence IDs begin again, and the client is in no group.
func TestARecoveryThatIsAnotherConnection(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		o, e := recordEvents(Options{})
		conn, p := s.connect(o)
		joined := join(conn, "room")
		p.ack(p.expect("joinGroup"))
		require.NoError(t, <-joined)
		p.send(message(1))
		receive(t, conn)
		p.cut()
		p = s.next()
		p.sendConnected("c2")
		<-p.ended
		p = s.next()
		require.Empty(t, p.request.URL.Query().Get("awps_connection_id"))
		p.sendConnected("c3")
		p.ack(p.expect("joinGroup"))
		p.send(message(1))
		receive(t, conn)
		e.expect(t, "connected c1 false", "recovering c1", "disconnected c1 1006", "connected c3 false")
	})
}

// TestALongMessageIsNoSilence checks that a message that takes longer to arrive than KeepAlive.Timeout does not look like a dead
// connection. After a recovery it would arrive as slowly again.
func TestALongMessageIsNoSilence(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		text := strings.Repeat("a", 1_000_000)
		frame := []byte(`{"type":"message","from":"server","dataType":"text","data":"` + text + `","sequenceId":1}`)
		data := append([]byte{0x81, 127}, binary.BigEndian.AppendUint64(nil, uint64(len(frame)))...) // the header of a text frame
		data = append(data, frame...)
		var sender sync.WaitGroup
		defer sender.Wait()
		sender.Go(func() {
			for part := range slices.Chunk(data, 10_000) { // 40 seconds
				if _, err := p.raw.Write(part); err != nil {
					return
				}
				time.Sleep(400 * time.Millisecond)
			}
		})
		require.Equal(t, text, receive(t, conn).Text())
		require.Zero(t, conn.Stats().Recoveries)
	})
}

// TestALongWriteIsNoSilence checks that a frame that the service reads slowly does not look like a dead connection.
func TestALongWriteIsNoSilence(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		s.silent = true
		conn, p := s.connect(Options{})
		p.stuck.Store(true)
		done := send(conn, strings.Repeat("a", 1_000_000), &SendToGroupOptions{NoAck: true})
		start := time.Now()
		var reader sync.WaitGroup
		defer reader.Wait()
		reader.Go(func() {
			for buf := make([]byte, 11_250); ; time.Sleep(250 * time.Millisecond) { // 22 seconds
				if _, err := io.ReadFull(p.raw, buf); err != nil {
					return
				}
			}
		})
		require.NoError(t, <-done)
		require.Greater(t, time.Since(start), 20*time.Second)
		require.Equal(t, StateConnected, conn.State())
		require.Zero(t, conn.Stats().Recoveries)
		p.cut()
	})
}

// TestExtremeDelays checks delays whose doubling overflows.
func TestExtremeDelays(t *testing.T) {
	for _, minimum := range []time.Duration{1, 1<<34 + 1, math.MaxInt64} {
		c := &Conn{options: Options{Reconnect: ReconnectOptions{MinDelay: minimum, MaxDelay: math.MaxInt64}}, attempt: 30}
		longest := time.Duration(0)
		for range 100 {
			c.attempt = 30
			longest = max(longest, c.nextDelay(nil))
		}
		require.Greater(t, longest, min(minimum, math.MaxInt64>>30)<<30/4)
		c.attempt = math.MaxInt
		c.nextDelay(nil)
	}
}

// TestAStaticURLAtFirst checks that a provider that once used StaticURL is not taken for a StaticURL later.
func TestAStaticURLAtFirst(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		first := true
		conn, p := s.connectTo(func(ctx context.Context) (string, error) {
			if first {
				first = false
				return StaticURL(serviceURL)(ctx)
			}
			return freshURL(ctx)
		}, Options{})
		attempts := 0
		s.setHandshakeStatus(func(*http.Request) int { attempts++; return http.StatusUnauthorized })
		p.close(websocket.StatusPolicyViolation, "")
		<-conn.Done()
		require.Equal(t, maxRejections, attempts)
	})
}
