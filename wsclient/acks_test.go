package wsclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// send calls SendToGroup for the group "room" in the background.
func send(conn *Conn, text string, o *SendToGroupOptions) chan error {
	done := make(chan error, 1)
	go func() { done <- conn.SendToGroup(context.Background(), "room", Text(text), o) }()
	return done
}

// join calls JoinGroup in the background.
func join(conn *Conn, group string) chan error {
	done := make(chan error, 1)
	go func() { done <- conn.JoinGroup(context.Background(), group) }()
	return done
}

func TestALostAcknowledgementAfterRecovery(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		done := send(conn, "a", nil)
		first := p.expect("sendToGroup")
		p.cut()
		p = s.next()
		p.send(`{"type":"pong"}`)
		again := p.expect("sendToGroup")
		require.Equal(t, first.AckID, again.AckID, "the service executes an ackId once")
		require.EqualValues(t, 1, first.AckID)
		p.nack(again, "Duplicate")
		require.NoError(t, <-done)
	})
}

func TestALostAcknowledgementOnANewConnection(t *testing.T) {
	for _, atMostOnce := range []bool{false, true} {
		t.Run(fmt.Sprintf("AtMostOnce %v", atMostOnce), func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				conn, p := s.connect(Options{Protocol: JSONPlain})
				done := send(conn, "a", &SendToGroupOptions{AtMostOnce: atMostOnce})
				first := p.expect("sendToGroup")
				p.cut()
				if atMostOnce {
					require.ErrorIs(t, <-done, ErrOutcomeUnknown)
					return
				}
				p = s.next()
				p.sendConnected("c2")
				again := p.expect("sendToGroup")
				require.NotEqual(t, first.AckID, again.AckID, "ackIds belong to a connection")
				p.ack(again)
				require.NoError(t, <-done)
			})
		})
	}
}

func TestForbiddenIsNotRetried(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		done := send(conn, "a", nil)
		start := time.Now()
		p.nack(p.expect("sendToGroup"), "Forbidden")
		err := <-done
		require.ErrorIs(t, err, ErrForbidden)
		var ack *AckError
		require.ErrorAs(t, err, &ack)
		require.Equal(t, AckError{"Forbidden", "no", 1}, *ack)
		require.EqualError(t, err, "wsclient: SendToGroup: Forbidden: no")
		require.NotErrorIs(t, err, ErrOutcomeUnknown)
		require.Zero(t, time.Since(start))
		require.EqualValues(t, 1, conn.Stats().Sent)
	})
}

func TestInternalServerErrorIsRetriedUnderTheSameID(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		done := send(conn, "a", nil)
		for range 2 {
			f := p.expect("sendToGroup")
			require.EqualValues(t, 1, f.AckID)
			p.nack(f, "InternalServerError")
		}
		p.ack(p.expect("sendToGroup"))
		require.NoError(t, <-done)

		done = send(conn, "b", nil)
		for range 4 {
			p.nack(p.expect("sendToGroup"), "InternalServerError")
		}
		var ack *AckError
		require.ErrorAs(t, <-done, &ack)

		done = send(conn, "c", &SendToGroupOptions{AtMostOnce: true})
		p.nack(p.expect("sendToGroup"), "InternalServerError")
		require.ErrorAs(t, <-done, &ack)
	})
}

// TestTheAcknowledgementBeforeTheWaiter sends many messages to an emulator that acknowledges them immediately. An
// acknowledgement that arrives before the call waits for it must not be lost.
func TestTheAcknowledgementBeforeTheWaiter(t *testing.T) {
	h := startHub(t)
	conn := h.dial(t, nil)
	for range 2000 {
		require.NoError(t, conn.SendToGroup(testContext(t), "room", Text("a"), nil))
	}
}

func TestAnImpatientCallerDisturbsNobody(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		patient := send(conn, "patient", nil)
		f := p.expect("sendToGroup")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := conn.SendToGroup(ctx, "room", Text("impatient"), nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, ErrOutcomeUnknown, "it was sent")
		require.EqualError(t, err, "wsclient: SendToGroup: context deadline exceeded: the request may have been executed")
		_, err = conn.Receive(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		p.ack(f)
		require.NoError(t, <-patient)
		require.Equal(t, StateConnected, conn.State())
		require.EqualValues(t, 1, conn.Stats().Connections)
	})
}

func TestSendsWaitForTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{Protocol: JSONPlain})
		p.cut()
		<-p.ended
		synctest.Wait()
		require.Equal(t, StateReconnecting, conn.State())
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		err := conn.SendToGroup(ctx, "room", Text("never sent"), nil)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, ErrOutcomeUnknown)
		done := send(conn, "a", &SendToGroupOptions{AtMostOnce: true})
		p = s.next()
		p.sendConnected("c2")
		p.ack(p.expect("sendToGroup"))
		require.NoError(t, <-done)
	})
}

func TestNoAck(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		require.NoError(t, conn.SendToGroup(context.Background(), "room", Text("a"), &SendToGroupOptions{NoAck: true, NoEcho: true,
			TTL: 5 * time.Second, Metadata: map[string]string{"K": "v"}}))
		require.JSONEq(t, `{"type":"sendToGroup","group":"room","noEcho":true,"ttlSeconds":5,"metadata":{"K":"v"},
			"dataType":"text","data":"a"}`, string(p.expect("sendToGroup").raw))
		require.NoError(t, conn.SendEvent(context.Background(), "e", Binary([]byte{255}), &SendEventOptions{NoAck: true}))
		require.JSONEq(t, `{"type":"event","event":"e","dataType":"binary","data":"/w=="}`, string(p.expect("event").raw))
	})
}

// TestAFrameWithoutAcknowledgementIsWrittenOnce checks that a frame that was written just before the connection broke is not
// written again. Without an ackId, the service could not recognize it.
func TestAFrameWithoutAcknowledgementIsWrittenOnce(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, _ := s.connect(Options{})
		broken := &link{gone: make(chan struct{})}
		close(broken.gone)
		for range 100 { // the caller may notice the end of the connection first
			for _, outcome := range []error{nil, errLinkLost} {
				w := &write{done: make(chan error, 1)}
				w.state.Store(writeBegun)
				w.finish(outcome)
				done, err := conn.await(context.Background(), &call{noAck: true, atMostOnce: true}, broken, w)
				require.True(t, done)
				if outcome == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, ErrOutcomeUnknown)
				}
			}
		}
	})
}

func TestLeftGroupsAreNotRejoined(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{Protocol: JSONPlain})
		ctx := context.Background()
		for _, group := range []string{"stays", "left"} {
			joined := join(conn, group)
			p.ack(p.expect("joinGroup"))
			require.NoError(t, <-joined)
		}
		left := make(chan error)
		go func() { left <- conn.LeaveGroup(ctx, "left") }()
		p.expect("leaveGroup") // its ack is lost
		p.cut()
		p = s.next()
		p.sendConnected("c2")
		f := p.expect("joinGroup")
		require.Equal(t, "stays", f.Group)
		p.ack(f)
		p.ack(p.expect("leaveGroup"))
		require.NoError(t, <-left)
	})
}

// TestRejoiningComesFirst checks that groups are rejoined before a waiting message is sent. Otherwise the sender would
// not receive its own message.
func TestRejoiningComesFirst(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{Protocol: JSONPlain})
		joined := join(conn, "room")
		p.ack(p.expect("joinGroup"))
		require.NoError(t, <-joined)
		p.cut()
		<-p.ended
		synctest.Wait()
		done := send(conn, "a", nil)
		p = s.next()
		p.sendConnected("c2")
		p.nack(p.expect("joinGroup"), "InternalServerError")
		p.ack(p.expect("sendToGroup"))
		require.NoError(t, <-done)
		p.ack(p.expect("joinGroup")) // the retry
	})
}

func TestUnreadableFrames(t *testing.T) {
	for _, test := range []struct {
		name string
		code websocket.StatusCode
		send func(p *peer)
	}{
		{"invalid JSON", 1007, func(p *peer) { p.send("{") }},
		{"a number as a group", 1007, func(p *peer) { p.send(`{"type":"message","group":5}`) }},
		{"no type", 1007, func(p *peer) { p.send(`{}`) }},
		{"bad base64", 1007, func(p *peer) { p.send(`{"type":"message","from":"server","dataType":"binary","data":"?"}`) }},
		{"a message without data", 1007, func(p *peer) { p.send(`{"type":"message","from":"server","dataType":"text"}`) }},
		{"a binary frame", 1003, func(p *peer) { p.write(websocket.MessageBinary, []byte("{}")) }},
		{"a huge frame", 1009, func(p *peer) { p.write(websocket.MessageText, make([]byte, maxReceived+1)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				ends := make(chan *CloseError, 1)
				conn, p := s.connect(Options{OnDisconnected: func(d DisconnectedEvent) { ends <- d.Err }})
				test.send(p)
				ce := <-ends
				require.EqualValues(t, test.code, ce.Code)
				require.Contains(t, ce.Error(), "the service sent")
				p = s.next()
				require.Empty(t, p.request.URL.Query().Get("awps_connection_id"), "after a recovery the service would send the frame again")
				p.sendConnected("c2")
				p.send(`{"type":"fromTheFuture"}`, `{"type":"message","from":"server","dataType":"json","data":5,"sequenceId":1}`)
				require.Equal(t, "5", receive(t, conn).Text())
			})
		})
	}
}

func TestInvoke(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		type result struct {
			answer Payload
			err    error
		}
		ctx, cancel := context.WithCancel(context.Background())
		invoke := func(ctx context.Context) chan result {
			done := make(chan result, 1)
			go func() {
				answer, err := conn.Invoke(ctx, "price", JSON(1), nil)
				done <- result{answer, err}
			}()
			return done
		}
		done := invoke(ctx)
		require.JSONEq(t, `{"type":"invoke","invocationId":"1","target":"event","event":"price","dataType":"json","data":1}`,
			string(p.expect("invoke").raw))
		p.send(`{"type":"invokeResponse","invocationId":"1","success":true,"dataType":"text","data":"two"}`)
		r := <-done
		require.NoError(t, r.err)
		require.Equal(t, "two", r.answer.Text())

		done = invoke(ctx)
		p.expect("invoke")
		p.send(`{"type":"invokeResponse","invocationId":"2","success":false,"error":{"name":"NotFound","message":"no handler"}}`)
		var failed *InvokeError
		require.ErrorAs(t, (<-done).err, &failed)
		require.Equal(t, InvokeError{"NotFound", "no handler"}, *failed)

		done = invoke(ctx)
		p.expect("invoke")
		cancel()
		require.Equal(t, "3", p.expect("cancelInvocation").InvocationID)
		require.ErrorIs(t, (<-done).err, context.Canceled)

		for _, response := range []string{`"success":true`, `"success":true,"dataType":"text","data":null,"error":null`,
			`"success":true,"dataType":null,"data":null`} {
			done = invoke(context.Background())
			p.send(fmt.Sprintf(`{"type":"invokeResponse","invocationId":%q,%s}`, p.expect("invoke").InvocationID, response))
			r = <-done
			require.NoError(t, r.err)
			require.Equal(t, Payload{}, r.answer)
		}

		done = invoke(context.Background())
		p.expect("invoke")
		p.cut()
		require.ErrorIs(t, (<-done).err, ErrOutcomeUnknown)
	})
	h := startHub(t)
	_, err := h.dial(t, &Options{Protocol: ProtobufReliable}).Invoke(testContext(t), "price", JSON(1), nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// TestARejectedFrameIsNotSentAgain checks that a frame that the service cannot read is not sent again. It would end
// every new connection.
func TestARejectedFrameIsNotSentAgain(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		done := send(conn, "a", nil)
		p.expect("sendToGroup")
		p.close(websocket.StatusInvalidFramePayloadData, "not valid")
		err := <-done
		var ce *CloseError
		require.ErrorAs(t, err, &ce)
		require.Equal(t, 1007, ce.Code)
		require.ErrorIs(t, err, ErrOutcomeUnknown)
		p = s.next()
		p.sendConnected("c2")
		done = send(conn, "b", nil)
		f := p.expect("sendToGroup")
		require.Equal(t, `"b"`, string(f.Data))
		p.ack(f)
		require.NoError(t, <-done)
	})
}

// TestRequestsAreRetriedAfterAnUnreadableFrame checks that requests in flight are sent again after the service sent a
// frame that the client cannot read.
func TestRequestsAreRetriedAfterAnUnreadableFrame(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		done := send(conn, "a", nil)
		p.expect("sendToGroup")
		p.send("{")
		p = s.next()
		p.sendConnected("c2")
		p.ack(p.expect("sendToGroup"))
		require.NoError(t, <-done)
	})
}

// The service reads nothing: the buffers of the connection fill up, and a write blocks. No caller may wait for it.
func TestACallerDoesNotWaitForAServiceThatReadsNothing(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{JSONReliable.String()}})
		if err != nil {
			return
		}
		defer ws.CloseNow()
		_ = ws.Write(r.Context(), websocket.MessageText, []byte(`{"type":"system","event":"connected","connectionId":"c"}`))
		<-release
	}))
	const smallBuffer = 4 << 10
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetReadBuffer(smallBuffer)
		return ctx
	}
	server.Start()
	t.Cleanup(server.Close)
	dialer := &net.Dialer{}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err == nil {
			_ = c.(*net.TCPConn).SetWriteBuffer(smallBuffer)
		}
		return c, err
	}}}
	conn, err := Dial(testContext(t), StaticURL(strings.Replace(server.URL, "http", "ws", 1)+"/client/hubs/chat?access_token=t"),
		&Options{HTTPClient: client, Reconnect: ReconnectOptions{Disabled: true}})
	require.NoError(t, err)
	text := Text(strings.Repeat("a", 3<<10))
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		err := conn.SendToGroup(ctx, "room", text, nil)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	require.Equal(t, StateConnected, conn.State(), "a write that blocks ends the connection after %v", writeTimeout)
	close(release)
	<-conn.Done()
}

func TestAnAnswerConfirmsWhatWasWritten(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		l, _ := conn.current()
		require.Equal(t, int64(0), l.written)
		for range 100 { // far more than maxUnread in all
			done := send(conn, strings.Repeat("a", 1000), nil)
			p.ack(p.expect("sendToGroup"))
			require.NoError(t, <-done)
		}
		require.Equal(t, l.written, l.confirmed)
		require.Greater(t, l.written, int64(100*1000))
	})
}

// TestAGroupThatIsLeftDuringARejoin checks that a request to rejoin a group, which a recovery would repeat, is not sent after
// LeaveGroup.
func TestAGroupThatIsLeftDuringARejoin(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		for _, group := range []string{"a", "left"} {
			joined := join(conn, group)
			p.ack(p.expect("joinGroup"))
			require.NoError(t, <-joined)
		}
		p.close(websocket.StatusPolicyViolation, "")
		p = s.next()
		p.sendConnected("c2")
		p.expect("joinGroup")
		p.expect("joinGroup")
		p.cut() // the service may have lost both
		<-p.ended
		synctest.Wait()
		left := make(chan error)
		go func() { left <- conn.LeaveGroup(context.Background(), "left") }()
		synctest.Wait()
		p = s.next()
		p.send(`{"type":"pong"}`)
		synctest.Wait()
		for range 2 {
			f := <-p.frames
			for f.Type == "ping" {
				f = <-p.frames
			}
			require.Contains(t, []string{"joinGroup a", "leaveGroup left"}, f.Type+" "+f.Group)
			p.ack(f)
			synctest.Wait()
		}
		require.NoError(t, <-left)
		require.Empty(t, p.frames)
	})
}

// TestTheFirstConnectionMayHaveExecutedIt checks that the error of a message's second attempt says that the first one, on a
// connection that has ended, may have been executed.
func TestTheFirstConnectionMayHaveExecutedIt(t *testing.T) {
	lost := func(s *service) (*Conn, *peer) {
		conn, p := s.connect(Options{Protocol: JSONPlain})
		return conn, p
	}
	t.Run("a rejection", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := lost(s)
			done := send(conn, "a", nil)
			p.expect("sendToGroup")
			p.cut()
			p = s.next()
			p.sendConnected("c2")
			p.nack(p.expect("sendToGroup"), "Forbidden")
			err := <-done
			require.ErrorIs(t, err, ErrForbidden)
			require.ErrorIs(t, err, ErrOutcomeUnknown)
		})
	})
	t.Run("a rejected join", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := lost(s)
			done := join(conn, "room")
			p.expect("joinGroup")
			p.cut()
			p = s.next()
			p.sendConnected("c2")
			p.nack(p.expect("joinGroup"), "Forbidden")
			err := <-done
			require.ErrorIs(t, err, ErrForbidden)
			require.NotErrorIs(t, err, ErrOutcomeUnknown, "the first connection's groups are gone")
		})
	})
	t.Run("a retry", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := lost(s)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() { done <- conn.SendEvent(ctx, "order", Text("a"), nil) }()
			p.expect("event")
			p.cut()
			p = s.next()
			p.sendConnected("c2")
			p.nack(p.expect("event"), "InternalServerError")
			synctest.Wait()
			cancel()
			require.ErrorIs(t, <-done, ErrOutcomeUnknown)
		})
	})
}

// TestInvokeWaitsForTheNextConnection checks that an invocation that was not sent, because the connection broke, waits for
// the next one.
func TestInvokeWaitsForTheNextConnection(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		l, _ := conn.current()
		l.mu.Lock()
		l.dead = true // as after a write that failed, before the reader has noticed
		l.mu.Unlock()
		invoked := make(chan error, 1)
		go func() { _, err := conn.Invoke(context.Background(), "price", JSON(1), nil); invoked <- err }()
		synctest.Wait()
		p.cut()
		p = s.next()
		p.send(`{"type":"pong"}`)
		id := p.expect("invoke").InvocationID
		p.send(fmt.Sprintf(`{"type":"invokeResponse","invocationId":%q,"success":true}`, id))
		require.NoError(t, <-invoked)
	})
}

// TestRejoinsAreRetriedTogether checks that the retries of many rejoins, after errors or a recovery, do not wait for each other.
func TestRejoinsAreRetriedTogether(t *testing.T) {
	const groups = 50
	for name, fail := range map[string]func(s *service, p *peer, requests []clientFrame) *peer{
		"errors": func(_ *service, p *peer, requests []clientFrame) *peer {
			for _, f := range requests {
				p.nack(f, "InternalServerError")
			}
			return p
		},
		"a recovery": func(s *service, p *peer, _ []clientFrame) *peer {
			p.cut()
			p = s.next()
			p.send(`{"type":"pong"}`)
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				conn, p := s.connect(Options{})
				for i := range groups {
					joined := join(conn, fmt.Sprint("room", i))
					p.ack(p.expect("joinGroup"))
					require.NoError(t, <-joined)
				}
				p.close(websocket.StatusPolicyViolation, "")
				p = s.next()
				p.sendConnected("c2")
				var requests []clientFrame
				for range groups {
					requests = append(requests, p.expect("joinGroup"))
				}
				p = fail(s, p, requests)
				time.Sleep(2 * firstRetryDelay)
				synctest.Wait()
				retries := 0
				for len(p.frames) > 0 {
					if f := <-p.frames; f.Type == "joinGroup" {
						retries++
					}
				}
				require.Equal(t, groups, retries)
			})
		})
	}
}
