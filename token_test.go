package webpubsub

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

func TestTheSignerAgreesWithTheLibrary(t *testing.T) {
	key := &accessKey{fixed: testKey}
	for range 3 { // later rounds reuse the buffers of the first
		signer, err := key.signer(testKey)
		require.NoError(t, err)
		token, err := jwt.NewWithClaims(signer, jwt.RegisteredClaims{Subject: "user1"}).SignedString(nil)
		require.NoError(t, err)
		want, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{Subject: "user1"}).SignedString([]byte(testKey))
		require.NoError(t, err)
		require.Equal(t, want, token)
		require.NoError(t, signer.Verify("a.b", signed(t, signer, "a.b"), nil))
		require.Error(t, signer.Verify("a.c", signed(t, signer, "a.b"), nil))
		key.signers.Put(signer)
	}
	other, err := key.signer("another key")
	require.NoError(t, err)
	require.Error(t, jwt.SigningMethodHS256.Verify("a.b", signed(t, other, "a.b"), []byte(testKey)), "a changed key needs a new signer")
}

func TestTheLibraryReadsTheTokenOfARequest(t *testing.T) {
	issued := time.Unix(1700000000, 0)
	for _, audience := range []string{
		"https://name.webpubsub.azure.com/api/hubs/chat/:send?api-version=2024-12-01",
		"", `a "quoted" \ text`, "<&>", "tab\tand\x00\x7f", "Jürgen \u2028 \U0001F600",
	} {
		signer, err := new(accessKey).signer(testKey)
		require.NoError(t, err)
		authorization := signer.authorization(audience, issued, issued.Add(time.Hour))
		var claims jwt.MapClaims
		token, err := jwt.NewParser(jwt.WithTimeFunc(func() time.Time { return issued })).ParseWithClaims(
			strings.TrimPrefix(authorization, "Bearer "), &claims, func(*jwt.Token) (any, error) { return []byte(testKey), nil })
		require.NoError(t, err)
		require.Equal(t, map[string]any{"alg": "HS256", "typ": "JWT"}, token.Header)
		require.Equal(t, jwt.MapClaims{"iat": 1.7e9, "exp": 1.7e9 + 3600, "aud": audience}, claims)
	}
}

func TestTheHeadersOfAClientToken(t *testing.T) {
	client := newTestClient(t, testEndpoint, nil)
	for name, want := range map[string]map[string]any{
		"none":      {"alg": "HS256", "typ": "JWT"},
		"a kid":     {"alg": "HS256", "typ": "JWT", "kid": "1", "n": []any{1.0}},
		"a new typ": {"alg": "HS256", "typ": "at+jwt"},
	} {
		options := &ClientAccessTokenOptions{JWTHeaders: maps.Clone(want)}
		delete(options.JWTHeaders, "alg")
		access, err := client.GetClientAccessToken(t.Context(), options)
		require.NoError(t, err)
		token, err := jwt.Parse(access.Token, func(*jwt.Token) (any, error) { return []byte(testKey), nil })
		require.NoError(t, err)
		require.Equal(t, want, token.Header, name)
	}
}

func signed(t *testing.T, signer *signer, text string) []byte {
	t.Helper()
	signature, err := signer.Sign(text, nil)
	require.NoError(t, err)
	return signature
}
