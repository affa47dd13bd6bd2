package emulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/awps-go/webpubsub/emulator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds each wait of the tests. Only a failing test waits that long.
const patience = 20 * time.Second

// sign returns a token with the claims.
func sign(t testing.TB, key string, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(key))
	require.NoError(t, err)
	return token
}

// rest is a minimal service client: it signs requests as the protocol requires.
type rest struct {
	t   testing.TB
	srv *emulator.Server
}

type response struct {
	status int
	header http.Header
	body   string
}

// errorCode returns the code in the body of an error.
func (r response) errorCode() string {
	var e errorBody
	if json.Unmarshal([]byte(r.body), &e) != nil {
		return "(not JSON: " + r.body + ")"
	}
	return e.Code
}

var restClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}, Timeout: patience}

// do sends a request to a path, with query, below /api/. headers are names and values in turn.
func (c rest) do(method, path string, body []byte, headers ...string) response {
	c.t.Helper()
	target := c.srv.Endpoint() + "/api/" + path
	req, err := http.NewRequest(method, target, bytes.NewReader(body))
	require.NoError(c.t, err)
	req.Header.Set("Authorization", "Bearer "+sign(c.t, c.srv.AccessKey(), jwt.MapClaims{"aud": target,
		"exp": c.srv.Now().Add(time.Minute).Unix()}))
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = []string{headers[i+1]} // keeps the case
	}
	resp, err := restClient.Do(req)
	require.NoError(c.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	return response{resp.StatusCode, resp.Header, string(b)}
}

// must sends a request and fails the test if the response has another status.
func (c rest) must(status int, method, path string) response {
	c.t.Helper()
	r := c.do(method, path, nil)
	require.Equal(c.t, status, r.status, "%s %s: %s", method, path, r.body)
	return r
}

func (c rest) text(path, text string, headers ...string) {
	c.t.Helper()
	c.send(path, "text/plain", text, headers...)
}

func (c rest) send(path, contentType, data string, headers ...string) {
	c.t.Helper()
	r := c.do("POST", path, []byte(data), append([]string{"Content-Type", contentType}, headers...)...)
	require.Equal(c.t, http.StatusAccepted, r.status, r.body)
}

// client is a WebSocket client.
type client struct {
	t  testing.TB
	ws *websocket.Conn
	id string // "" if the protocol has no connected message
}

// dialOptions describe a client. The zero value is a raw client of the hub "chat", without a user.
type dialOptions struct {
	hub          string
	user         string
	roles        []string
	groups       []string
	subprotocols []string
	query        string // added to the URL
}

func (o dialOptions) url(t testing.TB, srv *emulator.Server) string {
	if o.hub == "" {
		o.hub = "chat"
	}
	claims := jwt.MapClaims{"aud": srv.Endpoint() + "/client/hubs/" + o.hub, "exp": srv.Now().Add(time.Hour).Unix()}
	if o.user != "" {
		claims["sub"] = o.user
	}
	if o.roles != nil {
		claims["role"] = o.roles
	}
	if o.groups != nil {
		claims["webpubsub.group"] = o.groups
	}
	return "ws" + strings.TrimPrefix(srv.Endpoint(), "http") + "/client/hubs/" + o.hub +
		"?access_token=" + sign(t, srv.AccessKey(), claims) + o.query
}

func dial(t testing.TB, srv *emulator.Server, o dialOptions) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, o.url(t, srv), &websocket.DialOptions{Subprotocols: o.subprotocols})
	require.NoError(t, err)
	ws.SetReadLimit(8 << 20)
	t.Cleanup(func() { ws.CloseNow() })
	return &client{t: t, ws: ws}
}

// dialJSON connects a JSON client and reads the connected message.
func dialJSON(t testing.TB, srv *emulator.Server, o dialOptions) *client {
	t.Helper()
	o.subprotocols = []string{protocolJSON}
	c := dial(t, srv, o)
	hello := c.object()
	require.Equal(t, "connected", hello["event"])
	c.id = hello["connectionId"].(string)
	return c
}

func (c *client) write(frame string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(c.t, c.ws.Write(ctx, websocket.MessageText, []byte(frame)))
}

func (c *client) read() (websocket.MessageType, string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	typ, data, err := c.ws.Read(ctx)
	require.NoError(c.t, err)
	return typ, string(data)
}

// text reads a text frame.
func (c *client) text() string {
	c.t.Helper()
	typ, data := c.read()
	require.Equal(c.t, websocket.MessageText, typ)
	return data
}

// object reads a text frame that holds a JSON object.
func (c *client) object() map[string]any {
	c.t.Helper()
	var v map[string]any
	data := c.text()
	require.NoError(c.t, json.Unmarshal([]byte(data), &v), data)
	return v
}

// ask writes a frame and returns the next text frame.
func (c *client) ask(frame string) string {
	c.t.Helper()
	c.write(frame)
	return c.text()
}

// closed reads until the connection is closed. It returns the close frame and the frames before it.
func (c *client) closed() (websocket.CloseError, []string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var frames []string
	for {
		_, data, err := c.ws.Read(ctx)
		if err == nil {
			frames = append(frames, string(data))
			continue
		}
		var ce websocket.CloseError
		require.ErrorAs(c.t, err, &ce)
		return ce, frames
	}
}

// flood sends n messages to the group "room" from a new client, and returns when the server has removed the client.
func flood(t testing.TB, srv *emulator.Server, n int, message string) {
	t.Helper()
	sender := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.sendToGroup.room"}})
	for range n {
		sender.write(`{"type":"sendToGroup","group":"room",` + message + `}`)
	}
	require.Contains(t, sender.ask(`{"type":"sendToGroup","group":"nobody","data":1,"ackId":1}`), "Forbidden")
	require.NoError(t, sender.ws.Close(websocket.StatusNormalClosure, ""))
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(srv.Connections("chat"), func(c emulator.Connection) bool { return c.ID == sender.id })
	}, patience, time.Millisecond)
}

// expectNothing fails the test if a frame is waiting: the next frame must be a message that expectNothing sends.
func (c *client) expectNothing(srv *emulator.Server) {
	c.t.Helper()
	rest{c.t, srv}.text("hubs/chat/connections/"+url.PathEscape(c.id)+"/:send", "fence")
	require.Equal(c.t, "fence", c.object()["data"])
}

// upgradeStatus sends a handshake and returns the status of the response.
func upgradeStatus(t testing.TB, target string, headers ...string) int {
	t.Helper()
	req, err := http.NewRequest("GET", target, nil)
	require.NoError(t, err)
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		req.Header.Set(k, v)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := restClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}
