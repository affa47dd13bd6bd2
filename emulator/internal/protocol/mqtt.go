package protocol

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// This file is how MQTT puts things: packets, and what topics and properties are in the service's words. Reading and
// writing packets is left to mochi's packets; its broker is not used, because the hub is the broker: groups, users and
// permissions are one state for clients of all protocols.

// MQTTSubprotocol is the WebSocket subprotocol of MQTT 3.1.1 and 5.0.
const MQTTSubprotocol = "mqtt"

// A topic is a group, but for those below mqttReserved. The names of these topics are ours, chosen after the hosted
// service's: the protocol's description leaves them open.
const (
	mqttReserved = "$webpubsub/"
	// MQTTServerMessages is the topic of messages that were sent to no group: to all, to a user or to a connection.
	// They come without a subscription; to subscribe chooses their quality of service.
	MQTTServerMessages = mqttReserved + "server/messages"
	// MQTTServerEvents begins the topics on which a client tells the application of an event: its name follows.
	MQTTServerEvents = mqttReserved + "server/events/"
)

// MaxMQTTPacket bounds what follows the fixed header of a packet from a client, in bytes.
const MaxMQTTPacket = hub.MaxMessageSize

// MQTTVersion is a version of MQTT, as its CONNECT packets spell it.
type MQTTVersion byte

const (
	MQTT311 MQTTVersion = 4
	MQTT5   MQTTVersion = 5
)

// MQTTFault is why a packet cannot be served. It is a reason code of MQTT 5.0, and words.
type MQTTFault struct {
	Code   byte
	Reason string
}

func (f *MQTTFault) Error() string { return f.Reason }

func NewMQTTFault(code packets.Code, format string, args ...any) *MQTTFault {
	return &MQTTFault{code.Code, fmt.Sprintf(format, args...)}
}

// ReadMQTT reads a packet. The error is a *MQTTFault if it is malformed.
func ReadMQTT(in *bufio.Reader, version MQTTVersion) (*packets.Packet, error) {
	head, err := in.ReadByte()
	if err != nil {
		return nil, err
	}
	pk := &packets.Packet{ProtocolVersion: byte(version)}
	if err := pk.FixedHeader.Decode(head); err != nil {
		return nil, mqttDecodeFault(err)
	}
	length, digits, err := packets.DecodeLength(in)
	switch {
	case errors.As(err, new(packets.Code)) || digits > 4:
		return nil, NewMQTTFault(packets.ErrMalformedPacket, "malformed packet: the length")
	case err != nil:
		return nil, err
	case length > MaxMQTTPacket:
		return nil, NewMQTTFault(packets.ErrPacketTooLarge, "a packet of more than %d bytes", MaxMQTTPacket)
	}
	pk.FixedHeader.Remaining = length
	body := make([]byte, length)
	for filled := 0; filled < length; { // not io.ReadFull, whose io.ErrUnexpectedEOF would hide the close frame's code
		n, err := in.Read(body[filled:])
		if err != nil {
			return nil, err
		}
		filled += n
	}
	if err := decodeMQTT(pk, body); err != nil {
		return nil, mqttDecodeFault(err)
	}
	return pk, nil
}

// decodeMQTT decodes what follows the fixed header. The packet keeps body.
func decodeMQTT(pk *packets.Packet, body []byte) (err error) {
	defer func() {
		if recover() != nil { // some malformed packets make the decoder read past the end of body
			err = packets.ErrMalformedPacket
		}
	}()
	switch pk.FixedHeader.Type {
	case packets.Connect:
		return pk.ConnectDecode(body)
	case packets.Publish:
		return pk.PublishDecode(body)
	case packets.Puback:
		return pk.PubackDecode(body)
	case packets.Subscribe:
		return pk.SubscribeDecode(body)
	case packets.Unsubscribe:
		return pk.UnsubscribeDecode(body)
	case packets.Pingreq:
		return nil
	case packets.Disconnect:
		if len(body) == 1 { // which DisconnectDecode leaves out
			pk.ReasonCode = body[0]
		}
		return pk.DisconnectDecode(body)
	default:
		return packets.Code{Code: packets.ErrProtocolViolation.Code,
			Reason: fmt.Sprintf("a client does not send packets of type %d here", pk.FixedHeader.Type)}
	}
}

func mqttDecodeFault(err error) *MQTTFault {
	if code, ok := errors.AsType[packets.Code](err); ok {
		return &MQTTFault{code.Code, err.Error()}
	}
	return NewMQTTFault(packets.ErrMalformedPacket, "malformed packet: %v", err)
}

// EncodeMQTT encodes a packet of the server's, all of whose fields are known to fit.
func EncodeMQTT(pk *packets.Packet) []byte {
	var buf bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackEncode(&buf)
	case packets.Publish:
		err = pk.PublishEncode(&buf)
	case packets.Puback:
		err = pk.PubackEncode(&buf)
	case packets.Suback:
		err = pk.SubackEncode(&buf)
	case packets.Unsuback:
		err = pk.UnsubackEncode(&buf)
	case packets.Pingresp:
		err = pk.PingrespEncode(&buf)
	case packets.Disconnect:
		err = pk.DisconnectEncode(&buf)
	default:
		err = errors.New("not a packet of a server")
	}
	if err != nil {
		panic(fmt.Sprintf("emulator: MQTT packet of type %d: %v", pk.FixedHeader.Type, err))
	}
	return buf.Bytes()
}

// MaxMQTTReason bounds a reason string, in bytes.
const MaxMQTTReason = 1 << 10

// MQTTString makes a text fit for a packet.
func MQTTString(s string) string {
	return text.Shorten(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD"), MaxMQTTReason)
}

// MQTTOrigin is what a message that an MQTT client published has for MQTT clients only.
type MQTTOrigin struct {
	QoS        byte
	Properties packets.Properties // passed on as they are, as MQTT demands
}

// MQTTTopic is the topic of a message to a group, or to none. It reports false for a group whose name cannot be a
// topic: nobody subscribes to it, but the application may put an MQTT client into it.
func MQTTTopic(group string) (string, bool) {
	if group == "" {
		return MQTTServerMessages, true
	}
	return group, !strings.ContainsAny(group, "+#\x00") && !strings.HasPrefix(group, mqttReserved)
}

// MQTTGroup is the group that a topic stands for, in a subscription or a message.
func MQTTGroup(topic string) (string, *MQTTFault) {
	switch {
	case strings.ContainsAny(topic, "+#"):
		return "", NewMQTTFault(packets.ErrWildcardSubscriptionsNotSupported,
			"topics are groups: %.64q with a wildcard is none", topic)
	case strings.HasPrefix(topic, "$share/"):
		return "", NewMQTTFault(packets.ErrSharedSubscriptionsNotSupported,
			"there are no shared subscriptions, such as %.64q", topic)
	case strings.HasPrefix(topic, mqttReserved):
		return "", NewMQTTFault(packets.ErrTopicFilterInvalid, "the topic %.64q is none of the service's", topic)
	}
	if fault := CheckGroup(topic); fault != "" {
		return "", NewMQTTFault(packets.ErrTopicFilterInvalid, "%s", fault)
	}
	return topic, nil
}

func (v MQTTVersion) Encoding() hub.Encoding {
	if v == MQTT5 {
		return EncodingMQTT5
	}
	return EncodingMQTT311
}

// Encode encodes a message as a PUBLISH packet of quality of service 0. MQTTPublish makes of it what a client gets.
func (v MQTTVersion) Encode(m *hub.Message) *hub.Frame {
	topic, _ := MQTTTopic(m.Group)
	pk := packets.Packet{ProtocolVersion: byte(v), FixedHeader: packets.FixedHeader{Type: packets.Publish},
		TopicName: topic, Payload: m.Data}
	if v == MQTT5 {
		pk.Mods.AllowResponseInfo = true
		pk.Properties = mqttProperties(m)
	}
	return &hub.Frame{Data: EncodeMQTT(&pk)}
}

// mqttProperties are the properties of a message's PUBLISH packet.
func mqttProperties(m *hub.Message) packets.Properties {
	if o, ok := m.Origin.(*MQTTOrigin); ok {
		return o.Properties
	}
	p := packets.Properties{ContentType: ContentTypes[m.Type]}
	if m.Type == hub.DataJSON || m.Type == hub.DataText {
		p.PayloadFormat, p.PayloadFormatFlag = 1, true
	}
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		value := strings.ReplaceAll(m.Metadata[key], "\x00", "\uFFFD") // which MQTT does not take
		p.User = append(p.User, packets.UserProperty{Key: key, Val: value})
	}
	return p
}

// MQTTForwarded are the properties of a client's PUBLISH packet that those who get the message see.
func MQTTForwarded(p *packets.Properties) packets.Properties {
	return packets.Properties{PayloadFormat: p.PayloadFormat, PayloadFormatFlag: p.PayloadFormatFlag,
		ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData, User: p.User}
}

// MQTTPayload is what a client's packet carries, as clients of other protocols get it. Before MQTT 5.0 nothing says
// what the bytes are, so that they are binary.
func MQTTPayload(properties *packets.Properties, data []byte) (hub.Payload, *MQTTFault) {
	p := hub.Payload{Type: hub.DataBinary, Data: data, Metadata: mqttMetadata(properties.User)}
	if properties.PayloadFormatFlag && properties.PayloadFormat == 1 {
		p.Type = hub.DataText
	}
	what := Unfit(&p)
	if t, ok := ParseContentType(properties.ContentType); ok && what == "" {
		p.Type = t
		what = Unfit(&p)
	}
	if what != "" {
		return p, NewMQTTFault(packets.ErrPayloadFormatInvalid,
			"the payload is not the %s that its properties say it is", what)
	}
	return p, nil
}

// mqttMetadata are the user properties that can be metadata: the last of a name, as long as there is room. MQTT
// clients get them all.
func mqttMetadata(properties []packets.UserProperty) map[string]string {
	var metadata map[string]string
	total := 0
	for _, p := range properties {
		if CheckMetadata(map[string]string{p.Key: p.Val}) != "" {
			continue
		}
		size := len(p.Key) + len(p.Val)
		if old, ok := metadata[p.Key]; ok {
			size -= len(p.Key) + len(old)
		}
		if total+size > maxMetadata {
			continue
		}
		if metadata == nil {
			metadata = make(map[string]string)
		}
		metadata[p.Key] = p.Val
		total += size
	}
	return metadata
}

// MQTTPublish makes the PUBLISH packet that one client gets of the one that all get. With a packet id other than 0 its
// quality of service is 1. expiry is what is left of the message's time, in seconds; 0 = for ever.
func MQTTPublish(version MQTTVersion, data []byte, id uint16, dup bool, expiry uint32) []byte {
	if id == 0 && expiry == 0 {
		return data
	}
	_, digits := binary.Uvarint(data[1:])
	rest := data[1+digits:]
	topic := rest[:2+int(binary.BigEndian.Uint16(rest))]
	rest = rest[len(topic):]

	var middle []byte // what comes between topic and payload, or between topic and the properties there are
	if id != 0 {
		middle = binary.BigEndian.AppendUint16(middle, id)
	}
	if version == MQTT5 && expiry != 0 {
		properties, digits := binary.Uvarint(rest)
		rest = rest[digits:]
		middle = binary.AppendUvarint(middle, properties+5)
		middle = append(middle, packets.PropMessageExpiryInterval)
		middle = binary.BigEndian.AppendUint32(middle, expiry)
	}

	head := data[0]
	if id != 0 {
		head |= 1 << 1
	}
	if dup {
		head |= 1 << 3
	}
	length := len(topic) + len(middle) + len(rest)
	out := make([]byte, 0, 1+binary.MaxVarintLen32+length)
	out = append(out, head)
	out = binary.AppendUvarint(out, uint64(length))
	out = append(out, topic...)
	out = append(out, middle...)
	return append(out, rest...)
}

// MQTTExpiry is how long a frame is still worth delivering, in whole seconds; 0 = for ever.
func MQTTExpiry(f *hub.Frame, c *hub.Clock) uint32 {
	left, ends := f.Left(c)
	if !ends {
		return 0
	}
	return uint32(min(max(math.Ceil(left.Seconds()), 1), math.MaxUint32))
}

// MQTTUserProperty is a user property as events spell it.
type MQTTUserProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func ToMQTTUserProperties(properties []packets.UserProperty) []MQTTUserProperty {
	all := make([]MQTTUserProperty, 0, len(properties)) // never null
	for _, p := range properties {
		all = append(all, MQTTUserProperty{p.Key, p.Val})
	}
	return all
}

func FromMQTTUserProperties(properties []MQTTUserProperty) []packets.UserProperty {
	var all []packets.UserProperty
	for _, p := range properties {
		all = append(all, packets.UserProperty{Key: MQTTString(p.Name), Val: MQTTString(p.Value)})
	}
	return all
}

// MQTTConnect is a CONNECT packet as the application sees it.
type MQTTConnect struct {
	ProtocolVersion MQTTVersion        `json:"protocolVersion"`
	Username        *string            `json:"username"`
	Password        []byte             `json:"password"` // in base64, and null if there is none
	UserProperties  []MQTTUserProperty `json:"userProperties"`
}

func NewMQTTConnect(pk *packets.Packet) *MQTTConnect {
	c := &MQTTConnect{ProtocolVersion: MQTTVersion(pk.ProtocolVersion),
		UserProperties: ToMQTTUserProperties(pk.Properties.User)}
	if pk.Connect.UsernameFlag {
		name := string(pk.Connect.Username)
		c.Username = &name
	}
	if pk.Connect.PasswordFlag {
		c.Password = append([]byte{}, pk.Connect.Password...) // not nil, as an empty password is one
	}
	return c
}

// MQTTConnack is what the application has to say in the CONNACK packet.
type MQTTConnack struct {
	Code           byte               `json:"code"`
	Reason         string             `json:"reason"`
	UserProperties []MQTTUserProperty `json:"userProperties"`
}

// MQTTLink is the link of an MQTT client, of which events say more than of others.
type MQTTLink interface {
	// Identity returns the ids of the client's network connection and of its session.
	Identity() (physicalID, sessionID string)
	// Disconnection returns how the client's connection ended.
	Disconnection() *MQTTDisconnect
}

// MQTTDisconnect is the end of a client's connection as the application sees it.
type MQTTDisconnect struct {
	InitiatedByClient bool                  `json:"initiatedByClient"`
	DisconnectPacket  *MQTTDisconnectPacket `json:"disconnectPacket"`
}

type MQTTDisconnectPacket struct {
	Code           byte               `json:"code"`
	UserProperties []MQTTUserProperty `json:"userProperties"`
}
