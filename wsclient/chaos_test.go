package wsclient

import (
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChaos drops random connections while clients send messages to each other. Every client must receive every message
// exactly once and in the order in which it was sent, and every connection must be recovered.
func TestChaos(t *testing.T) {
	const clients, messages = 8, 150
	h := startHub(t)
	conns := make([]*Conn, clients)
	for i := range conns {
		conns[i] = h.dial(t, &Options{Protocol: []Protocol{JSONReliable, ProtobufReliable}[i%2]})
		require.NoError(t, conns[i].JoinGroup(testContext(t), "room"))
	}
	ctx := testContext(t)
	received := func() (n uint64) {
		for _, conn := range conns {
			n += conn.Stats().Received
		}
		return n
	}
	var senders, all sync.WaitGroup
	for i, conn := range conns {
		senders.Go(func() {
			for n := range messages {
				if err := conn.SendToGroup(ctx, "room", JSON([]int{i, n}), nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
		all.Go(func() {
			next := make([]int, clients)
			sequence := uint64(0)
			for range clients * messages {
				m, err := conn.Receive(ctx)
				var v [2]int
				if err != nil || m.JSON(&v) != nil {
					t.Error(err)
					return
				}
				if next[v[0]] != v[1] || m.SequenceID != sequence+1 {
					t.Errorf("client %d received message %d of client %d as number %d, not message %d as %d",
						i, v[1], v[0], m.SequenceID, next[v[0]], sequence+1)
					return
				}
				next[v[0]]++
				sequence++
			}
		})
	}
	sent := make(chan struct{})
	go func() { senders.Wait(); close(sent) }()
	cuts := 0
	for next, over := uint64(0), false; !over; {
		conn := conns[rand.IntN(clients)]
		if received() >= next && conn.State() == StateConnected && h.DropConnection(hubName, conn.ConnectionID()) {
			cuts++
			next = received() + clients*messages/4 // each drop delays a client's recovery further: let the messages flow first
		}
		select {
		case <-sent:
			over = true
		default:
			runtime.Gosched()
		}
	}
	all.Wait()
	recovered := uint64(0)
	for i, conn := range conns {
		stats := conn.Stats()
		require.EqualValues(t, 1, stats.Connections, "client "+strconv.Itoa(i))
		recovered += stats.Recoveries
	}
	require.NotZero(t, recovered)
	t.Logf("%d cuts, %d recoveries", cuts, recovered)
}
