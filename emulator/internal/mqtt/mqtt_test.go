package mqtt

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// rawMQTT is what a fuzzer's bytes come from.
func rawMQTT(data []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(data)) }

func FuzzMQTTPackets(f *testing.F) {
	add := func(encode func(*bytes.Buffer) error) {
		var buf bytes.Buffer
		if err := encode(&buf); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes(), true)
	}
	packet := func(packetType byte) *packets.Packet {
		return &packets.Packet{FixedHeader: packets.FixedHeader{Type: packetType}, ProtocolVersion: byte(protocol.MQTT5)}
	}
	connect := packet(packets.Connect)
	connect.Connect = packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "id"}
	connect.Properties.SessionExpiryInterval, connect.Properties.SessionExpiryIntervalFlag = 3600, true
	add(connect.ConnectEncode)
	publish := packet(packets.Publish)
	publish.FixedHeader.Qos, publish.PacketID, publish.TopicName, publish.Payload = 1, 1, "room", []byte("x")
	add(publish.PublishEncode)
	subscribe := packet(packets.Subscribe)
	subscribe.FixedHeader.Qos, subscribe.PacketID = 1, 1
	subscribe.Filters = packets.Subscriptions{{Filter: "a", Qos: 1}, {Filter: "b"}}
	add(subscribe.SubscribeEncode)
	add(packet(packets.Pingreq).PingreqEncode)
	add(packet(packets.Disconnect).DisconnectEncode)
	f.Add([]byte{0x82, 0x06, 0x00, 0x01, 0x00, 0x00, 0x01, 'a'}, true)
	f.Fuzz(func(t *testing.T, data []byte, v5 bool) {
		version := protocol.MQTT311
		if v5 {
			version = protocol.MQTT5
		}
		in := rawMQTT(data)
		for {
			pk, err := protocol.ReadMQTT(in, version)
			if err != nil {
				return
			}
			switch pk.FixedHeader.Type {
			case packets.Connect:
				if checkConnect(pk) == nil && pk.Connect.WillFlag {
					_, _ = newWill(pk)
				}
			case packets.Publish:
				p, fault := protocol.MQTTPayload(&pk.Properties, pk.Payload)
				if fault != nil {
					continue
				}
				require.Empty(t, protocol.CheckMetadata(p.Metadata))
				m := &hub.Message{Payload: p, Group: pk.TopicName,
					Origin: &protocol.MQTTOrigin{QoS: pk.FixedHeader.Qos, Properties: protocol.MQTTForwarded(&pk.Properties)}}
				for _, version := range []protocol.MQTTVersion{protocol.MQTT311, protocol.MQTT5} {
					require.NotEmpty(t, version.Encode(m).Data)
				}
				protocol.JSON{}.Encode(m)
				protocol.Protobuf{}.Encode(m)
			}
		}
	})
}
