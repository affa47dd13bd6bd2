package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"

	"github.com/golang-jwt/jwt/v5"
)

// keys are the access keys of the resource. They are immutable: SetKeys stores new ones.
type keys struct {
	primary, secondary string
	hashes             sync.Pool // of hash.Hash: HMACs with the primary key
}

// SetKeys replaces the keys. Tokens signed only by a former key are no longer accepted.
func (a *Authority) SetKeys(primary, secondary string) {
	k := &keys{primary: primary, secondary: secondary}
	k.hashes.New = func() any { return hmac.New(sha256.New, []byte(primary)) }
	a.keys.Store(k)
}

// haveSigned reports whether one of the keys made a signature. For the primary key it reuses HMACs, because golang-jwt's HS256
// spends half of its time on creating one per token.
func (k *keys) haveSigned(signed string, signature []byte) bool {
	h := k.hashes.Get().(hash.Hash)
	defer k.hashes.Put(h)
	h.Reset()
	h.Write([]byte(signed))
	return hmac.Equal(h.Sum(nil), signature) ||
		jwt.SigningMethodHS256.Verify(signed, signature, []byte(k.secondary)) == nil
}
