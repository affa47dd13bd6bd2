// Package metadata validates the metadata of messages, which are sent as HTTP headers.
package metadata

import (
	"fmt"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Prefix precedes a metadata key in the name of its header.
const Prefix = "X-WebPubSub-Metadata-"

// Check returns the problem with the metadata, or "" if they are valid. The item is the invalid entry, such as ["key"],
// or empty if the problem is the total size. The problem is phrased to follow the item.
func Check(metadata map[string]string) (item, problem string) {
	const maxKey, maxValue, maxAll = 256, 1024, 8 << 10
	total := 0
	seen := make(map[string]bool, len(metadata))
	for key, value := range metadata {
		lower := strings.ToLower(key)
		switch {
		case !httpguts.ValidHeaderFieldName(key):
			problem = "has a key that is not an HTTP token"
		case len(key) > maxKey:
			problem = fmt.Sprintf("has a key longer than %d bytes", maxKey)
		case seen[lower]:
			problem = "has a key that differs from another key in case only"
		case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }):
			problem = "must be printable ASCII"
		case strings.Contains(value, ","):
			problem = "must not have a comma: the service would deliver only the text after the comma"
		case strings.TrimSpace(value) != value:
			problem = "must not begin or end with a space: HTTP trims spaces"
		case len(value) > maxValue:
			problem = fmt.Sprintf("is longer than %d bytes", maxValue)
		}
		if problem != "" {
			return fmt.Sprintf("[%q]", key), problem
		}
		seen[lower] = true
		total += len(key) + len(value)
	}
	if total > maxAll {
		return "", "is larger than 8 KiB in total"
	}
	return "", ""
}
