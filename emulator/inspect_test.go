package emulator_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestInspection(t *testing.T) {
	srv := emulator.StartT(t, nil)
	require.Empty(t, srv.Hubs())
	require.Empty(t, srv.Connections("chat"))
	a := dialJSON(t, srv, dialOptions{user: "ann", groups: []string{"g2", "g1"}, roles: []string{"webpubsub.sendToGroup.g1"}})
	b := dialReliable(t, srv, dialOptions{})
	dialJSON(t, srv, dialOptions{hub: "Other"})
	b.cut()

	require.Equal(t, []string{"Other", "chat"}, srv.Hubs())
	require.ElementsMatch(t, []emulator.Connection{
		{ID: a.id, UserID: "ann", Subprotocol: protocolJSON, Groups: []string{"g1", "g2"}},
		{ID: b.id, Subprotocol: protocolJSONReliable, Recovering: true},
	}, srv.Connections("CHAT"))
	require.Equal(t, []string{"g1", "g2"}, srv.Groups("chat"))
	require.Equal(t, []string{"ann"}, srv.Users("chat"))
	require.True(t, hasPermission(t, srv, a.id, "sendToGroup", "g1"))
	require.False(t, hasPermission(t, srv, a.id, "sendToGroup", ""))
	require.False(t, hasPermission(t, srv, a.id, "joinLeaveGroup", "g1"))
	require.False(t, hasPermission(t, srv, "nobody", "sendToGroup", "g1"))
}

// hasPermission reports whether a connection of the hub chat has a permission.
func hasPermission(t *testing.T, srv *emulator.Server, connectionID string, permission emulator.Permission, group string) bool {
	t.Helper()
	has, err := srv.HasPermission("chat", connectionID, permission, group)
	require.NoError(t, err)
	return has
}

func TestRequestsAreRemembered(t *testing.T) {
	srv := emulator.StartT(t, nil)
	api := rest{t, srv}
	api.must(404, "HEAD", "hubs/chat/users/a%2Fb?api-version=2024-12-01")
	api.must(404, "POST", "hubs/chat/:dance")
	got := srv.Requests()
	require.Len(t, got, 2)
	require.WithinDuration(t, time.Now(), got[0].Time, time.Minute)
	for i := range got {
		require.Equal(t, []string{"REDACTED"}, got[i].Header["Authorization"])
		got[i].Time, got[i].Header = time.Time{}, nil
	}
	require.Equal(t, []emulator.Request{
		{Operation: "UserExists", Method: "HEAD", Path: "/api/hubs/chat/users/a%2Fb?api-version=2024-12-01", Status: 404},
		{Method: "POST", Path: "/api/hubs/chat/:dance", Status: 404},
	}, got)

	api.text("hubs/chat/:send", "hello", "X-Note", "the key is "+srv.AccessKey(), "Cookie", "secret")
	api.send("hubs/chat/:send", "application/octet-stream", strings.Repeat("x", 20<<10))
	api.do("POST", "hubs/chat/:send", []byte("<a/>"), "Content-Type", "application/xml")
	got = srv.Requests()
	require.Equal(t, "text/plain", got[2].ContentType)
	require.Equal(t, "hello", string(got[2].Body))
	require.Equal(t, []string{"the key is REDACTED"}, got[2].Header["X-Note"])
	require.Equal(t, []string{"REDACTED"}, got[2].Header["Cookie"])
	require.Len(t, got[3].Body, 16<<10)
	require.Equal(t, emulator.Request{Operation: "SendToAll", Method: "POST", Path: "/api/hubs/chat/:send", Status: 415,
		ContentType: "application/xml", Header: got[4].Header, Time: got[4].Time}, got[4])
	got[2].Body[0], got[2].Header["X-Note"][0] = 'J', "changed"
	require.Equal(t, "hello", string(srv.Requests()[2].Body), "Requests returns copies")

	for i := range maxRequests + 10 {
		api.must(404, "HEAD", "hubs/chat/users/"+strconv.Itoa(i))
	}
	got = srv.Requests()
	require.Len(t, got, maxRequests)
	require.Equal(t, "/api/hubs/chat/users/10", got[0].Path)
	require.Equal(t, "/api/hubs/chat/users/"+strconv.Itoa(maxRequests+9), got[maxRequests-1].Path)
	require.Equal(t, maxRequests+11, srv.RequestCount("UserExists"))
}

func TestWaiting(t *testing.T) {
	srv := emulator.StartT(t, nil)
	ctx := t.Context()
	done := make(chan error)
	go func() { done <- srv.WaitForConnections(ctx, "chat", 2) }()
	dialJSON(t, srv, dialOptions{user: "ann"})
	c := dialJSON(t, srv, dialOptions{user: "ann", groups: []string{"g"}})
	require.NoError(t, <-done)
	require.NoError(t, srv.WaitForUser(ctx, "chat", "ann", 2))
	require.NoError(t, srv.WaitForGroup(ctx, "chat", "g", 1))

	go func() { done <- srv.WaitForGroup(ctx, "chat", "g", 0) }()
	rest{t, srv}.must(204, "DELETE", "hubs/chat/connections/"+c.id)
	require.NoError(t, <-done)
	require.NoError(t, srv.WaitForUser(ctx, "chat", "ann", 1))

	require.ErrorContains(t, srv.WaitForRequests(ctx, "ExistsGroup", 1), `there is no operation "ExistsGroup": the operations are AddConnectionToGroup`)
	go func() { done <- srv.WaitForRequests(ctx, "GroupExists", 2) }()
	for range 2 {
		rest{t, srv}.must(404, "HEAD", "hubs/chat/groups/g")
	}
	require.NoError(t, <-done)
	require.NoError(t, srv.WaitForRequests(ctx, emulator.OperationConnect, 2), "a client may be connected before its handshake has ended")
	require.Equal(t, 2, srv.RequestCount(emulator.OperationConnect))
	go func() { done <- srv.WaitForRequests(ctx, emulator.OperationConnect, 3) }()
	require.Equal(t, 401, upgradeStatus(t, srv.Endpoint()+"/client/hubs/chat"))
	require.NoError(t, <-done)
	require.NoError(t, srv.WaitForRequests(ctx, emulator.OperationConnect, 1))

	ended, cancel := context.WithCancel(ctx)
	cancel()
	err := srv.WaitForConnections(ended, "chat", 3)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "waiting for 3 connections in hub chat, there are 1")
	srv.Close()
	require.ErrorContains(t, srv.WaitForConnections(ctx, "chat", 7), "the server is closed")
}

func TestTheClockMakesTokensExpire(t *testing.T) {
	srv := emulator.StartT(t, nil)
	target := dialOptions{}.httpURL(t, srv)
	srv.Advance(59 * time.Minute)
	require.Equal(t, 101, upgradeStatus(t, target))
	srv.Advance(5 * time.Minute)
	require.Equal(t, 101, upgradeStatus(t, target), "clocks may differ by five minutes")
	srv.Advance(2 * time.Minute)
	require.Equal(t, 401, upgradeStatus(t, target))
	require.WithinDuration(t, time.Now().Add(66*time.Minute), srv.Now(), time.Minute)
	require.Panics(t, func() { srv.Advance(-1) })
}

func TestLiveViewShowsMessagesAndEvents(t *testing.T) {
	srv := emulator.StartT(t, nil)
	api := rest{t, srv}
	api.text("hubs/chat/:send", "nobody watches")
	p := openPage(t, srv)
	c := dialJSON(t, srv, dialOptions{user: "ann", groups: []string{"g"}, roles: []string{"webpubsub.sendToGroup"}})
	api.text("hubs/chat/groups/g/:send", "from REST")
	require.Equal(t, "from REST", c.object()["data"])
	c.write(`{"type":"sendToGroup","group":"g","dataType":"text","data":"from ann"}`)
	require.Equal(t, "from ann", c.object()["data"])
	require.NotEmpty(t, c.ask(`{"type":"event","event":"e","dataType":"binary","data":"AP8=","ackId":1}`))
	p.until("all traffic arrived", func() bool { return len(p.seen) >= 6 })
	var got []trafficEvent
	for _, e := range p.seen {
		require.WithinDuration(t, srv.Now(), e.Time, patience)
		require.Equal(t, e.Kind == "rest", e.Milliseconds > 0, "%+v", e)
		e.Time, e.ConnectionID, e.Milliseconds = time.Time{}, "", 0
		got = append(got, e)
	}
	require.ElementsMatch(t, []trafficEvent{
		{Kind: "connection", Hub: "chat", UserID: "ann", Text: "connected " + protocolJSON},
		{Kind: "message", Hub: "chat", Group: "g", Text: "SendToGroup: 1 recipient", Data: "from REST"},
		{Kind: "rest", Hub: "chat", Status: 202, Text: "POST /api/hubs/chat/groups/g/:send"},
		{Kind: "message", Hub: "chat", UserID: "ann", Group: "g", Text: "client to group: 1 recipient", Data: "from ann"},
		{Kind: "event", Hub: "chat", UserID: "ann", Text: "user event e", Data: "binary, 2 bytes"},
		{Kind: "event", Hub: "chat", UserID: "ann",
			Text: "event failed: InternalServerError: Internal server error"},
	}, got)
}
