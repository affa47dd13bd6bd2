package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// All contenders must send the same request, with a token that the service accepts.
func TestEveryContenderSendsTheSameRequest(t *testing.T) {
	for _, p := range []payload{newPayload(smallBody, false), newPayload(1<<20, true)} {
		for _, c := range contenders {
			t.Run(c.name+"/"+p.contentType(), func(t *testing.T) {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if err := checkRequest(r, p); err != nil {
						http.Error(w, err.Error(), http.StatusBadRequest)
						return
					}
					w.WriteHeader(http.StatusAccepted)
				}))
				defer server.Close()
				send, err := c.connect(server.URL, p, server.Client().Transport)
				require.NoError(t, err)
				require.NoError(t, send(context.Background()))
			})
		}
	}
}

func checkRequest(r *http.Request, p payload) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if string(body) != string(p.data) || r.ContentLength != int64(len(p.data)) {
		return errors.New("unexpected body")
	}
	if r.Method != http.MethodPost || r.RequestURI != groupPath()+"?api-version="+apiVersion {
		return errors.New("unexpected URL: " + r.RequestURI)
	}
	if r.Header.Get("Content-Type") != p.contentType() || r.Header.Get("Accept") != "application/json" {
		return errors.New("unexpected headers")
	}
	_, err = jwt.Parse(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
		func(*jwt.Token) (any, error) { return []byte(accessKey), nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(),
		jwt.WithAudience("http://"+r.Host+r.RequestURI))
	return err
}

// A broadcast must arrive at every client, and a send to one client at that client.
func TestEveryBroadcasterReachesItsClients(t *testing.T) {
	for _, b := range broadcasters {
		t.Run(b.name, func(t *testing.T) {
			clients, endpoint, first := startClients(t, b.start, 3)
			post(t, clients, endpoint+broadcastPath(), 3)
			post(t, clients, endpoint+sendPath(first), 1)
			require.EqualValues(t, 3+3+1, clients.arrived.Load(), "each client receives connected and the broadcast, and one receives the send")
		})
	}
}

// startClients starts a broadcaster and connects n clients to it. It also returns the connection id of the first client.
func startClients(t testing.TB, start func() (string, func() string, error), n int) (c *clientPool, endpoint, first string) {
	endpoint, id, err := start()
	require.NoError(t, err)
	c = &clientPool{done: make(chan error, 1)}
	token, err := mapClaimsToken(endpoint + clientPath())
	require.NoError(t, err)
	require.NoError(t, c.connect(clientJob{URL: endpoint + clientPath(), Token: token, Connect: n}, &clientResult{}))
	return c, endpoint, id()
}

// post sends a message and waits until that many clients have received it.
func post(t testing.TB, c *clientPool, url string, recipients int) {
	token, err := mapClaimsToken(url)
	require.NoError(t, err)
	require.NoError(t, c.post(clientJob{URL: url, Token: token, Posts: 1, Recipients: recipients}, &clientResult{}))
}

func TestREADMEStatesTheTokenGoals(t *testing.T) {
	var table strings.Builder
	require.NoError(t, printTokens(&table, 1))
	lines := strings.Split(strings.TrimSpace(table.String()), "\n")
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	require.Contains(t, string(readme), "\n"+lines[len(lines)-1]+"\n", "the README has the line with the goals")
}

// BenchmarkSend sends over loopback to a server in this process. The command uses a server in another process.
func BenchmarkSend(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
	}))
	b.Cleanup(server.Close)
	for _, size := range []struct {
		name    string
		payload payload
	}{
		{"100B", newPayload(smallBody, false)},
		{"64KiB", newPayload(64<<10, false)},
		{"1MBstream", newPayload(1_000_000, true)},
	} {
		for _, c := range contenders {
			send, err := c.connect(server.URL, size.payload, nil)
			require.NoError(b, err)
			b.Run("size="+size.name+"/parallel=1/client="+c.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := send(context.Background()); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("size="+size.name+"/parallel=64/client="+c.name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism(64 / runtime.GOMAXPROCS(0))
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := send(context.Background()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

// BenchmarkRequest measures a send without a network: the cost of the client alone.
func BenchmarkRequest(b *testing.B) {
	for _, c := range contenders {
		send, err := c.connect("https://contoso.webpubsub.azure.com", newPayload(smallBody, false), accepted)
		require.NoError(b, err)
		b.Run("client="+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := send(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkClientAccessToken makes tokens for a user with two roles and two groups.
func BenchmarkClientAccessToken(b *testing.B) {
	makers, err := tokenMakers()
	require.NoError(b, err)
	for _, maker := range makers {
		b.Run("by="+maker.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := maker.make(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
