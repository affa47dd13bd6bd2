package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/cmd/internal/programtest"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/wsclient"
)

func TestSend(t *testing.T) {
	server := emulator.StartT(t, nil)
	env := on(server)
	alice, bob := newConn(t, server, "alice", "room"), newConn(t, server, "bob", "room")

	require.Empty(t, succeed(t, env, "send", "all", "hello"))
	for _, conn := range []*wsclient.Conn{alice, bob} {
		m := receive(t, conn)
		require.Equal(t, []any{wsclient.FromServer, wsclient.Text("hello")}, []any{m.From, m.Payload})
	}
	require.Empty(t, succeed(t, env, "send", "group", "room", "--json", ` {"a": [1, "<"]} `, "--exclude", alice.ConnectionID(), "--metadata", "k=v=w", "--ttl", "10s"))
	m := receive(t, bob)
	require.Equal(t, []any{wsclient.FromGroup, "room", wsclient.DataJSON}, []any{m.From, m.Group, m.DataType})
	require.JSONEq(t, `{"a": [1, "<"]}`, string(m.Data))
	require.Equal(t, map[string]string{"k": "v=w"}, m.Metadata)
	require.Contains(t, server.Requests()[len(server.Requests())-1].Path, "messageTtlSeconds=10")

	require.Empty(t, succeed(t, env, "send", "all", "to alice", "--filter", "userId eq 'alice'"))
	require.Equal(t, "to alice", receive(t, alice).Text())
	require.Empty(t, succeed(t, env, "send", "user", "bob", "--file", writeFile(t, "of a\nfile\n")))
	require.Equal(t, "of a\nfile\n", receive(t, bob).Text(), "bob must not receive the message to alice")
	require.Empty(t, succeed(t, env, "send", "connection", alice.ConnectionID(), "--binary", "\xff\x00"[:1]))
	require.Equal(t, wsclient.Binary([]byte{0xff}), receive(t, alice).Payload, "alice must not receive the message that excluded her")
}

func TestSendReadsStandardInput(t *testing.T) {
	server := emulator.StartT(t, nil)
	alice := newConn(t, server, "alice")
	for _, args := range [][]string{{"send", "all"}, {"send", "all", "--file", "-"}} {
		p := programtest.Start(t, args, on(server)...)
		_, err := p.Stdin.Write([]byte("typed"))
		require.NoError(t, err)
		require.NoError(t, p.Stdin.Close())
		code, _ := p.Result(t)
		require.Equal(t, exitOK, code, "%s", p.Stderr)
		require.Equal(t, "typed", receive(t, alice).Text())
	}
}

func TestAnInterruptEndsTheWaitForStandardInput(t *testing.T) {
	server := emulator.StartT(t, nil)
	p := programtest.Start(t, []string{"send", "all", "--file", "-", "--log-level", "debug"}, on(server)...)
	_, err := p.Stdin.Write(make([]byte, 1<<20)) // more than a pipe holds: the program has begun to read
	require.NoError(t, err)
	p.Interrupt(t)
	code, _ := p.Result(t)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "webpubsub: interrupted before the end of the input\n", p.Stderr.String())
	require.Zero(t, server.RequestCount("SendToAll"))
}

func TestAnInterruptEndsARequest(t *testing.T) {
	requests, end := make(chan struct{}, 10), make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- struct{}{}
		<-end
	}))
	defer silent.Close()
	defer close(end)
	env := []string{"WEBPUBSUB_CONNECTION_STRING=Endpoint=" + silent.URL + ";AccessKey=key;", "WEBPUBSUB_HUB=" + hub}
	for _, args := range [][]string{{"send", "all", "hi"}, {"group", "list-connections", "room"}, {"request", "GET", "/api/hubs/chat/x"}} {
		p := programtest.Start(t, args, env...)
		<-requests
		p.Interrupt(t)
		code, stdout := p.Result(t)
		require.Equal(t, exitFailed, code)
		require.Empty(t, stdout)
		require.Regexp(t, `^webpubsub: \w+: interrupted\n$`, p.Stderr.String())
	}
}

func TestYesOrNoCommands(t *testing.T) {
	server := emulator.StartT(t, nil)
	env := on(server)
	id := newConn(t, server, "alice", "room").ConnectionID()
	for _, test := range []struct {
		args []string
		key  string
		want string
	}{
		{[]string{"connection", "exist", id}, "exists", "true"},
		{[]string{"connection", "exist", "nobody"}, "exists", "false"},
		{[]string{"user", "exist", "alice"}, "exists", "true"},
		{[]string{"user", "exist", "bob"}, "exists", "false"},
		{[]string{"group", "exist", "room"}, "exists", "true"},
		{[]string{"group", "exist", "attic"}, "exists", "false"},
		{[]string{"permission", "check", "sendToGroup", id, "room"}, "granted", "false"},
	} {
		require.Equal(t, test.want+"\n", succeed(t, env, test.args...), "%q", test.args)
		require.JSONEq(t, `{"`+test.key+`":`+test.want+`}`, succeed(t, env, append(test.args, "--json")...), "%q", test.args)
	}
}

func TestPermissions(t *testing.T) {
	server := emulator.StartT(t, nil)
	id := newConn(t, server, "alice").ConnectionID()
	require.Empty(t, succeed(t, on(server), "permission", "grant", "sendToGroup", id, "room"))
	require.True(t, hasPermission(t, server, id, "sendToGroup", "room"))
	require.False(t, hasPermission(t, server, id, "joinLeaveGroup", "room"))
	require.Equal(t, "true\n", succeed(t, on(server), "permission", "check", "sendToGroup", id, "room"))
	require.Empty(t, succeed(t, on(server), "permission", "revoke", "sendToGroup", id, "room"))
	require.False(t, hasPermission(t, server, id, "sendToGroup", "room"))
}

// hasPermission reports whether a connection of the hub has a permission.
func hasPermission(t *testing.T, server *emulator.Server, id string, permission emulator.Permission, group string) bool {
	t.Helper()
	has, err := server.HasPermission(hub, id, permission, group)
	require.NoError(t, err)
	return has
}

func TestGroups(t *testing.T) {
	server := emulator.StartT(t, nil)
	env := on(server)
	alice := newConn(t, server, "alice").ConnectionID()
	bob := newConn(t, server, "bob").ConnectionID()
	groupsOf := func(id string) []string {
		for _, c := range server.Connections(hub) {
			if c.ID == id {
				return c.Groups
			}
		}
		return nil
	}
	for _, step := range []struct {
		command        string
		ofAlice, ofBob []string
	}{
		{"group add-connection room " + alice, []string{"room"}, nil},
		{"group add-user room bob", []string{"room"}, []string{"room"}},
		{"group add-connections a b --filter userId+eq+'bob'", []string{"room"}, []string{"a", "b", "room"}},
		{"group add-connections a", []string{"a", "room"}, []string{"a", "b", "room"}},
		{"group remove-connections a room --filter userId+eq+'bob'", []string{"a", "room"}, []string{"b"}},
		{"group remove-connection a " + alice, []string{"room"}, []string{"b"}},
		{"group remove-user b bob", []string{"room"}, nil},
		{"group add-connections a b c", []string{"a", "b", "c", "room"}, []string{"a", "b", "c"}},
		{"connection remove-from-all-groups " + alice, nil, []string{"a", "b", "c"}},
		{"user remove-from-all-groups bob", nil, nil},
	} {
		args := strings.Fields(step.command)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "+", " ")
		}
		require.Empty(t, succeed(t, env, args...))
		require.ElementsMatch(t, step.ofAlice, groupsOf(alice), step.command)
		require.ElementsMatch(t, step.ofBob, groupsOf(bob), step.command)
	}
}

func TestListConnections(t *testing.T) {
	server := emulator.StartT(t, nil)
	id := newConn(t, server, "alice \u202e", "room").ConnectionID()
	require.Equal(t, []string{"CONNECTION", "USER"}, strings.Fields(succeed(t, on(server), "group", "list-connections", "attic")))
	lines := strings.Split(succeed(t, on(server), "group", "list-connections", "room"), "\n")
	require.Len(t, lines, 3)
	require.Equal(t, id+`  alice \u202e`, lines[1], "control characters of names are escaped")
	require.JSONEq(t, `[{"connectionId":"`+id+`","userId":"alice \u202e"}]`, succeed(t, on(server), "group", "list-connections", "room", "--json"))
	newConn(t, server, "bob", "room")
	require.Len(t, strings.Split(succeed(t, on(server), "group", "list-connections", "room", "--top", "1"), "\n"), 3)
}

func TestCloseConnections(t *testing.T) {
	for _, command := range []string{"connection close ID", "connection close-all --exclude OTHER", "user close-connections alice", "group close-connections room"} {
		t.Run(command, func(t *testing.T) {
			server := emulator.StartT(t, nil)
			other := newConn(t, server, "bob").ConnectionID()
			alice := newConn(t, server, "alice", "room")
			args := strings.Fields(strings.NewReplacer("ID", alice.ConnectionID(), "OTHER", other).Replace(command))
			require.Empty(t, succeed(t, on(server), append(args, "--reason", "the reason")...))
			_, err := alice.Receive(deadline(t))
			require.ErrorContains(t, err, "the reason")
			require.NoError(t, server.WaitForConnections(deadline(t), hub, 1))
			require.Equal(t, other, server.Connections(hub)[0].ID)
		})
	}
}

func TestRequest(t *testing.T) {
	server := emulator.StartT(t, nil)
	alice := newConn(t, server, "alice", "room")
	require.Contains(t, succeed(t, on(server)[:1], "request", "GET", "/api/hubs/chat/groups/room/connections"), alice.ConnectionID())
	require.Empty(t, succeed(t, on(server)[:1], "request", "POST", "/api/hubs/chat/:send", "--file", writeFile(t, "hi"), "--content-type", "text/plain"))
	require.Equal(t, "hi", receive(t, alice).Text())

	p := programtest.Start(t, []string{"request", "GET", "/api/nowhere"}, on(server)...)
	code, stdout := p.Result(t)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, `"NotFound"`)
	require.Regexp(t, `^webpubsub: request: 404 Not Found: NotFound \(client request id \S+\)\n$`, p.Stderr.String())
}

func TestTokenOfAUserWithRolesAndGroups(t *testing.T) {
	server := emulator.StartT(t, nil)
	url := strings.TrimSpace(succeed(t, on(server), "token", "--user", "alice", "--group", "a,b", "--group", "c",
		"--role", "webpubsub.sendToGroup.c", "--expires-in", "5m"))
	p := programtest.Start(t, []string{"connect", "--negotiate", negotiate(t, url), "--json", "--count", "1"})
	require.Contains(t, p.Line(t), `"userId":"alice"`)
	connections := server.Connections(hub)
	require.Len(t, connections, 1)
	require.Equal(t, []string{"a,b", "c"}, connections[0].Groups)
	require.True(t, hasPermission(t, server, connections[0].ID, "sendToGroup", "c"))
	mqtt := succeed(t, on(server), "token", "--protocol", "mqtt")
	require.Contains(t, mqtt, "/clients/mqtt/hubs/chat?access_token=")
}
