package redact

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line formats untrusted text for use within an error text:
//   - White space, including line breaks, is reduced to single spaces.
//   - Characters that control a terminal (control characters and writing directions) and bytes that are not valid UTF-8
//     are escaped as in a Go string.
//   - After limit bytes the text is cut, and "..." is added.
//
// Line does not hide secrets: call [Text] first.
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
