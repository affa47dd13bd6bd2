package odata

import "unicode/utf8"

// The service is a .NET program and counts UTF-16 units. A character above U+FFFF has two of them.

// units returns the number of UTF-16 units in a string.
func units(s string) int {
	n := len(s)
	for i := range len(s) {
		switch c := s[i]; {
		case c < utf8.RuneSelf:
		case c < 0xC0: // a continuation byte
			n--
		case c >= 0xF0: // a character of four bytes has two units
			n++
		}
	}
	return n
}

// substring returns length units of s, beginning at the unit start. It returns false, for null, if the range exceeds s.
// Half of a character above U+FFFF is encoded as three bytes that are not valid UTF-8, so it equals only the same half.
func substring(s string, start, length int) (string, bool) {
	if start < 0 || length < 0 {
		return "", false
	}
	rest, low, ok := skip(s, start)
	if !ok {
		return "", false
	}
	if low != "" {
		if length == 0 {
			return "", true
		}
		length--
	}
	tail, half, ok := skip(rest, length)
	if !ok {
		return "", false
	}
	s = rest[:len(rest)-len(tail)]
	if half != "" { // the cut is inside the last character: keep its first unit
		s = s[:len(s)-4] + surrogate(rest[len(s)-4:], false)
	}
	return low + s, true
}

// skip returns s without its first n units. ok is false if s has fewer units. If the n-th unit is the first of a pair, half is
// the second unit of the pair, and rest begins after the pair.
func skip(s string, n int) (rest, half string, ok bool) {
	for n > 0 {
		if s == "" {
			return "", "", false
		}
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && len(s) >= 3 && s[0] == 0xED { // half of a character, from substring
			size = 3
		}
		if r > 0xFFFF {
			if n == 1 {
				return s[size:], surrogate(s, true), true
			}
			n--
		}
		s, n = s[size:], n-1
	}
	return s, "", true
}

// surrogate returns one unit of the pair at the beginning of s, encoded in three bytes.
func surrogate(s string, second bool) string {
	r, _ := utf8.DecodeRuneInString(s)
	r -= 0x10000
	unit := 0xD800 + r>>10
	if second {
		unit = 0xDC00 + r&0x3FF
	}
	return string([]byte{0xE0 | byte(unit>>12), 0x80 | byte(unit>>6)&0x3F, 0x80 | byte(unit)&0x3F})
}
