package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func addJSONFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON")
}

// printJSON prints a value as one line of JSON. It escapes the characters that [printable] escapes.
func printJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(safeJSON(b.Bytes()))
	return err
}

// safeJSON returns JSON with the same value and without characters that a terminal might interpret. In JSON, such characters
// are only in strings.
func safeJSON(data []byte) []byte {
	special := func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }
	if utf8.Valid(data) && bytes.IndexFunc(data, special) < 0 {
		return data
	}
	safe := make([]byte, 0, 2*len(data))
	for _, r := range string(data) { // a byte that is not text becomes U+FFFD
		switch {
		case !special(r):
			safe = utf8.AppendRune(safe, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			safe = fmt.Appendf(safe, `\u%04x\u%04x`, high, low)
		default:
			safe = fmt.Appendf(safe, `\u%04x`, r)
		}
	}
	return safe
}

// forTerminal returns a writer that escapes text like [printableText] if w is a terminal, and otherwise w: a file or a pipe
// receives the bytes unchanged.
func forTerminal(w io.Writer) io.Writer {
	if file, ok := w.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return &terminalWriter{w: w}
		}
	}
	return w
}

// terminalWriter escapes text like [printableText].
type terminalWriter struct {
	w    io.Writer
	rest []byte // the beginning of a character that the last Write split
}

func (t *terminalWriter) Write(p []byte) (int, error) {
	text := append(t.rest, p...)
	end := len(text)
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if tail := text[len(text)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				end -= i
			}
			break
		}
	}
	t.rest = slices.Clone(text[end:])
	if _, err := io.WriteString(t.w, printableText(string(text[:end]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// printTable prints rows in columns. The first row is the heading.
func printTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(cell)
		}
		fmt.Fprintln(t, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	return t.Flush()
}

// printable returns text that is safe to print on a terminal: it escapes characters that would move the cursor, change
// colors or reorder the line. Names and messages come from strangers.
func printable(text string) string {
	return escape(text, func(r rune) bool { return false })
}

// printableText is like printable, but keeps line breaks and tabs.
func printableText(text string) string {
	return escape(text, func(r rune) bool { return r == '\n' || r == '\t' })
}

func escape(text string, allowed func(rune) bool) string {
	plain := func(r rune) bool { return unicode.IsPrint(r) || allowed(r) }
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case plain(r):
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += size
	}
	return b.String()
}
