package emulator_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
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
		"text in another charset": {"Text/Plain; Charset=\"UTF-16\"", "h\x00\xfc\x00\xac\x20", websocket.MessageText,
			`{"type":"message","from":"server","dataType":"text","data":"hü€"}`},
		"JSON in another charset": {"application/json; charset=iso-8859-1", "[\"\xfc\"]", websocket.MessageText,
			`{"type":"message","from":"server","dataType":"json","data":["ü"]}`},
		"no type": {"", "\x00\xff\x10", websocket.MessageBinary,
			`{"type":"message","from":"server","dataType":"binary","data":"AP8Q"}`},
		"an empty text": {"text/plain", "", websocket.MessageText,
			`{"type":"message","from":"server","dataType":"text","data":""}`},
		"bytes": {"application/octet-stream", "\x00\xff\x10", websocket.MessageBinary,
			`{"type":"message","from":"server","dataType":"binary","data":"AP8Q"}`},
	} {
		t.Run(name, func(t *testing.T) {
			raw := dial(t, srv, dialOptions{user: "raw"})
			js := dialJSON(t, srv, dialOptions{user: "json"})
			api.send("hubs/chat/:send", tt.contentType, tt.body)
			typ, data := raw.read()
			require.Equal(t, tt.rawType, typ)
			if !strings.Contains(name, "charset") {
				require.Equal(t, tt.body, data)
			}
			require.Equal(t, tt.json, js.text())
		})
	}
}

func TestASendReachesOnlyItsTargets(t *testing.T) {
	for name, tt := range map[string]struct {
		path string
		want string // of a, b, c: users ann, ann, bob; groups g 1, none, g 1
	}{
		"everyone":                        {"hubs/chat/:send", "abc"},
		"everyone, the hub in upper case": {"hubs/CHAT/:send", "abc"},
		"all but those excluded":          {"hubs/chat/:send?excluded={a}&excluded={c}", "b"},
		"a filter":                        {"hubs/chat/:send?filter=userId%20eq%20'ann'", "ab"},
		"a filter on groups":              {"hubs/chat/:send?filter=not%20('g%201'%20in%20groups)", "b"},
		"a connection":                    {"hubs/chat/connections/{b}/:send", "b"},
		"a user":                          {"hubs/chat/users/ann/:send", "ab"},
		"a user, with a filter":           {"hubs/chat/users/ann/:send?filter=connectionId%20ne%20'{a}'", "b"},
		"a group with a space":            {"hubs/chat/groups/g%201/:send", "ac"},
		"a group, with an exclusion":      {"hubs/chat/groups/g%201/:send?excluded={a}", "c"},
		"another hub":                     {"hubs/other/:send", ""},
		"exclusions are whole ids":        {"hubs/chat/:send?excluded={a},{b}&excluded=%20{c}%20", "abc"},
		"names in another case":           {"hubs/chat/:send?Excluded={a}&FILTER=userId%20eq%20'ann'", "b"},
		"an unknown connection":           {"hubs/chat/connections/nobody/:send", ""},
		"an unknown user":                 {"hubs/chat/users/Ann/:send", ""},
		"an unknown group":                {"hubs/chat/groups/G%201/:send", ""},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			clients := map[string]*client{
				"a": dialJSON(t, srv, dialOptions{user: "ann", groups: []string{"g 1"}}),
				"b": dialJSON(t, srv, dialOptions{user: "ann"}),
				"c": dialJSON(t, srv, dialOptions{user: "bob", groups: []string{"g 1"}}),
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
				c.expectNothing(srv)
			}
		})
	}
}

func TestAGroupMessageNamesItsGroup(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{groups: []string{"room"}})
	rest{t, srv}.text("hubs/chat/groups/room/:send", "hi")
	require.Equal(t, `{"type":"message","from":"group","group":"room","fromUserId":null,"dataType":"text","data":"hi"}`, c.text())
}

func TestMetadataInHeaders(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{})
	rest{t, srv}.text("hubs/chat/:send", "hi", "X-WebPubSub-Metadata-traceID", "41, 42 ", "x-webpubsub-metadata-a.B", "x y", "X-WEBPUBSUB-METADATA-none", "a,")
	require.Equal(t, map[string]any{"traceid": "42", "a.b": "x y", "none": ""}, c.object()["metadata"],
		"keys are in lower case, and values are what follows the last comma")

	conn, err := net.Dial("tcp", host(srv))
	require.NoError(t, err)
	defer conn.Close()
	token := sign(t, srv.AccessKey(), jwt.MapClaims{"aud": srv.Endpoint() + "/api/hubs/chat/:send", "exp": time.Now().Add(time.Minute).Unix()})
	_, err = io.WriteString(conn, "POST /api/hubs/chat/:send HTTP/1.1\r\nHost: "+host(srv)+"\r\nAuthorization: Bearer "+token+
		"\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nX-WebPubSub-Metadata-Key: first\r\nx-webpubsub-metadata-KEY: last\r\n\r\nhi")
	require.NoError(t, err)
	require.Equal(t, map[string]any{"key": "last"}, c.object()["metadata"], "the last of several headers counts")
}

func TestRejectedSends(t *testing.T) {
	srv := emulator.StartT(t, nil)
	listener := dialJSON(t, srv, dialOptions{})
	api := rest{t, srv}
	const validation, operation = "application/problem+json; charset=utf-8", "application/json; charset=utf-8"
	key := func(n int) string { return "X-WebPubSub-Metadata-" + strings.Repeat("k", n) }
	var large []string // nine values of 1 KiB
	for i := range 9 {
		large = append(large, key(i+1), strings.Repeat("v", 1024))
	}
	for name, tt := range map[string]struct {
		path, contentType, body string
		headers                 []string
		status                  int
		form, target            string
	}{
		"another content type":      {"hubs/chat/:send", "image/png", "x", nil, 415, operation, "Content-Type"},
		"an invalid content type":   {"hubs/chat/:send", "???", "x", nil, 415, operation, "Content-Type"},
		"two content types":         {"hubs/chat/:send", "text/plain, application/json", "x", nil, 415, operation, "Content-Type"},
		"protobuf":                  {"hubs/chat/groups/g/:send", "application/x-protobuf", "", nil, 415, operation, "Content-Type"},
		"an incomplete parameter":   {"hubs/chat/users/u/:send", "application/json; charset", "{}", nil, 415, operation, "Content-Type"},
		"an unknown charset":        {"hubs/chat/:send", "text/plain; charset=klingon", "x", nil, 415, operation, "Content-Type"},
		"invalid JSON":              {"hubs/chat/connections/c/:send", "application/json", "{", nil, 400, operation, "Request"},
		"empty JSON":                {"hubs/chat/:send", "application/json", "", nil, 400, operation, "Request"},
		"two JSON texts":            {"hubs/chat/:send", "application/json", "{}{}", nil, 400, operation, "Request"},
		"JSON that is too deep":     {"hubs/chat/:send", "application/json", strings.Repeat("[", 65) + strings.Repeat("]", 65), nil, 400, operation, "Request"},
		"text that is not UTF-8":    {"hubs/chat/:send", "text/plain", "\xff", nil, 400, operation, "Request"},
		"too many bytes":            {"hubs/chat/:send", "text/plain", strings.Repeat("x", maxMessageSize+1), nil, 400, operation, "Request"},
		"a negative TTL":            {"hubs/chat/:send?messageTtlSeconds=-1", "text/plain", "x", nil, 400, validation, "messageTtlSeconds"},
		"a TTL over five minutes":   {"hubs/chat/users/u/:send?messageTtlSeconds=301", "text/plain", "x", nil, 400, validation, "messageTtlSeconds"},
		"a fractional TTL":          {"hubs/chat/groups/g/:send?messageTtlSeconds=1.5", "text/plain", "x", nil, 400, validation, "messageTtlSeconds"},
		"two TTLs":                  {"hubs/chat/:send?messageTtlSeconds=1&messageTtlSeconds=1", "text/plain", "x", nil, 400, validation, "messageTtlSeconds"},
		"a bad filter":              {"hubs/chat/groups/g/:send?filter=userId%20eq", "text/plain", "x", nil, 400, validation, "filter"},
		"a filter of white space":   {"hubs/chat/users/u/:send?filter=%20", "text/plain", "x", nil, 400, validation, "filter"},
		"metadata not in ASCII":     {"hubs/chat/:send", "text/plain", "x", []string{key(1), "é"}, 400, operation, "Request"},
		"a metadata value too long": {"hubs/chat/:send", "text/plain", "x", []string{key(1), strings.Repeat("v", 1025)}, 400, operation, "Request"},
		"a metadata key too long":   {"hubs/chat/:send", "text/plain", "x", []string{key(257), "v"}, 400, operation, "Request"},
		"a metadata key too short":  {"hubs/chat/:send", "text/plain", "x", []string{key(0), "v"}, 400, operation, "Request"},
		"too much metadata":         {"hubs/chat/:send", "text/plain", "x", large, 400, operation, "Request"},
	} {
		t.Run(name, func(t *testing.T) {
			r := api.do("POST", tt.path, []byte(tt.body), append([]string{"Content-Type", tt.contentType}, tt.headers...)...)
			require.Equal(t, tt.status, r.status, r.body)
			require.Equal(t, tt.form, r.header.Get("Content-Type"))
			require.Equal(t, tt.form == operation, r.header.Get("api-supported-versions") != "")
			var e errorBody
			require.NoError(t, json.Unmarshal([]byte(r.body), &e))
			require.Equal(t, e.Code, r.header.Get("x-ms-error-code"))
			require.NotEmpty(t, e.Message)
			require.Equal(t, tt.target, e.Target)
		})
	}
	t.Run("a body of unknown length", func(t *testing.T) {
		for _, path := range []string{"hubs/chat/:send", "hubs/chat/:addToGroups"} {
			req, err := http.NewRequest("POST", srv.Endpoint()+"/api/"+path, io.MultiReader(strings.NewReader("{}")))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Authorization", "Bearer "+sign(t, srv.AccessKey(), jwt.MapClaims{"aud": srv.Endpoint() + "/api/" + path,
				"exp": time.Now().Add(time.Minute).Unix()}))
			resp, err := restClient.Do(req)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, 400, resp.StatusCode)
			require.Equal(t, `{"code":"Error.BadRequest","message":"Invalid Content-Length header.","target":"Request","details":null,"inner":null}`, string(body))
		}
	})
	listener.expectNothing(srv)
	api.send("hubs/chat/:send", "application/json", strings.Repeat("[", 64)+strings.Repeat("]", 64))
	require.Equal(t, http.StatusAccepted, api.do("POST", "hubs/chat/:send",
		[]byte(strings.Repeat("x", maxMessageSize)), "Content-Type", "text/plain").status, "the limit itself is allowed")
}

// TestTheOrderOfChecks tests that the response to an invalid request names the first failed check. The order of checks is the service's.
func TestTheOrderOfChecks(t *testing.T) {
	srv := emulator.StartT(t, nil)
	for _, tt := range []struct {
		method, path, contentType string
		signed                    bool
		target                    string
	}{
		{"POST", "hubs/1/:send?api-version=1&messageTtlSeconds=x&filter=x", "x/y", false, "api-version"},
		{"POST", "hubs/1/:send?messageTtlSeconds=x&filter=x", "x/y", false, "hub"},
		{"POST", "hubs/h/:send?messageTtlSeconds=x&filter=x", "x/y", false, "messageTtlSeconds"},
		{"GET", "hubs/h/groups/g/connections?maxpagesize=x", "", false, "maxpagesize"},
		{"GET", "hubs/h/groups/g/connections?top=x", "", false, "top"},
		{"PUT", "hubs/h/permissions/sendToGroup/connections/c", "", false, "Request"},
		{"POST", "hubs/h/:generateToken?minutesToExpire=0", "", false, "minutesToExpire"},
		{"POST", "hubs/h/:send?filter=x", "x/y", false, ""}, // the token
		{"POST", "hubs/h/:send?filter=x", "x/y", true, "filter"},
		{"POST", "hubs/h/:send", "x/y", true, "Content-Type"},
	} {
		api := srv.Endpoint() + "/api/" + tt.path
		req, err := http.NewRequest(tt.method, api, strings.NewReader("{"))
		require.NoError(t, err)
		req.Header.Set("Content-Type", tt.contentType)
		if tt.signed {
			req.Header.Set("Authorization", "Bearer "+sign(t, srv.AccessKey(), jwt.MapClaims{"aud": api, "exp": time.Now().Add(time.Minute).Unix()}))
		}
		resp, err := restClient.Do(req)
		require.NoError(t, err)
		var e errorBody
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&e))
		resp.Body.Close()
		require.Equal(t, tt.target, e.Target, "%s: %d %s", tt.path, resp.StatusCode, e.Message)
		require.Equal(t, tt.target == "", resp.StatusCode == 401)
	}
}

// TestAClientThatConnectsWhileABodyArrivesReceivesTheMessage tests that the server looks up a message's recipients after it has read
// the body.
func TestAClientThatConnectsWhileABodyArrivesReceivesTheMessage(t *testing.T) {
	srv := emulator.StartT(t, nil)
	conn, err := net.Dial("tcp", host(srv))
	require.NoError(t, err)
	defer conn.Close()
	token := sign(t, srv.AccessKey(), jwt.MapClaims{"aud": srv.Endpoint() + "/api/hubs/chat/:send", "exp": time.Now().Add(time.Minute).Unix()})
	_, err = io.WriteString(conn, "POST /api/hubs/chat/:send HTTP/1.1\r\nHost: "+host(srv)+"\r\nAuthorization: Bearer "+token+
		"\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	require.NoError(t, err)
	answer := bufio.NewReader(conn)
	line, err := answer.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 100 Continue\r\n", line, "the server reads the body")
	c := dialJSON(t, srv, dialOptions{})
	_, err = io.WriteString(conn, "hello")
	require.NoError(t, err)
	require.Equal(t, "hello", c.object()["data"])
}
