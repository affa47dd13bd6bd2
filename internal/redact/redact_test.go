package redact

import (
	"encoding/json"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestTextHidesSecretsAndLeavesTheRest(t *testing.T) {
	for text, want := range map[string]string{
		// Prose is left alone.
		"Invalid signature: audience mismatch":           "Invalid signature: audience mismatch",
		"The bearer token has expired.":                  "The bearer token has expired.",
		`Bearer realm="", error="invalid_token"`:         `Bearer realm="", error="invalid_token"`,
		`{"code":"Error.BadRequest","message":"no"}`:     `{"code":"Error.BadRequest","message":"no"}`,
		`{"key":"value","eyJ":"a.b.c","keys":["a"]}`:     `{"key":"value","eyJ":"a.b.c","keys":["a"]}`,
		"invalid token: expired":                         "invalid token: expired",
		"webpubsub: GetClientAccessToken: invalid":       "webpubsub: GetClientAccessToken: invalid",
		"Hello, group a/b at 12:30, x=1&y=2; 100% sure":  "Hello, group a/b at 12:30, x=1&y=2; 100% sure",
		"https://name.webpubsub.azure.com/api/hubs/chat": "https://name.webpubsub.azure.com/api/hubs/chat",

		// Proxies.
		`parse "http://a:b c@host:1": net/url: invalid userinfo`:                 `parse "http://REDACTED@host:1": net/url: invalid userinfo`,
		`see http://a and mail b@c, or "http://a" and b@c`:                       `see http://a and mail b@c, or "http://a" and b@c`,
		`invalid proxy address "a:b%zz@c:1": parse "a:b%zz@c:1": first path`:     `invalid proxy address "REDACTED": parse "REDACTED": first path`,
		`invalid proxy address "a:b%zz@c:1`:                                      `invalid proxy address "REDACTED`,
		`Get "http://h/": invalid proxy address "a:\"b": parse "a:\"b": no, "c"`: `Get "http://h/": invalid proxy address "REDACTED": parse "REDACTED": no, "c"`,

		// By name.
		"wss://a/client?access_token=abc&b=c":                   "wss://a/client?access_token=REDACTED&b=c",
		"?awps_reconnection_token=abc&awps_connection_id=c":     "?awps_reconnection_token=REDACTED&awps_connection_id=c",
		"?subscription-key=abc&sig=def&code=ghi":                "?subscription-key=REDACTED&sig=REDACTED&code=REDACTED",
		"user=me password=hunter2":                              "user=me password=REDACTED",
		"password: hunter2!":                                    "password: REDACTED",
		"Endpoint=https://a;AccessKey=abc/+=;Version=1.0":       "Endpoint=https://a;AccessKey=REDACTED;Version=1.0",
		"Endpoint = https://a ; AccessKey = a=b= ; ":            "Endpoint = https://a ; AccessKey = REDACTED ; ",
		`{"a":"the bearer of news","password":"hunter2","b":1}`: `{"a":"the bearer of news","password":"REDACTED","b":1}`,
		`{"password":"a b;c&d\"e","b":1}`:                       `{"password":"REDACTED","b":1}`,
		`{"token":"opaque"}`:                                    `{"token":"REDACTED"}`,
		`{"token":12345,"b":1}`:                                 `{"token":REDACTED,"b":1}`,
		`{"token":["one","two"],"b":1}`:                         `{"token":[REDACTED],"b":1}`,
		`{"password":["o]n[e","t\"w]o"],"b":["c"]}`:             `{"password":[REDACTED],"b":["c"]}`,
		`{"Cookie":["a=b; c=d"],"Host":["a"]}`:                  `{"Cookie":[REDACTED],"Host":["a"]}`,
		`{"Proxy-Authorization":["Basic dXNlcjpwYXNz"],"b":[]}`: `{"Proxy-Authorization":[REDACTED],"b":[]}`,
		`{'accessToken': 'opaque'}`:                             `{'accessToken': 'REDACTED'}`,
		`{"password":"the end is missi`:                         `{"password":"REDACTED`,
		"token: abcdef0123456789":                               "token: REDACTED",
		"ce-signature: sha256=0123456789abcdef":                 "ce-signature: REDACTED",
		"100%AccessKey=abc":                                     "100%AccessKey=REDACTED",

		// By its form.
		"Authorization: Bearer abcdefghijklmnop0123":        "Authorization: Bearer REDACTED",
		"Authorization: Basic dXNlcjpwYXNz\r\nHost: a":      "Authorization: Basic REDACTED\r\nHost: a",
		"authorization=opaque":                              "authorization=REDACTED",
		"Set-Cookie: a=b; Path=/\nHost: a":                  "Set-Cookie: REDACTED\nHost: a",
		"bearer abc-def.ghi~+/== is bad":                    "bearer REDACTED is bad",
		"Bearer+abcdefghijkl&a=b":                           "Bearer+REDACTED&a=b",
		"token eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln is bad": "token REDACTED is bad",
		"the beginning of one: eyJhbGciOiJIUzI1NiJ9.eyJhI":  "the beginning of one: REDACTED",
		"https://user:pass@host/path":                       "https://REDACTED@host/path",

		// Encoded.
		"?reason=AccessKey%3Dabcdefghijkl%3B":                                  "?reason=AccessKey%3DREDACTED%3B",
		"?reason=access%255Ftoken%253Dopaque%2526b":                            "?reason=access%255Ftoken%253DREDACTED%2526b",
		"?reason=Bearer%20opaquevalue&a=Bearer%2520opaquevalue":                "?reason=Bearer%20REDACTED&a=Bearer%2520REDACTED",
		"?%61ccess_%74oken=opaque&a=b":                                         "?%61ccess_%74oken=REDACTED&a=b",
		`x\u0026access_token\u003dopaque\u0026b`:                               `x\u0026access_token\u003dREDACTED\u0026b`,
		`{"accessKey":"abc\u002Bdef=","b":1}`:                                  `{"accessKey":"REDACTED","b":1}`,
		`{"signature":"sha\/secretpart"}`:                                      `{"signature":"REDACTED"}`,
		`{"text":"{\"access_token\":\"opa\\u002Bque\"}"}`:                      `{"text":"{\"access_token\":\"REDACTED\"}"}`,
		`{"text":"{\"a\":\"{\\\"password\\\":\\\"x y\\\"}\"}"}`:                `{"text":"{\"a\":\"{\\\"password\\\":\\\"REDACTED\\\"}\"}"}`,
		"?a=%22reconnectionToken%22%3A%22ABCDEFGHIJKL%22":                      "?a=%22reconnectionToken%22%3A%22REDACTED%22",
		"?a=%7B%5C%22password%5C%22%3A%5C%22x%5C%22":                           "?a=%7B%5C%22password%5C%22%3A%5C%22REDACTED%5C%22",
		`{"url":"https:\/\/h\/?u=http%3A%2F%2Fh%3Faccess_token%3Dopaque&a=b"}`: `{"url":"https:\/\/h\/?u=http%3A%2F%2Fh%3Faccess_token%3DREDACTED&a=b"}`,
		"?a=eyJhbGciOiJIUzI1NiJ9%2EeyJhIjoxfQ%2Ec2ln&b=c":                      "?a=REDACTED&b=c",
		"one beside another password=a token=b;Bearer abcdefgh;code=1 end":     "one beside another password=REDACTED token=REDACTED;Bearer REDACTED;code=REDACTED end",
	} {
		require.Equal(t, want, Text(text))
		require.Equal(t, want, Text(want), "stable")
	}
}

func TestKnownSecretsAreHiddenHoweverTheyAreWritten(t *testing.T) {
	const secret = `the "key" +/=é`
	encodings := encoders()
	for i, first := range encodings {
		for j, second := range encodings {
			text := "before " + second(first(secret)) + " after"
			require.Equal(t, "before REDACTED after", Text(text, secret), "%d %d", i, j)
		}
	}
	require.Equal(t, "my REDACTED token", Text("my opaque token", "opaque"))
	require.Equal(t, "token", Text("token", "", "k"), "a known secret that is too short is ignored")
}

// encoders returns the encodings that Text sees through.
func encoders() []func(string) string {
	inJSON := func(text string) string {
		data, _ := json.Marshal(text)
		return string(data[1 : len(data)-1])
	}
	return []func(string) string{
		func(text string) string { return text },
		url.QueryEscape,
		url.PathEscape,
		inJSON,
		func(text string) string { // every byte, in lower case
			var b strings.Builder
			for i := range len(text) {
				b.WriteString("%" + strconv.FormatUint(uint64(text[i])|0x100, 16)[1:])
			}
			return b.String()
		},
		func(text string) string { // every character
			var b strings.Builder
			for _, r := range text {
				b.WriteString(`\u` + strconv.FormatUint(uint64(r)|0x10000, 16)[1:])
			}
			return b.String()
		},
	}
}

func TestURLHidesMoreNames(t *testing.T) {
	require.Equal(t, "https://a/b?%61ccess_%74oken=REDACTED&c=d&token=REDACTED&code=REDACTED&x-key=REDACTED#access_token=REDACTED",
		URL("https://a/b?%61ccess_%74oken=opaque&c=d&token=opaque&code=opaque&x-key=opaque#access_token=opaque"))
	require.Equal(t, "https://a/b?%zz=REDACTED", URL("https://a/b?%zz=opaque"))
	require.Equal(t, "https://a/REDACTED/b", URL("https://a/secret/b", "secret"))
}

func TestHeader(t *testing.T) {
	for _, name := range []string{"Authorization", "cookie", "Set-Cookie", "Ocp-Apim-Subscription-Key", "X-Session-Token", "ce-signature", "sig", "code"} {
		require.Equal(t, Mark, Header(name, []string{"a"}), name)
	}
	require.Equal(t, "a, access_token=REDACTED", Header("X-Name", []string{"a", "access_token=b"}))
}

func TestAnExcerptShowsNoHalfSecret(t *testing.T) {
	const limit = 100
	for _, secret := range []string{"Bearer abcdefghijklmnop0123", "password=abcdefghijkl", "known secret"} {
		for at := limit - 40; at <= limit; at++ {
			data := []byte(strings.Repeat(".", at) + " " + secret)
			got := Excerpt(data, limit, "known secret")
			require.LessOrEqual(t, len(got), limit)
			require.NotContains(t, got, "known")
			require.NotContains(t, got, "abcd")
		}
	}
	// A long secret shortens the excerpt: the text after the secret may end within another secret.
	data := []byte("password=" + strings.Repeat("x", limit+longestSecret-20) + " Bearer abcdefghijkl")
	require.Equal(t, "password=REDACTED", Excerpt(data, limit))
	require.Equal(t, strings.Repeat("b", limit), Excerpt([]byte(strings.Repeat("b", 8*limit)), limit))
	require.True(t, utf8.ValidString(Excerpt([]byte(strings.Repeat("é", limit)), 5)))
}

// The test measures no times. Quadratic work would exceed the time limit of go test: one pass would take half an hour.
func TestTheWorkGrowsWithTheSize(t *testing.T) {
	const size, passSize = 64 << 10, 4 << 20
	for _, part := range []string{"eyJ", "bearer+", "bearer ", "token:", "token: ", "=", `\`, `"`, "%", "%25", "://", "token=", `token=""`, " ", "[", "REDACTED",
		"token:" + strings.Repeat(Mark, 7), `"token":[`, "cookie:", "a", `\u005c`, "code=;", "authorization: ", "bearer+a=", `invalid proxy address "`} {
		text := strings.Repeat(part, size/len(part))
		_ = Text(text+`="`, "secret")
		require.LessOrEqual(t, len(Line(text, 300)), 303)
		v := view{text: []byte(strings.Repeat(part, passSize/len(part)) + `="`)}
		for _, pass := range []func([]span) []span{v.tokens, v.bearers, v.users, v.proxies, v.named,
			func(spans []span) []span { return v.known(spans, []string{"secret"}) }} {
			_ = pass(nil)
		}
		v.decode()
	}
}

func TestLine(t *testing.T) {
	for text, want := range map[string]string{
		"  one\r\n\ttwo\u00a0three  ": "one two three",
		"\x1b]0;title\x07\x1b[2J":     `\u001b]0;title\u0007\u001b[2J`,
		"left \u202e is \u200b \x7f":  `left \u202e is \u200b \u007f`,
		"\xff\xfe é 日本語 😀":            `\xff\xfe é 日本語 😀`,
		"\U000e0001":                  `\U000e0001`,
		"":                            "",
		" \n ":                        "",
		strings.Repeat("x", 31):       strings.Repeat("x", 30) + "...",
		strings.Repeat("é", 16):       strings.Repeat("é", 15) + "...",
	} {
		require.Equal(t, want, Line(text, 30))
	}
}

// FuzzText plants a secret under each name and in each encoding, between texts that may keep the secret from being
// found.
func FuzzText(f *testing.F) {
	f.Add("", "", "abcdefgh", uint(0), uint(0), uint(0))
	f.Add(`{"a":"`, `"}`, "a+b/c==d", uint(1), uint(1), uint(3))
	f.Add("%", "%41", "0123456789", uint(2), uint(2), uint(5))
	f.Add(`\`, `\"`, "hunter2hunter2", uint(5), uint(4), uint(1))
	f.Add("Bearer sig=", "REDACTED", "eyJhbGciOi.eyJh.b", uint(7), uint(0), uint(0))
	forms := []string{"access_token=", "?awps_reconnection_token=", "AccessKey=", "subscription-key=", "sig=", "password=", "?code=",
		"Bearer ", "Authorization: Bearer ", `"accessKey":"`, `"token" : "`, "reconnectionToken='", ""}
	f.Fuzz(func(t *testing.T, before, after, secret string, form, first, second uint) {
		clean := strings.Map(func(r rune) rune {
			if r < utf8.RuneSelf && isToken68(byte(r)) && r != '%' && r != ':' {
				return r
			}
			return -1
		}, secret)
		encodings := encoders()
		encode := func(text string) string {
			return encodings[second%uint(len(encodings))](encodings[first%uint(len(encodings))](text))
		}
		prefix := forms[form%uint(len(forms))]
		var known []string
		if prefix == "" {
			known = []string{clean}
		}
		text := before + "\n" + encode("&"+prefix+clean+"&") + "\n" + after
		got := Text(text, known...)
		require.Equal(t, got, Text(got, known...), "stable")
		if len(clean) >= 8 && !holds(before+"\n"+after, clean) && !strings.Contains(Mark, clean) && !isAssignment(clean) {
			for _, e := range encodings {
				require.NotContains(t, got, e(clean), "%q", text)
			}
		}
		line := Line(got, 300)
		require.True(t, utf8.ValidString(line))
		require.False(t, strings.ContainsFunc(line, unicode.IsControl))
	})
}

// holds reports whether a text contains another text, in any encoding.
func holds(text, part string) bool {
	v := view{text: []byte(text)}
	for {
		if strings.Contains(string(v.text), part) {
			return true
		}
		if !v.decode() {
			return false
		}
	}
}

// isAssignment reports whether a text looks like a parameter of a challenge, such as realm=.
func isAssignment(text string) bool { return strings.HasSuffix(text, "=") }

func BenchmarkText(b *testing.B) {
	text := strings.Repeat(`{"message":"Hello, group a/b at 12:30","x":1,"y":"\u00e9 100%25"}`, 64)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		runtime.KeepAlive(Text(text))
	}
}
