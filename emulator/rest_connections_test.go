package emulator_test

import (
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestExistence(t *testing.T) {
	srv := emulator.StartT(t, nil)
	api := rest{t, srv}
	c := dialJSON(t, srv, dialOptions{user: "ann 1", groups: []string{"a b"}})
	for path, want := range map[string]int{
		"hubs/chat/connections/" + c.id:  200,
		"hubs/chat/connections/x":        404,
		"hubs/other/connections/" + c.id: 404,
		"hubs/chat/groups/a%20b":         200,
		"hubs/chat/groups/a":             404,
		"hubs/chat/users/ann%201":        200,
		"hubs/chat/users/ann":            404,
	} {
		api.must(want, "HEAD", path)
	}
	api.must(204, "DELETE", "hubs/chat/connections/"+c.id)
	for _, path := range []string{"hubs/chat/connections/" + c.id, "hubs/chat/groups/a%20b", "hubs/chat/users/ann%201"} {
		api.must(404, "HEAD", path)
	}
}

func TestClosingReachesOnlyItsTargets(t *testing.T) {
	for name, tt := range map[string]struct {
		method, path string
		want         string // of a, b, c: users ann, ann, bob; groups g, none, g
	}{
		"one":                   {"DELETE", "hubs/chat/connections/{b}?reason=bye%20bye", "b"},
		"all":                   {"POST", "hubs/chat/:closeConnections?reason=bye%20bye", "abc"},
		"all but two":           {"POST", "hubs/chat/:closeConnections?reason=bye%20bye&excluded={a}&excluded={b}", "c"},
		"a group":               {"POST", "hubs/chat/groups/g/:closeConnections?reason=bye%20bye", "ac"},
		"a group but one":       {"POST", "hubs/chat/groups/g/:closeConnections?reason=bye%20bye&excluded={c}", "a"},
		"a user":                {"POST", "hubs/chat/users/ann/:closeConnections?reason=bye%20bye", "ab"},
		"a user but one":        {"POST", "hubs/chat/users/ann/:closeConnections?reason=bye%20bye&excluded={b}", "a"},
		"an unknown connection": {"DELETE", "hubs/chat/connections/x?reason=bye%20bye", ""},
		"all of another hub":    {"POST", "hubs/other/:closeConnections?reason=bye%20bye", ""},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			clients := map[string]*client{
				"a": dialJSON(t, srv, dialOptions{user: "ann", groups: []string{"g"}}),
				"b": dialJSON(t, srv, dialOptions{user: "ann"}),
				"c": dialJSON(t, srv, dialOptions{user: "bob", groups: []string{"g"}}),
			}
			path := tt.path
			for name, c := range clients {
				path = strings.ReplaceAll(path, "{"+name+"}", c.id)
			}
			rest{t, srv}.must(204, tt.method, path)
			for name, c := range clients {
				if !strings.Contains(tt.want, name) {
					c.expectNothing(srv)
					continue
				}
				ce, frames := c.closed()
				require.Equal(t, websocket.CloseError{Code: websocket.StatusNormalClosure}, ce)
				require.Equal(t, []string{`{"type":"system","event":"disconnected","message":"Application server closed the connection. Reason: bye bye"}`}, frames)
			}
		})
	}
}

func TestMessagesSentBeforeACloseArrive(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{})
	api := rest{t, srv}
	for range 100 {
		api.text("hubs/chat/:send", "x")
	}
	api.must(204, "POST", "hubs/chat/:closeConnections")
	_, frames := c.closed()
	require.Len(t, frames, 101)
}

func TestALongReasonIsOnlyInTheDisconnectedMessage(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{})
	rest{t, srv}.must(204, "POST", "hubs/chat/:closeConnections?reason="+strings.Repeat("%C3%A9", 100))
	ce, frames := c.closed()
	require.Empty(t, ce.Reason)
	require.Contains(t, frames[0], strings.Repeat("é", 100))
}
