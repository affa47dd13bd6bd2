// Package metadata checks the metadata of messages, which travel as HTTP headers.
package metadata

import (
	"fmt"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Prefix is what the header of a key begins with.
const Prefix = "X-WebPubSub-Metadata-"

// Check returns an item that cannot be sent, as ["key"], or empty for all of them together, and why not, in words that
// follow its name; or no problem.
func Check(metadata map[string]string) (item, problem string) {
	const maxKey, maxValue, maxAll = 256, 1024, 8 << 10
	total := 0
	seen := make(map[string]bool, len(metadata))
	for key, value := range metadata {
		lower := strings.ToLower(key)
		switch {
		case !httpguts.ValidHeaderFieldName(key):
			problem = "has a key that is no HTTP token"
		case len(key) > maxKey:
			problem = fmt.Sprintf("has a key longer than %d bytes", maxKey)
		case seen[lower]:
			problem = "has a key that another one repeats in other case"
		case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }):
			problem = "is not printable ASCII"
		case strings.TrimSpace(value) != value:
			problem = "begins or ends with a space, which HTTP drops"
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
