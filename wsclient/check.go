package wsclient

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of the service.
const (
	maxFrame     = 1 << 20 // bytes per frame
	maxGroupName = 1024    // UTF-16 code units
	maxTTL       = 300 * time.Second

	// The frames of a client carry metadata unchanged. The additional rules that internal/metadata checks for REST, where
	// metadata are HTTP headers, do not apply: commas, leading and trailing spaces, and keys that differ only in case are
	// allowed.
	maxMetadataKey   = 256     // bytes
	maxMetadataValue = 1024    // bytes
	maxMetadata      = 8 << 10 // bytes of all keys and values together
)

// eventName is the service's pattern for event names. It lists both cases, because (?i) also matches the Kelvin sign as k.
var eventName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,127}$`)

func checkGroup(operation, group string) error {
	switch {
	case group == "":
		return invalid(operation, "group", "is empty")
	case strings.TrimSpace(group) == "":
		return invalid(operation, "group", "is only white space")
	case !utf8.ValidString(group):
		return invalid(operation, "group", "is not valid UTF-8")
	case len(group) > maxGroupName && len(utf16.Encode([]rune(group))) > maxGroupName:
		return invalid(operation, "group", "is longer than %d UTF-16 units", maxGroupName)
	}
	return nil
}

func checkEvent(operation, event string) error {
	switch {
	case event == "":
		return invalid(operation, "event", "is empty")
	case !eventName.MatchString(event):
		return invalid(operation, "event", "must be a letter, then up to 127 letters, digits, and any of _ . -")
	}
	return nil
}

func checkMetadata(operation string, items map[string]string) error {
	total := 0
	for key, value := range items {
		problem := ""
		switch {
		case !isHTTPToken(key):
			problem = "has a key that is not an HTTP token"
		case len(key) > maxMetadataKey:
			problem = fmt.Sprintf("has a key longer than %d bytes", maxMetadataKey)
		case strings.ContainsFunc(value, func(r rune) bool { return r >= utf8.RuneSelf }):
			problem = "is not ASCII"
		case len(value) > maxMetadataValue:
			problem = fmt.Sprintf("is longer than %d bytes", maxMetadataValue)
		}
		if problem != "" {
			return invalid(operation, fmt.Sprintf("options.Metadata[%.*q]", maxMetadataKey, key), "%s", problem)
		}
		total += len(key) + len(value)
	}
	if total > maxMetadata {
		return invalid(operation, "options.Metadata", "is larger than %d bytes in total", maxMetadata)
	}
	return nil
}

func isHTTPToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

func checkTTL(operation string, ttl time.Duration) error {
	switch {
	case ttl < 0:
		return invalid(operation, "options.TTL", "is negative")
	case ttl > maxTTL:
		return invalid(operation, "options.TTL", "is longer than %v", maxTTL)
	case ttl%time.Second != 0:
		return invalid(operation, "options.TTL", "must be a whole number of seconds")
	}
	return nil
}

func (c *Conn) checkPayload(operation string, p Payload) error {
	if err := p.problem(); err != nil {
		return invalid(operation, "payload", "%w", err)
	}
	if p.DataType == DataProtobuf && !c.options.Protocol.protobuf() {
		return invalid(operation, "payload", "is protobuf, which the protocol %v cannot send", c.options.Protocol)
	}
	return nil
}
