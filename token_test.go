package webpubsub

import (
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

func TestTheSignerIsAsGoodAsTheLibrarys(t *testing.T) {
	key := &accessKey{fixed: testKey}
	for range 3 { // the second time with what the first has left
		signer := key.signer(testKey)
		token, err := jwt.NewWithClaims(signer, jwt.RegisteredClaims{Subject: "user1"}).SignedString(nil)
		require.NoError(t, err)
		want, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{Subject: "user1"}).SignedString([]byte(testKey))
		require.NoError(t, err)
		require.Equal(t, want, token)
		require.NoError(t, signer.Verify("a.b", signed(t, signer, "a.b"), nil))
		require.Error(t, signer.Verify("a.c", signed(t, signer, "a.b"), nil))
		key.signers.Put(signer)
	}
	other := key.signer("another key")
	require.Error(t, jwt.SigningMethodHS256.Verify("a.b", signed(t, other, "a.b"), []byte(testKey)), "a key that has changed signs anew")
}

func signed(t *testing.T, signer *signer, text string) []byte {
	t.Helper()
	signature, err := signer.Sign(text, nil)
	require.NoError(t, err)
	return signature
}
