// Package mqttpacket reads and writes the packets of MQTT 3.1.1 and 5.0. It accepts a packet only if its bytes are exactly
// what the specifications allow, so that a client's mistake shows in a test. It knows bytes and nothing else.
//
// # Why this is our own code
//
// A server reads bytes of strangers, and the emulator is a dependency of other people's tests. Three libraries were
// compared in November 2026, each with a fuzzer and with the packets in this package's testdata:
//
//	github.com/mochi-mqtt/server/v2/packets   the last release is of March 2025. Some packets that break off make it panic
//	                                          (index out of range in SUBSCRIBE). It brings 44 modules into the graph of a
//	                                          user's tests, for a broker of which we use nothing.
//	github.com/eclipse/paho.golang/packets    maintained; MQTT 5.0 only. ReadPacket allocates what a length announces
//	                                          before it reads: 4 GiB for a packet of 6 bytes, and a panic where an int has
//	                                          32 bits. Unpack panics there too, on a property length of five digits. It
//	                                          accepts properties that break off, properties given twice, reserved flags,
//	                                          bytes after the end, and text that is not UTF-8.
//	github.com/eclipse/paho.mqtt.golang/packets  maintained; MQTT 3.1.1 only. ReadPacket allocates up to 256 MiB for a packet
//	                                          of 5 bytes. A string that breaks off is filled up with zero bytes and accepted.
//
// The two of Eclipse Paho are made for clients, which trust their server. Neither passes a fuzzer that compares what was
// accepted with what was sent, and with both of them every packet would have two types. They stay the reference of this
// package's tests: each side reads what the other has written.
package mqttpacket

import "fmt"

// The versions of MQTT, as CONNECT packets spell them.
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

// Packet is a packet of either version. Which fields count depends on its type.
type Packet struct {
	Type    Type
	Version byte // of the protocol, not of a packet

	PacketID   uint16
	Properties Properties // of MQTT 5.0

	Connect        ConnectFields  // CONNECT
	SessionPresent bool           // CONNACK
	Code           byte           // a reason code of MQTT 5.0; in CONNACK of 3.1.1 a return code
	Codes          []byte         // SUBACK and UNSUBACK, one for each filter
	Filters        []Subscription // SUBSCRIBE and UNSUBSCRIBE

	// of PUBLISH
	QoS     byte
	Dup     bool
	Retain  bool
	Topic   string
	Payload []byte
}

// ConnectFields are what only a CONNECT packet has. A packet of a version that is neither 3.1.1 nor 5.0 has Protocol only.
type ConnectFields struct {
	Protocol  string // "MQTT"
	Clean     bool   // clean session or clean start
	KeepAlive uint16 // in seconds; 0 = none
	ClientID  string
	Will      *Will
	Username  *string
	Password  []byte // nil = none
}

// Will is the message that the server publishes for a client that is gone.
type Will struct {
	Topic      string
	Payload    []byte
	QoS        byte
	Retain     bool
	Properties Properties
}

// Subscription is a topic filter. An UNSUBSCRIBE packet has the filter only.
type Subscription struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
}

// Fault is why a packet cannot be accepted: a reason code of MQTT 5.0, and words.
type Fault struct {
	Code   byte
	Reason string
}

func (f *Fault) Error() string { return f.Reason }

// NewFault makes a Fault.
func NewFault(code byte, format string, args ...any) *Fault {
	return &Fault{code, fmt.Sprintf(format, args...)}
}

// Reason codes of MQTT 5.0.
const (
	Success                       = 0x00
	DisconnectWithWill            = 0x04
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

// connackCodes are the reason codes above Success that a CONNACK packet may have.
var connackCodes = map[byte]bool{0x80: true, 0x81: true, 0x82: true, 0x83: true, 0x84: true, 0x85: true, 0x86: true, 0x87: true,
	0x88: true, 0x89: true, 0x8A: true, 0x8C: true, 0x90: true, 0x95: true, 0x97: true, 0x99: true, 0x9A: true, 0x9B: true,
	0x9C: true, 0x9D: true, 0x9F: true}

// RefusesConnect reports whether a CONNACK packet of a version may refuse a client with a code.
func RefusesConnect(version byte, code int) bool {
	if version == V5 {
		return code > 0 && code < 256 && connackCodes[byte(code)]
	}
	return 1 <= code && code <= 5
}

// flags returns what the lower half of the first byte must be, for every type but PUBLISH.
func (t Type) flags() byte {
	if t == Pubrel || t == Subscribe || t == Unsubscribe {
		return 2
	}
	return 0
}
