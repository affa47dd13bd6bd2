package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// What is compared must do the same: the same request, with a token that the service takes.
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
		return errors.New("another body")
	}
	if r.Method != http.MethodPost || r.RequestURI != groupPath()+"?api-version="+apiVersion {
		return errors.New("another URL: " + r.RequestURI)
	}
	if r.Header.Get("Content-Type") != p.contentType() || r.Header.Get("Accept") != "application/json" {
		return errors.New("other headers")
	}
	_, err = jwt.Parse(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
		func(*jwt.Token) (any, error) { return []byte(accessKey), nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(),
		jwt.WithAudience("http://"+r.Host+r.RequestURI))
	return err
}

// What is broadcast, or sent to one, arrives at as many clients as there are, from each broadcaster.
func TestEveryBroadcasterReachesItsClients(t *testing.T) {
	for _, b := range broadcasters {
		t.Run(b.name, func(t *testing.T) {
			crowd, endpoint, first := startCrowd(t, b.start, 3)
			post(t, crowd, endpoint+broadcastPath(), 3)
			post(t, crowd, endpoint+sendPath(first), 1)
			require.EqualValues(t, 3+3+1, crowd.arrived.Load(), "each was told that it is connected, and one has two messages")
		})
	}
}

// startCrowd starts a broadcaster and connects clients to it. It returns the id of one of them, too.
func startCrowd(t testing.TB, start func() (string, func() string, error), clients int) (c *crowd, endpoint, first string) {
	endpoint, id, err := start()
	require.NoError(t, err)
	c = &crowd{all: make(chan error, 1)}
	token, err := mapClaimsToken(endpoint + clientPath())
	require.NoError(t, err)
	require.NoError(t, c.connect(clientJob{URL: endpoint + clientPath(), Token: token, Connect: clients}, &clientResult{}))
	return c, endpoint, id()
}

// post sends a message that is to reach so many clients.
func post(t testing.TB, c *crowd, url string, reach int) {
	token, err := mapClaimsToken(url)
	require.NoError(t, err)
	require.NoError(t, c.post(clientJob{URL: url, Token: token, Posts: 1, Reach: reach}, &clientResult{}))
}

// BenchmarkSend sends over loopback to a server in this process; the command measures with one of its own.
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

// BenchmarkRequest is a send without a network: what the client itself costs.
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

// BenchmarkClientAccessToken makes a token for a user with two roles and two groups.
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
