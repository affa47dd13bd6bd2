package mqttpacket

import (
	"encoding/binary"
	"slices"
)

// Properties are the properties of an MQTT 5.0 packet or will. A zero field is an absent property. A property whose value may be
// 0 or empty is a pointer, which is nil if the property is absent.
type Properties struct {
	PayloadFormat         *byte
	MessageExpiry         *uint32 // in seconds
	ContentType           string
	ResponseTopic         string
	CorrelationData       []byte
	SubscriptionIDs       []uint32
	SessionExpiry         *uint32 // in seconds
	AssignedClientID      string
	ServerKeepAlive       *uint16 // in seconds
	AuthenticationMethod  *string
	AuthenticationData    []byte
	RequestProblemInfo    *byte
	WillDelay             *uint32 // in seconds
	RequestResponseInfo   *byte
	ResponseInfo          string
	ServerReference       string
	ReasonString          string
	ReceiveMaximum        uint16
	TopicAliasMaximum     uint16
	TopicAlias            *uint16
	MaximumQoS            *byte
	RetainAvailable       *byte
	User                  []UserProperty
	MaximumPacketSize     uint32
	WildcardsAvailable    *byte
	SubscriptionIDsServed *byte
	SharedAvailable       *byte
}

// UserProperty is a name and a value. A packet may have several user properties with the same name.
type UserProperty struct{ Key, Value string }

const (
	idMessageExpiry  = 2
	idSubscriptionID = 11
	idUser           = 38
)

// propertyOwner is what may have a property: a packet of a type, or a will, which is 0.
type propertyOwner = Type

const will propertyOwner = 0

// allOwners are wills and all packet types that have properties. Each of them may have user properties.
var allOwners = []propertyOwner{will, Connect, Connack, Publish, Puback, Pubrec, Pubrel, Pubcomp, Subscribe, Suback, Unsubscribe,
	Unsuback, Disconnect, Auth}

var propertyOwners = map[byte][]propertyOwner{
	1: {will, Publish}, 2: {will, Publish}, 3: {will, Publish}, 8: {will, Publish}, 9: {will, Publish},
	11: {Publish, Subscribe}, 17: {Connect, Connack, Disconnect}, 18: {Connack}, 19: {Connack}, 21: {Connect, Connack, Auth},
	22: {Connect, Connack, Auth}, 23: {Connect}, 24: {will}, 25: {Connect}, 26: {Connack}, 28: {Connack, Disconnect},
	31: {Connack, Puback, Pubrec, Pubrel, Pubcomp, Suback, Unsuback, Disconnect, Auth}, 33: {Connect, Connack},
	34: {Connect, Connack}, 35: {Publish}, 36: {Connack}, 37: {Connack}, 38: allOwners, 39: {Connect, Connack}, 40: {Connack},
	41: {Connack}, 42: {Connack},
}

// field returns a pointer to the field of a property, or nil if there is no such property. The type of the field decides how the
// property is encoded.
func (p *Properties) field(id byte) any {
	switch id {
	case 1:
		return &p.PayloadFormat
	case idMessageExpiry:
		return &p.MessageExpiry
	case 3:
		return &p.ContentType
	case 8:
		return &p.ResponseTopic
	case 9:
		return &p.CorrelationData
	case idSubscriptionID:
		return &p.SubscriptionIDs
	case 17:
		return &p.SessionExpiry
	case 18:
		return &p.AssignedClientID
	case 19:
		return &p.ServerKeepAlive
	case 21:
		return &p.AuthenticationMethod
	case 22:
		return &p.AuthenticationData
	case 23:
		return &p.RequestProblemInfo
	case 24:
		return &p.WillDelay
	case 25:
		return &p.RequestResponseInfo
	case 26:
		return &p.ResponseInfo
	case 28:
		return &p.ServerReference
	case 31:
		return &p.ReasonString
	case 33:
		return &p.ReceiveMaximum
	case 34:
		return &p.TopicAliasMaximum
	case 35:
		return &p.TopicAlias
	case 36:
		return &p.MaximumQoS
	case 37:
		return &p.RetainAvailable
	case idUser:
		return &p.User
	case 39:
		return &p.MaximumPacketSize
	case 40:
		return &p.WildcardsAvailable
	case 41:
		return &p.SubscriptionIDsServed
	case 42:
		return &p.SharedAvailable
	}
	return nil
}

const lastProperty = 42

// properties reads the properties of a packet or a will.
func (r *reader) properties(p *Properties, owner propertyOwner) {
	in := reader{data: r.take(int(r.varint("the length of the properties"))), fault: r.fault}
	var seen [lastProperty + 1]bool
	for len(in.data) > 0 && in.fault == nil {
		id := in.byte()
		if id > lastProperty || !slices.Contains(propertyOwners[id], owner) {
			in.fail(ProtocolError, "property %d is not allowed here", id)
			break
		}
		if seen[id] && id != idUser && (id != idSubscriptionID || owner != Publish) {
			in.fail(ProtocolError, "property %d occurs twice", id)
			break
		}
		seen[id] = true
		switch v := p.field(id).(type) {
		case **byte: // every byte property is 0 or 1
			*v = new(in.byte())
			if **v > 1 {
				in.fail(ProtocolError, "property %d must be 0 or 1", id)
			}
		case **uint16:
			*v = new(in.uint16())
		case **uint32:
			*v = new(in.uint32())
		case *uint16:
			if *v = in.uint16(); *v == 0 && id == 33 {
				in.fail(ProtocolError, "the receive maximum must not be 0")
			}
		case *uint32:
			if *v = in.uint32(); *v == 0 {
				in.fail(ProtocolError, "the maximum packet size must not be 0")
			}
		case *string:
			*v = in.string("a property")
		case **string:
			*v = new(in.string("a property"))
		case *[]byte:
			*v = in.binary()
		case *[]uint32:
			n := in.varint("a subscription identifier")
			if n == 0 {
				in.fail(ProtocolError, "a subscription identifier must not be 0")
			}
			*v = append(*v, n)
		case *[]UserProperty:
			key := in.string("a user property")
			*v = append(*v, UserProperty{key, in.string("a user property")})
		}
	}
	r.fault = in.fault
}

// appendProperties appends the length of the properties and those that are present.
func appendProperties(out []byte, p *Properties) []byte {
	var all []byte
	for id := byte(1); id <= lastProperty; id++ {
		switch v := p.field(id).(type) {
		case **byte:
			if *v != nil {
				all = append(all, id, **v)
			}
		case **uint16:
			if *v != nil {
				all = binary.BigEndian.AppendUint16(append(all, id), **v)
			}
		case **uint32:
			if *v != nil {
				all = binary.BigEndian.AppendUint32(append(all, id), **v)
			}
		case *uint16:
			if *v != 0 {
				all = binary.BigEndian.AppendUint16(append(all, id), *v)
			}
		case *uint32:
			if *v != 0 {
				all = binary.BigEndian.AppendUint32(append(all, id), *v)
			}
		case *string:
			if *v != "" {
				all = appendString(append(all, id), *v)
			}
		case **string:
			if *v != nil {
				all = appendString(append(all, id), **v)
			}
		case *[]byte:
			if *v != nil {
				all = appendString(append(all, id), string(*v))
			}
		case *[]uint32:
			for _, n := range *v {
				all = binary.AppendUvarint(append(all, id), uint64(n))
			}
		case *[]UserProperty:
			for _, u := range *v {
				all = appendString(appendString(append(all, id), u.Key), u.Value)
			}
		}
	}
	return append(binary.AppendUvarint(out, uint64(len(all))), all...)
}

// appendString appends the length of a string, and the string. It cuts a string that is too long; callers should have checked.
func appendString(out []byte, s string) []byte {
	s = s[:min(len(s), 1<<16-1)]
	return append(binary.BigEndian.AppendUint16(out, uint16(len(s))), s...)
}
