package webpubsub_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/wsclient"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// These tests call every operation with real WebSocket clients. They check that messages arrive unchanged, and only at the
// intended clients.
//
// The tests run against the emulator or, if WEBPUBSUB_TEST_CONNECTION_STRING is set, against that service. On a
// service, each test uses a separate hub with a unique name.

// serviceVariable is the environment variable with the connection string of the service to test against.
const serviceVariable = "WEBPUBSUB_TEST_CONNECTION_STRING"

// needsEmulator lists the tests that run on the emulator only, with the reason.
var needsEmulator = map[string]string{
	"TestTheServiceRefuses/a_body_that_is_too_large": "the service's response to 2 MiB is not known",
}

// skipByName skips a test in needsEmulator if the target is not the emulator.
func skipByName(t *testing.T) {
	t.Helper()
	if why, needs := needsEmulator[t.Name()]; needs && os.Getenv(serviceVariable) != "" {
		t.Skip("runs on the emulator only: " + why)
	}
}

// connectionString returns the connection string of the service to test against. By default it starts an emulator.
func connectionString(t *testing.T) string {
	t.Helper()
	skipByName(t)
	if s := os.Getenv(serviceVariable); s != "" {
		return s
	}
	return emulator.StartT(t, nil).ConnectionString()
}

// target is the service to test against, with the hub of the test.
type target struct{ connectionString, endpoint, accessKey, hub string }

func newTarget(t *testing.T) target {
	t.Helper()
	s := target{connectionString: connectionString(t), hub: "test_" + strings.ToLower(rand.Text())}
	for part := range strings.SplitSeq(s.connectionString, ";") {
		name, value, _ := strings.Cut(part, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "endpoint":
			s.endpoint = strings.TrimSuffix(value, "/")
		case "accesskey":
			s.accessKey = value
		}
	}
	return s
}

type hub struct {
	*webpubsub.ServiceClient
	t *testing.T
}

func newHub(t *testing.T) hub {
	t.Helper()
	return newTarget(t).newHub(t)
}

func (s target) newHub(t *testing.T) hub {
	t.Helper()
	client, err := webpubsub.NewClientFromConnectionString(s.connectionString, s.hub, nil)
	require.NoError(t, err)
	return hub{client, t}
}

// member is a connected WebSocket client: with the JSON subprotocol, or raw.
type member struct {
	t    *testing.T
	hub  hub
	conn *wsclient.Conn  // nil for a raw client
	raw  *websocket.Conn // nil for a JSON client
	id   string          // the connection id; empty for a raw client
}

func (h hub) join(options webpubsub.ClientAccessTokenOptions) *member {
	h.t.Helper()
	access, err := h.GetClientAccessToken(h.t.Context(), &options)
	require.NoError(h.t, err)
	conn, err := wsclient.Dial(h.t.Context(), wsclient.StaticURL(access.URL), &wsclient.Options{
		Protocol: wsclient.JSONPlain, Reconnect: wsclient.ReconnectOptions{Disabled: true}})
	require.NoError(h.t, err)
	h.t.Cleanup(func() { conn.Close() })
	return &member{t: h.t, hub: h, conn: conn, id: conn.ConnectionID()}
}

func (h hub) joinRaw(options webpubsub.ClientAccessTokenOptions) *member {
	h.t.Helper()
	access, err := h.GetClientAccessToken(h.t.Context(), &options)
	require.NoError(h.t, err)
	conn, _, err := websocket.Dial(h.t.Context(), access.URL, nil)
	require.NoError(h.t, err)
	conn.SetReadLimit(2 << 20)
	h.t.Cleanup(func() { conn.CloseNow() })
	return &member{t: h.t, hub: h, raw: conn}
}

// soon returns a context with a timeout for something that happens immediately if it happens at all.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (m *member) read() *wsclient.Message {
	m.t.Helper()
	message, err := m.conn.Receive(soon(m.t))
	require.NoError(m.t, err)
	return message
}

// requireMessage reads the next message and checks its type and body.
func (m *member) requireMessage(contentType string, body []byte) {
	m.t.Helper()
	if m.raw != nil {
		kind, data, err := m.raw.Read(soon(m.t))
		require.NoError(m.t, err)
		require.Equal(m.t, contentType == "application/octet-stream", kind == websocket.MessageBinary)
		require.True(m.t, bytes.Equal(body, data), "a raw client received %.80q, not %.80q", data, body)
		return
	}
	message := m.read()
	want := map[string]wsclient.DataType{"application/json": wsclient.DataJSON, "text/plain": wsclient.DataText,
		"application/octet-stream": wsclient.DataBinary}[contentType]
	require.Equal(m.t, want, message.DataType)
	if want == wsclient.DataJSON {
		require.JSONEq(m.t, string(body), string(message.Data))
		return
	}
	require.True(m.t, bytes.Equal(body, message.Data), "received %.80q, not %.80q", message.Data, body)
}

// requireNothingElse checks that the clients have received no other messages. It sends one more message to all as a fence.
func (h hub) requireNothingElse(members ...*member) {
	h.t.Helper()
	require.NoError(h.t, h.SendToAll(h.t.Context(), webpubsub.Text("fence"), nil))
	for _, m := range members {
		m.requireMessage("text/plain", []byte("fence"))
	}
}

// requireClosed waits until the client is closed, and checks the reason.
func (m *member) requireClosed(reason string) {
	m.t.Helper()
	select {
	case <-m.conn.Done():
	case <-soon(m.t).Done():
		require.Fail(m.t, "the client is still connected")
	}
	var closed *wsclient.CloseError
	require.ErrorAs(m.t, m.conn.Err(), &closed)
	require.Contains(m.t, closed.Message, reason)
}

var messages = map[string]struct {
	contentType string
	body        string
	message     func(body string) webpubsub.Message
}{
	"JSON object":  {"application/json", `{"a":[1,"é日本🎉",null],"<&>":" "}`, func(body string) webpubsub.Message { return webpubsub.JSON(json.RawMessage(body)) }},
	"JSON string":  {"application/json", `"hello"`, func(string) webpubsub.Message { return webpubsub.JSON("hello") }},
	"text":         {"text/plain", "é日本🎉\r\n\ttab \"q\" \\ \x00", webpubsub.Text},
	"empty text":   {"text/plain", "", webpubsub.Text},
	"JSON in text": {"text/plain", `{"type":"ack","ackId":1}`, webpubsub.Text},
	"binary":       {"application/octet-stream", "\x00\x01\x02\xfd\xfe\xff", func(body string) webpubsub.Message { return webpubsub.Binary([]byte(body)) }},
	"empty binary": {"application/octet-stream", "", func(body string) webpubsub.Message { return webpubsub.Binary(nil) }},
	"stream": {"application/octet-stream", strings.Repeat("\x00stream\xff", 50_000), func(body string) webpubsub.Message {
		return webpubsub.BinaryStream(strings.NewReader(body))
	}},
	"stream that cannot seek": {"application/octet-stream", "abc", func(body string) webpubsub.Message {
		return webpubsub.BinaryStream(io.MultiReader(strings.NewReader(body)))
	}},
}

func TestWhatIsSentIsWhatArrivesAndNobodyElseGetsIt(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	const user, room = "user 1 é日本'", "room a?b#c%20"
	raw := h.joinRaw(webpubsub.ClientAccessTokenOptions{UserID: "raw", Groups: []string{room}})
	inRoom := h.join(webpubsub.ClientAccessTokenOptions{UserID: "other", Groups: []string{room, "second"}})
	ofUser := h.join(webpubsub.ClientAccessTokenOptions{UserID: user})
	ofUserToo := h.join(webpubsub.ClientAccessTokenOptions{UserID: user})
	all := []*member{raw, inRoom, ofUser, ofUserToo}

	for _, send := range []struct {
		name string
		to   []*member
		send func(webpubsub.Message) error
	}{
		{"to all", all, func(m webpubsub.Message) error { return h.SendToAll(ctx, m, nil) }},
		{"to all with a filter", []*member{inRoom}, func(m webpubsub.Message) error {
			return h.SendToAll(ctx, m, &webpubsub.SendToAllOptions{Filter: webpubsub.FormatFilter("userId ne %v and not (userId in %v)", user, []string{"raw"})})
		}},
		{"to all but one", []*member{raw, ofUser, ofUserToo}, func(m webpubsub.Message) error {
			return h.SendToAll(ctx, m, &webpubsub.SendToAllOptions{Excluded: []string{inRoom.id, "no such id"}, MessageTTL: 300 * time.Second})
		}},
		{"to a group", []*member{raw, inRoom}, func(m webpubsub.Message) error { return h.SendToGroup(ctx, room, m, nil) }},
		{"to a group with a filter", []*member{inRoom}, func(m webpubsub.Message) error {
			return h.SendToGroup(ctx, room, m, &webpubsub.SendToGroupOptions{Filter: "'second' in groups"})
		}},
		{"to a group but one", []*member{raw}, func(m webpubsub.Message) error {
			return h.SendToGroup(ctx, room, m, &webpubsub.SendToGroupOptions{Excluded: []string{inRoom.id}, MessageTTL: time.Second})
		}},
		{"to a user", []*member{ofUser, ofUserToo}, func(m webpubsub.Message) error { return h.SendToUser(ctx, user, m, nil) }},
		{"to a user with a filter", []*member{ofUser}, func(m webpubsub.Message) error {
			return h.SendToUser(ctx, user, m, &webpubsub.SendToUserOptions{Filter: webpubsub.FormatFilter("connectionId eq %v", ofUser.id), MessageTTL: time.Second})
		}},
		{"to a connection", []*member{ofUserToo}, func(m webpubsub.Message) error {
			return h.SendToConnection(ctx, ofUserToo.id, m, &webpubsub.SendToConnectionOptions{MessageTTL: time.Second})
		}},
		{"to nobody", nil, func(m webpubsub.Message) error {
			if err := h.SendToGroup(ctx, "empty", m, nil); err != nil {
				return err
			}
			return h.SendToUser(ctx, "nobody", m, nil)
		}},
	} {
		t.Run(send.name, func(t *testing.T) {
			for name, message := range messages {
				t.Run(name, func(t *testing.T) {
					require.NoError(t, send.send(message.message(message.body)))
					for _, m := range send.to {
						m.requireMessage(message.contentType, []byte(message.body))
					}
					h.requireNothingElse(all...)
				})
			}
		})
	}
	require.NoError(t, h.SendToConnection(ctx, "no such id", webpubsub.Text("hello"), nil))
}

func TestMetadataArrives(t *testing.T) {
	h := newHub(t)
	m := h.join(webpubsub.ClientAccessTokenOptions{UserID: "u", Groups: []string{"g"}})
	metadata := map[string]string{"priority": "high", "trace-id": "a=b; c"}
	ctx := t.Context()
	for name, send := range map[string]func() error{
		"SendToAll": func() error {
			return h.SendToAll(ctx, webpubsub.Text("x"), &webpubsub.SendToAllOptions{Metadata: metadata})
		},
		"SendToGroup": func() error {
			return h.SendToGroup(ctx, "g", webpubsub.Text("x"), &webpubsub.SendToGroupOptions{Metadata: metadata})
		},
		"SendToUser": func() error {
			return h.SendToUser(ctx, "u", webpubsub.Text("x"), &webpubsub.SendToUserOptions{Metadata: metadata})
		},
		"SendToConnection": func() error {
			return h.SendToConnection(ctx, m.id, webpubsub.Text("x"), &webpubsub.SendToConnectionOptions{Metadata: metadata})
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, send())
			require.Equal(t, metadata, m.read().Metadata)
		})
	}
}

func TestGroupsOfConnectionsAndUsers(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	one := h.join(webpubsub.ClientAccessTokenOptions{UserID: "user"})
	two := h.join(webpubsub.ClientAccessTokenOptions{UserID: "user"})
	none := h.join(webpubsub.ClientAccessTokenOptions{})
	requireIn := func(group string, want ...*member) {
		t.Helper()
		ids := []string{}
		for m, err := range h.ConnectionsInGroup(ctx, group, nil) {
			require.NoError(t, err)
			ids = append(ids, m.ConnectionID)
		}
		wantIDs := []string{}
		for _, m := range want {
			wantIDs = append(wantIDs, m.id)
		}
		require.ElementsMatch(t, wantIDs, ids, "connections in %q", group)
		exists, err := h.GroupExists(ctx, group, nil)
		require.NoError(t, err)
		require.Equal(t, len(want) > 0, exists)
	}

	requireIn("a")
	require.NoError(t, h.AddConnectionToGroup(ctx, "a", one.id, nil))
	require.NoError(t, h.AddConnectionToGroup(ctx, "a", one.id, nil))
	requireIn("a", one)
	require.NoError(t, h.AddUserToGroup(ctx, "a", "user", nil))
	require.NoError(t, h.AddUserToGroup(ctx, "b c", "user", nil))
	requireIn("a", one, two)
	requireIn("b c", one, two)
	require.NoError(t, h.RemoveConnectionFromGroup(ctx, "a", one.id, nil))
	requireIn("a", two)
	require.NoError(t, h.RemoveUserFromGroup(ctx, "a", "user", nil))
	requireIn("a")
	requireIn("b c", one, two)
	require.NoError(t, h.RemoveConnectionFromAllGroups(ctx, one.id, nil))
	requireIn("b c", two)
	require.NoError(t, h.AddConnectionsToGroups(ctx, []string{"a", "b c"}, "userId eq null", nil))
	requireIn("a", none)
	requireIn("b c", two, none)
	require.NoError(t, h.AddConnectionsToGroups(ctx, []string{"all"}, "", nil))
	requireIn("all", one, two, none)
	require.NoError(t, h.RemoveConnectionsFromGroups(ctx, []string{"b c", "all"}, webpubsub.FormatFilter("userId eq %v", "user"), nil))
	requireIn("b c", none)
	requireIn("all", none)

	// Names with a / work in bodies and filters.
	require.NoError(t, h.AddConnectionsToGroups(ctx, []string{"d/e"}, "userId eq null", nil))
	require.NoError(t, h.SendToAll(ctx, webpubsub.Text("to d/e"), &webpubsub.SendToAllOptions{Filter: "'d/e' in groups"}))
	none.requireMessage("text/plain", []byte("to d/e"))
	require.NoError(t, h.RemoveConnectionsFromGroups(ctx, []string{"d/e"}, "'d/e' in groups", nil))
	require.NoError(t, h.SendToAll(ctx, webpubsub.Text("to nobody"), &webpubsub.SendToAllOptions{Filter: "'d/e' in groups"}))

	require.NoError(t, h.AddUserToGroup(ctx, "x", "user", nil))
	require.NoError(t, h.RemoveUserFromAllGroups(ctx, "user", nil))
	requireIn("x")

	require.ErrorIs(t, h.AddConnectionToGroup(ctx, "a", "no such id", nil), webpubsub.ErrNotFound)
	require.ErrorIs(t, h.AddUserToGroup(ctx, "a", "nobody", nil), webpubsub.ErrNotFound)
	require.NoError(t, h.RemoveConnectionFromGroup(ctx, "a", "no such id", nil))
	require.NoError(t, h.RemoveConnectionFromAllGroups(ctx, "no such id", nil))
	require.NoError(t, h.RemoveUserFromGroup(ctx, "a", "nobody", nil))
	require.NoError(t, h.RemoveUserFromAllGroups(ctx, "nobody", nil))
	h.requireNothingElse(one, two, none)
}

func TestListingInPages(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	var ids []string
	for i := range 5 {
		ids = append(ids, h.join(webpubsub.ClientAccessTokenOptions{UserID: fmt.Sprint(i), Groups: []string{"room"}}).id)
	}

	// The service orders the pages by its own rule. It does not order the members of a page.
	var pages [][]string
	var tokens []string
	pager := h.NewListConnectionsInGroupPager("room", &webpubsub.ListConnectionsInGroupOptions{MaxPageSize: 2})
	for pager.More() {
		page, err := pager.NextPage(ctx)
		require.NoError(t, err)
		var got []string
		for _, m := range page.Members {
			got = append(got, m.ConnectionID)
			require.NotEmpty(t, m.UserID)
		}
		pages = append(pages, got)
		tokens = append(tokens, page.ContinuationToken)
	}
	require.Equal(t, []int{2, 2, 1}, []int{len(pages[0]), len(pages[1]), len(pages[2])})
	require.ElementsMatch(t, ids, slices.Concat(pages...))
	require.Empty(t, tokens[2])

	list := func(options webpubsub.ListConnectionsInGroupOptions) (got []string) {
		for m, err := range h.ConnectionsInGroup(ctx, "room", &options) {
			require.NoError(t, err)
			got = append(got, m.ConnectionID)
		}
		return got
	}
	require.ElementsMatch(t, ids, list(webpubsub.ListConnectionsInGroupOptions{MaxPageSize: 1}))
	require.Len(t, list(webpubsub.ListConnectionsInGroupOptions{Top: 3}), 3)
	require.Len(t, list(webpubsub.ListConnectionsInGroupOptions{MaxPageSize: 2, Top: 3}), 3)
	require.ElementsMatch(t, slices.Concat(pages[1:]...), list(webpubsub.ListConnectionsInGroupOptions{ContinuationToken: tokens[0]}))
}

func TestExistence(t *testing.T) {
	h := newHub(t)
	m := h.join(webpubsub.ClientAccessTokenOptions{UserID: "user", Groups: []string{"room"}})
	exists := func(want bool) {
		t.Helper()
		for name, call := range map[string]func() (bool, error){
			"ConnectionExists": func() (bool, error) { return h.ConnectionExists(t.Context(), m.id, nil) },
			"UserExists":       func() (bool, error) { return h.UserExists(t.Context(), "user", nil) },
			"GroupExists":      func() (bool, error) { return h.GroupExists(t.Context(), "room", nil) },
		} {
			ok, err := call()
			require.NoError(t, err)
			require.Equal(t, want, ok, name)
		}
	}
	exists(true)
	require.NoError(t, h.CloseConnection(t.Context(), m.id, nil))
	m.requireClosed("")
	exists(false)
	require.NoError(t, h.GetServiceStatus(t.Context(), nil))
}

func TestClosing(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	const reason = "see you & good luck, é日本"
	for _, test := range []struct {
		name  string
		close func(kept *member) error
	}{
		{"all but one", func(kept *member) error {
			return h.CloseAllConnections(ctx, &webpubsub.CloseAllConnectionsOptions{Excluded: []string{kept.id}, Reason: reason})
		}},
		{"a group but one", func(kept *member) error {
			return h.CloseGroupConnections(ctx, "room", &webpubsub.CloseGroupConnectionsOptions{Excluded: []string{kept.id}, Reason: reason})
		}},
		{"a user but one", func(kept *member) error {
			return h.CloseUserConnections(ctx, "user", &webpubsub.CloseUserConnectionsOptions{Excluded: []string{kept.id}, Reason: reason})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			token := webpubsub.ClientAccessTokenOptions{UserID: "user", Groups: []string{"room"}}
			kept, closed, closedToo := h.join(token), h.join(token), h.join(token)
			require.NoError(t, test.close(kept))
			closed.requireClosed(reason)
			closedToo.requireClosed(reason)
			h.requireNothingElse(kept)
			require.NoError(t, h.CloseConnection(ctx, kept.id, &webpubsub.CloseConnectionOptions{Reason: reason}))
			kept.requireClosed(reason)
		})
	}
	require.NoError(t, h.CloseConnection(ctx, "no such id", nil))
}

func TestPermissions(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	listener := h.join(webpubsub.ClientAccessTokenOptions{Groups: []string{"room", "other"}})
	m := h.join(webpubsub.ClientAccessTokenOptions{Roles: []string{webpubsub.RoleSendToGroups("oth*")}})
	send := func(group string) error {
		return m.conn.SendToGroup(soon(t), group, wsclient.Text("hi"), &wsclient.SendToGroupOptions{NoEcho: true})
	}
	has := func(permission webpubsub.Permission, group string) bool {
		t.Helper()
		ok, err := h.HasPermission(ctx, permission, m.id, &webpubsub.HasPermissionOptions{TargetName: group})
		require.NoError(t, err)
		return ok
	}
	const toSend, toJoin = webpubsub.PermissionSendToGroup, webpubsub.PermissionJoinLeaveGroup

	require.False(t, has(toSend, "room"))
	require.ErrorIs(t, send("room"), wsclient.ErrForbidden)
	require.NoError(t, send("other"), "allowed by the pattern of the role")
	require.Equal(t, "other", listener.read().Group)

	require.NoError(t, h.GrantPermission(ctx, toSend, m.id, &webpubsub.GrantPermissionOptions{TargetName: "room"}))
	require.True(t, has(toSend, "room"))
	require.False(t, has(toJoin, "room"))
	require.NoError(t, send("room"))
	require.Equal(t, "room", listener.read().Group)
	require.NoError(t, h.RevokePermission(ctx, toSend, m.id, &webpubsub.RevokePermissionOptions{TargetName: "room"}))
	require.False(t, has(toSend, "room"))
	require.ErrorIs(t, send("room"), wsclient.ErrForbidden)

	require.NoError(t, h.GrantPermission(ctx, toJoin, m.id, &webpubsub.GrantPermissionOptions{TargetName: "a/b"}))
	require.True(t, has(toJoin, "a/b"), "a / works, because the target is in the query")
	require.NoError(t, m.conn.JoinGroup(soon(t), "a/b"))
	require.ErrorIs(t, h.GrantPermission(ctx, toSend, "no such id", &webpubsub.GrantPermissionOptions{TargetName: "room"}), webpubsub.ErrNotFound)
	ok, err := h.HasPermission(ctx, toSend, "no such id", &webpubsub.HasPermissionOptions{TargetName: "room"})
	require.NoError(t, err)
	require.False(t, ok)
	h.requireNothingElse(listener, m)
}

func TestClientTokensAreChecked(t *testing.T) {
	service := newTarget(t)
	dial := func(url string) int {
		t.Helper()
		conn, resp, err := websocket.Dial(t.Context(), url, nil)
		if err == nil {
			conn.CloseNow()
			return http.StatusSwitchingProtocols
		}
		require.NotNil(t, resp, "%v", err)
		return resp.StatusCode
	}
	token := func(key, hub string) webpubsub.ClientAccessToken {
		client, err := webpubsub.NewClientWithKeyCredential(service.endpoint, hub, azcore.NewKeyCredential(key), nil)
		require.NoError(t, err)
		access, err := client.GetClientAccessToken(t.Context(), nil)
		require.NoError(t, err)
		return access
	}
	good := token(service.accessKey, service.hub)
	require.Equal(t, 101, dial(good.URL))
	require.Equal(t, 101, dial(token(service.accessKey, service.hub+"`,.[]x").URL), "a hub name with every allowed character")
	require.Equal(t, 101, dial(strings.Replace(good.URL, "/hubs/"+service.hub, "/hubs/"+strings.ToUpper(service.hub), 1)),
		"hub names are not case-sensitive")
	require.Equal(t, 401, dial(good.BaseURL))
	require.Equal(t, 401, dial(token("another key", service.hub).URL))
	require.Equal(t, 401, dial(good.BaseURL+"?access_token="+token(service.accessKey, "other").Token), "a token for another hub")
}

func TestTheServiceRefuses(t *testing.T) {
	service := newTarget(t)
	h := service.newHub(t)
	ctx := t.Context()

	wrong, err := webpubsub.NewClientWithKeyCredential(service.endpoint, service.hub, azcore.NewKeyCredential("another key"), nil)
	require.NoError(t, err)
	require.ErrorIs(t, wrong.SendToAll(ctx, webpubsub.Text("hello"), nil), webpubsub.ErrUnauthorized)
	_, err = wrong.UserExists(ctx, "user", nil)
	require.ErrorIs(t, err, webpubsub.ErrUnauthorized)

	var responseError *azcore.ResponseError
	err = h.SendToAll(ctx, webpubsub.Text("hello"), &webpubsub.SendToAllOptions{Filter: "userId eq"})
	require.ErrorAs(t, err, &responseError)
	require.Equal(t, 400, responseError.StatusCode)
	require.Equal(t, "Error.BadRequest", responseError.ErrorCode)

	err = h.AddConnectionToGroup(ctx, "room", "no such id", nil)
	require.ErrorAs(t, err, &responseError)
	require.Equal(t, 404, responseError.StatusCode)
	require.Equal(t, "Error.Connection.NotExisted", responseError.ErrorCode)

	old, err := webpubsub.NewClientFromConnectionString(service.connectionString, service.hub,
		&webpubsub.ClientOptions{ClientOptions: azcore.ClientOptions{APIVersion: "1999-01-01"}})
	require.NoError(t, err)
	require.ErrorAs(t, old.SendToAll(ctx, webpubsub.Text("hello"), nil), &responseError)
	require.Equal(t, 400, responseError.StatusCode)

	t.Run("a body that is too large", func(t *testing.T) {
		skipByName(t)
		require.ErrorAs(t, h.SendToAll(ctx, webpubsub.Binary(make([]byte, 2<<20)), nil), &responseError)
		require.Equal(t, 400, responseError.StatusCode)
	})
}
