// Package redact hides keys and tokens in log records, error texts and displays, and formats untrusted text for one
// line.
//
// It recognizes a secret in three ways:
//   - The caller knows the secret.
//   - The secret has a typical form: a JWT, a token after "Bearer", or the user information of a URL.
//   - The secret has a typical name: access_token=..., "accessKey":"...", sig=...
//
// Secrets are found in plain text and in encoded text: percent-encoded, escaped for JSON, or any mixture of the two, up
// to four levels deep. For this, the text is decoded one level at a time and searched at each level. The matching part
// of the original text is replaced.
//
// All functions run in time proportional to the length of the text.
package redact

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// Mark replaces a secret.
const Mark = "REDACTED"

const (
	// shortestKnown is the minimum length of a known secret. Shorter secrets are ignored, because hiding every "k"
	// would make the text unreadable and protect nothing.
	shortestKnown = 4

	// maxDepth is the maximum number of nested encodings that are decoded.
	maxDepth = 4

	// maxSteps is the maximum number of searches of a text. Hiding one secret can reveal another.
	maxSteps = 4

	// longestSecret is the number of bytes that Excerpt searches beyond its limit, because half a secret is not
	// recognized.
	longestSecret = 16 << 10
)

// Text returns the text with each secret replaced by [Mark]. It also replaces the known secrets wherever they occur,
// except for those of fewer than four bytes. The result is stable: calling Text on it does not change it.
func Text(text string, known ...string) string {
	for range maxSteps {
		next := hide(text, len(text), search(text, known))
		if next == text {
			break
		}
		text = next
	}
	return text
}

// URL is [Text] for a URL. It also hides the value of each query parameter whose name is [Sensitive].
func URL(text string, known ...string) string {
	head, query, found := strings.Cut(text, "?")
	if !found {
		return Text(text, known...)
	}
	query, fragment, hasFragment := strings.Cut(query, "#")
	items := strings.Split(query, "&")
	for i, item := range items {
		name, _, _ := strings.Cut(item, "=")
		if plain, err := url.QueryUnescape(name); err != nil || Sensitive(plain) {
			items[i] = name + "=" + Mark
		}
	}
	text = head + "?" + strings.Join(items, "&")
	if hasFragment {
		text += "#" + fragment
	}
	return Text(text, known...)
}

// Header returns the values of a header, joined by commas and redacted like [Text]. If the header's name is
// [Sensitive], it returns [Mark].
func Header(name string, values []string, known ...string) string {
	if Sensitive(name) {
		return Mark
	}
	return Text(strings.Join(values, ", "), known...)
}

// Excerpt returns the beginning of the data, redacted like [Text], as valid UTF-8 of at most limit bytes. A secret that
// crosses the limit is hidden too. Excerpt reads at most 16 KiB beyond the limit.
func Excerpt(data []byte, limit int, known ...string) string {
	text := string(data[:min(len(data), limit+longestSecret)])
	text = Text(hide(text, limit, search(text, known)), known...)
	return strings.ToValidUTF8(text[:min(len(text), limit)], "\uFFFD")
}

// Sensitive reports whether a header or query parameter with this name contains a secret.
func Sensitive(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"authorization", "cookie", "token", "key", "secret", "signature", "password"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return name == "sig" || name == "code"
}

// span is a part of a text to hide: text[start:end].
type span struct{ start, end int }

// hide returns text[:limit] with each span replaced by Mark. It replaces every span that begins before the limit.
func hide(text string, limit int, spans []span) string {
	limit = min(limit, len(text))
	if len(spans) == 0 {
		return text[:limit]
	}
	slices.SortFunc(spans, func(a, b span) int { return a.start - b.start })
	var b strings.Builder
	next := 0 // the first byte not written yet
	for i := 0; i < len(spans) && spans[i].start < limit; {
		s := spans[i]
		for i++; i < len(spans) && spans[i].start <= s.end; i++ {
			s.end = max(s.end, spans[i].end)
		}
		b.WriteString(text[next:s.start])
		b.WriteString(Mark)
		next = s.end
	}
	if next < limit {
		b.WriteString(text[next:limit])
	}
	return b.String()
}

// search returns the positions of the secrets in a text.
func search(text string, known []string) (spans []span) {
	v := view{text: []byte(text)}
	for depth := 0; ; depth++ {
		found := len(spans)
		spans = v.known(spans, known)
		spans = v.tokens(spans)
		spans = v.bearers(spans)
		spans = v.users(spans)
		spans = v.proxies(spans)
		spans = v.named(spans)
		for i := found; i < len(spans); i++ {
			spans[i] = span{v.source(spans[i].start), v.source(spans[i].end)}
		}
		if depth == maxDepth || !v.decode() {
			return spans
		}
	}
}

// view is a text after some levels of decoding.
type view struct {
	text   []byte
	origin []int // the position of each byte in the original text, then the length of that text; nil before any decoding
}

// source returns the position in the original text for a position in the view.
func (v *view) source(i int) int {
	if v.origin == nil {
		return i
	}
	return v.origin[i]
}

// decode decodes one level of escapes. It returns false if the text has no escapes.
func (v *view) decode() bool {
	first := 0
	for ; first < len(v.text); first++ {
		if _, n := decodeAt(v.text[first:]); n > 0 {
			break
		}
	}
	if first == len(v.text) {
		return false
	}
	text := append(make([]byte, 0, len(v.text)), v.text[:first]...)
	origin := make([]int, 0, len(v.text)+1)
	for i := range first {
		origin = append(origin, v.source(i))
	}
	for i := first; i < len(v.text); {
		r, n := decodeAt(v.text[i:])
		switch {
		case n == 0:
			text = append(text, v.text[i])
			n = 1
		case v.text[i] == '%':
			text = append(text, byte(r))
		default:
			text = utf8.AppendRune(text, r)
		}
		for len(origin) < len(text) {
			origin = append(origin, v.source(i))
		}
		i += n
	}
	v.text, v.origin = text, append(origin, v.source(len(v.text)))
	return true
}

// decodeAt decodes the escape at the beginning of b and returns its length, or 0 if there is no escape.
func decodeAt(b []byte) (r rune, n int) {
	if len(b) < 2 {
		return 0, 0
	}
	switch b[0] {
	case '%':
		if r, ok := unhex(b[1:], 2); ok {
			return r, 3
		}
	case '\\':
		switch b[1] {
		case '"', '\\', '/', '\'':
			return rune(b[1]), 2
		case 'b', 'f', 'n', 'r', 't':
			return ' ', 2
		case 'u':
			if r, ok := unhex(b[2:], 4); ok {
				return r, 6
			}
		}
	}
	return 0, 0
}

func unhex(b []byte, digits int) (r rune, ok bool) {
	if len(b) < digits {
		return 0, false
	}
	for _, c := range b[:digits] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// known finds the known secrets, including those with + for a space (as in a query).
func (v *view) known(spans []span, known []string) []span {
	text := string(v.text)
	for _, secret := range known {
		if len(secret) < shortestKnown {
			continue
		}
		spans = appendAll(spans, text, secret)
		if form := strings.ReplaceAll(secret, " ", "+"); form != secret {
			spans = appendAll(spans, text, form)
		}
	}
	return spans
}

func appendAll(spans []span, text, secret string) []span {
	for at := 0; ; {
		i := strings.Index(text[at:], secret)
		if i < 0 {
			return spans
		}
		spans = append(spans, span{at + i, at + i + len(secret)})
		at += i + len(secret)
	}
}

// tokens finds JWTs, even if their end is missing.
func (v *view) tokens(spans []span) []span {
	const shortest = len("eyJ") + 6
	for i := 0; i+shortest < len(v.text); i++ {
		if v.text[i] != 'e' || v.text[i+1] != 'y' || v.text[i+2] != 'J' {
			continue
		}
		end := i
		for end < len(v.text) && isBase64URL(v.text[end]) {
			end++
		}
		if end < len(v.text) && v.text[end] == '.' && end-i >= shortest {
			for end < len(v.text) && (isBase64URL(v.text[end]) || v.text[end] == '.') {
				end++
			}
			spans = append(spans, span{i, end})
		}
		i = end - 1 // another match in the same run would have the same end
	}
	return spans
}

// bearers finds tokens after the word Bearer and a space (or +, as in a query).
func (v *view) bearers(spans []span) []span {
	const word, shortest = "bearer", 6
	for i := 0; i+len(word)+shortest < len(v.text); i++ {
		if v.text[i]|0x20 != 'b' || !equalFold(v.text[i:i+len(word)], word) {
			continue
		}
		start := i + len(word)
		for start < len(v.text) && (isSpace(v.text[start]) || v.text[start] == '+') {
			start++
		}
		if start == i+len(word) {
			continue
		}
		end := start
		for end < len(v.text) && isToken68(v.text[end]) {
			end++
		}
		if i = start - 1; length(v.text[start:end]) >= shortest && !v.isParameter(start, end) {
			spans = append(spans, span{start, end})
			i = end - 1
		}
	}
	return spans
}

// isParameter reports whether text[start:end] is the name of a parameter in a challenge, such as Bearer realm="...".
func (v *view) isParameter(start, end int) bool {
	for start < end && isName(v.text[start]) {
		start++
	}
	return start+1 == end && end < len(v.text) && v.text[start] == '=' && v.text[end] == '"'
}

// users finds user names and passwords in URLs.
func (v *view) users(spans []span) []span {
	for i := 0; i+3 < len(v.text); i++ {
		if v.text[i] != ':' || v.text[i+1] != '/' || v.text[i+2] != '/' {
			continue
		}
		start, at := i+3, 0
		end := start
		spaces := v.isQuotedScheme(i) // a quoted URL may have spaces, as in: parse "http://name:pass word@host"
		for ; end < len(v.text) && (!isSpace(v.text[end]) || spaces && v.text[end] == ' ') && strings.IndexByte(`/?#\"'<>`, v.text[end]) < 0; end++ {
			if v.text[end] == '@' {
				at = end
			}
		}
		if at > start {
			spans = append(spans, span{start, at})
		}
		i = end - 1
	}
	return spans
}

// isQuotedScheme reports whether the URL scheme that ends at i follows a quote.
func (v *view) isQuotedScheme(i int) bool {
	const longest = 16
	start := i
	for start > 0 && i-start < longest && isAlphanumeric(v.text[start-1]) {
		start--
	}
	return start < i && start > 0 && isQuote(v.text[start-1])
}

// proxies finds the URLs of proxies in net/http's error for an invalid one:
//
//	invalid proxy address "name:password@host": parse "name:password@host": first path segment in URL cannot contain colon
func (v *view) proxies(spans []span) []span {
	const before, between = `invalid proxy address "`, `": parse "`
	text := string(v.text)
	for at := 0; ; {
		i := strings.Index(text[at:], before)
		if i < 0 {
			return spans
		}
		at += i + len(before)
		end := v.closing(at, '"')
		spans = append(spans, span{at, end})
		if at = end; strings.HasPrefix(text[at:], between) {
			at += len(between)
			end = v.closing(at, '"')
			spans = append(spans, span{at, end})
			at = end
		}
	}
}

// named finds values with the name of a secret before them, separated by = or :, with or without quotes.
func (v *view) named(spans []span) []span {
	for i := 0; i < len(v.text); i++ {
		if separator := v.text[i]; separator != '=' && separator != ':' {
			continue
		}
		kind, quoted := v.nameBefore(i)
		if kind == harmless {
			continue
		}
		if s := v.valueAfter(i, kind, quoted); s.end > s.start {
			spans = append(spans, s)
			i = s.end - 1
		}
	}
	return spans
}

// kind describes the value that belongs to a name.
type kind int

const (
	harmless kind = iota
	strong        // a secret in any notation
	weak          // a secret, but the name is also a word of prose: after an unquoted name and a colon, only a long value is a secret
	query         // a secret after = only
	auth          // a secret, possibly after a scheme such as Bearer
	line          // a secret that ends at the end of the line
)

var (
	strongNames = []string{"accesstoken", "reconnectiontoken", "refreshtoken", "idtoken", "authtoken", "sastoken", "sessiontoken",
		"accesskey", "subscriptionkey", "apikey", "accountkey", "primarykey", "secondarykey", "sharedkey", "functionskey",
		"signingkey", "privatekey", "secret", "password", "passwd", "passphrase", "pwd"}
	weakNames = []string{"token", "signature"}
)

var withoutPunctuation = strings.NewReplacer("_", "", "-", "", ".", "")

// nameBefore returns the kind of the name before the separator at i, and whether the name is quoted.
func (v *view) nameBefore(i int) (k kind, quoted bool) {
	const longest = 64
	end := i
	for end > 0 && (isSpace(v.text[end-1]) || v.text[end-1] == '+') { // + is a space in a query
		end--
	}
	for end > 0 && isQuote(v.text[end-1]) {
		end, quoted = end-1, true
	}
	start := end
	for start > 0 && end-start < longest && isName(v.text[start-1]) {
		start--
	}
	if start == end {
		return harmless, quoted
	}
	name := strings.ToLower(string(v.text[start:end]))
	plain := withoutPunctuation.Replace(name)
	hasSuffix := func(suffix string) bool { return strings.HasSuffix(plain, suffix) }
	switch {
	case v.text[i] == ':' && !quoted && strings.HasPrefix(plain, "get"):
		return harmless, quoted // an operation's name before its error: "GetClientAccessToken: invalid argument"
	case slices.ContainsFunc(strongNames, hasSuffix):
		return strong, quoted
	case slices.ContainsFunc(weakNames, hasSuffix), name[strings.LastIndexAny(name, ".-")+1:] == "sig":
		return weak, quoted
	case hasSuffix("authorization"):
		return auth, quoted
	case hasSuffix("cookie") && v.text[i] == ':':
		return line, quoted
	case name == "code" && v.text[i] == '=':
		return query, quoted
	}
	return harmless, quoted
}

// valueAfter returns the position of the value after the separator at i.
func (v *view) valueAfter(i int, k kind, nameQuoted bool) span {
	start := v.valueStart(i + 1)
	if start == len(v.text) {
		return span{}
	}
	colon, first := v.text[i] == ':', v.text[start]
	switch {
	case colon && nameQuoted && first == '[':
		return span{start + 1, v.arrayEnd(start + 1)}
	case k == auth:
		return v.authValue(start)
	case isQuote(first):
		return span{start + 1, v.closing(start+1, first)}
	case k == line:
		return span{start, v.lineEnd(start)}
	case colon && nameQuoted:
		return span{start, v.until(start, ",}]")}
	case k == weak && colon && !v.isLongWord(start):
		return span{}
	}
	return span{start, v.until(start, "")}
}

// valueStart returns the position of a value after its separator: of its quote, if there is one before the value.
func (v *view) valueStart(i int) int {
	for i < len(v.text) && isSpace(v.text[i]) {
		i++
	}
	for quote := i; quote < len(v.text) && (isQuote(v.text[quote]) || isSpace(v.text[quote]) || v.text[quote] == '+'); quote++ {
		if isQuote(v.text[quote]) {
			return quote
		}
	}
	return i
}

// authValue returns the position of the credentials in the value of an Authorization header, without their scheme.
func (v *view) authValue(start int) span {
	if isQuote(v.text[start]) {
		start++
	}
	end := v.until(start, "")
	if next := end + 1; next < len(v.text) && v.text[end] == ' ' { // the first word is a scheme
		if second := v.until(next, ""); second > next {
			return span{next, second}
		}
	}
	return span{start, end}
}

// isLongWord reports whether the unquoted value at i is too long for a word of prose.
func (v *view) isLongWord(i int) bool {
	const longWord = 16
	part := view{text: v.text[:min(len(v.text), i+4*longWord)]}
	return length(part.text[i:part.until(i, "")]) >= longWord
}

// lineEnd returns the end of a value that ends at the end of the line, or at a quote.
func (v *view) lineEnd(i int) int {
	for i < len(v.text) && v.text[i] != '\n' && v.text[i] != '\r' && !isQuote(v.text[i]) {
		i++
	}
	return i
}

// until returns the end of an unquoted value. The value ends before white space, a quote, one of &;<>, or a character
// in more.
func (v *view) until(i int, more string) int {
	for ; i < len(v.text); i++ {
		c := v.text[i]
		if isSpace(c) || isQuote(c) || strings.IndexByte("&;<>", c) >= 0 || strings.IndexByte(more, c) >= 0 {
			return i
		}
	}
	return i
}

// closing returns the end of a quoted value: the position of the closing quote or, if there is none, the end of the
// text.
func (v *view) closing(i int, quote byte) int {
	for ; i < len(v.text) && v.text[i] != quote; i++ {
		if v.text[i] == '\\' {
			i++
		}
	}
	return min(i, len(v.text))
}

// arrayEnd returns the end of an array of strings: the position of the closing bracket or, if there is none, the end of the text.
func (v *view) arrayEnd(i int) int {
	for ; i < len(v.text) && v.text[i] != ']'; i++ {
		if v.text[i] == '"' {
			i = v.closing(i+1, '"')
		}
	}
	return min(i, len(v.text))
}

// length returns the number of bytes of b that are not in a Mark. This makes redaction stable: hiding a secret must not
// change what a second search finds.
func length(b []byte) int {
	return len(b) - len(Mark)*strings.Count(string(b), Mark)
}

func equalFold(b []byte, lower string) bool {
	for i := range len(lower) {
		if b[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isBase64URL(c byte) bool { return isAlphanumeric(c) || c == '-' || c == '_' }
func isName(c byte) bool      { return isAlphanumeric(c) || c == '-' || c == '_' || c == '.' }
func isToken68(c byte) bool   { return isAlphanumeric(c) || strings.IndexByte("-._~+/=%:", c) >= 0 }
func isSpace(c byte) bool     { return c <= ' ' || c == 0x7f }
func isQuote(c byte) bool     { return c == '"' || c == '\'' || c == '`' }
