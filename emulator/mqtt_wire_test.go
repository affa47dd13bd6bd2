package emulator_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

// This file tests MQTT packet by packet, and what no well-behaved client does.

// mqttWire is an MQTT client that sends what a test says, and nothing else.
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

// binaryStream is the bytes of a WebSocket's binary messages.
type binaryStream struct {
	ws      *websocket.Conn
	message io.Reader // nil = the next one is not there yet
}

func (s *binaryStream) Read(p []byte) (int, error) {
	for {
		if s.message == nil {
			typ, message, err := s.ws.Reader(context.Background())
			if err != nil {
				return 0, err
			}
			if typ != websocket.MessageBinary {
				return 0, errors.New("a message that is not binary")
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

// connectPacket is a CONNECT packet of a client whose session ends with its connection.
func connectPacket(id string) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect},
		Connect: packets.ConnectParams{ProtocolName: []byte("MQTT"), Clean: true, ClientIdentifier: id}}
}

// keeping makes the session of a CONNECT packet outlive its connection, and continues one.
func keeping(pk packets.Packet) packets.Packet {
	pk.Connect.Clean = false
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
	return pk
}

// dialWire connects and returns the CONNACK.
func dialWire(t testing.TB, srv *emulator.Server, version mqttVersion, o dialOptions, connect packets.Packet) (*mqttWire, *packets.Packet) {
	t.Helper()
	c := openWire(t, srv, version, o)
	c.send(connect)
	ack := c.read()
	require.Equal(t, packets.Connack, ack.FixedHeader.Type)
	require.Zero(t, ack.ReasonCode, ack.Properties.ReasonString)
	return c, ack
}

func (c *mqttWire) encode(pk packets.Packet) []byte {
	c.t.Helper()
	pk.ProtocolVersion = byte(c.version)
	pk.Mods.AllowResponseInfo = true
	var buf bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&buf)
	case packets.Publish:
		err = pk.PublishEncode(&buf)
	case packets.Puback:
		err = pk.PubackEncode(&buf)
	case packets.Subscribe:
		pk.FixedHeader.Qos = 1
		err = pk.SubscribeEncode(&buf)
	case packets.Unsubscribe:
		pk.FixedHeader.Qos = 1
		err = pk.UnsubscribeEncode(&buf)
	case packets.Pingreq:
		err = pk.PingreqEncode(&buf)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&buf)
	case packets.Auth:
		err = pk.AuthEncode(&buf)
	default:
		c.t.Fatalf("packet of type %d", pk.FixedHeader.Type)
	}
	require.NoError(c.t, err)
	return buf.Bytes()
}

func (c *mqttWire) write(data []byte) {
	c.t.Helper()
	require.NoError(c.t, c.ws.Write(soon(c.t), websocket.MessageBinary, data))
}

func (c *mqttWire) send(pk packets.Packet) {
	c.t.Helper()
	c.write(c.encode(pk))
}

// try sends a packet unless the connection is gone.
func (c *mqttWire) try(pk packets.Packet) bool {
	return c.ws.Write(soon(c.t), websocket.MessageBinary, c.encode(pk)) == nil
}

// tryRead reads a packet, or the end.
func (c *mqttWire) tryRead() (*packets.Packet, error) {
	c.t.Helper()
	stop := time.AfterFunc(patience, func() { c.ws.CloseNow() })
	defer stop.Stop()
	head, err := c.in.ReadByte()
	if err != nil {
		return nil, err
	}
	pk := &packets.Packet{ProtocolVersion: byte(c.version)}
	require.NoError(c.t, pk.FixedHeader.Decode(head))
	length, _, err := packets.DecodeLength(c.in)
	require.NoError(c.t, err)
	pk.FixedHeader.Remaining = length
	body := make([]byte, length)
	_, err = io.ReadFull(c.in, body)
	require.NoError(c.t, err)
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Pingresp:
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	default:
		c.t.Fatalf("the server sent a packet of type %d", pk.FixedHeader.Type)
	}
	require.NoError(c.t, err)
	return pk, nil
}

func (c *mqttWire) read() *packets.Packet {
	c.t.Helper()
	pk, err := c.tryRead()
	require.NoError(c.t, err)
	return pk
}

// expect reads a packet of a type.
func (c *mqttWire) expect(typ byte) *packets.Packet {
	c.t.Helper()
	pk := c.read()
	require.Equal(c.t, packets.PacketNames[typ], packets.PacketNames[pk.FixedHeader.Type], "%+v", pk)
	return pk
}

// closed reads until the WebSocket is closed and returns why, and the last packet before that.
func (c *mqttWire) closed() (websocket.CloseError, *packets.Packet) {
	c.t.Helper()
	var last *packets.Packet
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

func subscribePacket(topics ...string) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 7}
	for _, topic := range topics {
		pk.Filters = append(pk.Filters, packets.Subscription{Filter: topic, Qos: 1})
	}
	return pk
}

func publishPacket(topic string, qos byte, payload string) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, Payload: []byte(payload)}
	if qos > 0 {
		pk.PacketID = 9
	}
	return pk
}

func packetOf(typ byte) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: typ}}
}

func (c *mqttWire) acknowledge(id uint16) {
	c.t.Helper()
	ack := packetOf(packets.Puback)
	ack.PacketID = id
	c.send(ack)
}

// both runs a test for both versions.
func both(t *testing.T, test func(t *testing.T, version mqttVersion)) {
	t.Run("3.1.1", func(t *testing.T) { test(t, mqtt311) })
	t.Run("5.0", func(t *testing.T) { test(t, mqtt5) })
}

func TestMQTTConnackSaysWhatTheServerDoes(t *testing.T) {
	srv := emulator.StartT(t, nil)
	_, ack := dialWire(t, srv, mqtt5, dialOptions{}, keeping(connectPacket("")))
	p := ack.Properties
	require.NotEmpty(t, p.AssignedClientID)
	require.Equal(t, p.AssignedClientID, srv.Connections("chat")[0].ID)
	require.Equal(t, "mqtt", srv.Connections("chat")[0].Subprotocol)
	p.AssignedClientID = ""
	require.Equal(t, packets.Properties{MaximumQos: 1, MaximumQosFlag: true, RetainAvailableFlag: true,
		WildcardSubAvailableFlag: true, SubIDAvailableFlag: true, SharedSubAvailableFlag: true, MaximumPacketSize: 1 << 20,
		SessionExpiryInterval: 30, SessionExpiryIntervalFlag: true}, p)

	old, _ := dialWire(t, srv, mqtt311, dialOptions{}, connectPacket(""))
	require.NoError(t, srv.WaitForConnections(soon(t), "chat", 2))
	old.send(packetOf(packets.Pingreq))
	old.expect(packets.Pingresp)
}

func TestMQTTConnectPacketsThatAreRefused(t *testing.T) {
	srv := emulator.StartT(t, nil)
	dialWire(t, srv, mqtt5, dialOptions{user: "ann"}, connectPacket("ann's"))
	web := dialJSON(t, srv, dialOptions{})
	change := func(f func(pk *packets.Packet)) packets.Packet {
		pk := connectPacket("id")
		f(&pk)
		return pk
	}
	will := func(topic string) packets.Packet {
		return change(func(pk *packets.Packet) {
			pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, topic, []byte("x")
		})
	}
	for name, test := range map[string]struct {
		connect       packets.Packet
		code311, code byte // of CONNACK; 0 = there is none
		reason        string
	}{
		"a client id of another user":                 {connectPacket("ann's"), 2, 0x85, "the client id is another user's"},
		"a client id of a client that is not of MQTT": {connectPacket(web.id), 2, 0x85, "the client id is another user's"},
		"a long client id":                            {connectPacket(strings.Repeat("x", 257)), 2, 0x85, "the client id is longer than 256 bytes"},
		"a client id with a line's end":               {connectPacket("a\nb"), 2, 0x85, "the client id has control characters or white space at its ends"},
		"a client id with a space at its end":         {connectPacket("dev "), 2, 0x85, "the client id has control characters or white space at its ends"},
		"a will of quality of service 2": {func() packets.Packet { pk := will("room"); pk.Connect.WillQos = 2; return pk }(),
			0, 0x9B, "the quality of service is 1 at most"},
		"a will to retain": {func() packets.Packet { pk := will("room"); pk.Connect.WillRetain = true; return pk }(),
			0, 0x9A, "no message is retained"},
		"a will for a group that it may not send to": {will("room"), 5, 0x87, `the client may not send its will to the group "room"`},
		"a will with a wildcard":                     {will("room/#"), 0, 0xA2, `topics are groups: "room/#" with a wildcard is none`},
		"a retained will without a will": {change(func(pk *packets.Packet) { pk.Connect.WillRetain = true }),
			0, 0, "the flags of CONNECT contradict each other"},
		"another protocol": {change(func(pk *packets.Packet) { pk.Connect.ProtocolName = []byte("AMQP") }),
			0, 0, "the protocol's name is not MQTT"},
		"no CONNECT at all": {packetOf(packets.Pingreq), 0, 0, "the first packet is not CONNECT"},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, version mqttVersion) {
				c := openWire(t, srv, version, dialOptions{})
				c.send(test.connect)
				ce, ack := c.closed()
				require.Equal(t, test.reason, ce.Reason)
				code := test.code
				if version == mqtt311 {
					code = test.code311
				}
				if code == 0 {
					require.Nil(t, ack)
					return
				}
				require.Equal(t, packets.Connack, ack.FixedHeader.Type)
				require.Equal(t, code, ack.ReasonCode)
				if version == mqtt5 {
					require.Equal(t, test.reason, ack.Properties.ReasonString)
				}
			})
		})
	}
	t.Run("MQTT 3.1", func(t *testing.T) {
		c := openWire(t, srv, 3, dialOptions{})
		c.send(change(func(pk *packets.Packet) { pk.Connect.ProtocolName = []byte("MQIsdp") }))
		_, ack := c.closed()
		require.Equal(t, byte(1), ack.ReasonCode)
	})
	t.Run("MQTT 6", func(t *testing.T) {
		c := openWire(t, srv, 6, dialOptions{})
		c.send(connectPacket("id"))
		c.version = mqtt5
		_, ack := c.closed()
		require.Equal(t, byte(0x84), ack.ReasonCode)
	})
	t.Run("a session to keep without a client id, in 3.1.1", func(t *testing.T) {
		c := openWire(t, srv, mqtt311, dialOptions{})
		c.send(keeping(connectPacket("")))
		_, ack := c.closed()
		require.Equal(t, byte(2), ack.ReasonCode)
	})
	t.Run("an authentication method", func(t *testing.T) {
		c := openWire(t, srv, mqtt5, dialOptions{})
		c.send(change(func(pk *packets.Packet) { pk.Properties.AuthenticationMethod = "SCRAM-SHA-1" }))
		_, ack := c.closed()
		require.Equal(t, byte(0x8C), ack.ReasonCode)
	})
	require.NoError(t, srv.WaitForConnections(soon(t), "chat", 2))
	web.nothing(srv)
}

func TestMQTTPacketsThatCloseTheClient(t *testing.T) {
	srv := emulator.StartT(t, nil)
	other, _ := dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("other"))
	aliased := publishPacket("room", 0, "x")
	aliased.Properties.TopicAlias, aliased.Properties.TopicAliasFlag = 1, true
	identified := subscribePacket("room")
	identified.Properties.SubscriptionIdentifier = []int{1}
	retained := publishPacket("room", 0, "x")
	retained.FixedHeader.Retain = true
	wire := &mqttWire{t: t, version: mqtt5}
	for name, test := range map[string]struct {
		data []byte
		code byte
	}{
		"a packet type that there is not":   {[]byte{0x00, 0x00}, 0x82},
		"a packet that only servers send":   {[]byte{0x20, 0x03, 0x00, 0x00, 0x00}, 0x82},
		"reserved flags":                    {[]byte{0xC1, 0x00}, 0x81},
		"a length without an end":           {[]byte{0xC0, 0x80, 0x80, 0x80, 0x80, 0x01}, 0x81},
		"a length that is too great":        {[]byte{0x30, 0x81, 0x80, 0x40}, 0x95},
		"a subscription that breaks off":    {[]byte{0x82, 0x06, 0x00, 0x01, 0x00, 0x00, 0x01, 'a'}, 0x81},
		"a subscription to nothing":         {[]byte{0x82, 0x03, 0x00, 0x01, 0x00}, 0x82},
		"a topic that is not UTF-8":         {[]byte{0x30, 0x04, 0x00, 0x01, 0xFF, 0x00}, 0x81},
		"a second CONNECT":                  {wire.encode(connectPacket("again")), 0x82},
		"an AUTH packet":                    {wire.encode(packetOf(packets.Auth)), 0x82},
		"quality of service 2":              {wire.encode(publishPacket("room", 2, "x")), 0x9B},
		"a message to retain":               {wire.encode(retained), 0x9A},
		"a topic alias":                     {wire.encode(aliased), 0x94},
		"a message to a wildcard":           {wire.encode(publishPacket("room/+", 1, "x")), 0x82},
		"a message without a topic":         {wire.encode(publishPacket("", 1, "x")), 0x82},
		"a subscription identifier":         {wire.encode(identified), 0xA1},
		"a message that no PUBACK can deny": {wire.encode(publishPacket("forbidden", 0, "x")), 0x87},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: []string{"webpubsub.sendToGroup.room"}}, connectPacket("bad"))
			c.write(test.data)
			ce, last := c.closed()
			require.Equal(t, websocket.StatusPolicyViolation, ce.Code)
			require.NotNil(t, last, "no DISCONNECT: %s", ce.Reason)
			require.Equal(t, packets.Disconnect, last.FixedHeader.Type)
			require.Equal(t, fmt.Sprintf("0x%X", test.code), fmt.Sprintf("0x%X", last.ReasonCode), last.Properties.ReasonString)
			require.True(t, strings.HasPrefix(last.Properties.ReasonString, ce.Reason))
			require.LessOrEqual(t, len(ce.Reason), 123, "it fits into a close frame")
			require.True(t, len(last.Properties.ReasonString) == len(ce.Reason) || len(ce.Reason) > 119, "no more is cut than must be")
			require.NoError(t, srv.WaitForConnections(soon(t), "chat", 1))
		})
	}
	t.Run("a text frame", func(t *testing.T) {
		c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("bad"))
		require.NoError(t, c.ws.Write(soon(t), websocket.MessageText, []byte("hello")))
		ce, _ := c.closed()
		require.Equal(t, "MQTT packets come in binary frames", ce.Reason)
	})
	t.Run("in 3.1.1 the close frame alone says why", func(t *testing.T) {
		c, _ := dialWire(t, srv, mqtt311, dialOptions{}, connectPacket("bad"))
		c.send(publishPacket("room", 1, "x"))
		ce, last := c.closed()
		require.Equal(t, `the client does not have the permission sendToGroup for the group "room"`, ce.Reason)
		require.Nil(t, last)
	})
	other.send(packetOf(packets.Pingreq)) // is served on
	other.expect(packets.Pingresp)
}

func TestMQTTPacketsAndWebSocketFramesAreNotAligned(t *testing.T) {
	srv := emulator.StartT(t, nil)
	both(t, func(t *testing.T, version mqttVersion) {
		c := openWire(t, srv, version, dialOptions{roles: everything})
		all := slices.Concat(c.encode(connectPacket("id")), c.encode(subscribePacket("room")),
			c.encode(publishPacket("room", 1, "hello")), c.encode(packetOf(packets.Pingreq)))
		for _, b := range all[:20] {
			c.write([]byte{b})
		}
		c.write(all[20:])
		var got []string
		for range 5 {
			pk := c.read()
			got = append(got, packets.PacketNames[pk.FixedHeader.Type])
		}
		// Answers overtake messages.
		require.ElementsMatch(t, []string{"Connack", "Suback", "Puback", "Publish", "Pingresp"}, got)
		require.Equal(t, []string{"Connack", "Suback"}, got[:2])
	})
}

func TestMQTTSubscriptionsThatAreRefused(t *testing.T) {
	srv := emulator.StartT(t, nil)
	topics := []string{"room", "other", "room/+", "#", "$share/g/room", "$webpubsub/else", "  ", strings.Repeat("x", 1025),
		"$webpubsub/server/messages"}
	roles := []string{"webpubsub.joinLeaveGroup.room"}
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: roles}, connectPacket("m5"))
	c.send(subscribePacket(topics...))
	ack := c.expect(packets.Suback)
	require.Equal(t, uint16(7), ack.PacketID)
	require.Equal(t, []byte{1, 0x87, 0xA2, 0xA2, 0x9E, 0x8F, 0x8F, 0x8F, 1}, ack.ReasonCodes)
	require.Equal(t, `the client does not have the permission joinLeaveGroup for the group "other"`, ack.Properties.ReasonString)

	old, _ := dialWire(t, srv, mqtt311, dialOptions{roles: roles}, connectPacket("m311"))
	old.send(subscribePacket(topics...))
	require.Equal(t, []byte{1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1}, old.expect(packets.Suback).ReasonCodes)

	require.Equal(t, []string{"room"}, srv.Groups("chat"))
	leave := subscribePacket("room", "other", "room/+", "$webpubsub/server/messages")
	leave.FixedHeader.Type = packets.Unsubscribe
	c.send(leave)
	require.Equal(t, []byte{0, 0x87, 0xA2, 0}, c.expect(packets.Unsuback).ReasonCodes)
	leave.Filters = leave.Filters[:1]
	c.send(leave)
	require.Equal(t, []byte{0x11}, c.expect(packets.Unsuback).ReasonCodes)
	old.send(leave)
	old.expect(packets.Unsuback)
	require.Empty(t, srv.Groups("chat"))
}

func TestMQTTMessagesThatAreRefused(t *testing.T) {
	srv := emulator.StartT(t, nil)
	web := dialJSON(t, srv, dialOptions{groups: []string{"room", "other"}})
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: []string{"webpubsub.sendToGroup.room"}}, connectPacket("m5"))
	typed := func(contentType string, format byte, payload string) packets.Packet {
		pk := publishPacket("room", 1, payload)
		pk.Properties.ContentType, pk.Properties.PayloadFormat, pk.Properties.PayloadFormatFlag = contentType, format, format > 0
		return pk
	}
	for name, test := range map[string]struct {
		publish packets.Packet
		code    byte
	}{
		"to a group that it may not send to": {publishPacket("other", 1, "x"), 0x87},
		"to a topic of the service":          {publishPacket("$webpubsub/server/messages", 1, "x"), 0x90},
		"an event without a name":            {publishPacket("$webpubsub/server/events/", 1, "x"), 0x90},
		"an event that nobody takes":         {publishPacket("$webpubsub/server/events/hello", 1, "x"), 0x83},
		"JSON that is none":                  {typed("application/json", 0, "{"), 0x99},
		"text that is not UTF-8":             {typed("text/plain; charset=utf-8", 0, "\xFF"), 0x99},
		"text by its format, and not UTF-8":  {typed("", 1, "\xFF"), 0x99},
		"protobuf that is no Any":            {typed("application/x-protobuf", 0, "\xFF"), 0x99},
		"a good one":                         {typed("application/json", 0, "1"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			c.send(test.publish)
			ack := c.expect(packets.Puback)
			require.Equal(t, uint16(9), ack.PacketID)
			require.Equal(t, test.code, ack.ReasonCode, ack.Properties.ReasonString)
			require.Equal(t, test.code == 0, ack.Properties.ReasonString == "")
		})
	}
	require.Equal(t, 1.0, web.object()["data"])
	web.nothing(srv)
}

func TestMQTTPropertiesArePassedOn(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: everything}, connectPacket("m5"))
	web := dialJSON(t, srv, dialOptions{groups: []string{"room"}})
	c.send(subscribePacket("room"))
	c.expect(packets.Suback)
	pk := publishPacket("room", 0, "hello")
	pk.Properties = packets.Properties{ContentType: "text/html", PayloadFormat: 1, PayloadFormatFlag: true,
		ResponseTopic: "answers", CorrelationData: []byte{0, 1, 2}, MessageExpiryInterval: 60,
		User: []packets.UserProperty{{Key: "a", Val: "1"}, {Key: "a", Val: "2"}, {Key: "no token", Val: "x"}, {Key: "b", Val: "ü"}}}
	want := pk.Properties
	c.send(pk)
	got := c.expect(packets.Publish)
	require.Equal(t, byte(0), got.FixedHeader.Qos)
	require.Equal(t, "hello", string(got.Payload))
	require.Equal(t, want, got.Properties)
	m := web.object()
	require.Equal(t, "text", m["dataType"])
	require.Equal(t, map[string]any{"a": "2"}, m["metadata"], "what can be metadata")
}

func TestMQTTNoLocalSparesTheSender(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: everything}, connectPacket("m5"))
	s := subscribePacket("room")
	s.Filters[0].NoLocal = true
	c.send(s)
	c.expect(packets.Suback)
	c.send(publishPacket("room", 1, "mine"))
	c.expect(packets.Puback)
	rest{t, srv}.text("hubs/chat/groups/room/:send", "theirs")
	require.Equal(t, "theirs", string(c.expect(packets.Publish).Payload))
}

func TestMQTTQualityOfServiceIsTheLesserOne(t *testing.T) {
	srv := emulator.StartT(t, nil)
	both(t, func(t *testing.T, version mqttVersion) {
		c, _ := dialWire(t, srv, version, dialOptions{roles: everything, groups: []string{"given"}}, connectPacket("id"))
		s := subscribePacket("0", "1", "2")
		for i := range s.Filters {
			s.Filters[i].Qos = byte(i)
		}
		c.send(s)
		require.Equal(t, []byte{0, 1, 1}, c.expect(packets.Suback).ReasonCodes)
		for topic, want := range map[string]byte{"0": 0, "1": 1, "2": 1, "given": 1} {
			rest{t, srv}.text("hubs/chat/groups/"+topic+"/:send", "from the application")
			require.Equal(t, want, c.expect(packets.Publish).FixedHeader.Qos, "topic %s", topic)
			c.send(publishPacket(topic, 0, "at most once"))
			require.Equal(t, byte(0), c.expect(packets.Publish).FixedHeader.Qos, "topic %s", topic)
		}
	})
}

func TestWhatExpiresInAnMQTTSessionTakesNoRoom(t *testing.T) {
	srv := emulator.StartT(t, nil)
	o := dialOptions{user: "ann", roles: everything}
	c, _ := dialWire(t, srv, mqtt5, o, keeping(connectPacket("id")))
	c.send(subscribePacket("room"))
	c.expect(packets.Suback)
	require.True(t, srv.DropConnection("chat", "id"))
	flood(t, srv, maxQueuedFrames, `"dataType":"text","data":"old","ttlSeconds":1`)
	srv.Advance(2 * time.Second)
	rest{t, srv}.text("hubs/chat/groups/room/:send", "new")
	c, ack := dialWire(t, srv, mqtt5, o, keeping(connectPacket("id")))
	require.True(t, ack.SessionPresent)
	require.Equal(t, "new", string(c.expect(packets.Publish).Payload))
}

func TestMQTTSessionsOutliveTheirConnections(t *testing.T) {
	both(t, func(t *testing.T, version mqttVersion) {
		srv := emulator.StartT(t, nil)
		o := dialOptions{user: "ann", roles: everything}
		c, ack := dialWire(t, srv, version, o, keeping(connectPacket("id")))
		require.False(t, ack.SessionPresent)
		c.send(subscribePacket("room"))
		c.expect(packets.Suback)
		r := rest{t, srv}
		for _, text := range []string{"one", "two", "three"} {
			r.text("hubs/chat/groups/room/:send", text)
			require.Equal(t, text, string(c.expect(packets.Publish).Payload))
		}
		c.acknowledge(2)
		c.send(packetOf(packets.Pingreq))
		c.expect(packets.Pingresp) // so that it is acknowledged

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
		var last *packets.Packet
		for range 4 {
			last = c.expect(packets.Publish)
			got = append(got, delivery{string(last.Payload), last.FixedHeader.Dup})
		}
		require.Equal(t, []delivery{{"one", true}, {"three", true}, {"four", false}, {"long-lived", false}}, got)
		if version == mqtt5 {
			require.InDelta(t, 10, last.Properties.MessageExpiryInterval, 3)
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
		o := dialOptions{roles: everything}
		goodbye := func(c *mqttWire) {
			ce, last := c.closed()
			require.Equal(t, "session takeover", ce.Reason)
			if version == mqtt5 {
				require.Equal(t, byte(0x8E), last.ReasonCode)
			}
		}
		first, _ := dialWire(t, srv, version, o, keeping(connectPacket("id")))
		first.send(subscribePacket("room"))
		first.expect(packets.Suback)
		second, ack := dialWire(t, srv, version, o, keeping(connectPacket("id")))
		require.True(t, ack.SessionPresent)
		goodbye(first)
		rest{t, srv}.text("hubs/chat/groups/room/:send", "hello")
		require.Equal(t, "hello", string(second.expect(packets.Publish).Payload))

		third, ack := dialWire(t, srv, version, o, connectPacket("id"))
		require.False(t, ack.SessionPresent)
		goodbye(second)
		require.Empty(t, srv.Groups("chat"))
		require.Len(t, srv.Connections("chat"), 1)
		third.send(packetOf(packets.Disconnect))
		ce, _ := third.closed()
		require.Equal(t, websocket.StatusNormalClosure, ce.Code)
		require.NoError(t, srv.WaitForConnections(soon(t), "chat", 0))
	})
}

func TestMQTTDisconnectDecidesOnTheSessionAgain(t *testing.T) {
	srv := emulator.StartT(t, nil)
	disconnect := func(seconds uint32) packets.Packet {
		pk := packetOf(packets.Disconnect)
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = seconds, true
		return pk
	}
	t.Run("to end it", func(t *testing.T) {
		c, _ := dialWire(t, srv, mqtt5, dialOptions{}, keeping(connectPacket("id")))
		c.send(disconnect(0))
		c.closed()
		require.NoError(t, srv.WaitForConnections(soon(t), "chat", 0))
	})
	t.Run("to keep it for less", func(t *testing.T) {
		c, _ := dialWire(t, srv, mqtt5, dialOptions{}, keeping(connectPacket("id")))
		c.send(disconnect(3))
		c.closed()
		require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
		srv.Advance(4 * time.Second)
		require.Empty(t, srv.Connections("chat"))
	})
	t.Run("but not to keep it if CONNECT did not", func(t *testing.T) {
		c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("id"))
		c.send(disconnect(3))
		_, last := c.closed()
		require.NotNil(t, last)
		require.Equal(t, byte(0x82), last.ReasonCode)
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
	first, second := c.expect(packets.Publish), c.expect(packets.Publish)
	for range 20 {
		c.send(packetOf(packets.Pingreq))
		c.expect(packets.Pingresp) // and not the third
	}
	c.acknowledge(second.PacketID)
	third := c.expect(packets.Publish)
	require.Equal(t, "2", string(third.Payload))
	c.acknowledge(first.PacketID)
	c.acknowledge(third.PacketID)
	require.Equal(t, "3", string(c.expect(packets.Publish).Payload))
	require.Equal(t, "4", string(c.expect(packets.Publish).Payload))
}

func TestAnMQTTClientThatDoesNotKeepUpIsClosed(t *testing.T) {
	srv := emulator.StartT(t, nil)
	both(t, func(t *testing.T, version mqttVersion) {
		c, _ := dialWire(t, srv, version, dialOptions{groups: []string{"room"}}, connectPacket("id"))
		flood(t, srv, maxQueuedFrames+1, `"dataType":"text","data":"x"`) // none of which it acknowledges
		ce, last := c.closed()
		require.Equal(t, websocket.StatusPolicyViolation, ce.Code)
		require.Regexp(t, "^the client is too slow: 10000 messages, [0-9]+ bytes wait for it$", ce.Reason)
		if version == mqtt5 {
			require.Equal(t, byte(0x97), last.ReasonCode)
		}
		require.NoError(t, srv.WaitForConnections(soon(t), "chat", 0))
	})
}

func TestMQTTClientsThatTakeOnlySmallPacketsAreSparedLargeOnes(t *testing.T) {
	srv := emulator.StartT(t, nil)
	connect := connectPacket("id")
	connect.Properties.MaximumPacketSize = 100
	c, _ := dialWire(t, srv, mqtt5, dialOptions{groups: []string{"room"}}, connect)
	rest{t, srv}.text("hubs/chat/groups/room/:send", strings.Repeat("x", 100))
	rest{t, srv}.text("hubs/chat/groups/room/:send", "small")
	require.Equal(t, "small", string(c.expect(packets.Publish).Payload))
}

func TestMQTTReasonsAreLeftOutForClientsThatWantNone(t *testing.T) {
	srv := emulator.StartT(t, nil)
	for name, change := range map[string]func(p *packets.Properties){
		"it asks for no problem information": func(p *packets.Properties) { p.RequestProblemInfo, p.RequestProblemInfoFlag = 0, true },
		"it takes small packets only":        func(p *packets.Properties) { p.MaximumPacketSize = 50 },
	} {
		t.Run(name, func(t *testing.T) {
			connect := connectPacket("id")
			change(&connect.Properties)
			c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connect)
			c.send(publishPacket("room", 1, "x"))
			ack := c.expect(packets.Puback)
			require.Equal(t, byte(0x87), ack.ReasonCode)
			require.Empty(t, ack.Properties.ReasonString)
		})
	}
}

func TestMQTTMessagesOfQualityOfService0AreNotKeptForClientsThatAreAway(t *testing.T) {
	srv := emulator.StartT(t, nil)
	o := dialOptions{roles: everything, groups: []string{"1"}}
	c, _ := dialWire(t, srv, mqtt5, o, keeping(connectPacket("id")))
	s := subscribePacket("0")
	s.Filters[0].Qos = 0
	c.send(s)
	c.expect(packets.Suback)
	c.ws.CloseNow()
	require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
	rest{t, srv}.text("hubs/chat/groups/0/:send", "at most once")
	rest{t, srv}.text("hubs/chat/groups/1/:send", "at least once")
	c, _ = dialWire(t, srv, mqtt5, o, keeping(connectPacket("id")))
	require.Equal(t, "at least once", string(c.expect(packets.Publish).Payload))
}

func TestMQTTWills(t *testing.T) {
	for name, test := range map[string]struct {
		connect   func(pk *packets.Packet)
		leave     func(srv *emulator.Server, c *mqttWire)
		published bool
	}{
		"is cut off":   {nil, func(srv *emulator.Server, _ *mqttWire) { srv.DropConnection("chat", "id") }, true},
		"says goodbye": {nil, func(_ *emulator.Server, c *mqttWire) { c.send(packetOf(packets.Disconnect)) }, false},
		"says goodbye and asks for its will": {nil, func(_ *emulator.Server, c *mqttWire) {
			pk := packetOf(packets.Disconnect)
			pk.ReasonCode = 4
			c.send(pk)
		}, true},
		"is closed by the application": {nil, func(srv *emulator.Server, c *mqttWire) {
			rest{c.t, srv}.must(204, "DELETE", "hubs/chat/connections/id")
		}, true},
		"breaks the protocol": {nil, func(_ *emulator.Server, c *mqttWire) { c.write([]byte{0, 0}) }, true},
		"is replaced by one that takes over its session": {func(pk *packets.Packet) { *pk = keeping(*pk) },
			func(srv *emulator.Server, c *mqttWire) {
				dialWire(c.t, srv, mqtt5, dialOptions{roles: everything}, keeping(connectPacket("id")))
			}, true},
		"does not come back in time": {func(pk *packets.Packet) {
			*pk = keeping(*pk)
			pk.Connect.WillProperties.WillDelayInterval = 100
		}, func(srv *emulator.Server, c *mqttWire) {
			c.ws.CloseNow()
			require.NoError(c.t, srv.WaitForRecovering(soon(c.t), "chat", 1))
			srv.Advance(31 * time.Second)
		}, true},
		"stays away longer than its will waits": {func(pk *packets.Packet) {
			*pk = keeping(*pk)
			pk.Connect.WillProperties.WillDelayInterval = 5
		}, func(srv *emulator.Server, c *mqttWire) {
			c.ws.CloseNow()
			require.NoError(c.t, srv.WaitForRecovering(soon(c.t), "chat", 1))
			srv.Advance(6 * time.Second)
		}, true},
		"comes back in time": {func(pk *packets.Packet) {
			*pk = keeping(*pk)
			pk.Connect.WillProperties.WillDelayInterval = 5
		}, func(srv *emulator.Server, c *mqttWire) {
			c.ws.CloseNow()
			require.NoError(c.t, srv.WaitForRecovering(soon(c.t), "chat", 1))
			dialWire(c.t, srv, mqtt5, dialOptions{roles: everything}, keeping(connectPacket("id")))
			srv.Advance(6 * time.Second)
		}, false},
	} {
		t.Run("of a client that "+name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			web := dialJSON(t, srv, dialOptions{groups: []string{"wills"}})
			connect := connectPacket("id")
			connect.Connect.WillFlag, connect.Connect.WillTopic, connect.Connect.WillPayload = true, "wills", []byte("my last words")
			connect.Connect.WillProperties.ContentType = "text/plain"
			if test.connect != nil {
				test.connect(&connect)
			}
			c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: everything}, connect)
			test.leave(srv, c)
			if test.published {
				require.Equal(t, "my last words", web.object()["data"])
			} else {
				web.nothing(srv)
			}
		})
	}
}

func TestAnMQTTClientThatIsSilentForTooLongIsClosed(t *testing.T) {
	srv := emulator.StartT(t, nil)
	connect := connectPacket("id")
	connect.Connect.Keepalive = 1
	c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connect)
	_, last := c.closed() // after 1.5 s
	require.Equal(t, byte(0x8D), last.ReasonCode)
	require.NoError(t, srv.WaitForConnections(soon(t), "chat", 0))
}

func TestMQTTClientsAreToldWhenTheServerCloses(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c, _ := dialWire(t, srv, mqtt5, dialOptions{}, keeping(connectPacket("id")))
	old, _ := dialWire(t, srv, mqtt311, dialOptions{}, connectPacket("old"))
	away, _ := dialWire(t, srv, mqtt5, dialOptions{}, keeping(connectPacket("away")))
	away.ws.CloseNow()
	openWire(t, srv, mqtt5, dialOptions{}) // and sends no CONNECT
	require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Close()
	}()
	_, last := c.closed()
	require.Equal(t, byte(0x8B), last.ReasonCode)
	require.Equal(t, closeReason, last.Properties.ReasonString)
	ce, _ := old.closed()
	require.Equal(t, closeReason, ce.Reason)
	<-done
}

func TestAGroupWhoseNameIsNoTopicReachesNoMQTTClient(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c, _ := dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("id"))
	r := rest{t, srv}
	sender := dialJSON(t, srv, dialOptions{hub: "chat", roles: []string{"webpubsub.sendToGroup"}})
	for i, group := range []string{"a+b", "a#", "$webpubsub/server/messages"} { // which REST's paths do not reach
		body := fmt.Sprintf(`{"groups":[%q],"filter":"connectionId eq 'id'"}`, group)
		require.Equal(t, 200, r.do("POST", "hubs/chat/:addToGroups", []byte(body), "Content-Type", "application/json").status)
		ack := sender.ask(fmt.Sprintf(`{"type":"sendToGroup","group":%q,"dataType":"text","data":"x","ackId":%d}`, group, i+1))
		require.Contains(t, ack, `"success":true`)
	}
	r.text("hubs/chat/:send", "fence")
	require.Equal(t, "fence", string(c.expect(packets.Publish).Payload))
}
