package soak

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/wsclient"
)

// TestMemory sends and connects many times, and checks that the heap does not grow with the number of sends and connections.
// It does not measure the memory that a send or a connected client needs.
func TestMemory(t *testing.T) {
	srv := emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.DiscardHandler), ConnectedAfterRecovery: true})
	handler, err := eventhandler.New(&eventhandler.Options{Hub: "soak", ConnectionStrings: []string{srv.ConnectionString()}})
	require.NoError(t, err)
	require.NoError(t, srv.SetHubSettings("soak", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
		Handler: handler, SystemEvents: []string{"connect", "connected", "disconnected"}}}}))
	m := &memory{srv: srv, service: newClient(t, srv.ConnectionString(), "soak", nil)}
	for _, protocol := range protocols {
		c, err := m.connect(protocol)
		require.NoError(t, err)
		m.receivers = append(m.receivers, c)
	}

	// First fill the pools, open the connections, and let the emulator remember its 1,000 requests.
	require.NoError(t, m.sendMany(max(*sends/10, 1_500)))
	require.NoError(t, m.connectMany(max(*sends/100, 150)))
	before := m.heap(t)
	require.NoError(t, m.sendMany(*sends))
	sent := m.heap(t)
	require.NoError(t, m.connectMany(*sends/10))
	after := m.heap(t)
	figures(t, "heap before %d KiB; after %d sends %+d KiB; after %d connects and disconnects %+d KiB more", before>>10, *sends,
		(sent-before)>>10, *sends/10, (after-sent)>>10)
	const bound = 8 << 20 // far more than the pools vary, and far less than any leak at full length
	require.Less(t, sent-before, int64(bound), "heap growth after the sends")
	require.Less(t, after-sent, int64(bound), "heap growth after the clients")

	for _, c := range m.receivers {
		c.kill()
		require.NoError(t, c.waitEnd())
	}
}

type memory struct {
	srv       *emulator.Server
	service   *webpubsub.ServiceClient
	receivers []*client
}

// heap waits until only the receivers are connected, and returns the live heap.
func (m *memory) heap(t *testing.T) int64 {
	ctx, cancel := waitContext()
	defer cancel()
	require.NoError(t, m.srv.WaitForConnections(ctx, "soak", len(m.receivers)))
	for range 3 { // a sync.Pool drops its values at the second collection
		runtime.GC()
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func (m *memory) connect(protocol string) (*client, error) {
	ctx, cancel := waitContext()
	defer cancel()
	access, err := m.service.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: "user-" + protocol,
		Groups: []string{"room"}, Roles: []string{webpubsub.RoleJoinLeaveAnyGroup}})
	if err != nil {
		return nil, err
	}
	return connect(ctx, access.URL, protocol, func(*wsclient.Message) {})
}

// concurrently calls do for 0 to n-1 from 16 goroutines.
func concurrently(n int, do func(i int) error) error {
	const workers = 16
	failed := make(chan error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				if err := do(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	return <-failed
}

// sendMany sends n messages. After each batch it waits until the receivers have read the messages.
func (m *memory) sendMany(n int) error {
	const batch = 500 // half of the messages that a reliable client may leave unacknowledged
	messages := []webpubsub.Message{webpubsub.Text("a text of some length"), webpubsub.JSON(map[string]int{"a": 1}), webpubsub.Binary(make([]byte, 300))}
	for done := 0; done < n; done += batch {
		err := concurrently(min(batch, n-done), func(i int) error {
			ctx, cancel := waitContext()
			defer cancel()
			message := messages[i%len(messages)]
			switch i % 3 {
			case 0:
				return m.service.SendToAll(ctx, message, &webpubsub.SendToAllOptions{Filter: "userId ne 'nobody'"})
			case 1:
				return m.service.SendToUser(ctx, "user-"+protocols[i%len(protocols)], message, nil)
			default:
				return m.service.SendToGroup(ctx, "room", message, &webpubsub.SendToGroupOptions{Metadata: map[string]string{"a": "b"}})
			}
		})
		for _, c := range m.receivers {
			if err == nil {
				err = c.settled(func(text string) error { return m.toReceiver(c, text) })
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// toReceiver sends a text to a receiver.
func (m *memory) toReceiver(c *client, text string) error {
	ctx, cancel := waitContext()
	defer cancel()
	return m.service.SendToUser(ctx, "user-"+c.protocol, webpubsub.Text(text), nil)
}

// connectMany connects and disconnects n clients.
func (m *memory) connectMany(n int) error {
	return concurrently(n, func(i int) error {
		ctx, cancel := waitContext()
		defer cancel()
		c, err := m.connect(protocols[i%len(protocols)])
		if err != nil {
			return err
		}
		if c.protocol != raw {
			if err := c.conn.JoinGroup(ctx, fmt.Sprintf("room %d", i)); err != nil {
				return err
			}
		}
		if c.reliable() {
			m.srv.DropConnection("soak", c.id)
			if err := c.waitRecovered(); err != nil {
				return err
			}
		}
		return m.end(ctx, c, i/len(protocols))
	})
}

// end ends a connection in one of three ways.
func (m *memory) end(ctx context.Context, c *client, way int) error {
	switch {
	case c.protocol != raw && way%3 == 0:
		if err := m.service.CloseConnection(ctx, c.id, nil); err != nil {
			return err
		}
	case !c.reliable() && way%3 == 1:
		c.kill()
	default:
		c.close()
	}
	return c.waitEnd()
}
