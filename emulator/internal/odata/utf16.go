package odata

import "unicode/utf8"

// The service is a .NET program: it counts UTF-16 units, of which a character above U+FFFF is two.

// units returns how many UTF-16 units a string has.
func units(s string) int {
	n := len(s)
	for i := range len(s) {
		switch c := s[i]; {
		case c < utf8.RuneSelf:
		case c < 0xC0: // a continuation byte
			n--
		case c >= 0xF0: // four bytes, of which three are continuation bytes: two units
			n++
		}
	}
	return n
}

// substring returns length units of s from the unit start on. It reports false, for null, if they are not all in s.
// Half of a character above U+FFFF is written as three bytes that are not UTF-8, so that it equals another such half only.
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

// skip returns s without its first n units, and whether it has as many. If the n-th unit is the first of a pair, half is
// the second one, which is not in rest.
func skip(s string, n int) (rest, half string, ok bool) {
	for n > 0 {
		if s == "" {
			return "", "", false
		}
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && len(s) >= 3 && s[0] == 0xED { // half of a character, cut by substring
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

// surrogate returns one unit of the pair with which s begins, in three bytes.
func surrogate(s string, second bool) string {
	r, _ := utf8.DecodeRuneInString(s)
	r -= 0x10000
	unit := 0xD800 + r>>10
	if second {
		unit = 0xDC00 + r&0x3FF
	}
	return string([]byte{0xE0 | byte(unit>>12), 0x80 | byte(unit>>6)&0x3F, 0x80 | byte(unit)&0x3F})
}
