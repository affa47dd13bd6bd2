package emulator

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

	"github.com/coder/websocket"
	"github.com/mochi-mqtt/server/v2/packets"
)

// This file is how MQTT puts things: packets, and what topics and properties are in the service's words. Reading and
// writing packets is left to mochi's packets; its broker is not used, because the hub is the broker: groups, users and
// permissions are one state for clients of all protocols.

// mqttSubprotocol is the WebSocket subprotocol of MQTT 3.1.1 and 5.0.
const mqttSubprotocol = "mqtt"

// A topic is a group, but for those below mqttReserved. The names of these topics are ours, chosen after the hosted
// service's: the protocol's description leaves them open.
const (
	mqttReserved = "$webpubsub/"
	// mqttServerMessages is the topic of messages that were sent to no group: to all, to a user or to a connection.
	// They come without a subscription; to subscribe chooses their quality of service.
	mqttServerMessages = mqttReserved + "server/messages"
	// mqttServerEvents begins the topics on which a client tells the application of an event: its name follows.
	mqttServerEvents = mqttReserved + "server/events/"
)

// maxMQTTPacket bounds what follows the fixed header of a packet from a client, in bytes.
const maxMQTTPacket = maxMessageSize

// mqttVersion is a version of MQTT, as its CONNECT packets say it.
type mqttVersion byte

const (
	mqtt311 mqttVersion = 4
	mqtt5   mqttVersion = 5
)

// mqttFault is why a packet cannot be served. It is a reason code of MQTT 5.0, and words.
type mqttFault struct {
	code   byte
	reason string
}

func (f *mqttFault) Error() string { return f.reason }

func newMQTTFault(code packets.Code, format string, args ...any) *mqttFault {
	return &mqttFault{code.Code, fmt.Sprintf(format, args...)}
}

// readMQTT reads a packet. The error is a *mqttFault if what was read is none.
func readMQTT(in *bufio.Reader, version mqttVersion) (*packets.Packet, error) {
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
		return nil, newMQTTFault(packets.ErrMalformedPacket, "malformed packet: the length")
	case err != nil:
		return nil, err
	case length > maxMQTTPacket:
		return nil, newMQTTFault(packets.ErrPacketTooLarge, "a packet of more than %d bytes", maxMQTTPacket)
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

func mqttDecodeFault(err error) *mqttFault {
	if code, ok := errors.AsType[packets.Code](err); ok {
		return &mqttFault{code.Code, err.Error()}
	}
	return newMQTTFault(packets.ErrMalformedPacket, "malformed packet: %v", err)
}

// encodeMQTT encodes a packet of the server's, all of whose fields are known to fit.
func encodeMQTT(pk *packets.Packet) []byte {
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

// maxMQTTReason bounds a reason string, in bytes.
const maxMQTTReason = 1 << 10

// mqttString makes a text fit for a packet.
func mqttString(text string) string {
	return shorten(strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD"), maxMQTTReason)
}

// mqttOrigin is what a message that an MQTT client published has for MQTT clients only.
type mqttOrigin struct {
	qos        byte
	properties packets.Properties // passed on as they are, as MQTT demands
}

// mqttTopic is the topic of a message to a group, or to none. It reports false for a group whose name cannot be a
// topic: nobody subscribes to it, but the application may put an MQTT client into it.
func mqttTopic(group string) (string, bool) {
	if group == "" {
		return mqttServerMessages, true
	}
	return group, !strings.ContainsAny(group, "+#\x00") && !strings.HasPrefix(group, mqttReserved)
}

// mqttGroup is the group that a topic stands for, in a subscription or a message.
func mqttGroup(topic string) (string, *mqttFault) {
	switch {
	case strings.ContainsAny(topic, "+#"):
		return "", newMQTTFault(packets.ErrWildcardSubscriptionsNotSupported,
			"topics are groups: %.64q with a wildcard is none", topic)
	case strings.HasPrefix(topic, "$share/"):
		return "", newMQTTFault(packets.ErrSharedSubscriptionsNotSupported,
			"there are no shared subscriptions, such as %.64q", topic)
	case strings.HasPrefix(topic, mqttReserved):
		return "", newMQTTFault(packets.ErrTopicFilterInvalid, "the topic %.64q is none of the service's", topic)
	}
	if fault := checkGroup(topic); fault != "" {
		return "", newMQTTFault(packets.ErrTopicFilterInvalid, "%s", fault)
	}
	return topic, nil
}

func (v mqttVersion) kind() codecKind {
	if v == mqtt5 {
		return codecMQTT5
	}
	return codecMQTT311
}

// message encodes a message as a PUBLISH packet of quality of service 0. mqttPublish makes of it what a client gets.
func (v mqttVersion) message(m *message) *frame {
	topic, _ := mqttTopic(m.group)
	pk := packets.Packet{ProtocolVersion: byte(v), FixedHeader: packets.FixedHeader{Type: packets.Publish},
		TopicName: topic, Payload: m.data}
	if v == mqtt5 {
		pk.Mods.AllowResponseInfo = true
		pk.Properties = mqttProperties(m)
	}
	return &frame{typ: websocket.MessageBinary, data: encodeMQTT(&pk)}
}

// mqttProperties are the properties of a message's PUBLISH packet.
func mqttProperties(m *message) packets.Properties {
	if m.mqtt != nil {
		return m.mqtt.properties
	}
	p := packets.Properties{ContentType: contentTypes[m.dataType]}
	if m.dataType == dataJSON || m.dataType == dataText {
		p.PayloadFormat, p.PayloadFormatFlag = 1, true
	}
	for _, key := range slices.Sorted(maps.Keys(m.metadata)) {
		value := strings.ReplaceAll(m.metadata[key], "\x00", "\uFFFD") // which MQTT does not take
		p.User = append(p.User, packets.UserProperty{Key: key, Val: value})
	}
	return p
}

// mqttForwarded are the properties of a client's PUBLISH packet that those who get the message see.
func mqttForwarded(p *packets.Properties) packets.Properties {
	return packets.Properties{PayloadFormat: p.PayloadFormat, PayloadFormatFlag: p.PayloadFormatFlag,
		ContentType: p.ContentType, ResponseTopic: p.ResponseTopic, CorrelationData: p.CorrelationData, User: p.User}
}

// mqttPayload is what a client's packet carries, as clients of other protocols get it. Before MQTT 5.0 nothing says
// what the bytes are, so that they are binary.
func mqttPayload(properties *packets.Properties, data []byte) (payload, *mqttFault) {
	p := payload{dataType: dataBinary, data: data, metadata: mqttMetadata(properties.User)}
	if properties.PayloadFormatFlag && properties.PayloadFormat == 1 {
		p.dataType = dataText
	}
	what := p.unfit()
	if t, ok := parseContentType(properties.ContentType); ok && what == "" {
		p.dataType = t
		what = p.unfit()
	}
	if what != "" {
		return p, newMQTTFault(packets.ErrPayloadFormatInvalid,
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
		if checkMetadata(map[string]string{p.Key: p.Val}) != "" {
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

// mqttPublish makes the PUBLISH packet that one client gets of the one that all get. With a packet id other than 0 its
// quality of service is 1. expiry is what is left of the message's time, in seconds; 0 = for ever.
func mqttPublish(version mqttVersion, data []byte, id uint16, dup bool, expiry uint32) []byte {
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
	if version == mqtt5 && expiry != 0 {
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

// mqttExpiry is how long a frame is still worth delivering, in whole seconds; 0 = for ever.
func mqttExpiry(f *frame, c *clock) uint32 {
	if f.expires.IsZero() {
		return 0
	}
	left := math.Ceil(f.expires.Sub(c.now()).Seconds())
	return uint32(min(max(left, 1), math.MaxUint32))
}

// mqttUserProperty is a user property as events spell it.
type mqttUserProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func toMQTTUserProperties(properties []packets.UserProperty) []mqttUserProperty {
	all := make([]mqttUserProperty, 0, len(properties)) // never null
	for _, p := range properties {
		all = append(all, mqttUserProperty{p.Key, p.Val})
	}
	return all
}

func fromMQTTUserProperties(properties []mqttUserProperty) []packets.UserProperty {
	var all []packets.UserProperty
	for _, p := range properties {
		all = append(all, packets.UserProperty{Key: mqttString(p.Name), Val: mqttString(p.Value)})
	}
	return all
}

// mqttConnect is a CONNECT packet as the application sees it.
type mqttConnect struct {
	ProtocolVersion mqttVersion        `json:"protocolVersion"`
	Username        *string            `json:"username"`
	Password        []byte             `json:"password"` // in base64, and null if there is none
	UserProperties  []mqttUserProperty `json:"userProperties"`
}

func newMQTTConnect(pk *packets.Packet) *mqttConnect {
	c := &mqttConnect{ProtocolVersion: mqttVersion(pk.ProtocolVersion),
		UserProperties: toMQTTUserProperties(pk.Properties.User)}
	if pk.Connect.UsernameFlag {
		name := string(pk.Connect.Username)
		c.Username = &name
	}
	if pk.Connect.PasswordFlag {
		c.Password = append([]byte{}, pk.Connect.Password...) // not nil, as an empty password is one
	}
	return c
}

// mqttConnack is what the application has to say in the CONNACK packet.
type mqttConnack struct {
	Code           byte               `json:"code"`
	Reason         string             `json:"reason"`
	UserProperties []mqttUserProperty `json:"userProperties"`
}

// mqttDisconnect is the end of a client's connection as the application sees it.
type mqttDisconnect struct {
	InitiatedByClient bool                  `json:"initiatedByClient"`
	DisconnectPacket  *mqttDisconnectPacket `json:"disconnectPacket"`
}

type mqttDisconnectPacket struct {
	Code           byte               `json:"code"`
	UserProperties []mqttUserProperty `json:"userProperties"`
}
