package tunnel

import (
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

func TestHandshakesOfTheOfficialPackage(t *testing.T) {
	data, err := os.ReadFile("testdata/handshakes.json")
	require.NoError(t, err)
	var file struct {
		Endpoint, Hub string
		Targets       []string
		Handshakes    []struct {
			URL    string
			Header map[string]any
			Claims map[string]any
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	service, err := parseEndpoint(file.Endpoint)
	require.NoError(t, err)
	require.Len(t, file.Handshakes, 2)
	tokens := keyTokens("the primary key")
	var subject any
	for i, want := range file.Handshakes {
		e := endpoints{service: service}
		to, err := e.follow(file.Endpoint, file.Targets[i])
		require.NoError(t, err)
		request, audience := e.urls(file.Hub, to)
		require.Equal(t, want.Claims["aud"], audience)
		require.Equal(t, "ws://"+service.Host+want.URL, request)

		text, err := tokens(t.Context(), audience)
		require.NoError(t, err)
		claims := jwt.MapClaims{}
		token, err := jwt.ParseWithClaims(text, claims, func(*jwt.Token) (any, error) { return []byte("the primary key"), nil })
		require.NoError(t, err)
		require.Equal(t, want.Header, token.Header)
		require.Len(t, claims, len(want.Claims))
		require.Equal(t, audience, claims["aud"])
		require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, claims["sub"])
		require.Equal(t, want.Claims["exp"].(float64)-want.Claims["iat"].(float64), claims["exp"].(float64)-claims["iat"].(float64))
		if i > 0 {
			require.Equal(t, subject, claims["sub"], "the connections of one server have the same subject")
			require.Equal(t, want.Claims["sub"], file.Handshakes[0].Claims["sub"])
		}
		subject = claims["sub"]
	}
	other, err := keyTokens("the primary key")(t.Context(), "aud")
	require.NoError(t, err)
	claims := jwt.MapClaims{}
	_, _, err = jwt.NewParser().ParseUnverified(other, claims)
	require.NoError(t, err)
	require.NotEqual(t, subject, claims["sub"], "two servers have different subjects")
}

func TestURLs(t *testing.T) {
	for _, c := range []struct{ service, proxy, to, target, request, audience string }{
		{"https://NAME.webpubsub.azure.com:443/", "", "", "", "wss://name.webpubsub.azure.com/server/tunnel?hub=chat", ""},
		{"http://localhost:8080", "", "", "", "ws://localhost:8080/server/tunnel?hub=chat", ""},
		{"https://h:8443/a/b/", "", "", "", "wss://h:8443/a/b/server/tunnel?hub=chat", ""},
		{"https://h.x.y.z", "", "https://i.x.y.z/?v=1", "t", "wss://i.x.y.z/server/tunnel?v=1&hub=chat&target=t", ""},
		{"https://h", "http://proxy:81/p/", "", "", "ws://proxy:81/p/server/tunnel?hub=chat", "wss://h/server/tunnel?hub=chat"},
		{"https://h", "https://proxy", "https://h/", "t", "wss://proxy/server/tunnel?hub=chat&target=t", "wss://h/server/tunnel?hub=chat&target=t"},
		{"https://h.x.y.z", "https://proxy", "https://i.x.y.z/", "t", "wss://i.x.y.z/server/tunnel?hub=chat&target=t", ""},
	} {
		e := endpoints{}
		var err error
		e.service, err = parseEndpoint(c.service)
		require.NoError(t, err)
		if c.proxy != "" {
			e.proxy, err = parseEndpoint(c.proxy)
			require.NoError(t, err)
		}
		to, err := e.follow(c.to, c.target)
		require.NoError(t, err)
		request, audience := e.urls("chat", to)
		if c.audience == "" {
			c.audience = c.request
		}
		require.Equal(t, c.request, request)
		require.Equal(t, c.audience, audience)
	}
}

func TestEndpointsThatAreFollowed(t *testing.T) {
	for _, c := range []struct {
		service, endpoint string
		ok                bool
	}{
		{"https://name.webpubsub.azure.com", "", true},
		{"https://name.webpubsub.azure.com", "https://name.webpubsub.azure.com/", true},
		{"https://name.webpubsub.azure.com", "wss://NAME.webpubsub.azure.com:444/", true},
		{"https://name.webpubsub.azure.com", "https://name-replica.webpubsub.azure.com/", true},
		{"https://name.webpubsub.azure.com", "http://name.webpubsub.azure.com/", false},
		{"https://name.webpubsub.azure.com", "https://webpubsub.azure.com/", false},
		{"https://name.webpubsub.azure.com", "https://name.webpubsub.azure.com.example.com/", false},
		{"https://name.webpubsub.azure.com", "https://webpubsub.azure.com@example.com/", false},
		{"https://name.webpubsub.azure.com", "https://user:x@name.webpubsub.azure.com/", false},
		{"https://name.webpubsub.azure.com", "https://a.b.webpubsub.azure.com/", false},
		{"https://name.webpubsub.azure.com", "//name.webpubsub.azure.com/", false},
		{"https://name.webpubsub.azure.com", "ftp://name.webpubsub.azure.com/", false},
		{"https://name.webpubsub.azure.com", "https://%zz/", false},
		{"https://a.co.uk", "https://b.co.uk", false},
		{"https://a.example.com", "https://b.example.com", false},
		{"https://localhost", "https://otherhost", false},
		{"http://127.0.0.1:80", "http://127.0.0.1:81", true},
		{"http://127.0.0.1:80", "http://128.0.0.1:80", false},
		{"http://10.0.0.1", "https://10.0.0.1", true},
	} {
		service, err := parseEndpoint(c.service)
		require.NoError(t, err)
		_, err = endpoints{service: service}.follow(c.endpoint, "")
		require.Equal(t, c.ok, err == nil, "%s to %s: %v", c.service, c.endpoint, err)
	}
}

func TestRedactedText(t *testing.T) {
	jwt := "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJ4In0.c2lnbmF0dXJl"
	opaque := "opaque token+/of=Entra"
	for _, c := range []struct{ text, token, want string }{
		{"you sent " + jwt + ", no", jwt, "you sent REDACTED, no"},
		{"you sent " + jwt[:30], jwt, "you sent REDACTED"},
		{"you sent " + jwt[:30] + ", no", "another", "you sent REDACTED, no"},
		{"you sent " + opaque + ", no", opaque, "you sent REDACTED, no"},
		{"you sent opaque+token%2B%2Fof%3DEntra, no", opaque, "you sent REDACTED, no"},
		{"you sent opaque+token%2B%2F", opaque, "you sent REDACTED"},
		{"a\r\n\tb", "", "a b"},
		{strings.Repeat("ä", 200), "", strings.Repeat("ä", 150) + "..."},
	} {
		require.Equal(t, c.want, redact(c.text, c.token))
	}
}

func TestBackoff(t *testing.T) {
	o, _, _ := withDefaults(nil)
	b := backoff{options: o.Reconnect}
	var bounds []time.Duration
	for range 9 {
		delay := b.next(resetDelayAfter - 1)
		require.Positive(t, delay)
		require.LessOrEqual(t, delay, b.bound)
		bounds = append(bounds, b.bound)
	}
	const second = time.Second
	require.Equal(t, []time.Duration{second / 2, second, 2 * second, 4 * second, 8 * second, 16 * second, 30 * second, 30 * second, 30 * second}, bounds)
	b.next(resetDelayAfter)
	require.Equal(t, second/2, b.bound)
	different := map[time.Duration]bool{}
	for range 20 {
		different[b.next(0)] = true
	}
	require.Greater(t, len(different), 10, "delays are random")
}

func TestANilLoggerLogsNothing(t *testing.T) {
	for _, options := range []*Options{nil, {}} {
		o, _, _ := withDefaults(options)
		require.False(t, o.Logger.Enabled(t.Context(), slog.LevelError))
	}
}
