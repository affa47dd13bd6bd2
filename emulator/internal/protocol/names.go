package protocol

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// The patterns of hub names and event names.
var (
	HubPattern   = regexp.MustCompile("^[A-Za-z][A-Za-z0-9_`,.[\\]]{0,127}$")
	EventPattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,127}$`)
)

// The limits of names, messages and metadata.
const (
	maxGroupName  = 1024 // UTF-16 code units
	MaxTTLSeconds = 300

	maxMetadataKey   = 256     // bytes
	maxMetadataValue = 1024    // bytes
	maxMetadata      = 8 << 10 // bytes of all keys and values
)

// CheckGroup returns the reason why a group name is not valid, or "". The rule is the same for tokens, frames, connect
// responses and REST, so a group that was created through one of them can be used through all.
func CheckGroup(name string) string {
	if fault := checkName("group name", name); fault != "" {
		return fault
	}
	if units := utf16Length(name); units > maxGroupName {
		return fmt.Sprintf("the group name has %d UTF-16 code units, and at most %d are allowed", units, maxGroupName)
	}
	return ""
}

// CheckUser returns the reason why a user id is not valid, or "". Event handlers receive the user id in an HTTP header, which
// cannot carry control characters, or white space at either end: the id would arrive as another user's.
func CheckUser(id string) string {
	if fault := checkName("user id", id); fault != "" {
		return fault
	}
	switch {
	case strings.Trim(id, " \t") != id:
		return "the user id starts or ends with white space, which event headers cannot carry"
	case strings.ContainsFunc(id, isControl):
		return "the user id has a control character, which event headers cannot carry"
	}
	return ""
}

// checkName checks the rules for names of all kinds. what is the kind of name.
func checkName(what, name string) string {
	switch {
	case name == "":
		return "the " + what + " is empty"
	case !utf8.ValidString(name) || strings.ContainsRune(name, utf8.RuneError): // decoders replace invalid UTF-8 with RuneError
		return "the " + what + " is not valid UTF-8"
	case strings.TrimSpace(name) == "":
		return "the " + what + " is only white space"
	case name == "." || name == "..":
		return fmt.Sprintf("the %s is %q, which is not allowed in a path of the REST API", what, name)
	}
	return ""
}

// utf16Length returns the length of a text in UTF-16 code units, which is how the service counts.
func utf16Length(s string) int {
	n := 0
	for _, r := range s {
		n += max(utf16.RuneLen(r), 1)
	}
	return n
}

// CheckMetadata returns the reason why a message's metadata is not valid, or "".
func CheckMetadata(metadata map[string]string) string {
	total := 0
	for key, value := range metadata {
		switch {
		case !httpguts.ValidHeaderFieldName(key):
			return fmt.Sprintf("the metadata key %q is not an HTTP token", key)
		case len(key) > maxMetadataKey:
			return fmt.Sprintf("the metadata key %.32q... is longer than %d bytes", key, maxMetadataKey)
		case !isASCII(value):
			return fmt.Sprintf("the value of metadata key %q has characters outside ASCII", key)
		case len(value) > maxMetadataValue:
			return fmt.Sprintf("the value of metadata key %q is longer than %d bytes", key, maxMetadataValue)
		}
		total += len(key) + len(value)
	}
	if total > maxMetadata {
		return fmt.Sprintf("the metadata is longer than %d bytes", maxMetadata)
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

// MetadataHeader is the prefix of the HTTP headers that carry a message's metadata.
const MetadataHeader = "X-Webpubsub-Metadata-"

// MetadataOf returns the metadata in the headers of a request or a response, with keys in lower case, or nil if there is none.
// If a key has several header lines, the last line counts. If that line has commas, the part after the last comma counts. The
// key of a header with nothing after the prefix is "".
func MetadataOf(header map[string][]string) map[string]string {
	var metadata map[string]string
	for name, values := range header {
		n := len(MetadataHeader)
		if len(values) == 0 || len(name) < n || !strings.EqualFold(name[:n], MetadataHeader) {
			continue
		}
		if metadata == nil {
			metadata = make(map[string]string)
		}
		value := values[len(values)-1]
		metadata[strings.ToLower(name[n:])] = strings.TrimSpace(value[strings.LastIndexByte(value, ',')+1:])
	}
	return metadata
}

func isControl(r rune) bool { return r < ' ' || r >= 0x7F && r <= 0x9F }
