package hub

import (
	"cmp"
	"strings"
	"unicode"
)

// punctuation is that of ASCII in the order in which .NET sorts text by culture. Digits come after it, and then letters.
const punctuation = "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$"

// compareIDs orders connection ids as the service does where it cuts a list into pages: as .NET compares text by culture.
// The case of letters counts only where nothing else differs. This was deduced from recorded pages, which contradict an order
// by code unit.
func compareIDs(a, b string) int {
	x, y := []rune(a), []rune(b)
	for i := range min(len(x), len(y)) {
		if c := cmp.Compare(idWeight(x[i]), idWeight(y[i])); c != 0 {
			return c
		}
	}
	if c := cmp.Compare(len(x), len(y)); c != 0 {
		return c
	}
	return strings.Compare(b, a) // they differ in case alone: lower case comes first
}

// idWeight is the place of a character in the order.
func idWeight(r rune) rune {
	if i := strings.IndexRune(punctuation, r); i >= 0 {
		return rune(i)
	}
	return rune(len(punctuation)) + unicode.ToLower(r)
}
