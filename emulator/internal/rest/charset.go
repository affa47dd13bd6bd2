package rest

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// charset is the encoding of a text.
type charset struct {
	decode func([]byte) string // nil = UTF-8
}

// charsets are the charsets that .NET supports without an extra provider, by lower-case name.
var charsets = map[string]charset{
	"":      {},
	"utf-8": {}, "utf8": {}, "unicode-1-1-utf-8": {}, "unicode-2-0-utf-8": {}, "x-unicode-1-1-utf-8": {}, "x-unicode-2-0-utf-8": {},
	"us-ascii": {decodeASCII}, "ascii": {decodeASCII},
	"iso-8859-1": {decodeLatin1}, "latin1": {decodeLatin1}, "iso_8859-1": {decodeLatin1}, "l1": {decodeLatin1},
	"utf-16": {decodeUTF16(binary.LittleEndian)}, "utf-16le": {decodeUTF16(binary.LittleEndian)}, "unicode": {decodeUTF16(binary.LittleEndian)},
	"ucs-2": {decodeUTF16(binary.LittleEndian)}, "iso-10646-ucs-2": {decodeUTF16(binary.LittleEndian)},
	"utf-16be": {decodeUTF16(binary.BigEndian)}, "unicodefffe": {decodeUTF16(binary.BigEndian)},
	"utf-32": {decodeUTF32(binary.LittleEndian)}, "utf-32le": {decodeUTF32(binary.LittleEndian)},
	"utf-32be": {decodeUTF32(binary.BigEndian)},
}

func findCharset(name string) (charset, bool) {
	c, ok := charsets[strings.ToLower(name)]
	return c, ok
}

func decodeASCII(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		if c >= utf8.RuneSelf {
			s.WriteRune(utf8.RuneError)
		} else {
			s.WriteByte(c)
		}
	}
	return s.String()
}

func decodeLatin1(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}

func decodeUTF16(order binary.ByteOrder) func([]byte) string {
	return func(b []byte) string {
		units := make([]uint16, 0, len(b)/2+1)
		for ; len(b) >= 2; b = b[2:] {
			units = append(units, order.Uint16(b))
		}
		if len(b) > 0 {
			units = append(units, utf8.RuneError)
		}
		return string(utf16.Decode(units))
	}
}

func decodeUTF32(order binary.ByteOrder) func([]byte) string {
	return func(b []byte) string {
		var s strings.Builder
		for ; len(b) >= 4; b = b[4:] {
			s.WriteRune(rune(order.Uint32(b)))
		}
		if len(b) > 0 {
			s.WriteRune(utf8.RuneError)
		}
		return s.String()
	}
}
