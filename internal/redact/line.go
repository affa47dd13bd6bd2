package redact

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line makes text from elsewhere fit for the middle of an error's text: on one line, at most limit bytes and three dots,
// with white space reduced to single spaces. Characters that a terminal would obey (controls and directions of writing)
// and bytes that are not UTF-8 are escaped as in a Go string. It reads no more of the text than it needs. It hides no
// secret: call Text before.
func Line(text string, limit int) string {
	var b strings.Builder
	space := false
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		written := text[:size]
		text = text[size:]
		if unicode.IsSpace(r) {
			space = b.Len() > 0
			continue
		}
		switch {
		case r == utf8.RuneError && size == 1:
			written = fmt.Sprintf(`\x%02x`, written[0])
		case !unicode.IsPrint(r) && r > 0xffff:
			written = fmt.Sprintf(`\U%08x`, r)
		case !unicode.IsPrint(r):
			written = fmt.Sprintf(`\u%04x`, r)
		}
		if space {
			written = " " + written
			space = false
		}
		if b.Len()+len(written) > limit {
			return b.String() + "..."
		}
		b.WriteString(written)
	}
	return b.String()
}
