package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/awps-go/webpubsub"
	"github.com/golang-jwt/jwt/v5"
)

// The figures in this file are measured in the main process.

const smallBody = 100

// accepted answers every request without a network.
var accepted = roundTripper(func(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close()
	}
	return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody, Request: req}, nil
})

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// allocations returns the number of objects that a send allocates, without a network.
func (c contender) allocations() (float64, error) {
	send, err := c.connect("https://contoso.webpubsub.azure.com", newPayload(smallBody, false), accepted)
	if err != nil {
		return 0, err
	}
	return testing.AllocsPerRun(1000, func() {
		if e := send(context.Background()); e != nil {
			err = e
		}
	}), err
}

// writes returns how often a small request calls Write on its connection.
func (c contender) writes() (float64, error) {
	const requests = 100
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	var writes atomic.Int64
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return countingConn{conn, &writes}, err
	}}
	defer transport.CloseIdleConnections()
	send, err := c.connect(server.URL, newPayload(smallBody, false), transport)
	if err != nil {
		return 0, err
	}
	for range requests {
		if err := send(context.Background()); err != nil {
			return 0, err
		}
	}
	return float64(writes.Load()) / requests, nil
}

type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// tokenMaker makes client access tokens for a user with two roles and two groups.
type tokenMaker struct {
	name string
	make func() error
}

func tokenMakers() ([]tokenMaker, error) {
	const endpoint = "https://contoso.webpubsub.azure.com"
	client, err := newClient(endpoint, nil)
	if err != nil {
		return nil, err
	}
	roles := []string{webpubsub.RoleSendToGroup("red"), webpubsub.RoleJoinLeaveGroup("red")}
	groups := []string{"red", "blue"}
	return []tokenMaker{
		{"MapClaims", func() error {
			now := time.Now()
			_, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
				"aud": endpoint + "/client/hubs/" + hub, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
				"sub": "user1", "role": roles, "webpubsub.group": groups,
			}).SignedString([]byte(accessKey))
			return err
		}},
		{"ours", func() error {
			_, err := client.GetClientAccessToken(context.Background(), &webpubsub.ClientAccessTokenOptions{
				UserID: "user1", Roles: roles, Groups: groups,
			})
			return err
		}},
	}, nil
}

// measure returns the CPU time and the number of allocations per token.
func (t tokenMaker) measure() (time.Duration, float64, error) {
	const tokens = 50_000
	var err error
	allocations := testing.AllocsPerRun(1000, func() { err = t.make() })
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", t.name, err)
	}
	start := cpuTime()
	for range tokens {
		_ = t.make()
	}
	return (cpuTime() - start) / tokens, allocations, nil
}
