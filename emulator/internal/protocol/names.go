package protocol

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// The patterns of names.
var (
	HubPattern   = regexp.MustCompile("^[A-Za-z][A-Za-z0-9_`,.[\\]]{0,127}$")
	EventPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,127}$`)
)

// Limits of names and metadata.
const (
	maxGroupName  = 1024 // UTF-16 units
	MaxTTLSeconds = 300

	MaxMetadataKey   = 256  // bytes
	maxMetadataValue = 1024 // bytes
	maxMetadata      = 8 << 10
)

// CheckGroup returns what is wrong with a group's name, or "". The rule is the same for tokens, frames, connect answers and
// REST, so that a group that one of them makes can be reached by all.
func CheckGroup(name string) string {
	if fault := checkName("group name", name); fault != "" {
		return fault
	}
	if units := utf16Length(name); units > maxGroupName {
		return fmt.Sprintf("the group name has %d characters, as UTF-16 counts them, and may have %d", units, maxGroupName)
	}
	return ""
}

// CheckUser returns what is wrong with a user id, or "". A handler is told of a user in a header, which loses white space
// at its ends and has no room for control characters: such ids would arrive as another user's.
func CheckUser(id string) string {
	if fault := checkName("user id", id); fault != "" {
		return fault
	}
	switch {
	case strings.Trim(id, " \t") != id:
		return "the user id has white space at its ends, which the headers of events cannot carry"
	case strings.ContainsFunc(id, isControl):
		return "the user id has a control character, which the headers of events cannot carry"
	}
	return ""
}

// checkName returns what is wrong with a name of any kind.
func checkName(what, name string) string {
	switch {
	case name == "":
		return "the " + what + " is empty"
	case !utf8.ValidString(name) || strings.ContainsRune(name, utf8.RuneError): // what could not be decoded has become that rune
		return "the " + what + " is not valid UTF-8"
	case strings.TrimSpace(name) == "":
		return "the " + what + " is only white space"
	case name == "." || name == "..":
		return fmt.Sprintf("the %s is %q, which no path of the REST API can hold", what, name)
	}
	return ""
}

// utf16Length returns how long a text is as the service counts it.
func utf16Length(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}

// CheckMetadata returns what is wrong with a message's metadata, or "".
func CheckMetadata(metadata map[string]string) string {
	total := 0
	for key, value := range metadata {
		switch {
		case !httpguts.ValidHeaderFieldName(key):
			return fmt.Sprintf("the metadata key %q is not an HTTP token", key)
		case len(key) > MaxMetadataKey:
			return fmt.Sprintf("the metadata key %.32q... is longer than %d bytes", key, MaxMetadataKey)
		case !isASCII(value):
			return fmt.Sprintf("the value of metadata key %q has characters outside ASCII", key)
		case len(value) > maxMetadataValue:
			return fmt.Sprintf("the value of metadata key %q is longer than %d bytes", key, maxMetadataValue)
		}
		total += len(key) + len(value)
	}
	if total > maxMetadata {
		return fmt.Sprintf("the metadata are longer than %d bytes", maxMetadata)
	}
	return ""
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// MetadataHeader begins the HTTP headers that carry a message's metadata.
const MetadataHeader = "X-Webpubsub-Metadata-"

// CutMetadataHeader returns the key that the name of a metadata header, in any case, ends with.
func CutMetadataHeader(name string) (key string, ok bool) {
	n := len(MetadataHeader)
	if len(name) <= n || !strings.EqualFold(name[:n], MetadataHeader) {
		return "", false
	}
	return name[n:], true
}

// HeaderValue makes a text fit for a header: control characters are percent-encoded, as in CloudEvents' HTTP binding.
// All else stays as it is, UTF-8 outside ASCII too.
func HeaderValue(text string) string {
	if !strings.ContainsFunc(text, isControl) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if isControl(r) {
			for _, octet := range []byte(string(r)) {
				fmt.Fprintf(&b, "%%%02X", octet)
			}
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7F && r <= 0x9F }
