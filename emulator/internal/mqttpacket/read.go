package mqttpacket

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf8"
)

// chunk is how many bytes are allocated at a time. Memory for an announced length is not allocated before its bytes arrive.
const chunk = 16 << 10

// Read reads one packet. version is the connection's protocol version; it is ignored for a CONNECT packet, which names its own.
//
// Read returns a *Fault if the packet is invalid, or if its length after the fixed header exceeds limit. It returns errors of
// in unchanged: a packet that is cut off by io.EOF returns io.EOF, not io.ErrUnexpectedEOF.
func Read(in *bufio.Reader, version byte, limit int) (*Packet, error) {
	head, err := in.ReadByte()
	if err != nil {
		return nil, err
	}
	pk := &Packet{Type: Type(head >> 4), Version: version}
	flags := head & 15
	if pk.Type == 0 || pk.Type == Auth && version < V5 {
		return nil, NewFault(ProtocolError, "packet type %d is not allowed", pk.Type)
	}
	if pk.Type == Publish {
		pk.Dup, pk.QoS, pk.Retain = flags&8 != 0, flags>>1&3, flags&1 != 0
		if pk.QoS == 3 || pk.Dup && pk.QoS == 0 {
			return nil, NewFault(MalformedPacket, "malformed packet: the flags of PUBLISH are invalid")
		}
	} else if flags != pk.Type.flags() {
		return nil, NewFault(MalformedPacket, "malformed packet: the flags of %s are invalid", pk.Type)
	}
	length, err := readLength(in, version)
	if err != nil {
		return nil, err
	}
	if length > limit {
		return nil, NewFault(PacketTooLarge, "the packet is larger than %d bytes", limit)
	}
	var body []byte
	for len(body) < length {
		n := len(body)
		body = append(body, make([]byte, min(chunk, length-n))...)
		for n < len(body) {
			read, err := in.Read(body[n:])
			if n += read; err != nil && n < len(body) {
				return nil, err
			}
		}
	}
	r := reader{data: body}
	r.packet(pk)
	if len(r.data) > 0 {
		r.fail(MalformedPacket, "malformed packet: %s has bytes after its end", pk.Type)
	}
	if r.fault != nil {
		return nil, r.fault
	}
	return pk, nil
}

// readLength reads the remaining length, the last field of the fixed header. MQTT 3.1.1 does not require its shortest encoding.
func readLength(in io.ByteReader, version byte) (int, error) {
	length := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := in.ReadByte()
		if err != nil {
			return 0, err
		}
		length |= int(b&127) << shift
		if b < 128 {
			if b == 0 && shift > 0 && version >= V5 {
				return 0, NewFault(MalformedPacket, "malformed packet: the encoding of the length is longer than necessary")
			}
			return length, nil
		}
	}
	return 0, NewFault(MalformedPacket, "malformed packet: the length has more than four bytes")
}

// reader reads the fields of a packet from its body. After a fault, all reads return zero values.
type reader struct {
	data  []byte
	fault *Fault
}

func (r *reader) fail(code byte, format string, args ...any) {
	if r.fault == nil {
		r.fault = NewFault(code, format, args...)
	}
	r.data = nil
}

func (r *reader) take(n int) []byte {
	if n > len(r.data) {
		r.fail(MalformedPacket, "malformed packet: it is truncated")
		return nil
	}
	taken := r.data[:n:n]
	r.data = r.data[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// varint reads a variable byte integer of up to four bytes. what names the field in errors.
func (r *reader) varint(what string) uint32 {
	var n uint32
	for shift := 0; shift < 28; shift += 7 {
		b := r.byte()
		n |= uint32(b&127) << shift
		if b < 128 {
			if b == 0 && shift > 0 {
				r.fail(MalformedPacket, "malformed packet: the encoding of %s is longer than necessary", what)
			}
			return n
		}
	}
	r.fail(MalformedPacket, "malformed packet: %s has more than four bytes", what)
	return 0
}

func (r *reader) binary() []byte {
	b := r.take(int(r.uint16()))
	if b == nil && r.fault == nil {
		b = []byte{}
	}
	return b
}

func (r *reader) string(what string) string {
	s := string(r.binary())
	if !utf8.ValidString(s) || strings.Contains(s, "\x00") {
		r.fail(MalformedPacket, "malformed packet: %s is not UTF-8 or contains U+0000", what)
	}
	return s
}

func (r *reader) packetID() uint16 {
	id := r.uint16()
	if r.fault == nil && id == 0 {
		r.fail(ProtocolError, "the packet id must not be 0")
	}
	return id
}

// packet reads the part of a packet after the fixed header.
func (r *reader) packet(pk *Packet) {
	switch pk.Type {
	case Connect:
		r.connect(pk)
	case Connack:
		flags := r.byte()
		pk.SessionPresent = flags == 1
		if flags > 1 {
			r.fail(MalformedPacket, "malformed packet: the flags of CONNACK are invalid")
		}
		pk.Code = r.byte()
		r.propertiesOf5(pk)
	case Publish:
		pk.Topic = r.string("a topic")
		if pk.QoS > 0 {
			pk.PacketID = r.packetID()
		}
		r.propertiesOf5(pk)
		pk.Payload, r.data = r.data, nil
	case Puback, Pubrec, Pubrel, Pubcomp:
		pk.PacketID = r.packetID()
		r.codeAndProperties(pk)
	case Subscribe, Unsubscribe:
		pk.PacketID = r.packetID()
		r.propertiesOf5(pk)
		r.filters(pk)
	case Suback, Unsuback:
		pk.PacketID = r.packetID()
		r.propertiesOf5(pk)
		if pk.Type == Suback || pk.Version >= V5 {
			pk.Codes, r.data = r.data, nil
		}
	case Disconnect, Auth:
		r.codeAndProperties(pk)
	}
}

func (r *reader) propertiesOf5(pk *Packet) {
	if pk.Version >= V5 {
		r.properties(&pk.Properties, pk.Type)
	}
}

// codeAndProperties reads a reason code and properties at the end of a packet. Both may be omitted.
func (r *reader) codeAndProperties(pk *Packet) {
	if pk.Version < V5 || len(r.data) == 0 {
		return
	}
	pk.Code = r.byte()
	if len(r.data) > 0 {
		r.properties(&pk.Properties, pk.Type)
	}
}

func (r *reader) connect(pk *Packet) {
	c := &pk.Connect
	c.Protocol = r.string("the protocol's name")
	pk.Version = r.byte()
	if c.Protocol != "MQTT" || pk.Version != V311 && pk.Version != V5 {
		r.data = nil // the rest of the format is unknown
		return
	}
	flags := r.byte()
	hasWill, hasUsername, hasPassword := flags&4 != 0, flags&128 != 0, flags&64 != 0
	willQoS, willRetain := flags>>3&3, flags&32 != 0
	switch {
	case flags&1 != 0, willQoS == 3, !hasWill && (willQoS != 0 || willRetain), pk.Version == V311 && hasPassword && !hasUsername:
		r.fail(MalformedPacket, "malformed packet: the flags of CONNECT contradict each other")
		return
	}
	c.Clean = flags&2 != 0
	c.KeepAlive = r.uint16()
	r.propertiesOf5(pk)
	if p := &pk.Properties; p.AuthenticationData != nil && p.AuthenticationMethod == nil {
		r.fail(ProtocolError, "CONNECT has authentication data without a method")
	}
	c.ClientID = r.string("the client id")
	if hasWill {
		c.Will = &Will{QoS: willQoS, Retain: willRetain}
		if pk.Version >= V5 {
			r.properties(&c.Will.Properties, will)
		}
		c.Will.Topic = r.string("the topic of the will")
		c.Will.Payload = r.binary()
	}
	if hasUsername {
		c.Username = new(r.string("the user name"))
	}
	if hasPassword {
		c.Password = r.binary()
	}
}

func (r *reader) filters(pk *Packet) {
	if r.fault == nil && len(r.data) == 0 {
		r.fail(ProtocolError, "%s has no topic filter", pk.Type)
	}
	for len(r.data) > 0 && r.fault == nil {
		s := Subscription{Filter: r.string("a topic filter")}
		if pk.Type == Subscribe {
			options := r.byte()
			s.QoS, s.NoLocal, s.RetainAsPublished, s.RetainHandling = options&3, options&4 != 0, options&8 != 0, options>>4&3
			if s.QoS == 3 || s.RetainHandling == 3 || options&0xC0 != 0 || pk.Version < V5 && options > 2 {
				r.fail(MalformedPacket, "malformed packet: the options of a subscription are invalid")
			}
		}
		pk.Filters = append(pk.Filters, s)
	}
}

// Decode decodes data, which must be exactly one packet. See [Read].
func Decode(data []byte, version byte) (*Packet, error) {
	in := bufio.NewReader(bytes.NewReader(data))
	pk, err := Read(in, version, len(data))
	if err == nil && in.Buffered() > 0 {
		err = NewFault(MalformedPacket, "malformed packet: data follows the packet")
	}
	return pk, err
}
