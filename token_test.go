package webpubsub

import (
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

func TestTheSignerIsAsGoodAsTheLibrarys(t *testing.T) {
	key := &accessKey{fixed: testKey}
	for range 3 { // the second time with what the first has left
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
	require.Error(t, jwt.SigningMethodHS256.Verify("a.b", signed(t, other, "a.b"), []byte(testKey)), "a key that has changed signs anew")
}

func TestClaimsAreWrittenAsJSONWritesThem(t *testing.T) {
	odd := []string{"plain", "", `a "quoted" \ text`, "<&>", "tab\tand\x00\x7f", "Jürgen \u2028 \U0001F600"}
	for _, c := range []claims{
		{IssuedAt: 1700000000, ExpiresAt: 1700003600, Audience: "https://name.webpubsub.azure.com/api/hubs/chat/:send?api-version=2024-12-01"},
		{Roles: odd, Groups: odd[:1], IssuedAt: -1, ExpiresAt: 1 << 60, Audience: odd[2], Subject: odd[4]},
		{Roles: []string{}, Groups: odd[2:4], Audience: odd[5], Subject: odd[5]},
	} {
		want, err := marshalJSON(c)
		require.NoError(t, err)
		require.Equal(t, string(want), string(c.appendJSON(nil)))
	}
}

func signed(t *testing.T, signer *signer, text string) []byte {
	t.Helper()
	signature, err := signer.Sign(text, nil)
	require.NoError(t, err)
	return signature
}
