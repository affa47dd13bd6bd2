package emulator_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
)

// This file tests MQTT clients and the application, packet by packet.

const eventTopic = "$webpubsub/server/events/"

// readEventResponse reads the response to an event. It returns the topic without eventTopic, and the packet.
func (c *mqttWire) readEventResponse() (string, *mqttpacket.Packet) {
	c.t.Helper()
	for {
		pk := c.read()
		if pk.Type != mqttpacket.Publish {
			continue
		}
		topic, ok := strings.CutPrefix(pk.Topic, eventTopic)
		require.True(c.t, ok, pk.Topic)
		if pk.QoS == 1 {
			c.acknowledge(pk.PacketID)
		}
		return topic, pk
	}
}

func TestMQTTResponsesHaveTheQoSOfTheirEvents(t *testing.T) {
	both(t, func(t *testing.T, version mqttVersion) {
		srv := emulator.StartT(t, nil)
		requests := mqttHandler(t, srv, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("ce-eventName") == "hello" {
				io.WriteString(w, r.Header.Get("ce-id"))
			}
		})
		c, _ := dialWire(t, srv, version, dialOptions{}, connectPacket("id"))
		for qos := range byte(3) {
			c.send(publishPacket(eventTopic+"hello", qos, "x"))
			if qos == 2 {
				c.send(func() mqttpacket.Packet { pk := publishPacket(eventTopic+"hello", qos, "x"); pk.Dup = true; return pk }())
			}
			topic, p := c.readEventResponse()
			require.Equal(t, "hello/succeeded", topic)
			require.Equal(t, qos, p.QoS)
			require.Equal(t, fmt.Sprint(qos+2), string(p.Payload), "the application receives each event once")
			require.Equal(t, version == mqtt5, len(p.Properties.User) == 1)
		}
		for _, event := range []string{"connect", "connected", "hello", "hello", "hello"} {
			require.Equal(t, event, soonFrom(t, requests).header.Get("ce-eventName"))
		}
		require.Empty(t, requests)
	})
}

func TestMQTTEventsWithoutAResponse(t *testing.T) {
	withUserProperty := func(key, value string) func(pk *mqttpacket.Packet) {
		return func(pk *mqttpacket.Packet) { pk.Properties.User = []mqttpacket.UserProperty{{Key: key, Value: value}} }
	}
	for name, test := range map[string]struct {
		handler func(w http.ResponseWriter, r *http.Request)
		change  func(pk *mqttpacket.Packet)
	}{
		"no handler":                                {},
		"the handler panics":                        {handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		"a non-ASCII user property":                 {func(http.ResponseWriter, *http.Request) {}, withUserProperty("a", "ü")},
		"a user property of two lines":              {func(http.ResponseWriter, *http.Request) {}, withUserProperty("a", "b\r\nce-userId: root")},
		"a user property whose name is not a token": {func(http.ResponseWriter, *http.Request) {}, withUserProperty("a b", "c")},
		"a user property without a name":            {func(http.ResponseWriter, *http.Request) {}, withUserProperty("", "c")},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, version mqttVersion) {
				if test.change != nil && version == mqtt311 {
					t.Skip("MQTT 3.1.1 has no user properties")
				}
				srv := emulator.StartT(t, nil)
				if test.handler != nil {
					mqttHandler(t, srv, func(w http.ResponseWriter, r *http.Request) {
						if r.Header.Get("ce-eventName") == "hello" {
							test.handler(w, r)
						}
					})
				}
				c, _ := dialWire(t, srv, version, dialOptions{}, connectPacket("id"))
				pk := publishPacket(eventTopic+"hello", 1, "x")
				pk.Properties.CorrelationData = []byte("7")
				if test.change != nil {
					test.change(&pk)
				}
				stop := make(chan struct{})
				defer close(stop)
				go func() { // runs the retries of the event
					for {
						select {
						case <-stop:
							return
						case <-time.After(10 * time.Millisecond):
							srv.Advance(time.Second)
						}
					}
				}()
				c.send(pk)
				first, second := c.read(), c.read()
				if first.Type == mqttpacket.Publish {
					first, second = second, first
				}
				require.Equal(t, eventTopic+"hello/failed", second.Topic)
				require.Empty(t, second.Payload)
				require.Equal(t, mqttpacket.Puback, first.Type)
				if version == mqtt5 {
					require.Equal(t, byte(0x83), first.Code)
					require.Equal(t, []mqttpacket.UserProperty{{Key: "azure-status-code", Value: "500"}}, second.Properties.User)
					require.Equal(t, "7", string(second.Properties.CorrelationData))
				}
				c.expectConnected()
			})
		})
	}
}

// expectConnected fails the test if the client is not connected. It skips other packets.
func (c *mqttWire) expectConnected() {
	c.t.Helper()
	c.send(packetOf(mqttpacket.Pingreq))
	for c.read().Type != mqttpacket.Pingresp {
	}
}

func TestAnMQTTClientIsServedWhileTheApplicationIsSlow(t *testing.T) {
	srv := emulator.StartT(t, nil)
	release := make(chan struct{})
	requests := mqttHandler(t, srv, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ce-eventName") == "slow" {
			<-release
		}
	})
	connect := connectPacket("id")
	connect.Connect.KeepAlive = 2
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: allRoles}, connect)
	c.subscribe("room", 1)
	const events = 500
	for i := range events {
		c.send(publishPacket(eventTopic+"slow", 0, fmt.Sprint(i)))
	}
	for range 35 { // 3.5 s: more than the keep-alive of 2 s allows without packets
		<-time.After(100 * time.Millisecond)
		c.expectNothing()
		rest{t, srv}.text("hubs/chat/groups/room/:send", "hello")
		c.acknowledge(c.expect(mqttpacket.Publish).PacketID)
	}
	close(release)
	for range events {
		topic, _ := c.readEventResponse()
		require.Equal(t, "slow/succeeded", topic)
	}
	require.Equal(t, "connect", soonFrom(t, requests).header.Get("ce-eventName"))
	require.Equal(t, "connected", soonFrom(t, requests).header.Get("ce-eventName"))
}

func TestTheUserPropertiesOfPendingMQTTEventsCount(t *testing.T) {
	srv := emulator.StartT(t, nil)
	release := make(chan struct{})
	defer close(release)
	mqttHandler(t, srv, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ce-eventName") == "slow" {
			<-release
		}
	})
	c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("id"))
	for range 100 { // more than the kernel queues; the others wait in the client's session
		c.send(publishPacket(eventTopic+"slow", 0, "x"))
	}
	large := publishPacket(eventTopic+"slow", 0, "x")
	for range 16 {
		large.Properties.User = append(large.Properties.User, mqttpacket.UserProperty{Key: "a", Value: strings.Repeat("x", 60_000)})
	}
	for range 20 {
		if !c.try(large) {
			break
		}
	}
	_, last := c.closed()
	require.Equal(t, byte(0x97), last.Code)
}

func TestMQTTEventsBeforeDisconnectReachTheApplication(t *testing.T) {
	both(t, func(t *testing.T, version mqttVersion) {
		srv := emulator.StartT(t, nil)
		release := make(chan struct{})
		requests := mqttHandler(t, srv, func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get("ce-eventName") == "order" {
				<-release
			}
		})
		c, _ := dialWire(t, srv, version, dialOptions{}, connectPacket("id"))
		for range 3 {
			c.send(publishPacket(eventTopic+"order", 0, "x"))
		}
		c.send(packetOf(mqttpacket.Disconnect))
		_, _ = c.closed()
		close(release)
		for i, event := range []string{"connect", "connected", "order", "order", "order", "disconnected"} {
			got := soonFrom(t, requests)
			require.Equal(t, event, got.header.Get("ce-eventName"))
			require.Equal(t, fmt.Sprint(i), got.header.Get("ce-id"))
		}
		require.NoError(t, srv.WaitForConnections(soon(t), "chat", 0))
	})
}

func TestDisconnectedIsTheLastEventOfAnMQTTClient(t *testing.T) {
	srv := emulator.StartT(t, nil)
	requests := mqttHandler(t, srv, nil)
	for i := range 30 {
		c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("id"))
		for range 10 {
			c.send(publishPacket(eventTopic+"order", byte(i%3), "x"))
		}
		switch i % 3 {
		case 0:
			c.ws.CloseNow()
		case 1:
			rest{t, srv}.must(204, "DELETE", "hubs/chat/connections/id")
		case 2:
			srv.DropConnection("chat", "id")
		}
		require.NoError(t, srv.WaitForConnections(soon(t), "chat", 0))
		c.ws.CloseNow()
		for last := ""; last != "disconnected"; {
			got := soonFrom(t, requests)
			last = got.header.Get("ce-eventName")
		}
	}
	require.NoError(t, srv.Close())
	for len(requests) > 0 {
		require.Fail(t, "an event after disconnected", "%v", (<-requests).header)
	}
}

// TestTheResponseToConnectAppliesOnlyToANewSession resumes a session while the application assigns another user.
func TestTheResponseToConnectAppliesOnlyToANewSession(t *testing.T) {
	both(t, func(t *testing.T, version mqttVersion) {
		srv := emulator.StartT(t, nil)
		connects := 0
		requests := mqttHandler(t, srv, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("ce-eventName") == "connect" {
				connects++
				_ = json.NewEncoder(w).Encode(map[string]any{"userId": fmt.Sprint("user", connects), "groups": []string{fmt.Sprint("group", connects)},
					"roles": []string{fmt.Sprint("webpubsub.sendToGroup.group", connects)}, "subprotocol": "mqtt",
					"mqtt": map[string]any{"userProperties": []any{map[string]any{"name": "n", "value": fmt.Sprint(connects)}}}})
			}
		})
		sessions := map[string]bool{}
		event := func(name, user, id string) {
			t.Helper()
			got := soonFrom(t, requests)
			require.Equal(t, []string{name, user, id}, []string{got.header.Get("ce-eventName"), got.header.Get("ce-userId"), got.header.Get("ce-id")})
			if session := got.header.Get("ce-sessionId"); name == "connect" {
				require.Empty(t, session)
			} else {
				sessions[session] = true
			}
		}
		for i := 1; i <= 2; i++ {
			connect := keeping(connectPacket("id"))
			connect.Connect.Will = &mqttpacket.Will{Topic: "group1"} // the session has the role
			_, ack := dialWire(t, srv, version, dialOptions{user: "token"}, connect)
			require.Equal(t, i == 2, ack.SessionPresent)
			if version == mqtt5 {
				require.Equal(t, []mqttpacket.UserProperty{{Key: "n", Value: fmt.Sprint(i)}}, ack.Properties.User)
			}
			event("connect", "token", "0")
			if i == 1 {
				event("connected", "user1", "1")
			}
			require.Equal(t, []emulator.Connection{{ID: "id", UserID: "user1", Subprotocol: "mqtt", Groups: []string{"group1"}}}, srv.Connections("chat"))
		}
		_, ack := dialWire(t, srv, version, dialOptions{user: "token"}, connectPacket("id"))
		require.False(t, ack.SessionPresent)
		event("connect", "token", "0")
		var ends []string // of the old and the new session, in any order
		for range 2 {
			got := soonFrom(t, requests).header
			ends = append(ends, fmt.Sprint(got.Get("ce-eventName"), " ", got.Get("ce-userId"), " ", got.Get("ce-id"), " ", sessions[got.Get("ce-sessionId")]))
		}
		require.ElementsMatch(t, []string{"disconnected user1 2 true", "connected user3 1 false"}, ends)
		require.Equal(t, []string{"group3"}, srv.Connections("chat")[0].Groups)
		require.Empty(t, requests)

		c := openWire(t, srv, version, dialOptions{user: "another"})
		c.send(connectPacket("id"))
		_, refused := c.closed()
		require.Contains(t, []byte{2, 0x85}, refused.Code)
		require.Equal(t, "user3", srv.Connections("chat")[0].UserID)
	})
}

func TestMQTTCodesOfAFailedConnect(t *testing.T) {
	for name, test := range map[string]struct {
		status   int
		body     string
		old, new byte
		reason   string
		user     int
	}{
		"a code of each version, 3.1.1": {401, `{"mqtt":{"code":4,"reason":"who are you","userProperties":[{"name":"a","value":"b"},{"name":"a","value":"c"}]}}`, 4, 0x80, "who are you", 2},
		"a code of each version, 5.0":   {401, `{"mqtt":{"code":138,"reason":"go away"}}`, 5, 0x8A, "go away", 0},
		"a redirect":                    {302, `{"mqtt":{"code":157,"reason":"elsewhere"}}`, 3, 0x9D, "elsewhere", 0},
		"a code of success":             {400, `{"mqtt":{"code":0}}`, 4, 0x80, "the event handler answered 400", 0},
		"a code of another packet":      {400, `{"mqtt":{"code":162}}`, 4, 0x80, "the event handler answered 400", 0},
		"a code over 255":               {403, `{"mqtt":{"code":391}}`, 5, 0x80, "the event handler answered 403", 0},
		"a negative code":               {403, `{"mqtt":{"code":-121}}`, 5, 0x80, "the event handler answered 403", 0},
		"a code that is a string":       {403, `{"mqtt":{"code":"banned","reason":"really"}}`, 5, 0x80, "really", 0},
		"no code":                       {403, `{"mqtt":{"reason":"really"}}`, 5, 0x80, "really", 0},
		"nulls":                         {403, `{"mqtt":{"code":135,"reason":null,"userProperties":null}}`, 5, 0x87, "the event handler answered 403", 0},
		"plain text":                    {403, `not you`, 5, 0x87, "not you", 0},
		"null":                          {401, `{"mqtt":null}`, 5, 0x87, `{"mqtt":null}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, version mqttVersion) {
				srv := emulator.StartT(t, nil)
				requests := mqttHandler(t, srv, func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(test.status)
					io.WriteString(w, test.body)
				})
				c := openWire(t, srv, version, dialOptions{})
				c.send(connectPacket("id"))
				_, ack := c.closed()
				require.Equal(t, mqttpacket.Connack, ack.Type)
				if version == mqtt311 {
					require.Equal(t, test.old, ack.Code)
				} else {
					require.Equal(t, fmt.Sprintf("0x%X", test.new), fmt.Sprintf("0x%X", ack.Code))
					require.Equal(t, test.reason, ack.Properties.ReasonString)
					require.Len(t, ack.Properties.User, test.user)
				}
				require.Len(t, requests, 1)
				require.Empty(t, srv.Connections("chat"))
			})
		})
	}
}

func TestAnMQTTEventIsAcknowledgedOnceToAClientThatReturns(t *testing.T) {
	both(t, func(t *testing.T, version mqttVersion) {
		for qos := byte(1); qos <= 2; qos++ {
			srv := emulator.StartT(t, nil)
			release := make(chan struct{})
			requests := mqttHandler(t, srv, func(_ http.ResponseWriter, r *http.Request) {
				if r.Header.Get("ce-eventName") == "slow" {
					<-release
				}
			})
			c, _ := dialWire(t, srv, version, dialOptions{}, keeping(connectPacket("id")))
			event := publishPacket(eventTopic+"slow", qos, "x")
			c.send(event)
			for _, name := range []string{"connect", "connected", "slow"} {
				require.Equal(t, name, soonFrom(t, requests).header.Get("ce-eventName"))
			}
			cut(t, srv)
			c, _ = dialWire(t, srv, version, dialOptions{}, keeping(connectPacket("id")))
			event.Dup = true // the client has no acknowledgement
			c.send(event)
			c.expectNothing() // and the server has read the event
			close(release)
			acknowledgements := 0
			for answers := int(3 - qos); answers > 0 || acknowledgements == 0; { // QoS 1: two events, QoS 2: one
				switch pk := c.read(); pk.Type {
				case mqttpacket.Publish:
					answers--
				case mqttpacket.Puback, mqttpacket.Pubrec:
					acknowledgements++
				}
			}
			c.expectNothing()
			require.Equal(t, 1, acknowledgements, "QoS %d", qos)
		}
	})
}

func TestAnMQTTClientThatSaidGoodbyeIsNotTooSlow(t *testing.T) {
	for name, connect := range map[string]mqttpacket.Packet{"clean": connectPacket("id"), "persistent": keeping(connectPacket("id"))} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			release := make(chan struct{})
			requests := mqttHandler(t, srv, func(_ http.ResponseWriter, r *http.Request) {
				if r.Header.Get("ce-eventName") == "slow" {
					<-release
				}
			})
			c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: allRoles}, connect)
			c.subscribe("room", 0)
			c.send(publishPacket(eventTopic+"slow", 0, "x"))
			for _, name := range []string{"connect", "connected", "slow"} {
				require.Equal(t, name, soonFrom(t, requests).header.Get("ce-eventName"))
			}
			c.send(packetOf(mqttpacket.Disconnect))
			_, _ = c.closed()
			flood(t, srv, maxQueuedFrames+1, `"dataType":"text","data":"x"`)
			close(release)
			if name == "persistent" {
				require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
				return
			}
			for {
				got := soonFrom(t, requests)
				if got.header.Get("ce-eventName") == "disconnected" && got.header.Get("ce-connectionId") == "id" {
					require.Contains(t, string(got.body), "the client said goodbye")
					return
				}
			}
		})
	}
}

func TestTheContentTypeOfAnEmptyResponseReachesAnMQTTClient(t *testing.T) {
	srv := emulator.StartT(t, nil)
	mqttHandler(t, srv, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ce-eventName") == "hello" {
			w.Header().Set("Content-Type", "image/png")
		}
	})
	c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("id"))
	c.send(publishPacket(eventTopic+"hello", 0, "x"))
	_, response := c.readEventResponse()
	require.Empty(t, response.Payload)
	require.Equal(t, "image/png", response.Properties.ContentType)
}

func TestMQTTUserPropertiesOfTheApplicationAreNotShortened(t *testing.T) {
	long := strings.Repeat("x", 60_000)
	srv := emulator.StartT(t, nil)
	mqttHandler(t, srv, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ce-eventName") == "connect" {
			fmt.Fprintf(w, `{"mqtt":{"userProperties":[{"name":"a","value":%q}]}}`, long)
			return
		}
		w.Header().Set("mqtt-a", long)
	})
	c, ack := dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("id"))
	require.Equal(t, []mqttpacket.UserProperty{{Key: "a", Value: long}}, ack.Properties.User)
	c.send(publishPacket(eventTopic+"hello", 0, "x"))
	_, response := c.readEventResponse()
	require.Equal(t, mqttpacket.UserProperty{Key: "a", Value: long}, response.Properties.User[1])
}
