// Package names has the rules for names that the service client and the event handler share.
package names

import (
	"regexp"
	"strings"
	"unicode/utf16"
)

// hubPattern is the service's pattern for hub names.
var hubPattern = regexp.MustCompile("^[A-Za-z][A-Za-z0-9_`,.[\\]]{0,127}$")

// HubProblem returns the problem with a hub name, phrased to follow the name, or "" if the name is valid.
func HubProblem(name string) string {
	switch {
	case name == "":
		return "is empty"
	case hubPattern.MatchString(name):
		return ""
	}
	return "must be a letter, then up to 127 letters, digits and any of _`,.[]"
}

// The service's limits for groups, and for the patterns of roles.
const (
	MaxGroupUnits = 1024 // UTF-16 code units, also of a pattern
	MaxAsterisks  = 5
)

// Units returns the number of UTF-16 code units in a text, which is how the service measures names.
func Units(text string) (n int) {
	for _, c := range text {
		n += utf16.RuneLen(c) // an invalid byte counts as U+FFFD
	}
	return n
}

// IsDots reports whether a name is . or .., which clients, proxies and servers resolve in a path.
func IsDots(name string) bool { return name == "." || name == ".." }

// HasDots reports whether . or .. is a part of a name that is divided by slashes. The client sends a slash as %2F, but a
// proxy may decode it. Then /users/a%2F..%2Fb/:send would reach the user b.
func HasDots(name string) bool {
	for part := range strings.FieldsFuncSeq(name, func(c rune) bool { return c == '/' || c == '\\' }) {
		if IsDots(part) {
			return true
		}
	}
	return false
}

// Asterisks returns the number of asterisks in a pattern that are not escaped.
func Asterisks(pattern string) (n int) {
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\': // escapes the next character
			i++
		case '*':
			n++
		}
	}
	return n
}
