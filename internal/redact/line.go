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
	for i, size := 0, 0; i < len(text); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(text[i:])
		if unicode.IsSpace(r) {
			space = b.Len() > 0
			continue
		}
		written := text[i : i+size]
		switch {
		case r == utf8.RuneError && size == 1:
			written = fmt.Sprintf(`\x%02x`, text[i])
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
