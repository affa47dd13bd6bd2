package eventhandler_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/wsclient"
)

// replica is one process of an application. It has its own event handler and shares nothing with other replicas.
type replica struct {
	*httptest.Server
	connects, events, disconnects atomic.Int64
}

func startReplica(t *testing.T, connectionString string) *replica {
	t.Helper()
	r := &replica{}
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub: "chat", ConnectionStrings: []string{connectionString},
		OnConnect: func(context.Context, *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			r.connects.Add(1)
			return &eventhandler.ConnectResponse{SetState: map[string]any{"count": 0}}, nil
		},
		OnUserEvent: func(_ context.Context, e *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			r.events.Add(1)
			var count int
			if _, err := e.State.Get("count", &count); err != nil {
				return nil, err
			}
			count++
			return &eventhandler.UserEventResponse{
				Message:  webpubsub.Text(fmt.Sprintf("%s %d", e.UserID, count)),
				SetState: map[string]any{"count": count},
			}, nil
		},
		OnDisconnected: func(context.Context, *eventhandler.DisconnectedRequest) error {
			r.disconnects.Add(1)
			return nil
		},
	})
	require.NoError(t, err)
	r.Server = httptest.NewServer(handler)
	t.Cleanup(r.Close)
	return r
}

// startBalancer returns the URL of a load balancer that sends each request to the next running replica.
func startBalancer(t *testing.T, up func() []*replica) string {
	t.Helper()
	var next atomic.Int64
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			replicas := up()
			target, err := url.Parse(replicas[int(next.Add(1))%len(replicas)].URL)
			if err != nil {
				panic(err)
			}
			r.SetURL(target)
		},
		Transport: &http.Transport{DisableKeepAlives: true},
	}
	balancer := httptest.NewServer(proxy)
	t.Cleanup(balancer.Close)
	return balancer.URL
}

// The handler keeps no data between events. What an application must remember about a connection is in the connection's
// state, which the service keeps, so any replica can handle any event.
func TestTwoReplicasShareTheEventsOfAHub(t *testing.T) {
	server := emulator.StartT(t, nil)
	first, second := startReplica(t, server.ConnectionString()), startReplica(t, server.ConnectionString())
	var replicas atomic.Pointer[[]*replica]
	replicas.Store(&[]*replica{first, second})
	balancer := startBalancer(t, func() []*replica { return *replicas.Load() })
	require.NoError(t, server.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
		URLTemplate: balancer, SystemEvents: []string{"connect", "disconnected"}, UserEventPattern: "*",
	}}}))
	client, err := webpubsub.NewClientFromConnectionString(server.ConnectionString(), "chat", nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	var conns []*wsclient.Conn
	for _, user := range []string{"ann", "bob", "eve"} {
		access, err := client.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: user})
		require.NoError(t, err)
		conn, err := wsclient.Dial(ctx, wsclient.StaticURL(access.URL), nil)
		require.NoError(t, err)
		defer conn.Close()
		conns = append(conns, conn)
	}
	send := func(from, to int) {
		for count := from; count <= to; count++ {
			for _, conn := range conns {
				require.NoError(t, conn.SendEvent(ctx, "count", wsclient.Text("one more"), nil))
				answer, err := conn.Receive(ctx)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("%s %d", conn.UserID(), count), answer.Text())
			}
		}
	}

	send(1, 10)
	for _, r := range []*replica{first, second} {
		require.Positive(t, r.connects.Load(), "both replicas let clients in")
		require.Equal(t, int64(15), r.events.Load(), "the balancer alternates, so both replicas handle events of every client")
	}

	// The second replica stops, as in a deployment. The first one takes over, and receives every client's count.
	replicas.Store(&[]*replica{first})
	second.Close()
	send(11, 15)

	// A new replica starts, which has no data about these clients.
	third := startReplica(t, server.ConnectionString())
	replicas.Store(&[]*replica{first, third})
	send(16, 20)
	require.Positive(t, third.events.Load())
	require.Zero(t, third.connects.Load())

	for _, conn := range conns {
		require.NoError(t, conn.Close())
	}
	require.NoError(t, server.WaitForConnections(ctx, "chat", 0))
	require.NoError(t, server.Close()) // waits until the application has been notified
	require.Equal(t, int64(3), first.disconnects.Load()+third.disconnects.Load(), "each disconnect is reported once")
}
