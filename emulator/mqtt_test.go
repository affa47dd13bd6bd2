package emulator_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
)

// mqttURL returns the URL at which an MQTT client connects, with a token.
func (o dialOptions) mqttURL(t testing.TB, srv *emulator.Server) string {
	claims := jwt.MapClaims{"aud": srv.Endpoint() + "/clients/mqtt/hubs/chat", "exp": srv.Now().Add(time.Hour).Unix()}
	if o.user != "" {
		claims["sub"] = o.user
	}
	if o.roles != nil {
		claims["role"] = o.roles
	}
	if o.groups != nil {
		claims["webpubsub.group"] = o.groups
	}
	return "ws" + strings.TrimPrefix(srv.Endpoint(), "http") + "/clients/mqtt/hubs/chat?access_token=" +
		sign(t, srv.AccessKey(), claims) + o.query
}

// allRoles allow a client to join, leave and send to all groups.
var allRoles = []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"}

// soon returns a context for one step of a test.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// paho5 is Eclipse Paho's client for MQTT 5.0.
type paho5 struct {
	*paho.Client
	t           testing.TB
	messages    chan *paho.Publish
	disconnects chan *paho.Disconnect
}

// newPaho5 returns a client with an open WebSocket that has not sent CONNECT.
func newPaho5(t testing.TB, srv *emulator.Server, o dialOptions) *paho5 {
	t.Helper()
	ws, _, err := websocket.Dial(soon(t), o.mqttURL(t, srv), &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	require.NoError(t, err)
	ws.SetReadLimit(-1)
	conn := packets.NewThreadSafeConn(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
	c := &paho5{t: t, messages: make(chan *paho.Publish, 100), disconnects: make(chan *paho.Disconnect, 1)}
	c.Client = paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: patience,
		OnServerDisconnect: func(d *paho.Disconnect) { c.disconnects <- d },
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			c.messages <- r.Packet
			return true, nil
		}}})
	t.Cleanup(func() { ws.CloseNow() })
	return c
}

func dialPaho5(t testing.TB, srv *emulator.Server, o dialOptions, id string) (*paho5, *paho.Connack) {
	t.Helper()
	c := newPaho5(t, srv, o)
	ack, err := c.Connect(soon(t), &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: 30})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = c.Disconnect(&paho.Disconnect{}) // it may be disconnected already
		<-c.Done()
	})
	return c, ack
}

func (c *paho5) subscribe(topics ...string) *paho.Suback {
	c.t.Helper()
	s := &paho.Subscribe{}
	for _, topic := range topics {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: topic, QoS: 1})
	}
	ack, err := c.Subscribe(soon(c.t), s)
	require.NotNil(c.t, ack, "%v", err)
	return ack
}

func (c *paho5) message() *paho.Publish {
	c.t.Helper()
	select {
	case p := <-c.messages:
		return p
	case <-time.After(patience):
		require.Fail(c.t, "no message arrived")
		return nil
	}
}

// dialPaho311 connects Eclipse Paho's client for MQTT 3.1.1.
func dialPaho311(t testing.TB, srv *emulator.Server, o dialOptions, id string) (mqtt.Client, <-chan mqtt.Message) {
	t.Helper()
	messages := make(chan mqtt.Message, 100)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(o.mqttURL(t, srv)).SetClientID(id).SetProtocolVersion(4).
		SetAutoReconnect(false).SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { messages <- m }))
	done(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	return c, messages
}

// done waits for an operation of an MQTT 3.1.1 client.
func done(t testing.TB, token mqtt.Token) {
	t.Helper()
	require.True(t, token.WaitTimeout(patience))
	require.NoError(t, token.Error())
}

func TestMQTTClientsTalkToOthers(t *testing.T) {
	srv := emulator.StartT(t, nil)
	newer, _ := dialPaho5(t, srv, dialOptions{user: "new", roles: allRoles}, "m5")
	old, oldMessages := dialPaho311(t, srv, dialOptions{user: "old", roles: allRoles}, "m311")
	web := dialJSON(t, srv, dialOptions{groups: []string{"room"}})
	raw := dial(t, srv, dialOptions{groups: []string{"room"}})

	require.Equal(t, []byte{1}, newer.subscribe("room").Reasons)
	done(t, old.Subscribe("room", 1, nil))

	_, err := newer.Publish(soon(t), &paho.Publish{Topic: "room", QoS: 1, Payload: []byte(`{"a":1}`), Properties: &paho.PublishProperties{
		ContentType: "application/json", User: paho.UserProperties{{Key: "k", Value: "v"}}}})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"type": "message", "from": "group", "group": "room", "fromUserId": "new", "dataType": "json",
		"data": map[string]any{"a": 1.0}}, web.object())
	require.Equal(t, `{"a":1}`, raw.text())
	m := newer.message()
	require.Equal(t, "room", m.Topic)
	require.Equal(t, `{"a":1}`, string(m.Payload))
	m311 := <-oldMessages
	require.Equal(t, "room", m311.Topic())
	require.Equal(t, `{"a":1}`, string(m311.Payload()))

	done(t, old.Publish("room", 1, false, []byte{1, 2}))
	require.Equal(t, "AQI=", web.object()["data"])
	require.Equal(t, []byte{1, 2}, newer.message().Payload)

	rest{t, srv}.text("hubs/chat/groups/room/:send", "hello")
	m = newer.message()
	require.Equal(t, "room", m.Topic)
	require.Equal(t, "hello", string(m.Payload))
	require.Equal(t, "text/plain", m.Properties.ContentType)
	require.Equal(t, []byte{1, 2}, (<-oldMessages).Payload())
	require.Equal(t, "hello", string((<-oldMessages).Payload()))
}

func TestMQTTClientIsAConnectionOfItsHub(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c, _ := dialPaho5(t, srv, dialOptions{user: "ann", groups: []string{"first"}}, "theid")
	r := rest{t, srv}
	path := "hubs/chat/connections/" + "theid"
	r.must(200, "HEAD", path)
	r.must(200, "HEAD", "hubs/chat/users/ann")
	r.must(200, "HEAD", "hubs/chat/groups/first")
	require.JSONEq(t, `{"value":[{"connectionId":"theid","userId":"ann"}]}`,
		r.must(200, "GET", "hubs/chat/groups/first/connections").body)

	require.Equal(t, []byte{0x87}, c.subscribe("room").Reasons)
	r.must(200, "PUT", "hubs/chat/permissions/joinLeaveGroup/connections/theid?targetName=room")
	require.Equal(t, []byte{1}, c.subscribe("room").Reasons)
	r.must(200, "HEAD", "hubs/chat/groups/room")
	r.must(204, "DELETE", "hubs/chat/groups/room/connections/theid")
	r.must(404, "HEAD", "hubs/chat/groups/room")

	for _, target := range []string{"hubs/chat/:send", "hubs/chat/users/ann/:send", path + "/:send"} {
		r.text(target, target)
		m := c.message()
		require.Equal(t, "$webpubsub/server/messages", m.Topic)
		require.Equal(t, target, string(m.Payload))
	}
	r.must(204, "DELETE", path+"?reason=enough")
	d := <-c.disconnects
	require.Equal(t, byte(0x98), d.ReasonCode)
	require.Equal(t, "Application server closed the connection. Reason: enough", d.Properties.ReasonString)
	r.must(404, "HEAD", path)
}

func TestMQTTHandshakes(t *testing.T) {
	srv := emulator.StartT(t, nil)
	base := srv.Endpoint() + "/clients/mqtt/hubs/"
	token := func(aud, key string, lifetime time.Duration, groups ...string) string {
		return sign(t, key, jwt.MapClaims{"aud": aud, "exp": srv.Now().Add(lifetime).Unix(), "webpubsub.group": groups})
	}
	good := token(base+"chat", srv.AccessKey(), time.Hour)
	for name, test := range map[string]struct {
		hub, token string
		headers    []string
		status     int
	}{
		"a good token":               {"chat", good, nil, http.StatusSwitchingProtocols},
		"a good token in its header": {"chat", "", []string{"Authorization", "Bearer " + good}, http.StatusSwitchingProtocols},
		"no token":                   {"chat", "", nil, http.StatusUnauthorized},
		"a token for another hub":    {"other", good, nil, http.StatusUnauthorized},
		"a token for other clients": {"chat", token(srv.Endpoint()+"/client/hubs/chat", srv.AccessKey(), time.Hour), nil,
			http.StatusUnauthorized},
		"a token for other clients, hub in the query": {"chat", token(srv.Endpoint()+"/client/?hub=chat", srv.AccessKey(), time.Hour), nil,
			http.StatusUnauthorized},
		"a token of another key":       {"chat", token(base+"chat", "another", time.Hour), nil, http.StatusUnauthorized},
		"a token that has expired":     {"chat", token(base+"chat", srv.AccessKey(), -6*time.Minute), nil, http.StatusUnauthorized},
		"a bad hub":                    {"1", good, nil, http.StatusBadRequest},
		"no hub":                       {"", good, nil, http.StatusBadRequest},
		"a path after the hub":         {"chat/x", good, nil, http.StatusBadRequest},
		"a group without a name":       {"chat", token(base+"chat", srv.AccessKey(), time.Hour, " "), nil, http.StatusBadRequest},
		"another subprotocol":          {"chat", good, []string{"Sec-WebSocket-Protocol", "mqttv3.1"}, http.StatusBadRequest},
		"a page of another host":       {"chat", good, []string{"Origin", "https://example.com"}, http.StatusForbidden},
		"an upgrade to something else": {"chat", good, []string{"Upgrade", "h2c"}, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			headers := append([]string{"Sec-WebSocket-Protocol", "mqtt"}, test.headers...)
			target := base + test.hub
			if test.token != "" {
				target += "?access_token=" + test.token
			}
			require.Equal(t, test.status, upgradeStatus(t, target, headers...))
		})
	}
	require.NoError(t, srv.InjectFault(emulator.Fault{Operation: emulator.OperationConnect, Status: http.StatusServiceUnavailable}))
	require.Equal(t, http.StatusServiceUnavailable,
		upgradeStatus(t, base+"chat?access_token="+good, "Sec-WebSocket-Protocol", "mqtt"))
}

func TestMQTTClientsConnectWithTheServiceClientsTokens(t *testing.T) {
	srv := emulator.StartT(t, nil)
	service, err := webpubsub.NewClientFromConnectionString(srv.ConnectionString(), "chat", nil)
	require.NoError(t, err)
	access, err := service.GetClientAccessToken(t.Context(), &webpubsub.ClientAccessTokenOptions{UserID: "ann",
		Roles: []string{webpubsub.RoleJoinLeaveGroup("room")}, Protocol: webpubsub.ClientProtocolMQTT})
	require.NoError(t, err)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(access.URL).SetClientID("id").SetAutoReconnect(false))
	done(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	done(t, c.Subscribe("room", 1, nil))
	require.Equal(t, []emulator.Connection{{ID: "id", UserID: "ann", Subprotocol: "mqtt", Groups: []string{"room"}}},
		srv.Connections("chat"))
}

func TestManyMQTTClientsComeAndGo(t *testing.T) {
	srv := emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.DiscardHandler)})
	const clients, rounds = 40, 10
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 4711))
			version := []mqttVersion{mqtt311, mqtt5}[i%2]
			for range rounds {
				id := fmt.Sprint("client", i/4) // four clients, of two versions, take over each other's sessions
				connect := connectPacket(id)
				if random.IntN(2) == 0 {
					connect = keeping(connect)
				}
				c := openWire(t, srv, version, dialOptions{roles: allRoles, groups: []string{"all"}})
				if !c.try(connect) || !c.try(subscribePacket("a", "b")) || !c.try(publishPacket("a", 1, "x")) {
					continue
				}
				switch random.IntN(4) {
				case 0:
					c.try(packetOf(mqttpacket.Disconnect))
				case 1:
					srv.DropConnection("chat", id)
				case 2:
					rest{t, srv}.must(204, "DELETE", "hubs/chat/connections/"+url.PathEscape(id)+"?reason=enough")
				}
				for range 3 {
					if _, err := c.tryRead(); err != nil {
						break
					}
				}
				rest{t, srv}.text("hubs/chat/groups/all/:send", "x")
				c.ws.CloseNow()
			}
		})
	}
	all.Wait()
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(srv.Connections("chat"), func(c emulator.Connection) bool { return !c.Recovering })
	}, patience, time.Millisecond, "clients are still connected")
	srv.Advance(recoveryWindow) // ends the remaining sessions
	require.NoError(t, srv.WaitForConnections(soon(t), "chat", 0))
	require.Empty(t, srv.Groups("chat"))
}

func TestQoS2WithRealMQTTClients(t *testing.T) {
	srv := emulator.StartT(t, nil)
	newer, ack := dialPaho5(t, srv, dialOptions{roles: allRoles}, "m5")
	require.False(t, ack.SessionPresent)
	old, oldMessages := dialPaho311(t, srv, dialOptions{roles: allRoles}, "m311")
	suback, err := newer.Subscribe(soon(t), &paho.Subscribe{Properties: &paho.SubscribeProperties{SubscriptionIdentifier: new(12)},
		Subscriptions: []paho.SubscribeOptions{{Topic: "room", QoS: 2}}})
	require.NoError(t, err)
	require.Equal(t, []byte{2}, suback.Reasons)
	done(t, old.Subscribe("room", 2, nil))
	for i := range 20 {
		text := fmt.Sprint(i)
		if i%2 == 0 {
			_, err := newer.Publish(soon(t), &paho.Publish{Topic: "room", QoS: 2, Payload: []byte(text)})
			require.NoError(t, err)
		} else {
			done(t, old.Publish("room", 2, false, text))
		}
		m := newer.message()
		require.Equal(t, text, string(m.Payload))
		require.Equal(t, byte(2), m.QoS)
		require.Equal(t, 12, *m.Properties.SubscriptionIdentifier)
		m311 := soonFrom(t, oldMessages)
		require.Equal(t, text, string(m311.Payload()))
		require.Equal(t, byte(2), m311.Qos())
		require.False(t, m311.Duplicate())
	}
	require.Empty(t, newer.messages)
	require.Empty(t, oldMessages)
}

func TestARealMQTTClientWithAPersistentSessionLosesNothing(t *testing.T) {
	srv := emulator.StartT(t, nil)
	messages := make(chan mqtt.Message, 100)
	connected := make(chan struct{}, 10)
	options := mqtt.NewClientOptions().AddBroker(dialOptions{roles: allRoles}.mqttURL(t, srv)).SetClientID("id").SetProtocolVersion(4).
		SetCleanSession(false).SetAutoReconnect(true).SetMaxReconnectInterval(10 * time.Millisecond).SetOrderMatters(true).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { messages <- m }).
		SetOnConnectHandler(func(mqtt.Client) { connected <- struct{}{} })
	c := mqtt.NewClient(options)
	done(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	soonFrom(t, connected)
	done(t, c.Subscribe("room", 2, nil))
	for i := range 5 {
		require.True(t, srv.DropConnection("chat", "id"))
		rest{t, srv}.text("hubs/chat/groups/room/:send", fmt.Sprint(i)) // before or after the server has noticed
		soonFrom(t, connected)
		m := soonFrom(t, messages)
		for m.Duplicate() && string(m.Payload()) < fmt.Sprint(i) { // sent again because the PUBREC was lost, and this client keeps no state
			m = soonFrom(t, messages)
		}
		require.Equal(t, fmt.Sprint(i), string(m.Payload()))
	}
}
