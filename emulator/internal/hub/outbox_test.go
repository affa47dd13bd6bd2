package hub

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// These tests check the frames that a client receives before its connection is closed, and their order.

// number returns a message with a sequence id before it.
func number(data []byte, id uint64) []byte { return append([]byte(fmt.Sprint(id, ":")), data...) }

type plain struct{}

func (plain) Encoding() Encoding       { return 0 }
func (plain) Encode(m *Message) *Frame { return &Frame{Data: m.Data} }

// message returns the frame of a message.
func message(text string, expires time.Time) *Frame {
	return (&Message{Payload: Payload{Data: []byte(text)}, Expires: expires}).FrameFor(plain{})
}

func put(t *testing.T, o *Outbox, texts ...string) {
	t.Helper()
	for _, text := range texts {
		require.Nil(t, o.Put(message(text, time.Time{})))
	}
}

// drain removes up to n frames from an outbox, and returns their data separated by spaces.
func drain(o *Outbox, n int) string {
	var all []string
	for range n {
		f, data := o.Next()
		if f == nil {
			break
		}
		all = append(all, string(data))
	}
	return strings.Join(all, " ")
}

func TestQueuedFramesComeBeforeGoodbyeAndNoneAfter(t *testing.T) {
	o := NewOutbox(&Clock{}, nil)
	put(t, &o, "a", "b")
	require.Equal(t, "a", drain(&o, 1))
	require.True(t, o.Close(Goodbye{1000, "bye", "b"}))
	require.False(t, o.Close(Goodbye{1008, "again", "a"}))
	put(t, &o, "late")
	require.True(t, o.Closing())
	require.Equal(t, "b", drain(&o, 9))
	require.Equal(t, Goodbye{1000, "bye", "b"}, o.Goodbye())
}

func TestUnacknowledgedMessagesAreSentAgain(t *testing.T) {
	o := NewOutbox(&Clock{}, number)
	put(t, &o, "a", "b", "c")
	require.Equal(t, "1:a 2:b 3:c", drain(&o, 9))
	o.Acknowledge(1)
	put(t, &o, "d")
	require.Nil(t, o.Put(&Frame{Data: []byte("pong")}))
	o.Suspend()
	require.False(t, o.Empty())
	put(t, &o, "e")
	require.Nil(t, o.Put(&Frame{Data: []byte("ack")}))
	o.Resume(&Frame{Data: []byte("hello")})
	require.Nil(t, o.Put(&Frame{Data: []byte("late")}))
	require.Equal(t, "hello 2:b 3:c 4:d 5:e late", drain(&o, 9), "the pong and the ack must not be sent, because they are not messages")
	o.Acknowledge(9)
	o.Suspend()
	o.Resume(&Frame{Data: []byte("hello")})
	require.Equal(t, "hello", drain(&o, 9))
}

func TestAcknowledgingDuringAResendLosesNothing(t *testing.T) {
	o := NewOutbox(&Clock{}, number)
	put(t, &o, "a", "b", "c")
	drain(&o, 9)
	o.Suspend()
	o.Resume(&Frame{Data: []byte("hello")})
	require.Equal(t, "hello 1:a", drain(&o, 2))
	o.Acknowledge(1)
	require.Equal(t, "2:b 3:c", drain(&o, 9))
}

func TestAResendCompletesBeforeGoodbye(t *testing.T) {
	o := NewOutbox(&Clock{}, number)
	put(t, &o, "a", "b", "c")
	drain(&o, 2)
	o.Suspend()
	o.Resume(&Frame{Data: []byte("hello")})
	require.Equal(t, "hello 1:a", drain(&o, 2))
	require.True(t, o.Close(Goodbye{1000, "bye", "b"}))
	require.Equal(t, "2:b 3:c", drain(&o, 9))
}

func TestExpiredMessagesAreNotSent(t *testing.T) {
	clock := &Clock{}
	o := NewOutbox(clock, number)
	soon := clock.Now().Add(time.Minute)
	require.Nil(t, o.Put(message("sent", soon)))
	require.Equal(t, "1:sent", drain(&o, 1))
	require.Nil(t, o.Put(message("waits", soon)))
	put(t, &o, "kept")
	clock.Advance(2 * time.Minute)
	o.Suspend()
	o.Resume(&Frame{Data: []byte("hello")})
	require.Equal(t, "hello 2:kept", drain(&o, 9))
}

func TestAClientThatIsTooFarBehindLosesItsQueue(t *testing.T) {
	for name, test := range map[string]struct {
		number func([]byte, uint64) []byte
		limit  int
		size   int
		reason string
		detail string
	}{
		"queued messages":               {nil, MaxQueuedFrames, 1, queueFull, "the client is too slow: 10000 messages, 10000 bytes wait for it"},
		"queued bytes":                  {nil, 16, 1 << 20, queueFull, "the client is too slow: 16 messages, 16777216 bytes wait for it"},
		"unacknowledged messages":       {number, maxUnacknowledged, 1, bufferFull, "the client left 1000 messages, 1000 bytes unacknowledged"},
		"queued bytes, reliable":        {number, 16, 1 << 20, bufferFull, "the client is too slow: 16 messages, 16777216 bytes wait for it"},
		"unacknowledged bytes, written": {number, 16, 1 << 20, bufferFull, "the client left 16 messages, 16777216 bytes unacknowledged"},
	} {
		t.Run(name, func(t *testing.T) {
			clock := &Clock{}
			o := NewOutbox(clock, test.number)
			fill := func(expires time.Time) *Fault {
				for range test.limit {
					require.Nil(t, o.Put(message(strings.Repeat("x", test.size), expires)))
				}
				if strings.HasSuffix(name, "written") {
					drain(&o, test.limit)
				}
				return o.Put(message("one more", time.Time{}))
			}
			require.Equal(t, &Fault{test.reason, test.detail}, fill(time.Time{}))
			require.True(t, o.Empty())
			require.True(t, o.Close(Goodbye{1008, test.reason, test.reason}))

			o = NewOutbox(clock, test.number)
			for range test.limit {
				require.Nil(t, o.Put(message(strings.Repeat("x", test.size), clock.Now().Add(time.Second))))
			}
			clock.Advance(time.Minute)
			put(t, &o, "expired messages do not count")
		})
	}
}

func TestAClientThatIsNotReadMayLeaveMoreUnacknowledged(t *testing.T) {
	o := NewOutbox(&Clock{}, number)
	o.Unheard = true
	for range 3 * maxUnacknowledged {
		put(t, &o, "x")
		drain(&o, 1)
	}
	o.Unheard = false
	require.NotNil(t, o.Put(message("x", time.Time{})), "the normal limit must apply again once the client is read")
}
