package emulator_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/eventhandler"
)

// mqttApplication sets an application that logs the events of MQTT clients. If reject is set, connect returns its error.
func mqttApplication(t *testing.T, s *emulator.Server, log *eventLog, by way, reject func() error) {
	t.Helper()
	connects := 0
	ids := map[string]string{"": ""} // names for the ids of physical connections and sessions
	name := func(kind, id string) string {
		if _, ok := ids[id]; !ok {
			ids[id] = fmt.Sprintf("%s%d", kind, len(ids))
		}
		return ids[id]
	}
	record := func(e *eventhandler.Event, more string) {
		log.add("%s %s of %s, user %q, %s, %s: %s", e.EventID, e.EventName, e.ConnectionID, e.UserID,
			name("physical", e.PhysicalConnectionID), name("session", e.SessionID), more)
	}
	disconnectText := func(d *eventhandler.MQTTDisconnect) string {
		if d == nil || d.DisconnectPacket == nil {
			return fmt.Sprintf("%+v", d)
		}
		return fmt.Sprintf("by client %t %+v", d.InitiatedByClient, *d.DisconnectPacket)
	}
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub: "chat", AccessKeys: []string{s.AccessKey()},
		OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			record(&r.Event, fmt.Sprintf("%v %v %+v %s", r.Subprotocols, r.Query, *r.MQTT, r.MQTT.Password))
			if reject != nil {
				return nil, reject()
			}
			connects++
			return &eventhandler.ConnectResponse{UserID: "Ann", Groups: []string{"lobby"},
				Roles: []string{webpubsub.RoleSendToGroup("lobby")}, SetState: map[string]any{"n": connects},
				MQTTUserProperties: []eventhandler.MQTTUserProperty{{Name: "from", Value: "application"}}}, nil
		},
		OnConnected: func(_ context.Context, r *eventhandler.ConnectedRequest) error { record(&r.Event, ""); return nil },
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			record(&r.Event, fmt.Sprintf("%s %s %v state=%s", r.ContentType, r.Text(), r.Metadata, r.State["n"]))
			if r.Text() == "fail" {
				return nil, eventhandler.Reject(http.StatusBadRequest, "no such thing")
			}
			return &eventhandler.UserEventResponse{Message: webpubsub.JSON("reply to " + r.Text())}, nil
		},
		OnDisconnected: func(_ context.Context, r *eventhandler.DisconnectedRequest) error {
			record(&r.Event, r.Reason+"; "+disconnectText(r.MQTT))
			return nil
		},
	})
	require.NoError(t, err)
	listen(t, s, handler, by)
}

func TestTheApplicationReceivesAllEventsOfAnMQTTClient(t *testing.T) {
	inEachWay(t, func(t *testing.T, by way) {
		srv := emulator.StartT(t, nil)
		log := newEventLog()
		mqttApplication(t, srv, log, by, nil)
		c := newPaho5(t, srv, dialOptions{user: "ann", query: "&room=1"})
		ack, err := c.Connect(soon(t), &paho.Connect{ClientID: "id", CleanStart: true, UsernameFlag: true, Username: "name",
			PasswordFlag: true, Password: []byte("secret"), Properties: &paho.ConnectProperties{RequestProblemInfo: true,
				User: paho.UserProperties{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}}})
		require.NoError(t, err)
		require.Equal(t, paho.UserProperties{{Key: "from", Value: "application"}}, ack.Properties.User)
		require.Equal(t, []string{"lobby"}, srv.Connections("chat")[0].Groups)

		_, err = c.Publish(soon(t), &paho.Publish{Topic: "$webpubsub/server/events/order", QoS: 1, Payload: []byte("tea"),
			Properties: &paho.PublishProperties{ContentType: "text/plain", User: paho.UserProperties{{Key: "trace", Value: "t"}}}})
		require.NoError(t, err)
		m := c.message()
		require.Equal(t, "$webpubsub/server/events/order/succeeded", m.Topic)
		require.Equal(t, `"reply to tea"`, string(m.Payload))
		require.Equal(t, "application/json; charset=utf-8", m.Properties.ContentType)
		_, err = c.Publish(soon(t), &paho.Publish{Topic: "$webpubsub/server/events/order", QoS: 1, Payload: []byte("fail"),
			Properties: &paho.PublishProperties{ContentType: "text/plain"}})
		require.NoError(t, err, "the application received the event")
		m = c.message()
		require.Equal(t, "$webpubsub/server/events/order/failed", m.Topic)
		require.Equal(t, "no such thing", string(m.Payload))
		require.Equal(t, paho.UserProperties{{Key: "azure-status-code", Value: "400"}}, m.Properties.User)
		_, err = c.Publish(soon(t), &paho.Publish{Topic: "lobby", QoS: 1, Payload: []byte("allowed by the role from the response")})
		require.NoError(t, err)
		c.message()

		require.NoError(t, c.Client.Disconnect(&paho.Disconnect{ReasonCode: 0x04, Properties: &paho.DisconnectProperties{
			ReasonString: "tired", User: paho.UserProperties{{Key: "b", Value: "3"}}}}))
		<-c.Done()
		require.Equal(t, []string{
			`0 connect of id, user "ann", physical1, : [mqtt] map[room:[1]] {ProtocolVersion:5 Username:name Password:REDACTED ` +
				`UserProperties:[{Name:a Value:1} {Name:a Value:2}]} secret`,
			`1 connected of id, user "Ann", physical1, session2: `,
			`2 order of id, user "Ann", physical1, session2: text/plain tea map[] state=1`,
			`3 order of id, user "Ann", physical1, session2: text/plain fail map[] state=1`,
			`4 disconnected of id, user "Ann", physical1, session2: tired; ` +
				`by client true {Code:4 UserProperties:[{Name:b Value:3}]}`,
		}, log.wait(t, 5))
	})
}

func TestDisconnectedOfMQTTClients(t *testing.T) {
	for name, test := range map[string]struct {
		leave         func(srv *emulator.Server, c *mqttWire)
		old, new      string // the reason and packet in the event, for 3.1.1 and for 5.0
		sessionAndAll bool
	}{
		"DISCONNECT by the client": {leave: func(_ *emulator.Server, c *mqttWire) { c.send(packetOf(mqttpacket.Disconnect)) },
			old: "the client said goodbye; by client true {Code:0 UserProperties:[]}",
			new: "the client said goodbye; by client true {Code:0 UserProperties:[]}"},
		"cut off": {leave: func(srv *emulator.Server, _ *mqttWire) { srv.DropConnection("chat", "id") },
			old: "the connection was lost; &{InitiatedByClient:false DisconnectPacket:<nil>}",
			new: "the connection was lost; &{InitiatedByClient:false DisconnectPacket:<nil>}"},
		"closed by the application": {leave: func(srv *emulator.Server, c *mqttWire) {
			rest{c.t, srv}.must(204, "DELETE", "hubs/chat/connections/id?reason=enough")
		},
			old: "Application server closed the connection. Reason: enough; &{InitiatedByClient:false DisconnectPacket:<nil>}",
			new: "Application server closed the connection. Reason: enough; by client false {Code:152 UserProperties:[]}"},
		"breaks the protocol": {leave: func(_ *emulator.Server, c *mqttWire) { c.write([]byte{0xC1, 0}) },
			old: "malformed packet: the flags of PINGREQ are invalid; &{InitiatedByClient:false DisconnectPacket:<nil>}",
			new: "malformed packet: the flags of PINGREQ are invalid; by client false {Code:129 UserProperties:[]}"},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, version mqttVersion) {
				srv := emulator.StartT(t, nil)
				log := newEventLog()
				mqttApplication(t, srv, log, inProcess, nil)
				c, _ := dialWire(t, srv, version, dialOptions{}, connectPacket("id"))
				test.leave(srv, c)
				last := log.wait(t, 3)[2]
				want := test.new
				if version == mqtt311 {
					want = test.old
				}
				require.Equal(t, `2 disconnected of id, user "Ann", physical1, session2: `+want, last)
			})
		})
	}
}

func TestAnMQTTClientThatResumesItsSessionSendsConnectAgain(t *testing.T) {
	srv := emulator.StartT(t, nil)
	log := newEventLog()
	mqttApplication(t, srv, log, inProcess, nil)
	c, _ := dialWire(t, srv, mqtt5, dialOptions{}, keeping(connectPacket("id")))
	log.wait(t, 2)
	c.ws.CloseNow()
	require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
	c, ack := dialWire(t, srv, mqtt5, dialOptions{}, keeping(connectPacket("id")))
	require.True(t, ack.SessionPresent)
	c.send(publishPacket("$webpubsub/server/events/order", 1, "tea"))
	log.wait(t, 4)
	srv.DropConnection("chat", "id")
	require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
	srv.Advance(31 * time.Second)
	lines := log.wait(t, 5)
	for i, want := range []string{`0 connect of id, user "", physical1, : `, `1 connected of id, user "Ann", physical1, session2: `,
		`0 connect of id, user "", physical3, : `,
		`2 order of id, user "Ann", physical3, session2: application/octet-stream tea map[] state=2`,
		`3 disconnected of id, user "Ann", physical3, session2: the connection was lost; `} {
		require.True(t, strings.HasPrefix(lines[i], want), lines[i])
	}
	require.Len(t, lines, 5)
}

func TestARejectedMQTTClientReceivesTheReason(t *testing.T) {
	properties := []eventhandler.MQTTUserProperty{{Name: "a", Value: "b"}}
	for name, test := range map[string]struct {
		err        error
		old, new   byte
		reason     string
		properties bool
	}{
		"unauthorized":   {eventhandler.Reject(http.StatusUnauthorized, "who are you"), 5, 0x87, "who are you", false},
		"without a text": {eventhandler.Reject(http.StatusUnauthorized, ""), 5, 0x87, "the event handler answered 401", false},
		"with an MQTT code": {&eventhandler.RejectError{Status: http.StatusForbidden, Reason: "go away", MQTTCode: 0x8A,
			MQTTUserProperties: properties}, 5, 0x8A, "go away", true},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, version mqttVersion) {
				srv := emulator.StartT(t, nil)
				mqttApplication(t, srv, newEventLog(), inProcess, func() error { return test.err })
				c := openWire(t, srv, version, dialOptions{})
				c.send(connectPacket("id"))
				ce, ack := c.closed()
				require.Equal(t, test.reason, ce.Reason)
				require.Empty(t, srv.Connections("chat"))
				if version == mqtt311 {
					require.Equal(t, test.old, ack.Code)
					return
				}
				require.Equal(t, test.new, ack.Code)
				require.Equal(t, test.reason, ack.Properties.ReasonString)
				require.Equal(t, test.properties, len(ack.Properties.User) == 1)
			})
		})
	}
	t.Run("by status alone", func(t *testing.T) {
		for status, want := range map[int][2]byte{400: {4, 0x86}, 401: {5, 0x87}, 403: {5, 0x87}, 404: {3, 0x80}, 429: {3, 0x9F}} {
			both(t, func(t *testing.T, version mqttVersion) {
				srv := emulator.StartT(t, nil)
				listen(t, srv, &scripted{log: newEventLog(), answer: func(w http.ResponseWriter, _ *http.Request, _ int) {
					http.Error(w, "in plain text", status)
				}}, inProcess)
				c := openWire(t, srv, version, dialOptions{})
				c.send(connectPacket("id"))
				ce, ack := c.closed()
				require.Equal(t, "in plain text", ce.Reason)
				require.Equal(t, want[version-mqtt311], ack.Code, "status %d", status)
			})
		}
	})
}
