package wsclient

import (
	"regexp"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/awps-go/webpubsub/internal/metadata"
)

// The service's limits.
const (
	maxFrame     = 1 << 20 // bytes of a frame that the service accepts
	maxGroupName = 1024    // UTF-16 units
	maxTTL       = 300 * time.Second
)

// eventName is the service's pattern for the names of events.
var eventName = regexp.MustCompile(`^(?i:[a-z][a-z0-9_.-]{0,127})$`)

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
	if len(items) == 0 {
		return nil
	}
	if item, problem := metadata.Check(items); problem != "" {
		return invalid(operation, "options.Metadata"+item, "%s", problem)
	}
	return nil
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
