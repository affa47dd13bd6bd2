package emulator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

// application sets a handler for the hub chat that accepts the validation and passes events to handle.
func application(t *testing.T, srv *emulator.Server, system []string, handle func(w http.ResponseWriter, r *http.Request)) {
	t.Helper()
	require.NoError(t, srv.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
		SystemEvents: system, UserEventPattern: "*", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WebHook-Allowed-Origin", "*")
			if r.Method == http.MethodPost {
				handle(w, r)
			}
		})}}}))
}

func TestAnonymousClients(t *testing.T) {
	srv := emulator.StartT(t, nil)
	target := srv.Endpoint() + "/client/hubs/chat"
	connects := func() int { return upgradeStatus(t, target) }
	require.Equal(t, 401, connects(), "anonymous clients are rejected by default")
	for policy, status := range map[emulator.AnonymousConnectPolicy]int{emulator.AnonymousConnectAllow: 101, "ALLOW": 101,
		emulator.AnonymousConnectDeny: 401, "": 401} {
		require.NoError(t, srv.SetHubSettings("Chat", emulator.HubSettings{AnonymousConnectPolicy: policy}))
		require.Equal(t, status, connects(), policy)
	}
	require.ErrorContains(t, srv.SetHubSettings("chat", emulator.HubSettings{AnonymousConnectPolicy: "maybe"}), "AnonymousConnectPolicy")

	var settings emulator.HubSettings
	require.NoError(t, json.Unmarshal([]byte(`{"anonymousConnectPolicy":"allow","eventHandlers":[]}`), &settings))
	require.NoError(t, srv.SetHubSettings("chat", settings))
	require.Equal(t, 401, upgradeStatus(t, target+"?access_token=bad"), "a bad token is not anonymous")
	application(t, srv, []string{"connect"}, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"userId":"guest","groups":["lobby"],"roles":["webpubsub.sendToGroup.lobby"]}`)
	})
	require.Equal(t, 401, connects(), "the new settings reject anonymous clients")
	settings.EventHandlers = []emulator.EventHandler{{SystemEvents: []string{"connect"}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		fmt.Fprint(w, `{"userId":"guest","groups":["lobby"]}`)
	})}}
	require.NoError(t, srv.SetHubSettings("chat", settings))
	ws, _, err := websocket.Dial(t.Context(), target, nil)
	require.NoError(t, err)
	defer ws.CloseNow()
	require.NoError(t, srv.WaitForUser(t.Context(), "chat", "guest", 1))
	require.NoError(t, srv.WaitForGroup(t.Context(), "chat", "lobby", 1))
}

func TestDotNETClaimNames(t *testing.T) {
	srv := emulator.StartT(t, nil)
	for name, claims := range map[string]jwt.MapClaims{
		"short names":               {"nameidentifier": "ann", "role": "webpubsub.sendToGroup"},
		"long names":                {"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier": "ann", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role": []string{"webpubsub.sendToGroup"}},
		"sub before nameidentifier": {"sub": "ann", "nameidentifier": "ben", "role": []string{"other", "webpubsub.sendToGroup"}},
		"roles under both names":    {"sub": "ann", "role": "other", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role": "webpubsub.sendToGroup"},
	} {
		t.Run(name, func(t *testing.T) {
			aud := srv.Endpoint() + "/client/hubs/chat"
			claims["aud"], claims["exp"] = strings.ToUpper(aud), time.Now().Add(time.Minute).Unix()
			ws, _, err := websocket.Dial(t.Context(), aud+"?ACCESS_TOKEN="+sign(t, srv.AccessKey(), claims), nil)
			require.NoError(t, err)
			c := srv.Connections("chat")[0]
			require.Equal(t, "ann", c.UserID)
			require.True(t, hasPermission(t, srv, c.ID, "sendToGroup", "any"))
			ws.CloseNow()
			require.NoError(t, srv.WaitForConnections(t.Context(), "chat", 0))
		})
	}
}

func TestARejectedClientCreatesNoHub(t *testing.T) {
	srv := emulator.StartT(t, nil)
	application(t, srv, []string{"connect"}, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) })
	require.Equal(t, 403, upgradeStatus(t, dialOptions{}.httpURL(t, srv)))
	require.Equal(t, 401, upgradeStatus(t, srv.Endpoint()+"/client/hubs/other"))
	rest{t, srv}.text("hubs/third/:send", "to nobody")
	require.Empty(t, srv.Hubs())
}

func TestRequestsRunInOrderAndPingsImmediately(t *testing.T) {
	srv := emulator.StartT(t, nil)
	begun, release := make(chan struct{}), make(chan struct{})
	application(t, srv, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ce-eventName") == "slow" {
			close(begun)
			<-release
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, "the answer")
		}
	})
	c := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.joinLeaveGroup"}})
	c.write(`{"type":"event","event":"slow","data":1,"ackId":1}`)
	<-begun
	for i := range 200 { // queued behind the event slow
		c.write(fmt.Sprintf(`{"type":"event","event":"quick","data":1,"ackId":%d}`, 1000+i))
	}
	c.write(`{"type":"joinGroup","group":"g","ackId":2}`)
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`))
	require.Empty(t, srv.Groups("chat"), "joinGroup waits for the events before it")
	close(release)
	require.Equal(t, "the answer", c.object()["data"], "the response precedes the acknowledgement")
	require.Equal(t, 1.0, c.object()["ackId"])
	for i := range 200 {
		require.Equal(t, float64(1000+i), c.object()["ackId"])
	}
	require.Equal(t, 2.0, c.object()["ackId"])
	require.Equal(t, []string{"g"}, srv.Groups("chat"))
}

func TestRequestsBeforeACloseFrameAreExecuted(t *testing.T) {
	srv := emulator.StartT(t, nil)
	log := newEventLog()
	begun, release := make(chan struct{}), make(chan struct{})
	application(t, srv, []string{"disconnected"}, func(w http.ResponseWriter, r *http.Request) {
		name := r.Header.Get("ce-eventName")
		log.add("%s", name)
		if name == "first" {
			close(begun)
			<-release
		}
	})
	member := dialJSON(t, srv, dialOptions{groups: []string{"g"}})
	c := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.sendToGroup"}})
	c.write(`{"type":"event","event":"first","data":1}`)
	<-begun
	c.write(`{"type":"event","event":"second","data":1}`)
	c.write(`{"type":"sendToGroup","group":"g","data":"last"}`)
	c.ws.Close(websocket.StatusNormalClosure, "done")
	close(release)
	require.Equal(t, "last", member.object()["data"])
	require.Equal(t, []string{"first", "second", "disconnected"}, log.wait(t, 3))
}

func TestPingsOfAClientThatStoppedReading(t *testing.T) {
	srv := emulator.StartT(t, nil)
	pongs := make(chan string, 100)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, dialOptions{}.url(t, srv), &websocket.DialOptions{Subprotocols: []string{protocolJSON},
		OnPongReceived: func(_ context.Context, payload []byte) { pongs <- string(payload) }})
	require.NoError(t, err)
	defer ws.CloseNow()
	ws.SetReadLimit(8 << 20)
	c := &client{t: t, ws: ws}
	c.object()
	const many = 14
	for range many { // more than the network buffers
		rest{t, srv}.text("hubs/chat/:send", strings.Repeat("x", maxMessageSize))
	}
	for range 3 {
		go func() { _ = ws.Ping(ctx) }() // returns after the messages before the pong have been read
	}
	for range many {
		require.Len(t, c.object()["data"], maxMessageSize)
	}
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`))
	go func() { _, _, _ = ws.Read(ctx) }()
	for range 3 {
		select {
		case <-pongs:
		case <-ctx.Done():
			t.Fatal("a ping has no pong")
		}
	}
}

// Each ping arrives while the client reads nothing. The requests after a ping must not wait until the pong is written.
func TestRequestsAfterPingsOfAClientThatStoppedReading(t *testing.T) {
	srv := emulator.StartT(t, nil)
	application(t, srv, nil, func(http.ResponseWriter, *http.Request) {})
	nc := handshake(t, srv)
	require.NoError(t, srv.WaitForConnections(t.Context(), "chat", 1))
	for range 14 { // more than the network buffers
		rest{t, srv}.text("hubs/chat/:send", strings.Repeat("x", maxMessageSize))
	}
	const event = `{"type":"event","event":"e","data":1}`
	ping, text := []byte{0x89, 0x80, 0, 0, 0, 0}, append([]byte{0x81, 0x80 | byte(len(event)), 0, 0, 0, 0}, event...)
	for i := range 20 {
		_, err := nc.Write(append(ping, text...))
		require.NoError(t, err)
		require.NoError(t, srv.WaitForEvents(t.Context(), "chat", "e", i+1))
	}
}

func TestAClientThatBreaksWebSocketsRulesIsRemoved(t *testing.T) {
	srv := emulator.StartT(t, nil)
	nc := handshake(t, srv)
	defer nc.Close()
	require.NoError(t, srv.WaitForConnections(t.Context(), "chat", 1))
	_, err := nc.Write([]byte{0x83, 0x80, 0, 0, 0, 0}) // a reserved opcode
	require.NoError(t, err)
	require.NoError(t, srv.WaitForConnections(t.Context(), "chat", 0))
}
