package client

import (
	"errors"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// nobody is an observer that ignores everything.
type nobody struct{}

func (nobody) Changed()                 {}
func (nobody) Watched() bool            { return false }
func (nobody) Traffic(hub.TrafficEvent) {}

// TestAnEventIsNotRejectedWhenTheConnectionCloses: if the connection leaves its hub while an event is on its way to the
// application, the event has not failed. The client receives no error, only the close frame.
func TestAnEventIsNotRejectedWhenTheConnectionCloses(t *testing.T) {
	service := hub.NewService(slog.New(slog.DiscardHandler), &hub.Clock{}, nobody{})
	for name, tt := range map[string]struct {
		err       error
		responded bool
	}{
		"the connection is closed": {hub.ErrGone, false},
		"the application failed":   {errors.New("no"), true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &socket{writing: true} // so that no writer starts
			s.Hub = service.Hub("chat")
			s.setProtocol("json.webpubsub.azure.v1", protocol.Raw{})
			ackID := uint64(1)
			s.eventFailed(&request{Request: &protocol.Request{Kind: protocol.RequestEvent, Event: "e", AckID: &ackID}}, tt.err)
			require.Equal(t, tt.responded, !s.outbox.Empty())
		})
	}
}

// busySocket returns the socket of a JSON client that has a request under way.
func busySocket() *socket {
	s := &socket{writing: true} // so that no writer starts
	s.Hub = hub.NewService(slog.New(slog.DiscardHandler), &hub.Clock{}, nobody{}).Hub("chat")
	s.setProtocol("json.webpubsub.azure.v1", protocol.Raw{})
	s.requests.busy = true
	return s
}

func TestACutEndsTheWaitForRoomInTheQueue(t *testing.T) {
	s := busySocket()
	local, remote := net.Pipe()
	defer remote.Close()
	s.nc = &wire.Conn{Conn: local}
	event := protocol.Request{Kind: protocol.RequestEvent, Payload: hub.Payload{Data: make([]byte, maxRequestBytes+1)}}
	s.handleOrQueue(&event)
	queued := make(chan struct{})
	go func() {
		s.handleOrQueue(&event)
		close(queued)
	}()
	s.Drop()
	select {
	case <-queued:
	case <-time.After(5 * time.Second):
		t.Fatal("the reader still waits")
	}
	require.Len(t, s.requests.waiting, 2)
}

// While the queue is full, the client's acknowledgements are not read. The client must not be closed for them.
func TestAClientIsUnheardWhileItsQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := busySocket()
		unheard := func() bool {
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.outbox.Unheard
		}
		event := protocol.Request{Kind: protocol.RequestEvent, Payload: hub.Payload{Data: make([]byte, maxRequestBytes+1)}}
		s.handleOrQueue(&event)
		require.False(t, unheard())
		go s.handleOrQueue(&event)
		require.True(t, unheard())
		s.mu.Lock()
		s.requests.drop()
		s.mu.Unlock()
		require.False(t, unheard())
	})
}

func TestACancelledInvocationMakesRoomInTheQueue(t *testing.T) {
	s := busySocket()
	for _, r := range []protocol.Request{{Kind: protocol.RequestInvoke, InvocationID: "1"}, {Kind: protocol.RequestEvent, InvocationID: "1"},
		{Kind: protocol.RequestInvoke, InvocationID: "2"}, {Kind: protocol.RequestInvoke, InvocationID: "1"}} {
		r.Payload.Data = make([]byte, 10)
		s.handleOrQueue(&r)
	}
	require.Equal(t, 40, s.requests.bytes)
	s.handleOrQueue(&protocol.Request{Kind: protocol.RequestCancelInvocation, InvocationID: "1"})
	require.Len(t, s.requests.waiting, 2)
	require.Equal(t, 20, s.requests.bytes)
	s.handleOrQueue(&protocol.Request{Kind: protocol.RequestCancelInvocation, InvocationID: "2"})
	require.Equal(t, 10, s.requests.bytes)
}
