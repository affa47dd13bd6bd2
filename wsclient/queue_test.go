package wsclient

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
)

// TestFlood sends 20,000 messages to a client whose application does not receive yet. No message may be lost,
// duplicated or reordered. The official JavaScript client received 606 of 20,000 messages before the service closed its
// connection, because it acknowledges only on a timer.
//
// The emulator runs in this process and could fill the buffer of unacknowledged messages while no other goroutine runs.
// So the sender stays at most one burst ahead of the receiver, and the receiver's JoinGroup ensures that its earlier
// acknowledgements have arrived.
func TestFlood(t *testing.T) {
	for _, p := range []Protocol{JSONReliable, ProtobufReliable} {
		t.Run(p.String(), func(t *testing.T) {
			const messages, burst = 20_000, 300
			h := startHub(t)
			receiver := h.dial(t, &Options{Protocol: p, Buffer: BufferOptions{Messages: messages}})
			ctx := testContext(t)
			require.NoError(t, receiver.JoinGroup(ctx, "room"))
			sender := h.dial(t, &Options{Protocol: JSONPlain})
			for i := range messages {
				if i == messages/2 {
					h.DropConnection(hubName, receiver.ConnectionID())
				}
				require.NoError(t, sender.SendToGroup(ctx, "room", Text(strconv.Itoa(i)), &SendToGroupOptions{NoAck: true}))
				if i%burst > 0 {
					continue
				}
				for receiver.Stats().Received+burst < uint64(i) && receiver.Stats().Connections == 1 {
					require.NoError(t, ctx.Err())
					runtime.Gosched()
				}
				require.NoError(t, receiver.JoinGroup(ctx, "room"))
			}
			for i := range messages {
				m := receive(t, receiver)
				require.Equal(t, strconv.Itoa(i), m.Text())
				require.EqualValues(t, i+1, m.SequenceID)
			}
			stats := receiver.Stats()
			require.EqualValues(t, 1, stats.Connections)
			require.EqualValues(t, 1, stats.Recoveries)
			require.EqualValues(t, messages, stats.Received)
		})
	}
}

// TestFloodWithoutTimer sends a flood in no time, so that the timer of acknowledgements never fires, and counts the
// unacknowledged messages.
func TestFloodWithoutTimer(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		const messages = 20_000
		conn, p := s.connect(Options{Buffer: BufferOptions{Messages: messages}})
		start := time.Now()
		acked := uint64(0)
		for i := range uint64(messages) {
			p.send(message(int(i + 1)))
			if i+1-acked < 500 { // the service's limit is 1,000
				continue
			}
			synctest.Wait()
			for len(p.frames) > 0 {
				acked = (<-p.frames).SequenceID
			}
			require.Less(t, i+1-acked, uint64(ackMessages))
		}
		require.Zero(t, time.Since(start))
		for i := range messages {
			require.EqualValues(t, i+1, receive(t, conn).SequenceID)
		}
	})
}

// TestSlowConsumer checks that messages beyond the buffer are not acknowledged, that the service then closes the
// connection, and that Receive still returns every message that arrived.
func TestSlowConsumer(t *testing.T) {
	const buffer, unacknowledged = 50, 1000 // the service's limit
	h := startHub(t)
	conn := h.dial(t, &Options{Buffer: BufferOptions{Messages: buffer}})
	ctx := testContext(t)
	for i := range buffer + unacknowledged {
		require.NoError(t, h.service.SendToAll(ctx, webpubsub.Text(strconv.Itoa(i)), nil))
		for conn.Stats().Queued <= i && i < buffer { // ensures which messages are acknowledged
			runtime.Gosched()
		}
	}
	for conn.Err() == nil {
		require.NoError(t, h.service.SendToAll(ctx, webpubsub.Text("one too many"), nil))
	}
	require.ErrorIs(t, conn.Err(), ErrSlowConsumer)
	var ce *CloseError
	require.ErrorAs(t, conn.Err(), &ce)
	require.Equal(t, 1008, ce.Code)
	for i := range buffer {
		require.Equal(t, strconv.Itoa(i), receive(t, conn).Text())
	}
	var err error
	for received := buffer; err == nil; received++ {
		var m *Message
		if m, err = conn.Receive(ctx); err == nil && received < buffer+unacknowledged-1 {
			require.Equal(t, strconv.Itoa(received), m.Text())
		}
	}
	require.ErrorIs(t, err, ErrSlowConsumer)
}

// TestARejectedRecoveryDoesNotEndTheConn checks that a rejected recovery is not mistaken for a slow consumer, even if
// messages are unacknowledged. The rejection may have another reason, so the Conn makes a new connection.
func TestARejectedRecoveryDoesNotEndTheConn(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{Buffer: BufferOptions{Messages: 1}})
		p.send(message(1))
		p.send(message(2))
		synctest.Wait()
		require.Equal(t, 2, conn.Stats().Queued)
		p.cut()
		s.next().close(1008, "The connection could not be recovered.")
		s.next().sendConnected("c2")
		synctest.Wait()
		require.NoError(t, conn.Err())
		require.Equal(t, "c2", conn.ConnectionID())
		require.Equal(t, "1", receive(t, conn).Text())
		require.Equal(t, "2", receive(t, conn).Text())
	})
}

func message(id int) string {
	return fmt.Sprintf(`{"type":"message","from":"server","dataType":"text","data":"%d","sequenceId":%d}`, id, id)
}

func TestAcknowledgementsOfMessages(t *testing.T) {
	t.Run("by count", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			_, p := s.connect(Options{})
			start := time.Now()
			for i := range 250 {
				p.send(message(i + 1))
			}
			require.EqualValues(t, 100, p.expect("sequenceAck").SequenceID)
			require.EqualValues(t, 200, p.expect("sequenceAck").SequenceID)
			require.Zero(t, time.Since(start))
			require.EqualValues(t, 250, p.expect("sequenceAck").SequenceID)
			require.Equal(t, ackDelay, time.Since(start))
		})
	})
	t.Run("by bytes", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			_, p := s.connect(Options{})
			start := time.Now()
			for i := range 3 {
				p.send(fmt.Sprintf(`{"type":"message","from":"server","dataType":"text","data":"%0400000d","sequenceId":%d}`, i, i+1))
			}
			require.EqualValues(t, 3, p.expect("sequenceAck").SequenceID)
			require.Zero(t, time.Since(start))
		})
	})
	t.Run("duplicates are dropped, and acknowledged again immediately", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := s.connect(Options{})
			p.send(message(1), message(2))
			require.EqualValues(t, 2, p.expect("sequenceAck").SequenceID)
			start := time.Now()
			p.send(message(1), message(2), message(3))
			require.EqualValues(t, 2, p.expect("sequenceAck").SequenceID)
			require.EqualValues(t, 2, p.expect("sequenceAck").SequenceID)
			require.Zero(t, time.Since(start))
			for i := range 3 {
				require.EqualValues(t, i+1, receive(t, conn).SequenceID)
			}
			require.EqualValues(t, 2, conn.Stats().Duplicates)
		})
	})
	t.Run("delayed beyond the buffer, and sent when there is room", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := s.connect(Options{Buffer: BufferOptions{Messages: 10}})
			for i := range 20 {
				p.send(message(i + 1))
			}
			require.EqualValues(t, 10, p.expect("sequenceAck").SequenceID)
			time.Sleep(5 * time.Second)
			require.Empty(t, p.frames)
			for range 4 {
				receive(t, conn)
			}
			require.EqualValues(t, 14, p.expect("sequenceAck").SequenceID)
			for i := 4; i < 20; i++ {
				require.EqualValues(t, i+1, receive(t, conn).SequenceID)
			}
			require.EqualValues(t, 20, p.expect("sequenceAck").SequenceID)
		})
	})
	t.Run("a new connection starts at 1, even if older messages are queued", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := s.connect(Options{Buffer: BufferOptions{Messages: 2}})
			p.send(message(1), message(2), message(3), `{"type":"system","event":"disconnected","message":"bye"}`)
			p.close(websocket.StatusNormalClosure, "")
			p = s.next()
			p.sendConnected("c2")
			p.send(message(1))
			synctest.Wait()
			for _, id := range []uint64{1, 2, 3, 1} {
				require.Equal(t, id, receive(t, conn).SequenceID)
			}
			require.EqualValues(t, 1, p.expect("sequenceAck").SequenceID)
			require.Zero(t, conn.Stats().Duplicates)
		})
	})
}

func TestUnreliableOverflow(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		slow := make(chan SlowConsumerEvent, 10)
		conn, p := s.connect(Options{Protocol: JSONPlain, Buffer: BufferOptions{Messages: 2},
			OnSlowConsumer: func(e SlowConsumerEvent) { slow <- e }})
		burst := func() {
			for i := range 5 {
				p.send(message(i + 1))
			}
			synctest.Wait()
		}
		burst()
		require.Equal(t, 2, (<-slow).Queued)
		require.Empty(t, slow, "the hook is called once")
		require.EqualValues(t, 3, conn.Stats().Dropped)
		require.Equal(t, "1", receive(t, conn).Text())
		require.Equal(t, "2", receive(t, conn).Text())
		burst()
		require.Len(t, slow, 1)
	})
}

// TestAFullBufferBlocksNoSend checks that the Conn keeps reading if its buffer is full. Otherwise it would never
// receive the acknowledgement.
func TestAFullBufferBlocksNoSend(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{Buffer: BufferOptions{Messages: 1}})
		for i := range 20 {
			p.send(message(i + 1))
		}
		done := send(conn, "a", nil)
		p.ack(p.expect("sendToGroup"))
		require.NoError(t, <-done)
	})
}

func TestReceivers(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		const receivers, messages = 8, 200
		got := make(chan *Message, messages)
		for range receivers {
			go func() {
				for m, err := range conn.Messages(context.Background()) {
					if err != nil {
						return
					}
					got <- m
				}
			}()
		}
		for i := range messages {
			p.send(message(i + 1))
		}
		seen := make(map[uint64]bool)
		for range messages {
			seen[(<-got).SequenceID] = true
		}
		require.Len(t, seen, messages, "each message goes to one receiver")
	})
}

func TestMessagesEndsWithOneError(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		p.send(message(1))
		synctest.Wait()
		conn.Close()
		var texts []string
		var last error
		for m, err := range conn.Messages(context.Background()) {
			if err != nil {
				last = errors.Join(last, err)
				continue
			}
			texts = append(texts, m.Text())
		}
		require.Equal(t, []string{"1"}, texts, "messages that arrived are returned after Close too")
		require.EqualError(t, last, ErrClosed.Error())
	})
}

// TestAnAcknowledgementOfAnEarlierSession checks that an acknowledgement that is delayed until a new session is not sent: the
// IDs of the new session begin again.
func TestAnAcknowledgementOfAnEarlierSession(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		p.close(websocket.StatusPolicyViolation, "")
		p = s.next()
		p.sendConnected("c2")
		synctest.Wait()
		conn.sequence.send(1, 900)
		conn.sequence.send(2, 1)
		require.EqualValues(t, 1, p.expect("sequenceAck").SequenceID)
	})
}

// TestSlowConsumerWithAnyCloseCode checks that the limit of the service explains the end of a session, whatever close code the
// service uses.
func TestSlowConsumerWithAnyCloseCode(t *testing.T) {
	for _, test := range []struct {
		messages, size int
		slow           bool
	}{
		{serviceLimit, 1, true},
		{serviceLimit - 2, 1, false}, // the session ended for another reason
		{17, 1 << 20, true},
	} {
		t.Run(fmt.Sprintf("%d messages of %d bytes", test.messages, test.size), func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				conn, p := s.connect(Options{Buffer: BufferOptions{Messages: 1}})
				data := strings.Repeat("a", test.size)
				for id := range test.messages + 1 { // the first one is within the buffer, and acknowledged
					p.send(fmt.Sprintf(`{"type":"message","from":"server","dataType":"text","data":%q,"sequenceId":%d}`, data, id+1))
				}
				p.expect("sequenceAck")
				p.close(websocket.StatusTryAgainLater, "")
				p = s.next()
				p.close(websocket.StatusPolicyViolation, "The connection could not be recovered.")
				if !test.slow {
					s.next().sendConnected("c2")
					return
				}
				<-conn.Done()
				require.ErrorIs(t, conn.Err(), ErrSlowConsumer)
				for range test.messages + 1 {
					receive(t, conn)
				}
			})
		})
	}
	t.Run("the limit is that of a session", func(t *testing.T) {
		bubble(t, func(t *testing.T, s *service) {
			conn, p := s.connect(Options{Buffer: BufferOptions{Messages: 1}})
			data := strings.Repeat("a", 1<<20)
			for session := range 2 {
				for id := range 8 {
					p.send(fmt.Sprintf(`{"type":"message","from":"server","dataType":"text","data":%q,"sequenceId":%d}`, data, id+1))
				}
				p.close(websocket.StatusTryAgainLater, "")
				p = s.next()
				p.close(websocket.StatusPolicyViolation, "The connection could not be recovered.")
				p = s.next()
				p.sendConnected(fmt.Sprintf("c%d", session+2))
			}
			synctest.Wait()
			require.NoError(t, conn.Err())
		})
	})
}
