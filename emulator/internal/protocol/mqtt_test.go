package protocol

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

// rawMQTT is what a fuzzer's bytes come from.
func rawMQTT(data []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(data)) }

// FuzzMQTTMessages sends messages of any kind through what an MQTT client gets, and reads them as it would.
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
			out := MQTTPublish(version, version.Encode(m).Data, id, dup, expiry)
			in := rawMQTT(out)
			pk, err := ReadMQTT(in, version)
			require.NoError(t, err)
			_, err = in.ReadByte()
			require.Equal(t, io.EOF, err, "one packet")
			require.Equal(t, topic, pk.TopicName)
			require.Equal(t, string(data), string(pk.Payload))
			require.Equal(t, dup, pk.FixedHeader.Dup)
			require.Equal(t, id, pk.PacketID)
			if version == MQTT311 {
				continue
			}
			require.Equal(t, expiry, pk.Properties.MessageExpiryInterval)
			if p, fault := MQTTPayload(&pk.Properties, pk.Payload); fault == nil {
				require.Equal(t, m.Type, p.Type)
				if !strings.Contains(value, "\x00") {
					require.Equal(t, m.Metadata, p.Metadata)
				}
			}
		}
	})
}
