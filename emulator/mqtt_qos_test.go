package emulator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
)

// This file tests quality of service 2, packet by packet, and flow control.

// reply returns a packet with an id and a code only.
func reply(typ mqttpacket.Type, id uint16, code byte) mqttpacket.Packet {
	return mqttpacket.Packet{Type: typ, PacketID: id, Code: code}
}

// expectReply reads a packet and compares its type, id and, in 5.0, code.
func (c *mqttWire) expectReply(typ mqttpacket.Type, id uint16, code byte) {
	c.t.Helper()
	got := c.expect(typ)
	if c.version == mqtt311 {
		code = 0
	}
	require.Equal(c.t, fmt.Sprintf("%d 0x%X", id, code), fmt.Sprintf("%d 0x%X", got.PacketID, got.Code))
}

// expectNothing fails the test if a packet is waiting to be read.
func (c *mqttWire) expectNothing() {
	c.t.Helper()
	c.send(packetOf(mqttpacket.Pingreq))
	c.expect(mqttpacket.Pingresp)
}

// subscribe subscribes to a topic with a QoS.
func (c *mqttWire) subscribe(topic string, qos byte) {
	c.t.Helper()
	s := subscribePacket(topic)
	s.Filters[0].QoS = qos
	c.send(s)
	require.Equal(c.t, []byte{qos}, c.expect(mqttpacket.Suback).Codes)
}

// dialSender connects another client. The function that it returns publishes a message with QoS 2.
func dialSender(t *testing.T, srv *emulator.Server) func(topic, text string) {
	t.Helper()
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: allRoles}, connectPacket("sender"))
	return func(topic, text string) {
		t.Helper()
		c.send(publishPacket(topic, 2, text))
		c.expectReply(mqttpacket.Pubrec, 9, 0)
		c.send(reply(mqttpacket.Pubrel, 9, 0))
		c.expectReply(mqttpacket.Pubcomp, 9, 0)
	}
}

// cut cuts the connection of the client "id", and waits until the server has noticed. The server keeps the session.
func cut(t *testing.T, srv *emulator.Server) {
	t.Helper()
	require.True(t, srv.DropConnection("chat", "id"))
	require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
}

func TestMQTTMessagesOfQoS2ArriveOnce(t *testing.T) {
	both(t, func(t *testing.T, version mqttVersion) {
		srv := emulator.StartT(t, nil)
		web := dialJSON(t, srv, dialOptions{groups: []string{"room"}})
		o := dialOptions{roles: allRoles}
		c, _ := dialWire(t, srv, version, o, keeping(connectPacket("id")))
		publish := publishPacket("room", 2, `one`)
		c.send(publish)
		c.expectReply(mqttpacket.Pubrec, 9, 0)
		again := publish
		again.Dup = true
		c.send(again)
		c.expectReply(mqttpacket.Pubrec, 9, 0)

		cut(t, srv)
		c, ack := dialWire(t, srv, version, o, keeping(connectPacket("id")))
		require.True(t, ack.SessionPresent)
		c.send(again)
		c.expectReply(mqttpacket.Pubrec, 9, 0)
		c.send(reply(mqttpacket.Pubrel, 9, 0))
		c.expectReply(mqttpacket.Pubcomp, 9, 0)
		c.send(reply(mqttpacket.Pubrel, 9, 0))
		c.expectReply(mqttpacket.Pubcomp, 9, 0x92)
		require.Equal(t, "b25l", web.object()["data"])
		web.expectNothing(srv)

		publish.Payload = []byte("two") // the packet id is free again
		c.send(publish)
		c.expectReply(mqttpacket.Pubrec, 9, 0)
		require.Equal(t, "dHdv", web.object()["data"])

		cut(t, srv) // a new session has no packet ids
		c, _ = dialWire(t, srv, version, o, connectPacket("id"))
		c.send(again)
		c.expectReply(mqttpacket.Pubrec, 9, 0)
		require.Equal(t, "b25l", web.object()["data"])
	})
}

func TestMQTTSubscribersReceiveMessagesOfQoS2Once(t *testing.T) {
	both(t, func(t *testing.T, version mqttVersion) {
		srv := emulator.StartT(t, nil)
		o := dialOptions{roles: allRoles}
		var c *mqttWire
		back := func() *mqttWire {
			t.Helper()
			c.expectNothing() // everything that the client sent has arrived
			cut(t, srv)
			c, ack := dialWire(t, srv, version, o, keeping(connectPacket("id")))
			require.True(t, ack.SessionPresent)
			return c
		}
		c, _ = dialWire(t, srv, version, o, keeping(connectPacket("id")))
		c.subscribe("room", 2)
		publish := dialSender(t, srv)
		for _, text := range []string{"one", "two"} {
			publish("room", text)
			p := c.expect(mqttpacket.Publish)
			require.Equal(t, []any{text, byte(2), false}, []any{string(p.Payload), p.QoS, p.Dup})
		}
		c = back()
		for i, text := range []string{"one", "two"} {
			p := c.expect(mqttpacket.Publish)
			require.Equal(t, []any{text, byte(2), true, uint16(i + 1)}, []any{string(p.Payload), p.QoS, p.Dup, p.PacketID})
		}
		c.send(reply(mqttpacket.Pubrec, 1, 0))
		c.expectReply(mqttpacket.Pubrel, 1, 0)
		c = back() // the client acknowledged the first message, which must not be sent again
		c.expectReply(mqttpacket.Pubrel, 1, 0)
		require.Equal(t, "two", string(c.expect(mqttpacket.Publish).Payload))
		c.send(reply(mqttpacket.Pubrec, 1, 0)) // again, from a client that lost its state
		c.expectReply(mqttpacket.Pubrel, 1, 0)
		c.send(reply(mqttpacket.Pubcomp, 1, 0))
		c.send(reply(mqttpacket.Puback, 2, 0)) // PUBACK does not end an exchange of QoS 2
		c = back()
		require.Equal(t, "two", string(c.expect(mqttpacket.Publish).Payload))
		c.send(reply(mqttpacket.Pubrec, 2, 0))
		c.expectReply(mqttpacket.Pubrel, 2, 0)
		c.send(reply(mqttpacket.Pubcomp, 2, 0))
		c.send(reply(mqttpacket.Pubrec, 7, 0))
		c.expectReply(mqttpacket.Pubrel, 7, 0x92)
		c = back()
		c.expectNothing()
	})
}

func TestARejectedMQTTExchangeOfQoS2Ends(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup.mine"}}, connectPacket("id"))
	c.send(publishPacket("other", 2, "x"))
	c.expectReply(mqttpacket.Pubrec, 9, 0x87)
	c.subscribe("mine", 2)
	c.send(publishPacket("mine", 2, "x")) // the packet id is free
	first, second := c.read(), c.read()
	if first.Type == mqttpacket.Publish {
		first, second = second, first
	}
	require.Equal(t, reply(mqttpacket.Pubrec, 9, 0).Type, first.Type)
	c.send(reply(mqttpacket.Pubrec, second.PacketID, 0x97)) // an error from the client ends the exchange with the client
	c.expectNothing()
	c.send(reply(mqttpacket.Pubrel, 9, 0))
	c.expectReply(mqttpacket.Pubcomp, 9, 0)

	old, _ := dialWire(t, srv, mqtt311, dialOptions{}, connectPacket("old"))
	old.send(publishPacket("other", 2, "x"))
	ce, _ := old.closed()
	require.Equal(t, `the client does not have the permission sendToGroup for the group "other"`, ce.Reason)
}

func TestMQTTReceiveMaximumCountsPendingExchangesOfQoS2(t *testing.T) {
	srv := emulator.StartT(t, nil)
	connect := connectPacket("id")
	connect.Properties.ReceiveMaximum = 1
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: allRoles}, connect)
	c.subscribe("room", 2)
	publish := dialSender(t, srv)
	for i := range 3 {
		publish("room", fmt.Sprint(i))
	}
	for i := range 3 {
		p := c.expect(mqttpacket.Publish)
		require.Equal(t, fmt.Sprint(i), string(p.Payload))
		c.expectNothing()
		c.send(reply(mqttpacket.Pubrec, p.PacketID, 0))
		c.expectReply(mqttpacket.Pubrel, p.PacketID, 0)
		c.expectNothing()
		c.send(reply(mqttpacket.Pubcomp, p.PacketID, 0))
	}
	c.expectNothing()
}

func TestQueuedMQTTMessagesArriveBeforeDisconnect(t *testing.T) {
	for name, end := range map[string]struct {
		by   func(srv *emulator.Server)
		code byte
	}{
		"closed by the application": {func(srv *emulator.Server) { rest{t, srv}.must(204, "DELETE", "hubs/chat/connections/id") }, 0x98},
		"taken over":                {func(srv *emulator.Server) { dialWire(t, srv, mqtt5, dialOptions{}, connectPacket("id")) }, 0x8E},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			connect := connectPacket("id")
			connect.Properties.ReceiveMaximum = 1
			c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: allRoles}, connect)
			c.subscribe("1", 1)
			c.subscribe("2", 2)
			publish := dialSender(t, srv)
			for i := range 6 {
				publish(fmt.Sprint(1+i%2), fmt.Sprint(i))
			}
			end.by(srv)
			for i := range 6 {
				p := c.expect(mqttpacket.Publish)
				require.Equal(t, fmt.Sprint(i), string(p.Payload))
				if p.QoS == 1 {
					c.acknowledge(p.PacketID)
					continue
				}
				if i == 5 { // the last message
					break
				}
				c.send(reply(mqttpacket.Pubrec, p.PacketID, 0))
				c.expectReply(mqttpacket.Pubrel, p.PacketID, 0)
				c.send(reply(mqttpacket.Pubcomp, p.PacketID, 0))
			}
			require.Equal(t, end.code, c.expect(mqttpacket.Disconnect).Code)
		})
	}
}

func TestMQTTSubscriptionIdentifiers(t *testing.T) {
	srv := emulator.StartT(t, nil)
	o := dialOptions{roles: allRoles, groups: []string{"given"}}
	c, _ := dialWire(t, srv, mqtt5, o, keeping(connectPacket("id")))
	subscribe := func(id uint32, topics ...string) {
		s := subscribePacket(topics...)
		if id > 0 {
			s.Properties.SubscriptionIDs = []uint32{id}
		}
		c.send(s)
		c.expect(mqttpacket.Suback)
	}
	identified := func(topic string, ids ...uint32) {
		t.Helper()
		rest{t, srv}.text("hubs/chat/groups/"+topic+"/:send?messageTtlSeconds=60", topic)
		p := c.expect(mqttpacket.Publish)
		require.Equal(t, topic, p.Topic)
		require.Equal(t, ids, p.Properties.SubscriptionIDs)
		require.NotNil(t, p.Properties.MessageExpiry)
	}
	subscribe(1, "a", "b")
	subscribe(268435455, "c")
	subscribe(0, "d")
	identified("a", 1)
	identified("b", 1)
	identified("c", 268435455)
	identified("d")
	identified("given")
	subscribe(7, "a") // replaces the old subscription
	identified("a", 7)
	cut(t, srv)
	c, _ = dialWire(t, srv, mqtt5, o, keeping(connectPacket("id")))
	for _, want := range [][]uint32{{1}, {1}, {268435455}, nil, nil, {7}} {
		require.Equal(t, want, c.expect(mqttpacket.Publish).Properties.SubscriptionIDs)
	}
}

func TestMQTTKeepAliveIsBounded(t *testing.T) {
	srv := emulator.StartT(t, nil)
	for wanted, told := range map[uint16]*uint16{0: new(uint16(180)), 1: nil, 180: nil, 181: new(uint16(180)), 65535: new(uint16(180))} {
		connect := connectPacket("id")
		connect.Connect.KeepAlive = wanted
		_, ack := dialWire(t, srv, mqtt5, dialOptions{}, connect)
		require.Equal(t, told, ack.Properties.ServerKeepAlive, wanted)
	}
}

// TestKeepAliveOfAnMQTTClientThatSendsSlowly takes longer to send one packet than the keep-alive allows.
func TestKeepAliveOfAnMQTTClientThatSendsSlowly(t *testing.T) {
	srv := emulator.StartT(t, nil)
	connect := connectPacket("id")
	connect.Connect.KeepAlive = 1
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: allRoles}, connect)
	data := c.encode(publishPacket("room", 1, "slowly"))
	for _, b := range data { // about 20 bytes
		c.write([]byte{b})
		<-time.After(100 * time.Millisecond)
	}
	c.expectReply(mqttpacket.Puback, 9, 0)
}

func TestAnMQTTClientMaySendConnectSlowly(t *testing.T) {
	t.Parallel()
	srv := emulator.StartT(t, nil)
	c := openWire(t, srv, mqtt5, dialOptions{})
	data := c.encode(connectPacket("id"))
	c.write(data[:1])
	for _, part := range [][]byte{data[1:10], data[10:]} { // in total, longer than the time limit of 5 s
		<-time.After(2600 * time.Millisecond)
		c.write(part)
	}
	c.expect(mqttpacket.Connack)
}

func TestMQTTReceiveMaximumOfANewConnectionIsRespected(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			o := dialOptions{roles: allRoles}
			c, _ := dialWire(t, srv, mqtt5, o, keeping(connectPacket("id")))
			c.subscribe("room", qos)
			publish := dialSender(t, srv)
			for i := range 4 {
				publish("room", fmt.Sprint(i))
				c.expect(mqttpacket.Publish)
			}
			cut(t, srv)
			publish("room", "4")
			connect := keeping(connectPacket("id"))
			connect.Properties.ReceiveMaximum = 2
			c, _ = dialWire(t, srv, mqtt5, o, connect)
			first, second := c.expect(mqttpacket.Publish), c.expect(mqttpacket.Publish)
			require.Equal(t, []string{"0", "1"}, []string{string(first.Payload), string(second.Payload)})
			c.expectNothing()
			rest{t, srv}.must(204, "DELETE", "hubs/chat/connections/id") // the rest is sent before DISCONNECT
			acknowledge := func(p *mqttpacket.Packet) {
				if qos == 1 {
					c.acknowledge(p.PacketID)
					return
				}
				c.send(reply(mqttpacket.Pubrec, p.PacketID, 0))
				c.expectReply(mqttpacket.Pubrel, p.PacketID, 0)
				c.send(reply(mqttpacket.Pubcomp, p.PacketID, 0))
			}
			acknowledge(second)
			for _, want := range []string{"2", "3", "4"} {
				p := c.expect(mqttpacket.Publish)
				require.Equal(t, want, string(p.Payload))
				if want != "4" {
					acknowledge(p)
				}
			}
			require.Equal(t, byte(0x98), c.expect(mqttpacket.Disconnect).Code)
		})
	}
}

func TestAMessageOfAnMQTTClientThatReturnsStaysInOrder(t *testing.T) {
	srv := emulator.StartT(t, nil)
	observer := dialJSON(t, srv, dialOptions{groups: []string{"room"}})
	observer.ws.SetReadLimit(-1)
	o := dialOptions{roles: allRoles}
	c, _ := dialWire(t, srv, mqtt5, o, keeping(connectPacket("id")))
	// The server checks the JSON for some milliseconds. Meanwhile the client returns and sends the message again, and another one.
	slow := publishPacket("room", 2, "["+strings.Repeat("0,", 400_000)+"0]")
	slow.Properties.ContentType = "application/json"
	again := slow
	again.Dup, again.Payload = true, []byte("[0]") // short, so that it arrives in time; the server compares only the packet id
	next := publishPacket("room", 2, "next")
	next.PacketID = slow.PacketID + 1
	for range 20 {
		back := openWire(t, srv, mqtt5, o)
		c.send(slow)
		back.send(keeping(connectPacket("id")))
		back.send(again)
		back.send(next)
		require.True(t, back.expect(mqttpacket.Connack).SessionPresent)
		for received := map[uint16]bool{}; len(received) < 2; { // the first message may be acknowledged twice
			received[back.expect(mqttpacket.Pubrec).PacketID] = true
		}
		back.send(reply(mqttpacket.Pubrel, slow.PacketID, 0))
		back.send(reply(mqttpacket.Pubrel, next.PacketID, 0))
		for completed := 0; completed < 2; {
			if back.read().Type == mqttpacket.Pubcomp {
				completed++
			}
		}
		require.Equal(t, "json", observer.object()["dataType"])
		require.Equal(t, "binary", observer.object()["dataType"])
		c = back
	}
}
