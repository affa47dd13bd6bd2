package tunnel

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/golang-jwt/jwt/v5"

	redaction "github.com/awps-go/webpubsub/internal/redact"
)

// tokenLifetime is the same as in the official package. Each connection has a new token, which matters only when
// connecting.
const tokenLifetime = time.Hour

// tokenSource returns a token for a new connection with the given audience.
type tokenSource func(ctx context.Context, audience string) (string, error)

// keyTokens returns a source of tokens that are signed with the access key. All its tokens have the same random
// subject. The service may use the subject to recognize the connections of one server.
func keyTokens(key string) tokenSource {
	subject := newGUID()
	return func(_ context.Context, audience string) (string, error) {
		now := time.Now()
		return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"iat": now.Unix(),
			"exp": now.Add(tokenLifetime).Unix(),
			"aud": audience,
			"sub": subject,
		}).SignedString([]byte(key))
	}
}

// credentialTokens returns a source of tokens from Microsoft Entra ID. The credential caches tokens and renews them
// before they expire.
func credentialTokens(credential azcore.TokenCredential, scope string) tokenSource {
	return func(ctx context.Context, _ string) (string, error) {
		token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
		if err != nil {
			text := redaction.Line(redaction.Text(err.Error()), 4<<10) // may repeat a response with secrets and control characters
			return "", fmt.Errorf("tunnel: cannot get a token from the credential: %w", redaction.Error(text, err))
		}
		return token.Token, nil
	}
}

// newGUID returns a random UUID (version 4).
func newGUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
