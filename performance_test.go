package webpubsub

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/tracing"
	"github.com/stretchr/testify/require"
)

// These tests enforce those limits of bench/ that are deterministic: counts, not times.

var smallMessage = JSON(map[string]string{"from": "user1", "text": strings.Repeat("a", 72)})

func TestASendAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody, Request: req}, nil
	})
	for _, test := range []struct {
		name  string
		limit float64
		call  func() error
	}{
		{"a send to a group", 50, func() error {
			return client.SendToGroup(context.Background(), "room", smallMessage, nil)
		}},
		{"a client access token with two roles and two groups", 20, func() error {
			_, err := client.GetClientAccessToken(context.Background(), &ClientAccessTokenOptions{
				UserID: "user1",
				Roles:  []string{"webpubsub.sendToGroup.red", "webpubsub.joinLeaveGroup.red"},
				Groups: []string{"red", "blue"},
			})
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var err error
			allocations := testing.AllocsPerRun(200, func() {
				if e := test.call(); e != nil {
					err = e
				}
			})
			require.NoError(t, err)
			require.LessOrEqual(t, allocations, test.limit)
		})
	}
}

func TestASmallRequestIsOneWrite(t *testing.T) {
	for _, test := range []struct {
		name     string
		statuses []int // the status of each attempt of one send
	}{
		{"on the first attempt", []int{202}},
		{"on every attempt", []int{503, 429, 202}},
		{"after a redirect", []int{307, 202}},
	} {
		for _, message := range []Message{smallMessage, Text("hello"), Binary(make([]byte, 1000))} {
			t.Run(test.name+", "+message.ContentType(), func(t *testing.T) {
				var tries atomic.Int64
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", "/moved")
					w.WriteHeader(test.statuses[tries.Add(1)-1])
				}))
				defer server.Close()
				var writes atomic.Int64
				transport := sharedTransport().Clone()
				defer transport.CloseIdleConnections()
				dial := transport.DialContext
				transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := dial(ctx, network, address)
					return countingConn{conn, &writes}, err
				}
				client := newTestClient(t, server.URL, func(o *ClientOptions) { o.Transport = roundTripper{transport} })
				require.NoError(t, client.SendToGroup(context.Background(), "room", message, nil))
				require.EqualValues(t, len(test.statuses), writes.Load(), "writes for %d requests", len(test.statuses))
			})
		}
	}
}

type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

func TestBurstsOfSendsShareConnections(t *testing.T) {
	for _, test := range []struct {
		burst int
		limit int64
	}{{64, 80}, {256, 320}} {
		var connections, sends atomic.Int64
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			sends.Add(1)
			w.WriteHeader(http.StatusAccepted)
		}))
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				connections.Add(1)
			}
		}
		server.Start()
		client := newTestClient(t, server.URL, nil)
		for range 20 {
			var burst sync.WaitGroup
			for range test.burst {
				burst.Go(func() {
					if err := client.SendToGroup(context.Background(), "room", smallMessage, nil); err != nil {
						t.Error(err)
					}
				})
			}
			burst.Wait()
		}
		sharedTransport().CloseIdleConnections()
		server.Close()
		require.EqualValues(t, 20*test.burst, sends.Load())
		require.LessOrEqual(t, connections.Load(), test.limit, "connections for bursts of %d sends", test.burst)
	}
}

func TestTheSharedTransportSpeaksHTTP2OverTLSThatIsNotTooOld(t *testing.T) {
	transport := sharedTransport().Clone() // a clone, because it also trusts the test's certificates
	defer transport.CloseIdleConnections()
	var protocols []string
	start := func(newest uint16) string {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			protocols = append(protocols, req.Proto)
			w.WriteHeader(http.StatusAccepted)
		}))
		server.EnableHTTP2 = true
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: newest}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		transport.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		return server.URL
	}
	send := func(endpoint string) error {
		client := newTestClient(t, endpoint, func(o *ClientOptions) {
			o.Transport = roundTripper{transport}
			o.Retry.MaxRetries = -1
		})
		return client.SendToGroup(context.Background(), "room", smallMessage, nil)
	}
	require.NoError(t, send(start(tls.VersionTLS13)))
	require.NoError(t, send(start(tls.VersionTLS12)))
	require.ErrorContains(t, send(start(tls.VersionTLS11)), "protocol version")
	require.Equal(t, []string{"HTTP/2.0", "HTTP/2.0"}, protocols)

	require.Zero(t, transport.MaxConnsPerHost, "a limit would queue sends behind a slow service")
	require.Equal(t, &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second}, transport.HTTP2,
		"azcore's values, which detect dead connections")
}

func TestASeekableStreamIsNotCopied(t *testing.T) {
	var received atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n, _ := io.Copy(io.Discard, req.Body)
		received.Add(n)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	defer sharedTransport().CloseIdleConnections()
	client := newTestClient(t, server.URL, nil)
	const sends, limit = 10, 128 << 10 // bytes allocated per send, by the client and the server together
	for _, size := range []int{1 << 20, 4 << 20} {
		received.Store(0)
		data := make([]byte, size)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range sends {
			stream := io.NewSectionReader(bytes.NewReader(data), 0, int64(size)) // like a file, not a type that net/http recognizes
			require.NoError(t, client.SendToUser(context.Background(), "user1", BinaryStream(stream), nil))
		}
		runtime.ReadMemStats(&after)
		require.EqualValues(t, sends*size, received.Load())
		require.Less(t, (after.TotalAlloc-before.TotalAlloc)/sends, uint64(limit), "bytes allocated by a stream of %d bytes", size)
	}
}

// The client's optimizations must not disable features of azcore.
func TestAzcoreStillRetriesTracesLogsAndNamesItself(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	var agents []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		agents = append(agents, req.UserAgent())
		w.WriteHeader([]int{503, 202}[len(agents)-1])
	}))
	defer server.Close()
	defer sharedTransport().CloseIdleConnections()

	var events []azlog.Event
	var logged strings.Builder
	azlog.SetListener(func(event azlog.Event, text string) {
		events = append(events, event)
		logged.WriteString(text + "\n")
	})
	defer azlog.SetListener(nil)
	var spans []string
	provider := tracing.NewProvider(func(string, string) tracing.Tracer {
		return tracing.NewTracer(func(ctx context.Context, name string, _ *tracing.SpanOptions) (context.Context, tracing.Span) {
			spans = append(spans, name)
			return ctx, tracing.NewSpan(tracing.SpanImpl{SetAttributes: func(attributes ...tracing.Attribute) {
				for _, a := range attributes {
					if a.Key == "http.status_code" {
						spans = append(spans, http.StatusText(a.Value.(int)))
					}
				}
			}})
		}, nil)
	}, nil)
	client := newTestClient(t, server.URL, func(o *ClientOptions) {
		o.TracingProvider = provider
		o.Telemetry.ApplicationID = "chat"
		o.Retry.RetryDelay = time.Nanosecond
	})
	require.NoError(t, client.SendToGroup(context.Background(), "room", smallMessage, nil))

	require.Len(t, agents, 2, "the send is retried")
	for _, agent := range agents {
		require.True(t, strings.HasPrefix(agent, "chat awps-go-webpubsub/"+moduleVersion+" ("), agent)
	}
	require.Equal(t, []string{"ServiceClient.SendToGroup", "HTTP POST", "Service Unavailable", "HTTP POST", "Accepted"}, spans)
	events = slices.DeleteFunc(events, func(e azlog.Event) bool { return e == azlog.EventRetryPolicy })
	require.Equal(t, []azlog.Event{azlog.EventRequest, azlog.EventResponse, azlog.EventRequest, azlog.EventResponse}, events)
	require.Contains(t, logged.String(), "POST "+server.URL+"/api/hubs/chat/groups/room/:send?api-version=2024-12-01\n")
	require.Contains(t, logged.String(), "Authorization: REDACTED\n")
	require.Contains(t, logged.String(), "=====> Try=2 for POST ")
}
