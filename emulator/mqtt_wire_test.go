package emulator_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
)

// This file tests MQTT packet by packet, including invalid packets.

// mqttWire is an MQTT client that sends only the packets of the test.
type mqttWire struct {
	t       testing.TB
	ws      *websocket.Conn
	in      *bufio.Reader
	version mqttVersion
}

func openWire(t testing.TB, srv *emulator.Server, version mqttVersion, o dialOptions) *mqttWire {
	t.Helper()
	ws, _, err := websocket.Dial(soon(t), o.mqttURL(t, srv), &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	require.NoError(t, err)
	ws.SetReadLimit(-1)
	t.Cleanup(func() { ws.CloseNow() })
	return &mqttWire{t: t, ws: ws, in: bufio.NewReader(&binaryStream{ws: ws}), version: version}
}

// binaryStream reads the bytes of a WebSocket's binary messages.
type binaryStream struct {
	ws      *websocket.Conn
	message io.Reader // nil = the next message has not started
}

func (s *binaryStream) Read(p []byte) (int, error) {
	for {
		if s.message == nil {
			typ, message, err := s.ws.Reader(context.Background())
			if err != nil {
				return 0, err
			}
			if typ != websocket.MessageBinary {
				return 0, errors.New("the message is not binary")
			}
			s.message = message
		}
		n, err := s.message.Read(p)
		if err == io.EOF {
			s.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// connectPacket returns a CONNECT packet for a session that ends with its connection.
func connectPacket(id string) mqttpacket.Packet {
	return mqttpacket.Packet{Type: mqttpacket.Connect,
		Connect: mqttpacket.ConnectFields{Protocol: "MQTT", Clean: true, KeepAlive: 60, ClientID: id}}
}

// keeping changes a CONNECT packet to resume a session, and to keep the session after the connection.
func keeping(pk mqttpacket.Packet) mqttpacket.Packet {
	pk.Connect.Clean = false
	pk.Properties.SessionExpiry = new(uint32(3600))
	return pk
}

// dialWire connects and returns the CONNACK packet.
func dialWire(t testing.TB, srv *emulator.Server, version mqttVersion, o dialOptions, connect mqttpacket.Packet) (*mqttWire, *mqttpacket.Packet) {
	t.Helper()
	c := openWire(t, srv, version, o)
	c.send(connect)
	ack := c.read()
	require.Equal(t, mqttpacket.Connack, ack.Type)
	require.Zero(t, ack.Code, ack.Properties.ReasonString)
	return c, ack
}

func (c *mqttWire) encode(pk mqttpacket.Packet) []byte {
	c.t.Helper()
	pk.Version = byte(c.version)
	return mqttpacket.Encode(&pk)
}

func (c *mqttWire) write(data []byte) {
	c.t.Helper()
	require.NoError(c.t, c.ws.Write(soon(c.t), websocket.MessageBinary, data))
}

func (c *mqttWire) send(pk mqttpacket.Packet) {
	c.t.Helper()
	c.write(c.encode(pk))
}

// try sends a packet. It reports whether that succeeded.
func (c *mqttWire) try(pk mqttpacket.Packet) bool {
	return c.ws.Write(soon(c.t), websocket.MessageBinary, c.encode(pk)) == nil
}

// tryRead reads a packet. It returns an error if the connection has ended.
func (c *mqttWire) tryRead() (*mqttpacket.Packet, error) {
	c.t.Helper()
	stop := time.AfterFunc(patience, func() { c.ws.CloseNow() })
	defer stop.Stop()
	pk, err := mqttpacket.Read(c.in, byte(c.version), 64<<20)
	if fault, ok := errors.AsType[*mqttpacket.Fault](err); ok {
		require.NoError(c.t, fault, "the server sent an invalid packet")
	}
	return pk, err
}

func (c *mqttWire) read() *mqttpacket.Packet {
	c.t.Helper()
	pk, err := c.tryRead()
	require.NoError(c.t, err)
	return pk
}

// expect reads a packet of a type.
func (c *mqttWire) expect(typ mqttpacket.Type) *mqttpacket.Packet {
	c.t.Helper()
	pk := c.read()
	require.Equal(c.t, typ.String(), pk.Type.String(), "%+v", pk)
	return pk
}

// closed reads until the WebSocket is closed. It returns the close frame and the last packet before it.
func (c *mqttWire) closed() (websocket.CloseError, *mqttpacket.Packet) {
	c.t.Helper()
	var last *mqttpacket.Packet
	for {
		pk, err := c.tryRead()
		if err != nil {
			var ce websocket.CloseError
			require.ErrorAs(c.t, err, &ce)
			return ce, last
		}
		last = pk
	}
}

func subscribePacket(topics ...string) mqttpacket.Packet {
	pk := mqttpacket.Packet{Type: mqttpacket.Subscribe, PacketID: 7}
	for _, topic := range topics {
		pk.Filters = append(pk.Filters, mqttpacket.Subscription{Filter: topic, QoS: 1})
	}
	return pk
}

func publishPacket(topic string, qos byte, payload string) mqttpacket.Packet {
	pk := mqttpacket.Packet{Type: mqttpacket.Publish, QoS: qos, Topic: topic, Payload: []byte(payload)}
	if qos > 0 {
		pk.PacketID = 9
	}
	return pk
}

func packetOf(typ mqttpacket.Type) mqttpacket.Packet {
	return mqttpacket.Packet{Type: typ}
}

func (c *mqttWire) acknowledge(id uint16) {
	c.t.Helper()
	ack := packetOf(mqttpacket.Puback)
	ack.PacketID = id
	c.send(ack)
}

// both runs a test with both versions of MQTT.
func both(t *testing.T, test func(t *testing.T, version mqttVersion)) {
	t.Run("3.1.1", func(t *testing.T) { test(t, mqtt311) })
	t.Run("5.0", func(t *testing.T) { test(t, mqtt5) })
}

func TestMQTTConnackAnnouncesFeatures(t *testing.T) {
	srv := emulator.StartT(t, nil)
	_, ack := dialWire(t, srv, mqtt5, dialOptions{}, keeping(connectPacket("")))
	p := ack.Properties
	require.NotEmpty(t, p.AssignedClientID)
	require.Equal(t, p.AssignedClientID, srv.Connections("chat")[0].ID)
	require.Equal(t, "mqtt", srv.Connections("chat")[0].Subprotocol)
	p.AssignedClientID = ""
	require.Equal(t, mqttpacket.Properties{RetainAvailable: new(byte(0)), WildcardsAvailable: new(byte(0)), SharedAvailable: new(byte(0)),
		MaximumPacketSize: 1 << 20, SessionExpiry: new(uint32(30))}, p)

	old, _ := dialWire(t, srv, mqtt311, dialOptions{}, connectPacket("old"))
	require.NoError(t, srv.WaitForConnections(soon(t), "chat", 2))
	old.send(packetOf(mqttpacket.Pingreq))
	old.expect(mqttpacket.Pingresp)
}

func TestRejectedMQTTConnectPackets(t *testing.T) {
	srv := emulator.StartT(t, nil)
	dialWire(t, srv, mqtt5, dialOptions{user: "ann"}, connectPacket("anns"))
	web := dialJSON(t, srv, dialOptions{})
	change := func(f func(pk *mqttpacket.Packet)) mqttpacket.Packet {
		pk := connectPacket("id")
		f(&pk)
		return pk
	}
	will := func(topic string) mqttpacket.Packet {
		return change(func(pk *mqttpacket.Packet) {
			pk.Connect.Will = &mqttpacket.Will{Topic: topic, Payload: []byte("x")}
		})
	}
	for name, test := range map[string]struct {
		connect       mqttpacket.Packet
		code311, code int // of CONNACK; 0 = no CONNACK, -1 = not tested
		reason        string
	}{
		"a client id of another user":  {connectPacket("anns"), 2, 0x85, "the client id is in use by another user"},
		"an empty client id, in 3.1.1": {connectPacket(""), 2, -1, "the client id is empty: the service assigns ids to MQTT 5.0 clients only"},
		"a long client id":             {connectPacket(strings.Repeat("x", 129)), 2, 0x85, "the client id is longer than 128 characters"},
		"a client id with a hyphen":    {connectPacket("a-b"), 2, 0x85, `the client id "a-b" has characters other than 0-9, A-Z and a-z`},
		"a non-ASCII client id":        {connectPacket("grün"), 2, 0x85, `the client id "grün" has characters other than 0-9, A-Z and a-z`},
		"a will to retain": {func() mqttpacket.Packet { pk := will("room"); pk.Connect.Will.Retain = true; return pk }(),
			5, 0x9A, "the service does not retain messages"},
		"a will with a long payload": {func() mqttpacket.Packet {
			pk := will("room")
			pk.Connect.Will.Payload = make([]byte, 2001)
			return pk
		}(), 5, 0x97, "the payload of the will is longer than 2000 bytes"},
		"a will of white space": {will(" \t"), 5, 0x90, "the topic of the will: the group name is only white space"},
		"no keep-alive, in 3.1.1": {change(func(pk *mqttpacket.Packet) { pk.Connect.KeepAlive = 0 }),
			5, -1, "the keep-alive of an MQTT 3.1.1 client must be from 1 to 180 seconds, not 0"},
		"a long keep-alive, in 3.1.1": {change(func(pk *mqttpacket.Packet) { pk.Connect.KeepAlive = 181 }),
			5, -1, "the keep-alive of an MQTT 3.1.1 client must be from 1 to 180 seconds, not 181"},
		"a will for a forbidden group": {will("room"), 5, 0x87, `the client may not send its will to the group "room"`},
		"a will with a wildcard":       {will("room/#"), 5, 0x90, `the topic of the will: the service has no wildcards: a topic is the name of a group, and "room/#" cannot be one`},
		"another protocol": {change(func(pk *mqttpacket.Packet) { pk.Connect.Protocol = "AMQP" }),
			0, 0, "the protocol's name is not MQTT"},
		"no CONNECT": {packetOf(mqttpacket.Pingreq), 0, 0, "the first packet is not CONNECT"},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, version mqttVersion) {
				code := test.code
				if version == mqtt311 {
					code = test.code311
				}
				if code < 0 {
					return
				}
				c := openWire(t, srv, version, dialOptions{})
				c.send(test.connect)
				ce, ack := c.closed()
				require.Equal(t, test.reason[:min(len(test.reason), len(ce.Reason))], ce.Reason)
				if code == 0 {
					require.Nil(t, ack)
					return
				}
				require.Equal(t, mqttpacket.Connack, ack.Type)
				require.Equal(t, byte(code), ack.Code)
				if version == mqtt5 {
					require.Equal(t, test.reason, ack.Properties.ReasonString)
				}
			})
		})
	}
	t.Run("MQTT 3.1", func(t *testing.T) {
		c := openWire(t, srv, 3, dialOptions{})
		c.send(change(func(pk *mqttpacket.Packet) { pk.Connect.Protocol = "MQIsdp" }))
		_, ack := c.closed()
		require.Equal(t, byte(1), ack.Code)
	})
	t.Run("MQTT 6", func(t *testing.T) {
		c := openWire(t, srv, 6, dialOptions{})
		c.send(connectPacket("id"))
		c.version = mqtt5
		_, ack := c.closed()
		require.Equal(t, byte(0x84), ack.Code)
	})
	t.Run("contradictory flags", func(t *testing.T) {
		c := openWire(t, srv, mqtt311, dialOptions{})
		c.write([]byte{0x10, 0x0E, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x22, 0, 60, 0, 2, 'i', 'd'}) // retain without a will
		ce, ack := c.closed()
		require.Equal(t, "malformed packet: the flags of CONNECT contradict each other", ce.Reason)
		require.Nil(t, ack)
	})
	t.Run("an authentication method", func(t *testing.T) {
		c := openWire(t, srv, mqtt5, dialOptions{})
		c.send(change(func(pk *mqttpacket.Packet) { pk.Properties.AuthenticationMethod = new("SCRAM-SHA-1") }))
		_, ack := c.closed()
		require.Equal(t, byte(0x8C), ack.Code)
	})
	require.NoError(t, srv.WaitForConnections(soon(t), "chat", 2))
	web.expectNothing(srv)
}

func TestMQTTPacketsThatCloseTheClient(t *testing.T) {
	srv := emulator.StartT(t, nil)
	other, _ := dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("other"))
	aliased := publishPacket("room", 0, "x")
	aliased.Properties.TopicAlias = new(uint16(1))
	identified := publishPacket("room", 0, "x")
	identified.Properties.SubscriptionIDs = []uint32{1}
	retained := publishPacket("room", 0, "x")
	retained.Retain = true
	answered := publishPacket("room", 0, "x")
	answered.Properties.ResponseTopic = "answers/#"
	wire := &mqttWire{t: t, version: mqtt5}
	for name, test := range map[string]struct {
		data []byte
		code byte
	}{
		"an unknown packet type":           {[]byte{0x00, 0x00}, 0x82},
		"a packet that only servers send":  {[]byte{0x20, 0x03, 0x00, 0x00, 0x00}, 0x82},
		"reserved flags":                   {[]byte{0xC1, 0x00}, 0x81},
		"a length without an end":          {[]byte{0xC0, 0x80, 0x80, 0x80, 0x80, 0x01}, 0x81},
		"a length over the limit":          {[]byte{0x30, 0x81, 0x80, 0x40}, 0x95},
		"a truncated subscription":         {[]byte{0x82, 0x06, 0x00, 0x01, 0x00, 0x00, 0x01, 'a'}, 0x81},
		"a subscription without a filter":  {[]byte{0x82, 0x03, 0x00, 0x01, 0x00}, 0x82},
		"a topic that is not UTF-8":        {[]byte{0x30, 0x04, 0x00, 0x01, 0xFF, 0x00}, 0x81},
		"a second CONNECT":                 {wire.encode(connectPacket("again")), 0x82},
		"an AUTH packet":                   {wire.encode(packetOf(mqttpacket.Auth)), 0x82},
		"quality of service 3":             {[]byte{0x36, 0x06, 0x00, 0x01, 'a', 0x00, 0x01, 0x00}, 0x81},
		"a message to retain":              {wire.encode(retained), 0x9A},
		"a topic alias":                    {wire.encode(aliased), 0x94},
		"a message to a wildcard":          {wire.encode(publishPacket("room/+", 1, "x")), 0x82},
		"a message without a topic":        {wire.encode(publishPacket("", 1, "x")), 0x82},
		"a subscription identifier":        {wire.encode(identified), 0x82},
		"a response topic with a wildcard": {wire.encode(answered), 0x82},
		"a forbidden message of QoS 0":     {wire.encode(publishPacket("forbidden", 0, "x")), 0x87},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: []string{"webpubsub.sendToGroup.room"}}, connectPacket("bad"))
			c.write(test.data)
			ce, last := c.closed()
			require.Equal(t, websocket.StatusPolicyViolation, ce.Code)
			require.NotNil(t, last, "no DISCONNECT: %s", ce.Reason)
			require.Equal(t, mqttpacket.Disconnect, last.Type)
			require.Equal(t, fmt.Sprintf("0x%X", test.code), fmt.Sprintf("0x%X", last.Code), last.Properties.ReasonString)
			require.True(t, strings.HasPrefix(last.Properties.ReasonString, ce.Reason))
			require.LessOrEqual(t, len(ce.Reason), 123, "the reason fits into a close frame")
			require.True(t, len(last.Properties.ReasonString) == len(ce.Reason) || len(ce.Reason) > 119, "the reason is not cut too short")
			require.NoError(t, srv.WaitForConnections(soon(t), "chat", 1))
		})
	}
	t.Run("a text frame", func(t *testing.T) {
		c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("bad"))
		require.NoError(t, c.ws.Write(soon(t), websocket.MessageText, []byte("hello")))
		ce, _ := c.closed()
		require.Equal(t, "MQTT packets must be in binary frames", ce.Reason)
	})
	t.Run("the reason in 3.1.1 is in the close frame only", func(t *testing.T) {
		c, _ := dialWire(t, srv, mqtt311, dialOptions{}, connectPacket("bad"))
		c.send(publishPacket("room", 1, "x"))
		ce, last := c.closed()
		require.Equal(t, `the client does not have the permission sendToGroup for the group "room"`, ce.Reason)
		require.Nil(t, last)
	})
	other.send(packetOf(mqttpacket.Pingreq)) // still connected
	other.expect(mqttpacket.Pingresp)
}

func TestMQTTPacketsAndWebSocketFramesAreNotAligned(t *testing.T) {
	srv := emulator.StartT(t, nil)
	both(t, func(t *testing.T, version mqttVersion) {
		c := openWire(t, srv, version, dialOptions{roles: allRoles})
		all := slices.Concat(c.encode(connectPacket("id")), c.encode(subscribePacket("room")),
			c.encode(publishPacket("room", 1, "hello")), c.encode(packetOf(mqttpacket.Pingreq)))
		for _, b := range all[:20] {
			c.write([]byte{b})
		}
		c.write(all[20:])
		var got []string
		for range 5 {
			pk := c.read()
			got = append(got, pk.Type.String())
		}
		// Acknowledgements may precede messages.
		require.ElementsMatch(t, []string{"CONNACK", "SUBACK", "PUBACK", "PUBLISH", "PINGRESP"}, got)
		require.Equal(t, []string{"CONNACK", "SUBACK"}, got[:2])
	})
}

func TestRejectedMQTTSubscriptions(t *testing.T) {
	srv := emulator.StartT(t, nil)
	topics := []string{"room", "other", "room/+", "#", "$share/g/room", "$webpubsub/else", "  ", strings.Repeat("x", 1025),
		"$webpubsub/server/messages"}
	roles := []string{"webpubsub.joinLeaveGroup.room"}
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: roles}, connectPacket("m5"))
	c.send(subscribePacket(topics...))
	ack := c.expect(mqttpacket.Suback)
	require.Equal(t, uint16(7), ack.PacketID)
	require.Equal(t, []byte{1, 0x87, 0xA2, 0xA2, 0x9E, 0x8F, 0x8F, 0x8F, 1}, ack.Codes)
	require.Equal(t, `the client does not have the permission joinLeaveGroup for the group "other"`, ack.Properties.ReasonString)

	old, _ := dialWire(t, srv, mqtt311, dialOptions{roles: roles}, connectPacket("m311"))
	old.send(subscribePacket(topics...))
	require.Equal(t, []byte{1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1}, old.expect(mqttpacket.Suback).Codes)

	require.Equal(t, []string{"room"}, srv.Groups("chat"))
	leave := subscribePacket("room", "other", "room/+", "$webpubsub/server/messages")
	leave.Type = mqttpacket.Unsubscribe
	c.send(leave)
	require.Equal(t, []byte{0, 0x87, 0x8F, 0}, c.expect(mqttpacket.Unsuback).Codes)
	leave.Filters = leave.Filters[:1]
	c.send(leave)
	require.Equal(t, []byte{0x11}, c.expect(mqttpacket.Unsuback).Codes)
	old.send(leave)
	old.expect(mqttpacket.Unsuback)
	require.Empty(t, srv.Groups("chat"))
}

func TestRejectedMQTTMessages(t *testing.T) {
	srv := emulator.StartT(t, nil)
	web := dialJSON(t, srv, dialOptions{groups: []string{"room", "other"}})
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: []string{"webpubsub.sendToGroup.room"}}, connectPacket("m5"))
	typed := func(contentType string, format byte, payload string) mqttpacket.Packet {
		pk := publishPacket("room", 1, payload)
		pk.Properties.ContentType, pk.Properties.PayloadFormat = contentType, new(format)
		return pk
	}
	for name, test := range map[string]struct {
		publish mqttpacket.Packet
		code    byte
	}{
		"to a forbidden group":      {publishPacket("other", 1, "x"), 0x87},
		"to a topic of the service": {publishPacket("$webpubsub/server/messages", 1, "x"), 0x90},
		"an event without a name":   {publishPacket("$webpubsub/server/events/", 1, "x"), 0x90},
		"an event with an invalid content type": {func() mqttpacket.Packet {
			pk := typed("words", 0, "x")
			pk.Topic = "$webpubsub/server/events/a"
			return pk
		}(), 0x99},
		"invalid JSON":                      {typed("application/json", 0, "{"), 0x99},
		"text that is not UTF-8":            {typed("text/plain; charset=utf-8", 0, "\xFF"), 0x99},
		"text by payload format, not UTF-8": {typed("", 1, "\xFF"), 0x99},
		"protobuf that is not an Any":       {typed("application/x-protobuf", 0, "\xFF"), 0x99},
		"a valid message":                   {typed("application/json", 0, "1"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			c.send(test.publish)
			ack := c.expect(mqttpacket.Puback)
			require.Equal(t, uint16(9), ack.PacketID)
			require.Equal(t, test.code, ack.Code, ack.Properties.ReasonString)
			require.Equal(t, test.code == 0, ack.Properties.ReasonString == "")
		})
	}
	require.Equal(t, 1.0, web.object()["data"])
	web.expectNothing(srv)
}

func TestMQTTPropertiesArePassedOn(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: allRoles}, connectPacket("m5"))
	web := dialJSON(t, srv, dialOptions{groups: []string{"room"}})
	c.send(subscribePacket("room"))
	c.expect(mqttpacket.Suback)
	pk := publishPacket("room", 0, "hello")
	pk.Properties = mqttpacket.Properties{ContentType: "text/html", PayloadFormat: new(byte(1)),
		ResponseTopic: "answers", CorrelationData: []byte{0, 1, 2}, MessageExpiry: new(uint32(60)),
		User: []mqttpacket.UserProperty{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}, {Key: "no token", Value: "x"}, {Key: "b", Value: "ü"}}}
	want := pk.Properties
	c.send(pk)
	got := c.expect(mqttpacket.Publish)
	require.Equal(t, byte(0), got.QoS)
	require.Equal(t, "hello", string(got.Payload))
	require.Equal(t, want, got.Properties)
	require.Equal(t, map[string]any{"type": "message", "from": "group", "group": "room", "fromUserId": nil, "dataType": "binary",
		"data": "aGVsbG8="}, web.object(), "of another protocol: the data only")
}

// As documented, only the content type and the expiry interval of a message cross protocols.
func TestMQTTContentTypesAcrossProtocols(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: allRoles}, connectPacket("m5"))
	web := dialJSON(t, srv, dialOptions{groups: []string{"room"}, roles: allRoles})
	for contentType, want := range map[string]string{"application/json": "json", "text/plain": "text", "application/x-protobuf": "protobuf",
		"application/octet-stream": "binary", "": "binary", "text/plain; charset=utf-8": "text", "text/html": "binary"} {
		for _, format := range []*byte{nil, new(byte(0)), new(byte(1))} {
			pk := publishPacket("room", 0, "")
			if contentType == "application/json" {
				pk.Payload = []byte("1")
			}
			pk.Properties = mqttpacket.Properties{ContentType: contentType, PayloadFormat: format}
			c.send(pk)
			require.Equal(t, want, web.object()["dataType"], "content type %q", contentType)
		}
	}

	c.send(subscribePacket("room"))
	c.expect(mqttpacket.Suback)
	for dataType, want := range map[string]string{"json": "application/json", "text": "text/plain", "binary": "application/octet-stream"} {
		web.write(`{"type":"sendToGroup","group":"room","dataType":"` + dataType + `","data":"aGVsbG8=","metadata":{"a":"b"},"ttlSeconds":60}`)
		require.Equal(t, mqttpacket.Properties{ContentType: want, MessageExpiry: new(uint32(60))}, c.expect(mqttpacket.Publish).Properties)
	}
}

func TestMQTTNoLocal(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: allRoles}, connectPacket("m5"))
	s := subscribePacket("room")
	s.Filters[0].NoLocal = true
	c.send(s)
	c.expect(mqttpacket.Suback)
	c.send(publishPacket("room", 1, "mine"))
	c.expect(mqttpacket.Puback)
	rest{t, srv}.text("hubs/chat/groups/room/:send", "theirs")
	require.Equal(t, "theirs", string(c.expect(mqttpacket.Publish).Payload))
}

func TestMQTTQoSIsTheLowerOne(t *testing.T) {
	srv := emulator.StartT(t, nil)
	both(t, func(t *testing.T, version mqttVersion) {
		web := dialJSON(t, srv, dialOptions{roles: allRoles})
		c, _ := dialWire(t, srv, version, dialOptions{roles: allRoles, groups: []string{"given"}}, connectPacket("id"))
		s := subscribePacket("0", "1", "2")
		for i := range s.Filters {
			s.Filters[i].QoS = byte(i)
		}
		c.send(s)
		require.Equal(t, []byte{0, 1, 2}, c.expect(mqttpacket.Suback).Codes)
		// As documented, messages of clients of other protocols have at most 1.
		for topic, want := range map[string]byte{"0": 0, "1": 1, "2": 1, "given": 1} {
			rest{t, srv}.text("hubs/chat/groups/"+topic+"/:send", "from the application")
			require.Equal(t, want, c.expect(mqttpacket.Publish).QoS, "topic %s", topic)
			web.write(`{"type":"sendToGroup","group":"` + topic + `","data":1}`)
			require.Equal(t, want, c.expect(mqttpacket.Publish).QoS, "topic %s", topic)
			c.send(publishPacket(topic, 0, "at most once"))
			require.Equal(t, byte(0), c.expect(mqttpacket.Publish).QoS, "topic %s", topic)
		}
	})
}

func TestExpiredMessagesOfAnMQTTSessionDoNotCount(t *testing.T) {
	srv := emulator.StartT(t, nil)
	o := dialOptions{user: "ann", roles: allRoles}
	c, _ := dialWire(t, srv, mqtt5, o, keeping(connectPacket("id")))
	c.send(subscribePacket("room"))
	c.expect(mqttpacket.Suback)
	require.True(t, srv.DropConnection("chat", "id"))
	flood(t, srv, maxQueuedFrames, `"dataType":"text","data":"old","ttlSeconds":1`)
	srv.Advance(2 * time.Second)
	rest{t, srv}.text("hubs/chat/groups/room/:send", "new")
	c, ack := dialWire(t, srv, mqtt5, o, keeping(connectPacket("id")))
	require.True(t, ack.SessionPresent)
	require.Equal(t, "new", string(c.expect(mqttpacket.Publish).Payload))
}

func TestMQTTSessionsOutliveTheirConnections(t *testing.T) {
	both(t, func(t *testing.T, version mqttVersion) {
		srv := emulator.StartT(t, nil)
		o := dialOptions{user: "ann", roles: allRoles}
		c, ack := dialWire(t, srv, version, o, keeping(connectPacket("id")))
		require.False(t, ack.SessionPresent)
		c.send(subscribePacket("room"))
		c.expect(mqttpacket.Suback)
		r := rest{t, srv}
		for _, text := range []string{"one", "two", "three"} {
			r.text("hubs/chat/groups/room/:send", text)
			require.Equal(t, text, string(c.expect(mqttpacket.Publish).Payload))
		}
		c.acknowledge(2)
		c.send(packetOf(mqttpacket.Pingreq))
		c.expect(mqttpacket.Pingresp) // the server has read the PUBACK

		require.True(t, srv.DropConnection("chat", "id"))
		require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
		r.must(200, "HEAD", "hubs/chat/groups/room")
		r.text("hubs/chat/groups/room/:send", "four")
		r.text("hubs/chat/groups/room/:send?messageTtlSeconds=5", "short-lived")
		r.text("hubs/chat/groups/room/:send?messageTtlSeconds=20", "long-lived")
		srv.Advance(10 * time.Second)

		c, ack = dialWire(t, srv, version, o, keeping(connectPacket("id")))
		require.True(t, ack.SessionPresent)
		require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 0))
		type delivery struct {
			text string
			dup  bool
		}
		var got []delivery
		var last *mqttpacket.Packet
		for range 4 {
			last = c.expect(mqttpacket.Publish)
			got = append(got, delivery{string(last.Payload), last.Dup})
		}
		require.Equal(t, []delivery{{"one", true}, {"three", true}, {"four", false}, {"long-lived", false}}, got)
		if version == mqtt5 {
			require.InDelta(t, 10, *last.Properties.MessageExpiry, 3)
		}

		c.ws.CloseNow()
		require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
		srv.Advance(31 * time.Second)
		require.Empty(t, srv.Connections("chat"))
		_, ack = dialWire(t, srv, version, o, keeping(connectPacket("id")))
		require.False(t, ack.SessionPresent)
		require.Empty(t, srv.Groups("chat"))
	})
}

func TestMQTTSessionsAreTakenOver(t *testing.T) {
	both(t, func(t *testing.T, version mqttVersion) {
		srv := emulator.StartT(t, nil)
		o := dialOptions{roles: allRoles}
		expectTakenOver := func(c *mqttWire) {
			ce, last := c.closed()
			require.Equal(t, "the session was taken over by another connection", ce.Reason)
			if version == mqtt5 {
				require.Equal(t, byte(0x8E), last.Code)
			}
		}
		first, _ := dialWire(t, srv, version, o, keeping(connectPacket("id")))
		first.send(subscribePacket("room"))
		first.expect(mqttpacket.Suback)
		second, ack := dialWire(t, srv, version, o, keeping(connectPacket("id")))
		require.True(t, ack.SessionPresent)
		expectTakenOver(first)
		rest{t, srv}.text("hubs/chat/groups/room/:send", "hello")
		require.Equal(t, "hello", string(second.expect(mqttpacket.Publish).Payload))

		third, ack := dialWire(t, srv, version, o, connectPacket("id"))
		require.False(t, ack.SessionPresent)
		expectTakenOver(second)
		require.Empty(t, srv.Groups("chat"))
		require.Len(t, srv.Connections("chat"), 1)
		third.send(packetOf(mqttpacket.Disconnect))
		ce, _ := third.closed()
		require.Equal(t, websocket.StatusNormalClosure, ce.Code)
		require.NoError(t, srv.WaitForConnections(soon(t), "chat", 0))
	})
}

func TestMQTTDisconnectChangesTheSessionExpiry(t *testing.T) {
	srv := emulator.StartT(t, nil)
	disconnect := func(seconds uint32) mqttpacket.Packet {
		pk := packetOf(mqttpacket.Disconnect)
		pk.Properties.SessionExpiry = new(seconds)
		return pk
	}
	t.Run("ends the session", func(t *testing.T) {
		c, _ := dialWire(t, srv, mqtt5, dialOptions{}, keeping(connectPacket("id")))
		c.send(disconnect(0))
		_, _ = c.closed()
		require.NoError(t, srv.WaitForConnections(soon(t), "chat", 0))
	})
	t.Run("shortens the expiry", func(t *testing.T) {
		c, _ := dialWire(t, srv, mqtt5, dialOptions{}, keeping(connectPacket("id")))
		c.send(disconnect(3))
		_, _ = c.closed()
		require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
		srv.Advance(4 * time.Second)
		require.Empty(t, srv.Connections("chat"))
	})
	t.Run("cannot keep a session that CONNECT did not keep", func(t *testing.T) {
		c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("id"))
		c.send(disconnect(3))
		_, last := c.closed()
		require.NotNil(t, last)
		require.Equal(t, byte(0x82), last.Code)
		require.NoError(t, srv.WaitForConnections(soon(t), "chat", 0))
	})
}

func TestMQTTReceiveMaximumIsRespected(t *testing.T) {
	srv := emulator.StartT(t, nil)
	connect := connectPacket("id")
	connect.Properties.ReceiveMaximum = 2
	c, _ := dialWire(t, srv, mqtt5, dialOptions{groups: []string{"room"}}, connect)
	for i := range 5 {
		rest{t, srv}.text("hubs/chat/groups/room/:send", fmt.Sprint(i))
	}
	first, second := c.expect(mqttpacket.Publish), c.expect(mqttpacket.Publish)
	for range 20 {
		c.send(packetOf(mqttpacket.Pingreq))
		c.expect(mqttpacket.Pingresp) // and not the third message
	}
	c.acknowledge(second.PacketID)
	third := c.expect(mqttpacket.Publish)
	require.Equal(t, "2", string(third.Payload))
	c.acknowledge(first.PacketID)
	c.acknowledge(third.PacketID)
	require.Equal(t, "3", string(c.expect(mqttpacket.Publish).Payload))
	require.Equal(t, "4", string(c.expect(mqttpacket.Publish).Payload))
}

func TestAnMQTTClientThatDoesNotKeepUpIsClosed(t *testing.T) {
	srv := emulator.StartT(t, nil)
	both(t, func(t *testing.T, version mqttVersion) {
		c, _ := dialWire(t, srv, version, dialOptions{groups: []string{"room"}}, connectPacket("id"))
		flood(t, srv, maxQueuedFrames+1, `"dataType":"text","data":"x"`) // the client acknowledges none of them
		ce, last := c.closed()
		require.Equal(t, websocket.StatusPolicyViolation, ce.Code)
		require.Regexp(t, "^the client is too slow: 10000 messages, [0-9]+ bytes wait for it$", ce.Reason)
		if version == mqtt5 {
			require.Equal(t, byte(0x97), last.Code)
		}
		require.NoError(t, srv.WaitForConnections(soon(t), "chat", 0))
	})
}

func TestMQTTMaximumPacketSizeOfClients(t *testing.T) {
	srv := emulator.StartT(t, nil)
	connect := connectPacket("id")
	connect.Properties.MaximumPacketSize = 100
	c, _ := dialWire(t, srv, mqtt5, dialOptions{groups: []string{"room"}}, connect)
	rest{t, srv}.text("hubs/chat/groups/room/:send", strings.Repeat("x", 100))
	rest{t, srv}.text("hubs/chat/groups/room/:send", "small")
	require.Equal(t, "small", string(c.expect(mqttpacket.Publish).Payload))

	connect.Properties.MaximumPacketSize = math.MaxUint32 // exceeds an int of 32 bits
	c, _ = dialWire(t, srv, mqtt5, dialOptions{groups: []string{"room"}}, connect)
	rest{t, srv}.text("hubs/chat/groups/room/:send", "hello")
	require.Equal(t, "hello", string(c.expect(mqttpacket.Publish).Payload))
}

func TestMQTTReasonsAreOmittedOnRequest(t *testing.T) {
	srv := emulator.StartT(t, nil)
	for name, change := range map[string]func(p *mqttpacket.Properties){
		"problem information is off":       func(p *mqttpacket.Properties) { p.RequestProblemInfo = new(byte(0)) },
		"the maximum packet size is small": func(p *mqttpacket.Properties) { p.MaximumPacketSize = 50 },
	} {
		t.Run(name, func(t *testing.T) {
			connect := connectPacket("id")
			change(&connect.Properties)
			c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connect)
			c.send(publishPacket("room", 1, "x"))
			ack := c.expect(mqttpacket.Puback)
			require.Equal(t, byte(0x87), ack.Code)
			require.Empty(t, ack.Properties.ReasonString)
		})
	}
}

func TestMQTTMessagesOfQoS0AreNotKeptForAbsentClients(t *testing.T) {
	srv := emulator.StartT(t, nil)
	o := dialOptions{roles: allRoles, groups: []string{"1"}}
	c, _ := dialWire(t, srv, mqtt5, o, keeping(connectPacket("id")))
	s := subscribePacket("0")
	s.Filters[0].QoS = 0
	c.send(s)
	c.expect(mqttpacket.Suback)
	c.ws.CloseNow()
	require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
	rest{t, srv}.text("hubs/chat/groups/0/:send", "at most once")
	rest{t, srv}.text("hubs/chat/groups/1/:send", "at least once")
	c, _ = dialWire(t, srv, mqtt5, o, keeping(connectPacket("id")))
	require.Equal(t, "at least once", string(c.expect(mqttpacket.Publish).Payload))
}

func TestMQTTWills(t *testing.T) {
	for name, test := range map[string]struct {
		connect   func(pk *mqttpacket.Packet)
		leave     func(srv *emulator.Server, c *mqttWire)
		published bool
	}{
		"is cut off":  {nil, func(srv *emulator.Server, _ *mqttWire) { srv.DropConnection("chat", "id") }, true},
		"disconnects": {nil, func(_ *emulator.Server, c *mqttWire) { c.send(packetOf(mqttpacket.Disconnect)) }, false},
		"disconnects with its will": {nil, func(_ *emulator.Server, c *mqttWire) {
			pk := packetOf(mqttpacket.Disconnect)
			pk.Code = 4
			c.send(pk)
		}, true},
		"is closed by the application": {nil, func(srv *emulator.Server, c *mqttWire) {
			rest{c.t, srv}.must(204, "DELETE", "hubs/chat/connections/id")
		}, true},
		"breaks the protocol": {nil, func(_ *emulator.Server, c *mqttWire) { c.write([]byte{0, 0}) }, true},
		"is taken over": {func(pk *mqttpacket.Packet) { *pk = keeping(*pk) },
			func(srv *emulator.Server, c *mqttWire) {
				dialWire(c.t, srv, mqtt5, dialOptions{roles: allRoles}, keeping(connectPacket("id")))
			}, true},
		"does not reconnect in time": {func(pk *mqttpacket.Packet) {
			*pk = keeping(*pk)
			pk.Connect.Will.Properties.WillDelay = new(uint32(100))
		}, func(srv *emulator.Server, c *mqttWire) {
			c.ws.CloseNow()
			require.NoError(c.t, srv.WaitForRecovering(soon(c.t), "chat", 1))
			srv.Advance(31 * time.Second)
		}, true},
		"stays away longer than the will delay": {func(pk *mqttpacket.Packet) {
			*pk = keeping(*pk)
			pk.Connect.Will.Properties.WillDelay = new(uint32(5))
		}, func(srv *emulator.Server, c *mqttWire) {
			c.ws.CloseNow()
			require.NoError(c.t, srv.WaitForRecovering(soon(c.t), "chat", 1))
			srv.Advance(6 * time.Second)
		}, true},
		"reconnects in time": {func(pk *mqttpacket.Packet) {
			*pk = keeping(*pk)
			pk.Connect.Will.Properties.WillDelay = new(uint32(5))
		}, func(srv *emulator.Server, c *mqttWire) {
			c.ws.CloseNow()
			require.NoError(c.t, srv.WaitForRecovering(soon(c.t), "chat", 1))
			dialWire(c.t, srv, mqtt5, dialOptions{roles: allRoles}, keeping(connectPacket("id")))
			srv.Advance(6 * time.Second)
		}, false},
	} {
		t.Run("of a client that "+name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			web := dialJSON(t, srv, dialOptions{groups: []string{"wills"}})
			connect := connectPacket("id")
			connect.Connect.Will = &mqttpacket.Will{Topic: "wills", Payload: []byte("my last words"),
				Properties: mqttpacket.Properties{ContentType: "text/plain"}}
			if test.connect != nil {
				test.connect(&connect)
			}
			c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: allRoles}, connect)
			test.leave(srv, c)
			if test.published {
				require.Equal(t, "my last words", web.object()["data"])
			} else {
				web.expectNothing(srv)
			}
		})
	}
}

func TestAnMQTTClientThatIsSilentForTooLongIsClosed(t *testing.T) {
	srv := emulator.StartT(t, nil)
	connect := connectPacket("id")
	connect.Connect.KeepAlive = 1
	c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connect)
	_, last := c.closed() // after 1.5 s
	require.Equal(t, byte(0x8D), last.Code)
	require.NoError(t, srv.WaitForConnections(soon(t), "chat", 0))
}

func TestMQTTClientsReceiveTheReasonWhenTheServerCloses(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c, _ := dialWire(t, srv, mqtt5, dialOptions{}, keeping(connectPacket("id")))
	old, _ := dialWire(t, srv, mqtt311, dialOptions{}, connectPacket("old"))
	away, _ := dialWire(t, srv, mqtt5, dialOptions{}, keeping(connectPacket("away")))
	away.ws.CloseNow()
	openWire(t, srv, mqtt5, dialOptions{}) // sends no CONNECT
	require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Close()
	}()
	_, last := c.closed()
	require.Equal(t, byte(0x8B), last.Code)
	require.Equal(t, closeReason, last.Properties.ReasonString)
	ce, _ := old.closed()
	require.Equal(t, closeReason, ce.Reason)
	<-done
}

func TestClosingTheServerEndsTheWaitForAcknowledgementsOfMQTTClients(t *testing.T) {
	srv := emulator.StartT(t, nil)
	connect := connectPacket("id")
	connect.Properties.ReceiveMaximum = 1
	c, _ := dialWire(t, srv, mqtt5, dialOptions{groups: []string{"room"}}, connect)
	for range 2 {
		rest{t, srv}.text("hubs/chat/groups/room/:send", "hello")
	}
	c.expect(mqttpacket.Publish) // not acknowledged
	rest{t, srv}.must(204, "DELETE", "hubs/chat/connections/id")
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Close()
	}()
	_, last := c.closed() // with a close frame
	require.Equal(t, byte(0x98), last.Code)
	<-done
}

func TestMQTTClientsDoNotReceiveMessagesOfGroupsThatCannotBeTopics(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("id"))
	r := rest{t, srv}
	sender := dialJSON(t, srv, dialOptions{hub: "chat", roles: []string{"webpubsub.sendToGroup"}})
	for i, group := range []string{"a+b", "a#", "$webpubsub/server/messages"} { // names that a REST path cannot address
		body := fmt.Sprintf(`{"groups":[%q],"filter":"connectionId eq 'id'"}`, group)
		require.Equal(t, 200, r.do("POST", "hubs/chat/:addToGroups", []byte(body), "Content-Type", "application/json").status)
		ack := sender.ask(fmt.Sprintf(`{"type":"sendToGroup","group":%q,"dataType":"text","data":"x","ackId":%d}`, group, i+1))
		require.Contains(t, ack, `"success":true`)
	}
	r.text("hubs/chat/:send", "fence")
	require.Equal(t, "fence", string(c.expect(mqttpacket.Publish).Payload))
}

func TestWebSocketPingsAreAnsweredBeforeAndAfterConnect(t *testing.T) {
	srv := emulator.StartT(t, nil)
	both(t, func(t *testing.T, version mqttVersion) {
		c := openWire(t, srv, version, dialOptions{})
		for _, step := range []struct {
			send mqttpacket.Packet
			want mqttpacket.Type
		}{
			{connectPacket("id"), mqttpacket.Connack},
			{mqttpacket.Packet{Type: mqttpacket.Pingreq}, mqttpacket.Pingresp},
		} {
			answer := make(chan *mqttpacket.Packet, 1)
			go func() { // Ping needs a concurrent read
				pk, _ := mqttpacket.Read(c.in, byte(version), 64<<20)
				answer <- pk
			}()
			require.NoError(t, c.ws.Ping(soon(t)), "before %s", step.want)
			c.send(step.send)
			pk := <-answer
			require.NotNil(t, pk)
			require.Equal(t, step.want.String(), pk.Type.String())
		}
	})
}
