package mqttpacket

import (
	"encoding/binary"
)

// Encode encodes a packet for its protocol version. It cuts strings longer than 65,535 bytes.
func Encode(pk *Packet) []byte {
	v5 := pk.Version >= V5
	flags := pk.Type.flags()
	var body []byte
	properties := func() {
		if v5 {
			body = appendProperties(body, &pk.Properties)
		}
	}
	switch pk.Type {
	case Connect:
		body = appendConnect(pk)
	case Connack:
		body = append(body, bit(pk.SessionPresent), pk.Code)
		properties()
	case Publish:
		flags = bit(pk.Dup)<<3 | pk.QoS<<1 | bit(pk.Retain)
		body = appendString(make([]byte, 0, len(pk.Topic)+len(pk.Payload)+64), pk.Topic)
		if pk.QoS > 0 {
			body = binary.BigEndian.AppendUint16(body, pk.PacketID)
		}
		properties()
		body = append(body, pk.Payload...)
	case Puback, Pubrec, Pubrel, Pubcomp:
		body = binary.BigEndian.AppendUint16(body, pk.PacketID)
		body = appendCode(body, pk)
	case Subscribe, Unsubscribe:
		body = binary.BigEndian.AppendUint16(body, pk.PacketID)
		properties()
		for _, s := range pk.Filters {
			body = appendString(body, s.Filter)
			if pk.Type == Subscribe {
				body = append(body, s.QoS|bit(s.NoLocal)<<2|bit(s.RetainAsPublished)<<3|s.RetainHandling<<4)
			}
		}
	case Suback, Unsuback:
		body = binary.BigEndian.AppendUint16(body, pk.PacketID)
		properties()
		if pk.Type == Suback || v5 {
			body = append(body, pk.Codes...)
		}
	case Disconnect, Auth:
		body = appendCode(body, pk)
	}
	out := make([]byte, 0, 1+binary.MaxVarintLen32+len(body))
	out = append(out, byte(pk.Type)<<4|flags)
	return append(binary.AppendUvarint(out, uint64(len(body))), body...)
}

// appendCode appends the reason code and the properties. It omits empty properties, and then a reason code of 0.
func appendCode(body []byte, pk *Packet) []byte {
	if pk.Version < V5 {
		return body
	}
	p := appendProperties(nil, &pk.Properties)
	switch {
	case len(p) > 1:
		return append(append(body, pk.Code), p...)
	case pk.Code != 0:
		return append(body, pk.Code)
	}
	return body
}

func appendConnect(pk *Packet) []byte {
	c := &pk.Connect
	body := append(appendString(nil, c.Protocol), pk.Version)
	flags := bit(c.Clean) << 1
	if c.Will != nil {
		flags |= 4 | c.Will.QoS<<3 | bit(c.Will.Retain)<<5
	}
	body = append(body, flags|bit(c.Password != nil)<<6|bit(c.Username != nil)<<7)
	body = binary.BigEndian.AppendUint16(body, c.KeepAlive)
	if pk.Version >= V5 {
		body = appendProperties(body, &pk.Properties)
	}
	body = appendString(body, c.ClientID)
	if w := c.Will; w != nil {
		if pk.Version >= V5 {
			body = appendProperties(body, &w.Properties)
		}
		body = appendString(appendString(body, w.Topic), string(w.Payload))
	}
	if c.Username != nil {
		body = appendString(body, *c.Username)
	}
	if c.Password != nil {
		body = appendString(body, string(c.Password))
	}
	return body
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Copy describes one client's copy of a PUBLISH packet: how the copy differs from the packet encoded at quality of service 0.
type Copy struct {
	QoS            byte
	PacketID       uint16 // used if QoS is not 0
	Dup            bool
	MessageExpiry  uint32 // in seconds; 0 = none
	SubscriptionID uint32 // 0 = none
}

// Of returns the copy of an encoded packet. version is the packet's protocol version. The packet must not have a message expiry
// or a subscription identifier yet.
func (c Copy) Of(data []byte, version byte) []byte {
	if c == (Copy{}) {
		return data
	}
	_, digits := binary.Uvarint(data[1:])
	rest := data[1+digits:]
	topic := rest[:2+int(binary.BigEndian.Uint16(rest))]
	rest = rest[len(topic):]

	var middle []byte // the bytes between the topic and the payload, or between the topic and the existing properties
	if c.QoS > 0 {
		middle = binary.BigEndian.AppendUint16(middle, c.PacketID)
	}
	if version >= V5 {
		var more []byte
		if c.MessageExpiry != 0 {
			more = binary.BigEndian.AppendUint32(append(more, idMessageExpiry), c.MessageExpiry)
		}
		if c.SubscriptionID != 0 {
			more = binary.AppendUvarint(append(more, idSubscriptionID), uint64(c.SubscriptionID))
		}
		properties, digits := binary.Uvarint(rest)
		rest = rest[digits:]
		middle = append(binary.AppendUvarint(middle, properties+uint64(len(more))), more...)
	}
	length := len(topic) + len(middle) + len(rest)
	out := make([]byte, 0, 1+binary.MaxVarintLen32+length)
	out = append(out, data[0]|c.QoS<<1|bit(c.Dup)<<3)
	out = binary.AppendUvarint(out, uint64(length))
	out = append(out, topic...)
	out = append(out, middle...)
	return append(out, rest...)
}
