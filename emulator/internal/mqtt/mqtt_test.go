package mqtt

import (
	"bufio"
	"bytes"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/watch"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

func TestAClientThatAcknowledgesSteadilyIsNotClosedTooEarly(t *testing.T) {
	begin := func() (*session, *conn) {
		clock := &hub.Clock{}
		service := hub.NewService(slog.New(slog.DiscardHandler), clock, watch.NewBoard(clock))
		c := &session{Connection: hub.Connection{Hub: service.Hub("chat")}}
		n := &conn{writing: true, gone: make(chan struct{}), acked: make(chan struct{}, 1)}
		go c.awaitAcks(n)
		return c, n
	}
	expect := func(closeNow bool, c *session, n *conn) {
		t.Helper()
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		require.Equal(t, closeNow, n.closeNow)
	}
	synctest.Test(t, func(*testing.T) {
		c, n := begin()
		for range 10 {
			time.Sleep(wire.HandshakeTimeout - time.Second)
			n.acked <- struct{}{}
			expect(false, c, n)
		}
		time.Sleep(wire.HandshakeTimeout)
		expect(true, c, n)
	})
	synctest.Test(t, func(*testing.T) {
		c, n := begin()
		c.Hub.Service.Life.BeginClose()
		time.Sleep(wire.CloseTimeout / 4)
		n.acked <- struct{}{}
		expect(false, c, n)
		time.Sleep(wire.CloseTimeout / 4) // acknowledgements do not delay a closing server
		expect(true, c, n)
	})
	synctest.Test(t, func(*testing.T) {
		c, n := begin()
		close(n.gone)
		expect(false, c, n)
	})
}

// FuzzMQTTPackets runs untrusted packets through the checks and conversions that need no connection.
func FuzzMQTTPackets(f *testing.F) {
	for _, pk := range []mqttpacket.Packet{
		{Type: mqttpacket.Connect, Properties: mqttpacket.Properties{SessionExpiry: new(uint32(3600))}, Connect: mqttpacket.ConnectFields{
			Protocol: "MQTT", ClientID: "id", Will: &mqttpacket.Will{Topic: "room", Payload: []byte("x")}}},
		{Type: mqttpacket.Publish, QoS: 1, PacketID: 1, Topic: "room", Payload: []byte("x"), Properties: mqttpacket.Properties{
			ContentType: "application/json", User: []mqttpacket.UserProperty{{Key: "a", Value: "b"}}}},
		{Type: mqttpacket.Subscribe, PacketID: 1, Filters: []mqttpacket.Subscription{{Filter: "a", QoS: 1}, {Filter: "b"}}},
		{Type: mqttpacket.Pingreq}, {Type: mqttpacket.Disconnect},
	} {
		pk.Version = mqttpacket.V5
		f.Add(mqttpacket.Encode(&pk), true)
	}
	f.Add([]byte{0x82, 0x06, 0x00, 0x01, 0x00, 0x00, 0x01, 'a'}, true) // makes mochi-mqtt's decoder panic
	f.Fuzz(func(t *testing.T, data []byte, v5 bool) {
		version := byte(mqttpacket.V311)
		if v5 {
			version = mqttpacket.V5
		}
		in := bufio.NewReader(bytes.NewReader(data))
		for {
			pk, err := mqttpacket.Read(in, version, protocol.MaxMQTTPacket)
			if err != nil {
				return
			}
			switch pk.Type {
			case mqttpacket.Connect:
				if checkConnect(pk) == nil && pk.Connect.Will != nil {
					_, _ = newWill(pk.Connect.Will)
				}
			case mqttpacket.Publish:
				p, fault := protocol.MQTTPayload(&pk.Properties, pk.Payload)
				if checkPublish(pk) != nil || fault != nil {
					continue
				}
				require.Empty(t, protocol.CheckMetadata(p.Metadata))
				m := &hub.Message{Payload: p, Group: pk.Topic,
					Origin: &protocol.MQTTOrigin{QoS: pk.QoS, Properties: protocol.MQTTForwarded(&pk.Properties)}}
				for _, version := range []protocol.MQTTVersion{protocol.MQTT311, protocol.MQTT5} {
					require.NotEmpty(t, version.Encode(m).Data)
				}
				protocol.JSON{}.Encode(m)
				protocol.Protobuf{}.Encode(m)
			}
		}
	})
}
