package protocol

import (
	"math"
	"mime"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// This file maps the topics and properties of MQTT to the service's groups and messages. Package mqttpacket reads and writes
// the packets. The hub is the broker: clients of all protocols share its groups, users and permissions.

// MQTTSubprotocol is the WebSocket subprotocol of MQTT 3.1.1 and 5.0.
const MQTTSubprotocol = "mqtt"

// A topic is the name of a group, unless it begins with mqttReserved. The protocol's description does not name the reserved
// topics. We chose names in the hosted service's style.
const (
	mqttReserved = "$webpubsub/"
	// MQTTServerMessages is the topic of messages that are not for a group: to all, to a user or to a connection. Clients
	// receive them without a subscription. A subscription sets their QoS.
	MQTTServerMessages = mqttReserved + "server/messages"
	// MQTTServerEvents is the prefix of the topics for client events. The name of the event follows.
	MQTTServerEvents = mqttReserved + "server/events/"
)

// MaxMQTTPacket is the maximum size of a client's packet after the fixed header, in bytes.
const MaxMQTTPacket = hub.MaxMessageSize

// MQTTVersion is the protocol version in an MQTT CONNECT packet.
type MQTTVersion byte

const (
	MQTT311 MQTTVersion = mqttpacket.V311
	MQTT5   MQTTVersion = mqttpacket.V5
)

// MaxMQTTReason is the maximum length of a reason string, in bytes.
const MaxMQTTReason = 1 << 10

// MQTTString returns a text in a form that is valid in a packet. It replaces invalid UTF-8 and NUL, and shortens the text to
// 65,535 bytes, the maximum of MQTT.
func MQTTString(s string) string {
	return text.Shorten(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD"), math.MaxUint16)
}

// MQTTReason returns a text in a form that is valid as a reason string, and shortens it to MaxMQTTReason.
func MQTTReason(s string) string { return text.Shorten(MQTTString(s), MaxMQTTReason) }

// MQTTOrigin is the part of a message from an MQTT client that only MQTT clients receive.
type MQTTOrigin struct {
	QoS        byte
	Properties mqttpacket.Properties // forwarded unchanged, as MQTT requires
}

// MQTTTopic returns the topic of a message to a group, or to no group if group is "". It returns false if the name of the
// group is not a valid topic. No client can subscribe to such a group, but the application may add an MQTT client to it.
func MQTTTopic(group string) (string, bool) {
	if group == "" {
		return MQTTServerMessages, true
	}
	return group, !strings.ContainsAny(group, "+#\x00") && !strings.HasPrefix(group, mqttReserved)
}

// MQTTGroup returns the group for the topic of a subscription or a message, or a fault if the topic is not valid.
func MQTTGroup(topic string) (string, *mqttpacket.Fault) {
	switch {
	case strings.HasPrefix(topic, "$share/"):
		return "", mqttpacket.NewFault(mqttpacket.SharedSubscriptionsNotAllowed,
			"the service does not support shared subscriptions, such as %.64q", topic)
	case strings.ContainsAny(topic, "+#"):
		return "", mqttpacket.NewFault(mqttpacket.WildcardsNotSupported,
			"the service has no wildcards: a topic is the name of a group, and %.64q cannot be one", topic)
	case strings.HasPrefix(topic, mqttReserved):
		return "", mqttpacket.NewFault(mqttpacket.TopicFilterInvalid, "unknown topic %.64q: topics under $webpubsub/ are reserved", topic)
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

// Encode encodes a message as a PUBLISH packet with QoS 0. mqttpacket.Copy adapts the packet for each client.
func (v MQTTVersion) Encode(m *hub.Message) *hub.Frame {
	topic, _ := MQTTTopic(m.Group)
	pk := &mqttpacket.Packet{Type: mqttpacket.Publish, Version: byte(v), Topic: topic, Payload: m.Data}
	if v == MQTT5 {
		pk.Properties = mqttProperties(m)
	}
	return &hub.Frame{Data: mqttpacket.Encode(pk)}
}

// mqttProperties returns the properties of a message's PUBLISH packet. As documented, only the content type and the expiry
// interval of a message cross protocols: metadata does not become user properties.
func mqttProperties(m *hub.Message) mqttpacket.Properties {
	if o, ok := m.Origin.(*MQTTOrigin); ok {
		return o.Properties
	}
	return mqttpacket.Properties{ContentType: ContentTypes[m.Type]}
}

// MQTTForwarded returns the properties of a client's PUBLISH packet that are forwarded to the recipients.
func MQTTForwarded(p *mqttpacket.Properties) mqttpacket.Properties {
	return mqttpacket.Properties{PayloadFormat: p.PayloadFormat, ContentType: p.ContentType, ResponseTopic: p.ResponseTopic,
		CorrelationData: p.CorrelationData, User: p.User}
}

// MQTTPayload returns the payload of a client's packet for clients of other protocols. The content type decides the type of the
// data; without one, as in MQTT 3.1.1, and for all other content types, the data is binary. As documented, user properties do
// not cross protocols. MQTTPayload returns a fault if the data does not have the format that the properties declare.
func MQTTPayload(properties *mqttpacket.Properties, data []byte) (hub.Payload, *mqttpacket.Fault) {
	p := hub.Payload{Type: hub.DataBinary, Data: data}
	if t, ok := ParseContentType(properties.ContentType); ok {
		p.Type = t
	}
	what := Unfit(&p)
	if format := properties.PayloadFormat; what == "" && format != nil && *format == 1 {
		what = Unfit(&hub.Payload{Type: hub.DataText, Data: data})
	}
	if what != "" {
		return p, mqttpacket.NewFault(mqttpacket.PayloadFormatInvalid,
			"the payload is not valid %s, which its properties declare", what)
	}
	return p, nil
}

// MQTTExpiry returns the time until a frame expires, in seconds, rounded up and at least 1. It returns 0 if the frame never
// expires.
func MQTTExpiry(f *hub.Frame, c *hub.Clock) uint32 {
	left, ends := f.Left(c)
	if !ends {
		return 0
	}
	return uint32(min(max(math.Ceil(left.Seconds()), 1), math.MaxUint32))
}

// MQTTUserProperty is a user property in the JSON of events.
type MQTTUserProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func ToMQTTUserProperties(properties []mqttpacket.UserProperty) []MQTTUserProperty {
	var all []MQTTUserProperty // nil, so null in JSON, if there are none
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

// MQTTConnect describes a CONNECT packet in the JSON of the connect event.
type MQTTConnect struct {
	ProtocolVersion MQTTVersion        `json:"protocolVersion"`
	Username        *string            `json:"username"`
	Password        []byte             `json:"password"` // base64; null if there is none
	UserProperties  []MQTTUserProperty `json:"userProperties"`
}

func NewMQTTConnect(pk *mqttpacket.Packet) *MQTTConnect {
	return &MQTTConnect{ProtocolVersion: MQTTVersion(pk.Version), Username: pk.Connect.Username, Password: pk.Connect.Password,
		UserProperties: ToMQTTUserProperties(pk.Properties.User)}
}

// MQTTConnack is the part of the application's connect response that is for the CONNACK packet.
type MQTTConnack struct {
	Code           int                `json:"code"` // as the application sent it, which may not be a valid code
	Reason         string             `json:"reason"`
	UserProperties []MQTTUserProperty `json:"userProperties"`
}

// MQTTEvent is the MQTT part of an event that a client has published, and of the application's response to it.
type MQTTEvent struct {
	ContentType    string
	UserProperties []MQTTUserProperty
	Answer         *MQTTAnswer // nil until the application has responded, with any status
}

// MQTTAnswer is the application's response to an event.
type MQTTAnswer struct {
	Status         int
	ContentType    string
	UserProperties []MQTTUserProperty
	Body           []byte
}

// MQTTContentType returns the content type for an event's request to the application. It returns false if the client's
// content type is not a valid MIME type.
func MQTTContentType(p *mqttpacket.Properties) (string, bool) {
	switch {
	case p.ContentType != "":
		_, _, err := mime.ParseMediaType(p.ContentType)
		return p.ContentType, err == nil && strings.Contains(p.ContentType, "/") && !strings.ContainsFunc(p.ContentType, isControl)
	case p.PayloadFormat != nil && *p.PayloadFormat == 1:
		return "text/plain; charset=utf-8", true
	}
	return "application/octet-stream", true
}

// MQTTLink is the link of an MQTT client. It has the additional information that events about MQTT clients carry.
type MQTTLink interface {
	// Identity returns the ids of the client's network connection and of its session.
	Identity() (physicalID, sessionID string)
	// Disconnection describes how the client's connection ended.
	Disconnection() *MQTTDisconnect
}

// MQTTDisconnect describes the end of a client's connection in the JSON of the disconnected event.
type MQTTDisconnect struct {
	InitiatedByClient bool                  `json:"initiatedByClient"`
	DisconnectPacket  *MQTTDisconnectPacket `json:"disconnectPacket"`
}

type MQTTDisconnectPacket struct {
	Code           byte               `json:"code"`
	UserProperties []MQTTUserProperty `json:"userProperties,omitempty"`
}
