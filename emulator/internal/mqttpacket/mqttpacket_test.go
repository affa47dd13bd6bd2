package mqttpacket

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	paho5 "github.com/eclipse/paho.golang/packets"
	paho311 "github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

// full returns every property that a packet of a type, or a will, may have.
func full(owner Type) Properties {
	all := Properties{PayloadFormat: new(byte(1)), MessageExpiry: new(uint32(60)), ContentType: "text/plain", ResponseTopic: "answers",
		CorrelationData: []byte{0, 1}, SubscriptionIDs: []uint32{268435455}, SessionExpiry: new(uint32(0)), AssignedClientID: "id",
		ServerKeepAlive: new(uint16(180)), AuthenticationMethod: new("m"), AuthenticationData: []byte{9}, RequestProblemInfo: new(byte(0)),
		WillDelay: new(uint32(5)), RequestResponseInfo: new(byte(1)), ResponseInfo: "i", ServerReference: "s", ReasonString: "why",
		ReceiveMaximum: 2, TopicAliasMaximum: 3, TopicAlias: new(uint16(1)), MaximumQoS: new(byte(1)), RetainAvailable: new(byte(0)),
		User: []UserProperty{{"a", "1"}, {"a", "2"}}, MaximumPacketSize: 100, WildcardsAvailable: new(byte(0)),
		SubscriptionIDsServed: new(byte(1)), SharedAvailable: new(byte(0))}
	for id := range byte(lastProperty + 1) {
		if slices.Contains(propertyOwners[id], owner) {
			continue
		}
		switch v := all.field(id).(type) {
		case **byte:
			*v = nil
		case **uint16:
			*v = nil
		case **uint32:
			*v = nil
		case *uint16:
			*v = 0
		case *uint32:
			*v = 0
		case *string:
			*v = ""
		case **string:
			*v = nil
		case *[]byte:
			*v = nil
		case *[]uint32:
			*v = nil
		case *[]UserProperty:
			*v = nil
		}
	}
	return all
}

func encodeLength(n int) []byte {
	var out []byte
	for {
		b := byte(n & 127)
		if n >>= 7; n == 0 {
			return append(out, b)
		}
		out = append(out, b|128)
	}
}

// samples returns packets of every type, with as many fields as possible.
func samples(version byte) []Packet {
	properties := func(owner Type) Properties {
		if version < V5 {
			return Properties{}
		}
		return full(owner)
	}
	code := func(c byte) byte {
		if version < V5 {
			return 0
		}
		return c
	}
	all := []Packet{
		{Type: Connect, Connect: ConnectFields{Protocol: "MQTT", Clean: true, KeepAlive: 60, ClientID: "id", Username: new("ann"), Password: []byte{0, 255},
			Will: &Will{Topic: "room", Payload: []byte("bye"), QoS: 2, Retain: true, Properties: properties(will)}}},
		{Type: Connack, SessionPresent: true, Code: 5},
		{Type: Publish, QoS: 2, Dup: true, Retain: true, Topic: "räume/1", PacketID: 65535, Payload: []byte{1, 2, 3}},
		{Type: Puback, PacketID: 1, Code: code(0x87)}, {Type: Pubrec, PacketID: 2, Code: code(0x10)}, {Type: Pubrel, PacketID: 3, Code: code(0x92)},
		{Type: Pubcomp, PacketID: 4, Code: code(0x92)},
		{Type: Subscribe, PacketID: 5, Filters: []Subscription{{Filter: "a", QoS: 2}, {Filter: "b"}}},
		{Type: Suback, PacketID: 6, Codes: []byte{0, 1, 2, 128}},
		{Type: Unsubscribe, PacketID: 7, Filters: []Subscription{{Filter: "a"}, {Filter: "b"}}},
		{Type: Unsuback, PacketID: 8},
		{Type: Pingreq}, {Type: Pingresp},
		{Type: Disconnect, Code: code(4)},
	}
	if version >= V5 {
		all[7].Filters[0].NoLocal, all[7].Filters[0].RetainAsPublished, all[7].Filters[0].RetainHandling = true, true, 2
		all[10].Codes = []byte{0, 0x11}
	}
	for i := range all {
		all[i].Version = version
		if t := all[i].Type; t != Pingreq && t != Pingresp {
			all[i].Properties = properties(t)
		}
	}
	return all
}

func TestDecodeReturnsWhatWasEncoded(t *testing.T) {
	for _, version := range []byte{V311, V5} {
		for _, pk := range samples(version) {
			got, err := Decode(Encode(&pk), version)
			require.NoError(t, err, pk.Type)
			require.Equal(t, pk, *got, pk.Type)
		}
	}
	require.Equal(t, "answers", full(Publish).ResponseTopic)
}

// TestEclipsePahoReadsWhatWeWrite checks the codec against two independent codecs: each decodes what the other has encoded.
func TestEclipsePahoReadsWhatWeWrite(t *testing.T) {
	for _, pk := range samples(V5) {
		if w := pk.Connect.Will; w != nil { // Paho encodes no other properties of a will
			w.Properties = Properties{WillDelay: w.Properties.WillDelay, User: w.Properties.User}
		}
		data := Encode(&pk)
		theirs, err := paho5.ReadPacket(bytes.NewReader(data))
		require.NoError(t, err, pk.Type)
		var again bytes.Buffer
		_, err = theirs.WriteTo(&again)
		require.NoError(t, err)
		if pk.Type == Publish { // Paho encodes the packet type twice, which corrupts the first byte
			again.Bytes()[0] = data[0]
		}
		got, err := Decode(again.Bytes(), V5)
		require.NoError(t, err, "%s: %x", pk.Type, again.Bytes())
		require.Equal(t, pk, *got, pk.Type)
	}
	for _, pk := range samples(V311) {
		data := Encode(&pk)
		theirs, err := paho311.ReadPacket(bytes.NewReader(data))
		require.NoError(t, err, pk.Type)
		var again bytes.Buffer
		require.NoError(t, theirs.Write(&again))
		require.Equal(t, hex.EncodeToString(data), hex.EncodeToString(again.Bytes()), pk.Type)
	}
}

// broken returns the invalid packets in testdata/broken.txt by name. Other decoders fail on some of them, and accept others.
func broken(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/broken.txt")
	require.NoError(t, err)
	all := make(map[string][]byte)
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		digits, name, _ := strings.Cut(line, " ")
		data, err := hex.DecodeString(digits)
		require.NoError(t, err, line)
		all[strings.TrimSpace(name)] = data
	}
	require.NotEmpty(t, all)
	return all
}

func TestBrokenPacketsAreRejected(t *testing.T) {
	for name, data := range broken(t) {
		version := byte(V5)
		if strings.HasPrefix(name, "3.1.1") {
			version = V311
		}
		_, err := Read(bufio.NewReader(bytes.NewReader(data)), version, 1<<20)
		var fault *Fault
		require.ErrorAs(t, err, &fault, name)
		require.Contains(t, []byte{MalformedPacket, ProtocolError, PacketTooLarge}, fault.Code, name)
	}
}

func TestTruncatedPacketsAreRejected(t *testing.T) {
	for _, version := range []byte{V311, V5} {
		for _, pk := range samples(version) {
			whole := Encode(&pk)
			head := 2
			for whole[head-1] >= 128 {
				head++
			}
			for n := range len(whole) - head {
				short := append([]byte{whole[0]}, append(encodeLength(n), whole[head:head+n]...)...)
				got, err := Decode(short, version)
				if err == nil { // some packets may omit their last fields
					require.Equal(t, short, Encode(got), "%s, %d bytes", pk.Type, n)
				}
			}
		}
	}
}

// TestMemoryIsAllocatedOnlyForReceivedBytes announces a packet of the maximum length and sends three bytes of it.
func TestMemoryIsAllocatedOnlyForReceivedBytes(t *testing.T) {
	var before, after runtime.MemStats
	in := bufio.NewReader(bytes.NewReader([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F, 1, 2, 3}))
	runtime.ReadMemStats(&before)
	_, err := Read(in, V5, 1<<30)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, io.EOF)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

func TestRefusalsOfConnect(t *testing.T) {
	for code := -1; code < 300; code++ {
		require.Equal(t, 1 <= code && code <= 5, RefusesConnect(V311, code), code)
	}
	for _, code := range []int{-1, 0, 1, 5, 0x7F, 0x8B, 0x8D, 0x8E, 0x91, 0x98, 0x9E, 0xA0, 0xA2, 255, 256, 0x187} {
		require.False(t, RefusesConnect(V5, code), code)
	}
	for _, code := range []int{0x80, 0x87, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x9D, 0x9F} {
		require.True(t, RefusesConnect(V5, code), code)
	}
}

func TestCopies(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		pk := Packet{Type: Publish, Version: byte(V311 + random.IntN(2)), Topic: strings.Repeat("t", 1+random.IntN(200)),
			Payload: make([]byte, random.IntN(300))}
		want := pk
		if pk.Version == V5 {
			pk.Properties.User = make([]UserProperty, random.IntN(40))
			want.Properties.User = append([]UserProperty(nil), pk.Properties.User...)
		}
		made := Copy{QoS: byte(random.IntN(3))}
		if made.QoS > 0 {
			made.PacketID, made.Dup = uint16(1+random.IntN(65535)), random.IntN(2) == 0
		}
		want.QoS, want.PacketID, want.Dup = made.QoS, made.PacketID, made.Dup
		if pk.Version == V5 && random.IntN(2) == 0 {
			made.MessageExpiry, made.SubscriptionID = random.Uint32()|1, 1+random.Uint32N(268435455)
			want.Properties.MessageExpiry, want.Properties.SubscriptionIDs = &made.MessageExpiry, []uint32{made.SubscriptionID}
		}
		got, err := Decode(made.Of(Encode(&pk), pk.Version), pk.Version)
		require.NoError(t, err)
		require.Equal(t, Encode(&want), Encode(got))
	}
}

// FuzzPackets reads untrusted input. A packet that is accepted must survive encoding and decoding.
func FuzzPackets(f *testing.F) {
	for _, version := range []byte{V311, V5} {
		for _, pk := range samples(version) {
			f.Add(Encode(&pk), version == V5)
		}
	}
	for _, data := range broken(f) {
		f.Add(data, true)
		f.Add(data, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, v5 bool) {
		version := byte(V311)
		if v5 {
			version = V5
		}
		in := bufio.NewReader(bytes.NewReader(data))
		for {
			pk, err := Read(in, version, 1<<16)
			if err != nil {
				if fault := (*Fault)(nil); errors.As(err, &fault) {
					require.NotEmpty(t, fault.Reason)
					require.GreaterOrEqual(t, fault.Code, byte(UnspecifiedError))
				}
				return
			}
			if pk.Type == Connect && (pk.Connect.Protocol != "MQTT" || pk.Version != V311 && pk.Version != V5) {
				continue
			}
			again, err := Decode(Encode(pk), pk.Version)
			require.NoError(t, err)
			require.Equal(t, Encode(pk), Encode(again))
		}
	})
}
