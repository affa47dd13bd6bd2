package rest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSlashesInPathsStayEncoded(t *testing.T) {
	for segment, want := range map[string]string{
		"a%2Fb":         "a%2Fb",
		"a%2fb":         "a%2fb",
		"a%252Fb":       "a%2Fb",
		"%2F":           "%2F",
		"%2F%2fa%20b":   "%2F%2fa b",
		"%E7%94%A8%2Fx": "用%2Fx",
		"a+b%2Bc":       "a+b+c",
		"%25":           "%",
		"":              "",
	} {
		got, err := decodeSegment(segment)
		require.NoError(t, err)
		require.Equal(t, want, got, segment)
	}
	for _, segment := range []string{"%", "%2", "%zz%2F", "%2F%zz"} {
		_, err := decodeSegment(segment)
		require.Error(t, err, segment)
	}
}

func TestCharsets(t *testing.T) {
	for name, tt := range map[string]struct{ encoded, want string }{
		"":           {"h\xc3\xbc", "hü"},
		"UTF-8":      {"h\xc3\xbc", "hü"},
		"ISO-8859-1": {"h\xfc", "hü"},
		"us-ascii":   {"h\xfc", "h\uFFFD"},
		"utf-16":     {"h\x00\xfc\x00\x3d\xd8\x00\xdex", "hü😀\uFFFD"},
		"utf-16BE":   {"\x00h\x00\xfc\xd8\x3d", "hü\uFFFD"},
		"utf-32":     {"h\x00\x00\x00\x00\xf6\x01\x00x", "h😀\uFFFD"},
		"utf-32be":   {"\x00\x01\xf6\x00\xff\xff\xff\xff", "😀\uFFFD"},
	} {
		c, ok := findCharset(name)
		require.True(t, ok, name)
		got := tt.encoded
		if c.decode != nil {
			got = c.decode([]byte(got))
		}
		require.Equal(t, tt.want, got, name)
	}
	for _, name := range []string{"unknown", "windows-1252", "utf-7", " utf-8"} { // .NET needs an extra provider for these, or has dropped them
		_, ok := findCharset(name)
		require.False(t, ok, name)
	}
}
