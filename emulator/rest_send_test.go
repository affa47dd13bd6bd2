package emulator_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestASendReachesEveryClientInItsProtocolsForm(t *testing.T) {
	srv := emulator.StartT(t, nil)
	api := rest{t, srv}
	for name, tt := range map[string]struct {
		contentType, body string
		rawType           websocket.MessageType
		json              string
	}{
		"JSON": {"application/json", `{"a": [1, 2.50, "<é>"]}`, websocket.MessageText,
			`{"type":"message","from":"server","dataType":"json","data":{"a": [1, 2.50, "<é>"]}}`},
		"a JSON string": {"application/json", `"hello"`, websocket.MessageText,
			`{"type":"message","from":"server","dataType":"json","data":"hello"}`},
		"text": {"text/plain; charset=utf-8", "Hello <wörld>\n", websocket.MessageText,
			`{"type":"message","from":"server","dataType":"text","data":"Hello <wörld>\n"}`},
		"bytes": {"application/octet-stream", "\x00\xff\x10", websocket.MessageBinary,
			`{"type":"message","from":"server","dataType":"binary","data":"AP8Q"}`},
	} {
		t.Run(name, func(t *testing.T) {
			raw := dial(t, srv, dialOptions{user: "raw"})
			js := dialJSON(t, srv, dialOptions{user: "json"})
			api.send("hubs/chat/:send", tt.contentType, tt.body)
			typ, data := raw.read()
			require.Equal(t, tt.rawType, typ)
			require.Equal(t, tt.body, data)
			require.Equal(t, tt.json, js.text())
		})
	}
}

func TestASendReachesWhomItIsMeantForAndNobodyElse(t *testing.T) {
	for name, tt := range map[string]struct {
		path string
		want string // of a, b, c: users ann, ann, bob; groups g/1, none, g/1
	}{
		"everyone":                     {"hubs/chat/:send", "abc"},
		"everyone, the hub in capital": {"hubs/CHAT/:send", "abc"},
		"all but those excluded":       {"hubs/chat/:send?excluded={a}&excluded={c}", "b"},
		"those who pass a filter":      {"hubs/chat/:send?filter=userId%20eq%20'ann'", "ab"},
		"a filter on groups":           {"hubs/chat/:send?filter=not%20('g/1'%20in%20groups)", "b"},
		"a connection":                 {"hubs/chat/connections/{b}/:send", "b"},
		"a user":                       {"hubs/chat/users/ann/:send", "ab"},
		"a user, with a filter":        {"hubs/chat/users/ann/:send?filter=connectionId%20ne%20'{a}'", "b"},
		"a group with a slash":         {"hubs/chat/groups/g%2F1/:send", "ac"},
		"a group, with an exclusion":   {"hubs/chat/groups/g%2F1/:send?excluded={a}", "c"},
		"another hub":                  {"hubs/other/:send", ""},
		"a connection that is not":     {"hubs/chat/connections/nobody/:send", ""},
		"a user who is not":            {"hubs/chat/users/Ann/:send", ""},
		"a group that is not":          {"hubs/chat/groups/G%2F1/:send", ""},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			clients := map[string]*client{
				"a": dialJSON(t, srv, dialOptions{user: "ann", groups: []string{"g/1"}}),
				"b": dialJSON(t, srv, dialOptions{user: "ann"}),
				"c": dialJSON(t, srv, dialOptions{user: "bob", groups: []string{"g/1"}}),
			}
			path := tt.path
			for name, c := range clients {
				path = strings.ReplaceAll(path, "{"+name+"}", c.id)
			}
			rest{t, srv}.text(path, "hello")
			for name, c := range clients {
				if strings.Contains(tt.want, name) {
					require.Equal(t, "hello", c.object()["data"])
				}
				c.nothing(srv)
			}
		})
	}
}

func TestAGroupMessageSaysWhereItComesFrom(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{groups: []string{"room"}})
	rest{t, srv}.text("hubs/chat/groups/room/:send", "hi")
	require.Equal(t, `{"type":"message","from":"group","group":"room","fromUserId":null,"dataType":"text","data":"hi"}`, c.text())
}

func TestMetadataTravelWithTheirKeysAsSent(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{})
	rest{t, srv}.text("hubs/chat/:send", "hi", "X-WebPubSub-Metadata-traceID", "42", "x-webpubsub-metadata-a.B", "x y")
	require.Equal(t, map[string]any{"traceID": "42", "a.B": "x y"}, c.object()["metadata"])
}

func TestSendRefuses(t *testing.T) {
	srv := emulator.StartT(t, nil)
	listener := dialJSON(t, srv, dialOptions{})
	api := rest{t, srv}
	for name, tt := range map[string]struct {
		path, contentType, body string
		headers                 []string
		status                  int
		target                  string
	}{
		"no content type":         {"hubs/chat/:send", "", "x", nil, 400, "Content-Type"},
		"another content type":    {"hubs/chat/:send", "image/png", "x", nil, 400, "Content-Type"},
		"protobuf":                {"hubs/chat/:send", "application/x-protobuf", "", nil, 400, "Content-Type"},
		"half a parameter":        {"hubs/chat/:send", "application/json; charset", "{}", nil, 400, "Content-Type"},
		"JSON that is none":       {"hubs/chat/:send", "application/json", "{", nil, 400, ""},
		"text that is not UTF-8":  {"hubs/chat/:send", "text/plain", "\xff", nil, 400, ""},
		"too many bytes":          {"hubs/chat/:send", "text/plain", strings.Repeat("x", maxMessageSize+1), nil, 413, ""},
		"a negative TTL":          {"hubs/chat/:send?messageTtlSeconds=-1", "text/plain", "x", nil, 400, "messageTtlSeconds"},
		"a TTL over five minutes": {"hubs/chat/:send?messageTtlSeconds=301", "text/plain", "x", nil, 400, "messageTtlSeconds"},
		"a broken TTL":            {"hubs/chat/:send?messageTtlSeconds=1.5", "text/plain", "x", nil, 400, "messageTtlSeconds"},
		"a bad filter":            {"hubs/chat/:send?filter=userId%20eq", "text/plain", "x", nil, 400, "filter"},
		"metadata not in ASCII": {"hubs/chat/:send", "text/plain", "x",
			[]string{"X-WebPubSub-Metadata-k", "é"}, 400, "metadata"},
		"a metadata value too long": {"hubs/chat/:send", "text/plain", "x",
			[]string{"X-WebPubSub-Metadata-k", strings.Repeat("v", 1025)}, 400, "metadata"},
		"a metadata key too long": {"hubs/chat/:send", "text/plain", "x",
			[]string{"X-WebPubSub-Metadata-" + strings.Repeat("k", 257), "v"}, 400, "metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			headers := tt.headers
			if tt.contentType != "" {
				headers = append(headers, "Content-Type", tt.contentType)
			}
			r := api.do("POST", tt.path, []byte(tt.body), headers...)
			require.Equal(t, tt.status, r.status, r.body)
			var e errorBody
			require.NoError(t, json.Unmarshal([]byte(r.body), &e))
			require.Equal(t, e.Code, r.header.Get("x-ms-error-code"))
			require.NotEmpty(t, e.Message)
			require.Equal(t, tt.target, e.Target)
		})
	}
	listener.nothing(srv)
	require.Equal(t, http.StatusAccepted, api.do("POST", "hubs/chat/:send",
		[]byte(strings.Repeat("x", maxMessageSize)), "Content-Type", "text/plain").status, "the limit itself is allowed")
}
