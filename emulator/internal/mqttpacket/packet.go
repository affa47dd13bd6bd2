// Package mqttpacket encodes and decodes the packets of MQTT 3.1.1 and 5.0. It accepts only packets that the specifications
// allow, so a client's mistake shows in a test. It does no I/O other than reading a packet from a stream.
//
// # Why the emulator has its own codec
//
// A server reads untrusted input, and the emulator is a dependency of other people's tests. Three libraries were compared in
// November 2026, with a fuzzer and with the packets in this package's testdata.
//
// github.com/mochi-mqtt/server/v2/packets, last released in March 2025:
//
//   - Some truncated packets cause a panic (index out of range in SUBSCRIBE).
//   - It adds 44 modules to the graph of a user's tests, for a broker that the emulator does not use.
//
// github.com/eclipse/paho.golang/packets, maintained, MQTT 5.0 only:
//
//   - ReadPacket allocates the announced length before it reads: 4 GiB for a packet of 6 bytes. If int has 32 bits, it panics.
//   - If int has 32 bits, Unpack panics on a property length of five bytes.
//   - It accepts truncated properties, repeated properties, reserved flags, bytes after the end, and text that is not UTF-8.
//
// github.com/eclipse/paho.mqtt.golang/packets, maintained, MQTT 3.1.1 only:
//
//   - ReadPacket allocates up to 256 MiB for a packet of 5 bytes.
//   - It pads a truncated string with zero bytes and accepts it.
//
// Both Eclipse Paho libraries are written for clients, which trust their server. Neither passes a fuzzer that compares the
// decoded packet with the input. Using both would also mean two types for every packet. They remain the reference in this
// package's tests: each side decodes what the other has encoded.
package mqttpacket

import "fmt"

// The versions of MQTT, as encoded in CONNECT packets.
const (
	V311 = 4
	V5   = 5
)

// Type is the type of a packet.
type Type byte

const (
	Connect Type = 1 + iota
	Connack
	Publish
	Puback
	Pubrec
	Pubrel
	Pubcomp
	Subscribe
	Suback
	Unsubscribe
	Unsuback
	Pingreq
	Pingresp
	Disconnect
	Auth
)

var typeNames = [...]string{"reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE",
	"SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", byte(t))
}

// Packet is a packet of either version. The packet's type decides which fields are used.
type Packet struct {
	Type    Type
	Version byte // the protocol version, V311 or V5

	PacketID   uint16
	Properties Properties // MQTT 5.0

	Connect        ConnectFields  // CONNECT
	SessionPresent bool           // CONNACK
	Code           byte           // a reason code of MQTT 5.0, or the return code of a CONNACK of 3.1.1
	Codes          []byte         // SUBACK and UNSUBACK, one per filter
	Filters        []Subscription // SUBSCRIBE and UNSUBSCRIBE

	// PUBLISH
	QoS     byte
	Dup     bool
	Retain  bool
	Topic   string
	Payload []byte
}

// ConnectFields are the fields of a CONNECT packet. In a packet of another version than 3.1.1 or 5.0, only Protocol is set.
type ConnectFields struct {
	Protocol  string // "MQTT"
	Clean     bool   // clean session (3.1.1) or clean start (5.0)
	KeepAlive uint16 // in seconds; 0 = none
	ClientID  string
	Will      *Will
	Username  *string
	Password  []byte // nil = none
}

// Will is the message that the server publishes if the connection is lost.
type Will struct {
	Topic      string
	Payload    []byte
	QoS        byte
	Retain     bool
	Properties Properties
}

// Subscription is a topic filter with its options. In an UNSUBSCRIBE packet, only Filter is set.
type Subscription struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
}

// Fault is the error for a packet that is not acceptable.
type Fault struct {
	Code   byte // a reason code of MQTT 5.0
	Reason string
}

func (f *Fault) Error() string { return f.Reason }

// NewFault returns a Fault with a formatted reason.
func NewFault(code byte, format string, args ...any) *Fault {
	return &Fault{code, fmt.Sprintf(format, args...)}
}

// Reason codes of MQTT 5.0.
const (
	Success                       = 0x00
	NoSubscriptionExisted         = 0x11
	UnspecifiedError              = 0x80
	MalformedPacket               = 0x81
	ProtocolError                 = 0x82
	ImplementationSpecificError   = 0x83
	UnsupportedProtocolVersion    = 0x84
	ClientIDNotValid              = 0x85
	BadUsernameOrPassword         = 0x86
	NotAuthorized                 = 0x87
	ServerUnavailable             = 0x88
	ServerShuttingDown            = 0x8B
	BadAuthenticationMethod       = 0x8C
	KeepAliveTimeout              = 0x8D
	SessionTakenOver              = 0x8E
	TopicFilterInvalid            = 0x8F
	TopicNameInvalid              = 0x90
	PacketIDNotFound              = 0x92
	TopicAliasInvalid             = 0x94
	PacketTooLarge                = 0x95
	QuotaExceeded                 = 0x97
	AdministrativeAction          = 0x98
	PayloadFormatInvalid          = 0x99
	RetainNotSupported            = 0x9A
	SharedSubscriptionsNotAllowed = 0x9E
	ConnectionRateExceeded        = 0x9F
	WildcardsNotSupported         = 0xA2
)

// connackCodes are the reason codes other than Success that a CONNACK packet may have.
var connackCodes = map[byte]bool{0x80: true, 0x81: true, 0x82: true, 0x83: true, 0x84: true, 0x85: true, 0x86: true, 0x87: true,
	0x88: true, 0x89: true, 0x8A: true, 0x8C: true, 0x90: true, 0x95: true, 0x97: true, 0x99: true, 0x9A: true, 0x9B: true,
	0x9C: true, 0x9D: true, 0x9F: true}

// RefusesConnect reports whether a code is valid for rejecting a client in a CONNACK packet of a version.
func RefusesConnect(version byte, code int) bool {
	if version == V5 {
		return code > 0 && code < 256 && connackCodes[byte(code)]
	}
	return 1 <= code && code <= 5
}

// flags returns the required value of the lower four bits of the first byte, for every type except PUBLISH.
func (t Type) flags() byte {
	if t == Pubrel || t == Subscribe || t == Unsubscribe {
		return 2
	}
	return 0
}
