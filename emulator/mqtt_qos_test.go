package emulator_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
)

// This file tests quality of service 2, packet by packet, and flow control.

// reply is a packet that has little more than an id.
func reply(typ mqttpacket.Type, id uint16, code byte) mqttpacket.Packet {
	return mqttpacket.Packet{Type: typ, PacketID: id, Code: code}
}

// answers reads a packet and compares it.
func (c *mqttWire) answers(typ mqttpacket.Type, id uint16, code byte) {
	c.t.Helper()
	got := c.expect(typ)
	if c.version == mqtt311 {
		code = 0
	}
	require.Equal(c.t, fmt.Sprintf("%d 0x%X", id, code), fmt.Sprintf("%d 0x%X", got.PacketID, got.Code))
}

// quiet makes sure that nothing waits to be read.
func (c *mqttWire) quiet() {
	c.t.Helper()
	c.send(packetOf(mqttpacket.Pingreq))
	c.expect(mqttpacket.Pingresp)
}

// subscribed subscribes at a quality of service.
func (c *mqttWire) subscribed(topic string, qos byte) {
	c.t.Helper()
	s := subscribePacket(topic)
	s.Filters[0].QoS = qos
	c.send(s)
	require.Equal(c.t, []byte{qos}, c.expect(mqttpacket.Suback).Codes)
}

// cut cuts the connection of the client with the id "id", and waits until its session is kept.
func cut(t *testing.T, srv *emulator.Server) {
	t.Helper()
	require.True(t, srv.DropConnection("chat", "id"))
	require.NoError(t, srv.WaitForRecovering(soon(t), "chat", 1))
}

func TestMQTTMessagesOfQualityOfService2ArriveOnce(t *testing.T) {
	both(t, func(t *testing.T, version mqttVersion) {
		srv := emulator.StartT(t, nil)
		web := dialJSON(t, srv, dialOptions{groups: []string{"room"}})
		o := dialOptions{roles: everything}
		c, _ := dialWire(t, srv, version, o, keeping(connectPacket("id")))
		publish := publishPacket("room", 2, `one`)
		c.send(publish)
		c.answers(mqttpacket.Pubrec, 9, 0)
		again := publish
		again.Dup = true
		c.send(again)
		c.answers(mqttpacket.Pubrec, 9, 0)

		cut(t, srv)
		c, ack := dialWire(t, srv, version, o, keeping(connectPacket("id")))
		require.True(t, ack.SessionPresent)
		c.send(again)
		c.answers(mqttpacket.Pubrec, 9, 0)
		c.send(reply(mqttpacket.Pubrel, 9, 0))
		c.answers(mqttpacket.Pubcomp, 9, 0)
		c.send(reply(mqttpacket.Pubrel, 9, 0))
		c.answers(mqttpacket.Pubcomp, 9, 0x92)
		require.Equal(t, "b25l", web.object()["data"])
		web.nothing(srv)

		publish.Payload = []byte("two") // by the same packet id, which is free again
		c.send(publish)
		c.answers(mqttpacket.Pubrec, 9, 0)
		require.Equal(t, "dHdv", web.object()["data"])

		cut(t, srv) // and a new session remembers nothing
		c, _ = dialWire(t, srv, version, o, connectPacket("id"))
		c.send(again)
		c.answers(mqttpacket.Pubrec, 9, 0)
		require.Equal(t, "b25l", web.object()["data"])
	})
}

func TestMQTTSubscribersReceiveMessagesOfQualityOfService2Once(t *testing.T) {
	both(t, func(t *testing.T, version mqttVersion) {
		srv := emulator.StartT(t, nil)
		o := dialOptions{roles: everything}
		var c *mqttWire
		back := func() *mqttWire {
			t.Helper()
			c.quiet() // what it has sent has arrived
			cut(t, srv)
			c, ack := dialWire(t, srv, version, o, keeping(connectPacket("id")))
			require.True(t, ack.SessionPresent)
			return c
		}
		c, _ = dialWire(t, srv, version, o, keeping(connectPacket("id")))
		c.subscribed("room", 2)
		for _, text := range []string{"one", "two"} {
			rest{t, srv}.text("hubs/chat/groups/room/:send", text)
			p := c.expect(mqttpacket.Publish)
			require.Equal(t, []any{text, byte(2), false}, []any{string(p.Payload), p.QoS, p.Dup})
		}
		c = back()
		for i, text := range []string{"one", "two"} {
			p := c.expect(mqttpacket.Publish)
			require.Equal(t, []any{text, byte(2), true, uint16(i + 1)}, []any{string(p.Payload), p.QoS, p.Dup, p.PacketID})
		}
		c.send(reply(mqttpacket.Pubrec, 1, 0))
		c.answers(mqttpacket.Pubrel, 1, 0)
		c = back() // the client has the first one: it must not come again
		c.answers(mqttpacket.Pubrel, 1, 0)
		require.Equal(t, "two", string(c.expect(mqttpacket.Publish).Payload))
		c.send(reply(mqttpacket.Pubrec, 1, 0)) // by a client that has forgotten
		c.answers(mqttpacket.Pubrel, 1, 0)
		c.send(reply(mqttpacket.Pubcomp, 1, 0))
		c.send(reply(mqttpacket.Puback, 2, 0)) // which does not end it
		c = back()
		require.Equal(t, "two", string(c.expect(mqttpacket.Publish).Payload))
		c.send(reply(mqttpacket.Pubrec, 2, 0))
		c.answers(mqttpacket.Pubrel, 2, 0)
		c.send(reply(mqttpacket.Pubcomp, 2, 0))
		c.send(reply(mqttpacket.Pubrec, 7, 0))
		c.answers(mqttpacket.Pubrel, 7, 0x92)
		c = back()
		c.quiet()
	})
}

func TestARefusedMQTTExchangeOfQualityOfService2IsOver(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup.mine"}}, connectPacket("id"))
	c.send(publishPacket("other", 2, "x"))
	c.answers(mqttpacket.Pubrec, 9, 0x87)
	c.subscribed("mine", 2)
	c.send(publishPacket("mine", 2, "x")) // the packet id is free
	first, second := c.read(), c.read()
	if first.Type == mqttpacket.Publish {
		first, second = second, first
	}
	require.Equal(t, reply(mqttpacket.Pubrec, 9, 0).Type, first.Type)
	c.send(reply(mqttpacket.Pubrec, second.PacketID, 0x97)) // the client's no ends the other direction
	c.quiet()
	c.send(reply(mqttpacket.Pubrel, 9, 0))
	c.answers(mqttpacket.Pubcomp, 9, 0)

	old, _ := dialWire(t, srv, mqtt311, dialOptions{}, connectPacket("old"))
	old.send(publishPacket("other", 2, "x"))
	ce, _ := old.closed()
	require.Equal(t, `the client does not have the permission sendToGroup for the group "other"`, ce.Reason)
}

func TestMQTTReceiveMaximumCountsExchangesOfQualityOfService2ToTheirEnd(t *testing.T) {
	srv := emulator.StartT(t, nil)
	connect := connectPacket("id")
	connect.Properties.ReceiveMaximum = 1
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: everything}, connect)
	c.subscribed("room", 2)
	for i := range 3 {
		rest{t, srv}.text("hubs/chat/groups/room/:send", fmt.Sprint(i))
	}
	for i := range 3 {
		p := c.expect(mqttpacket.Publish)
		require.Equal(t, fmt.Sprint(i), string(p.Payload))
		c.quiet()
		c.send(reply(mqttpacket.Pubrec, p.PacketID, 0))
		c.answers(mqttpacket.Pubrel, p.PacketID, 0)
		c.quiet()
		c.send(reply(mqttpacket.Pubcomp, p.PacketID, 0))
	}
	c.quiet()
}

func TestWhatWasQueuedForAnMQTTClientComesBeforeItsGoodbye(t *testing.T) {
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
			c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: everything}, connect)
			c.subscribed("1", 1)
			c.subscribed("2", 2)
			for i := range 6 {
				rest{t, srv}.text(fmt.Sprintf("hubs/chat/groups/%d/:send", 1+i%2), fmt.Sprint(i))
			}
			end.by(srv)
			for i := range 6 {
				p := c.expect(mqttpacket.Publish)
				require.Equal(t, fmt.Sprint(i), string(p.Payload))
				if p.QoS == 1 {
					c.acknowledge(p.PacketID)
					continue
				}
				if i == 5 { // nothing waits any more
					break
				}
				c.send(reply(mqttpacket.Pubrec, p.PacketID, 0))
				c.answers(mqttpacket.Pubrel, p.PacketID, 0)
				c.send(reply(mqttpacket.Pubcomp, p.PacketID, 0))
			}
			require.Equal(t, end.code, c.expect(mqttpacket.Disconnect).Code)
		})
	}
}

func TestMQTTSubscriptionIdentifiers(t *testing.T) {
	srv := emulator.StartT(t, nil)
	o := dialOptions{roles: everything, groups: []string{"given"}}
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
	subscribe(7, "a") // takes the place of the old one
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

// TestAnMQTTClientThatSendsSlowlyIsNotSilent sends one packet for longer than the client may be silent.
func TestAnMQTTClientThatSendsSlowlyIsNotSilent(t *testing.T) {
	srv := emulator.StartT(t, nil)
	connect := connectPacket("id")
	connect.Connect.KeepAlive = 1
	c, _ := dialWire(t, srv, mqtt5, dialOptions{roles: everything}, connect)
	data := c.encode(publishPacket("room", 1, "slowly"))
	for _, b := range data { // about 20 bytes
		c.write([]byte{b})
		<-time.After(100 * time.Millisecond)
	}
	c.answers(mqttpacket.Puback, 9, 0)
}
