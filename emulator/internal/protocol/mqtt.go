package protocol

import (
	"maps"
	"math"
	"mime"
	"slices"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// This file is what the topics and properties of MQTT are in the service's words. Package mqttpacket reads and writes the
// packets. The hub is the broker: groups, users and permissions are one state for clients of all protocols.

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
	MQTT311 MQTTVersion = mqttpacket.V311
	MQTT5   MQTTVersion = mqttpacket.V5
)

// MaxMQTTReason bounds a reason string, in bytes.
const MaxMQTTReason = 1 << 10

// MQTTString makes a text fit for a packet.
func MQTTString(s string) string {
	return text.Shorten(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD"), MaxMQTTReason)
}

// MQTTOrigin is what a message that an MQTT client published has for MQTT clients only.
type MQTTOrigin struct {
	QoS        byte
	Properties mqttpacket.Properties // passed on as they are, as MQTT demands
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
func MQTTGroup(topic string) (string, *mqttpacket.Fault) {
	switch {
	case strings.HasPrefix(topic, "$share/"):
		return "", mqttpacket.NewFault(mqttpacket.SharedSubscriptionsNotAllowed,
			"the service has no shared subscriptions, such as %.64q", topic)
	case strings.ContainsAny(topic, "+#"):
		return "", mqttpacket.NewFault(mqttpacket.WildcardsNotSupported,
			"the service has no wildcards: a topic is the name of a group, and %.64q cannot be one", topic)
	case strings.HasPrefix(topic, mqttReserved):
		return "", mqttpacket.NewFault(mqttpacket.TopicFilterInvalid, "the topic %.64q is none of the service's", topic)
	}
	if fault := CheckGroup(topic); fault != "" {
		return "", mqttpacket.NewFault(mqttpacket.TopicFilterInvalid, "%s", fault)
	}
	return topic, nil
}

func (v MQTTVersion) Encoding() hub.Encoding {
	if v == MQTT5 {
		return EncodingMQTT5
	}
	return EncodingMQTT311
}

// Encode encodes a message as a PUBLISH packet of quality of service 0. mqttpacket.Copy makes of it what a client gets.
func (v MQTTVersion) Encode(m *hub.Message) *hub.Frame {
	topic, _ := MQTTTopic(m.Group)
	pk := &mqttpacket.Packet{Type: mqttpacket.Publish, Version: byte(v), Topic: topic, Payload: m.Data}
	if v == MQTT5 {
		pk.Properties = mqttProperties(m)
	}
	return &hub.Frame{Data: mqttpacket.Encode(pk)}
}

// mqttProperties are the properties of a message's PUBLISH packet.
func mqttProperties(m *hub.Message) mqttpacket.Properties {
	if o, ok := m.Origin.(*MQTTOrigin); ok {
		return o.Properties
	}
	p := mqttpacket.Properties{ContentType: ContentTypes[m.Type]}
	if m.Type == hub.DataJSON || m.Type == hub.DataText {
		p.PayloadFormat = new(byte(1))
	}
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		value := strings.ReplaceAll(m.Metadata[key], "\x00", "\uFFFD") // which MQTT does not take
		p.User = append(p.User, mqttpacket.UserProperty{Key: key, Value: value})
	}
	return p
}

// MQTTForwarded are the properties of a client's PUBLISH packet that those who get the message see.
func MQTTForwarded(p *mqttpacket.Properties) mqttpacket.Properties {
	return mqttpacket.Properties{PayloadFormat: p.PayloadFormat, ContentType: p.ContentType, ResponseTopic: p.ResponseTopic,
		CorrelationData: p.CorrelationData, User: p.User}
}

// MQTTPayload is what a client's packet carries, as clients of other protocols get it. Before MQTT 5.0 nothing says
// what the bytes are, so that they are binary.
func MQTTPayload(properties *mqttpacket.Properties, data []byte) (hub.Payload, *mqttpacket.Fault) {
	p := hub.Payload{Type: hub.DataBinary, Data: data, Metadata: mqttMetadata(properties.User)}
	if format := properties.PayloadFormat; format != nil && *format == 1 {
		p.Type = hub.DataText
	}
	what := Unfit(&p)
	if t, ok := ParseContentType(properties.ContentType); ok && what == "" {
		p.Type = t
		what = Unfit(&p)
	}
	if what != "" {
		return p, mqttpacket.NewFault(mqttpacket.PayloadFormatInvalid,
			"the payload is not the %s that its properties say it is", what)
	}
	return p, nil
}

// mqttMetadata are the user properties that can be metadata: the last of a name, as long as there is room. MQTT
// clients get them all.
func mqttMetadata(properties []mqttpacket.UserProperty) map[string]string {
	var metadata map[string]string
	total := 0
	for _, p := range properties {
		if CheckMetadata(map[string]string{p.Key: p.Value}) != "" {
			continue
		}
		size := len(p.Key) + len(p.Value)
		if old, ok := metadata[p.Key]; ok {
			size -= len(p.Key) + len(old)
		}
		if total+size > maxMetadata {
			continue
		}
		if metadata == nil {
			metadata = make(map[string]string)
		}
		metadata[p.Key] = p.Value
		total += size
	}
	return metadata
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

func ToMQTTUserProperties(properties []mqttpacket.UserProperty) []MQTTUserProperty {
	var all []MQTTUserProperty // null in JSON if there are none
	for _, p := range properties {
		all = append(all, MQTTUserProperty{p.Key, p.Value})
	}
	return all
}

func FromMQTTUserProperties(properties []MQTTUserProperty) []mqttpacket.UserProperty {
	var all []mqttpacket.UserProperty
	for _, p := range properties {
		all = append(all, mqttpacket.UserProperty{Key: MQTTString(p.Name), Value: MQTTString(p.Value)})
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

func NewMQTTConnect(pk *mqttpacket.Packet) *MQTTConnect {
	return &MQTTConnect{ProtocolVersion: MQTTVersion(pk.Version), Username: pk.Connect.Username, Password: pk.Connect.Password,
		UserProperties: ToMQTTUserProperties(pk.Properties.User)}
}

// MQTTConnack is what the application has to say in the CONNACK packet.
type MQTTConnack struct {
	Code           int                `json:"code"` // as it was answered, which need not be a code that there is
	Reason         string             `json:"reason"`
	UserProperties []MQTTUserProperty `json:"userProperties"`
}

// MQTTEvent is what only the application sees of an event that an MQTT client has published, and what only the client sees of
// the answer.
type MQTTEvent struct {
	ContentType    string
	UserProperties []MQTTUserProperty
	Answer         *MQTTAnswer // nil until the application has answered, with whatever status
}

// MQTTAnswer is what the application has answered to an event.
type MQTTAnswer struct {
	Status         int
	ContentType    string
	UserProperties []MQTTUserProperty
	Body           []byte
}

// MQTTContentType is the content type of the request of an event. It reports false if the client's is no MIME type.
func MQTTContentType(p *mqttpacket.Properties) (string, bool) {
	switch {
	case p.ContentType != "":
		_, _, err := mime.ParseMediaType(p.ContentType)
		return p.ContentType, err == nil && strings.Contains(p.ContentType, "/") && HeaderValue(p.ContentType) == p.ContentType
	case p.PayloadFormat != nil && *p.PayloadFormat == 1:
		return "text/plain; charset=utf-8", true
	}
	return "application/octet-stream", true
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
	UserProperties []MQTTUserProperty `json:"userProperties,omitempty"`
}
