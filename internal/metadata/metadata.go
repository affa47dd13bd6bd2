// Package metadata checks the metadata of messages, which travel as HTTP headers.
package metadata

import (
	"fmt"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Prefix is the beginning of the name of a key's header.
const Prefix = "X-WebPubSub-Metadata-"

// Check returns why the metadata cannot be sent; the problem is empty if they can. The item is the one at fault, such as
// ["key"], or empty for all of them together. The problem is in words that follow the item.
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
			problem = "has a key that differs from another one in case only"
		case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }):
			problem = "is not printable ASCII"
		case strings.Contains(value, ","):
			problem = "has a comma, of which the service delivers only what follows it"
		case strings.TrimSpace(value) != value:
			problem = "begins or ends with a space, which HTTP trims"
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
		return "", "is larger than 8 KiB in all"
	}
	return "", ""
}
