package hub

import (
	"cmp"
	"strings"
	"unicode"
)

// punctuation is the ASCII punctuation in .NET's culture-sensitive sort order. Digits come after it, and then letters.
const punctuation = "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$"

// compareIDs orders connection ids like the hosted service does for paging: in .NET's culture-sensitive order. Letter case
// counts only if nothing else differs. The order was deduced from recorded pages, which contradict an order by code unit.
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
	return strings.Compare(b, a) // only the case differs: lower case comes first
}

// idWeight returns the position of a character in the order.
func idWeight(r rune) rune {
	if i := strings.IndexRune(punctuation, r); i >= 0 {
		return rune(i)
	}
	return rune(len(punctuation)) + unicode.ToLower(r)
}
