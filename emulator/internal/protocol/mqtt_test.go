package protocol

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
)

// FuzzMQTTMessages encodes messages for an MQTT client, decodes the packets, and compares the result with the message.
func FuzzMQTTMessages(f *testing.F) {
	f.Add("room", uint8(0), []byte(`{}`), "key", "value", uint16(0), false, uint32(0))
	f.Add("", uint8(1), []byte("text"), "", "", uint16(1), true, uint32(60))
	f.Add("0", uint8(0), []byte("0"), "0", "\x00", uint16(0), false, uint32(0))
	f.Add("ü/x", uint8(2), bytes.Repeat([]byte{0}, 200), "k", strings.Repeat("v", 200), uint16(65535), false, uint32(1))
	f.Fuzz(func(t *testing.T, group string, kind uint8, data []byte, key, value string, id uint16, dup bool, expiry uint32) {
		topic, ok := MQTTTopic(group)
		if group != "" && (CheckGroup(group) != "" || !ok) {
			return
		}
		if back, fault := MQTTGroup(topic); group != "" && !strings.HasPrefix(group, "$share/") {
			require.Nil(t, fault)
			require.Equal(t, group, back)
		}
		m := &hub.Message{Payload: hub.Payload{Type: hub.DataType(kind % 4), Data: data}, Group: group}
		if key != "" {
			m.Metadata = map[string]string{key: value}
		}
		if CheckMetadata(m.Metadata) != "" {
			return
		}
		dup = dup && id != 0
		for _, version := range []MQTTVersion{MQTT311, MQTT5} {
			made := mqttpacket.Copy{PacketID: id, Dup: dup, MessageExpiry: expiry, SubscriptionID: uint32(id)}
			if id != 0 {
				made.QoS = 1 + kind%2
			}
			pk, err := mqttpacket.Decode(made.Of(version.Encode(m).Data, byte(version)), byte(version))
			require.NoError(t, err)
			require.Equal(t, topic, pk.Topic)
			require.Equal(t, string(data), string(pk.Payload))
			require.Equal(t, dup, pk.Dup)
			require.Equal(t, made.QoS, pk.QoS)
			require.Equal(t, id, pk.PacketID)
			if version == MQTT311 {
				continue
			}
			if expiry != 0 {
				require.Equal(t, expiry, *pk.Properties.MessageExpiry)
			}
			if id != 0 {
				require.Equal(t, []uint32{uint32(id)}, pk.Properties.SubscriptionIDs)
			}
			require.Empty(t, pk.Properties.User)
			if p, fault := MQTTPayload(&pk.Properties, pk.Payload); fault == nil {
				require.Equal(t, m.Type, p.Type)
				require.Empty(t, p.Metadata)
			}
		}
	})
}
