package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"

	"github.com/golang-jwt/jwt/v5"
)

// keys are the access keys of the resource. They do not change: an Authority gets others.
type keys struct {
	primary, secondary string
	hashes             sync.Pool // of hash.Hash: HMACs by the primary key
}

// SetKeys replaces the keys. Tokens that only the former keys have signed are no longer accepted.
func (a *Authority) SetKeys(primary, secondary string) {
	k := &keys{primary: primary, secondary: secondary}
	k.hashes.New = func() any { return hmac.New(sha256.New, []byte(primary)) }
	a.keys.Store(k)
}

// haveSigned reports whether a signature is that of one of the keys. For the primary key it does as golang-jwt's HS256,
// which makes the hash behind the key anew each time: half of its work.
func (k *keys) haveSigned(signed string, signature []byte) bool {
	h := k.hashes.Get().(hash.Hash)
	defer k.hashes.Put(h)
	h.Reset()
	h.Write([]byte(signed))
	return hmac.Equal(h.Sum(nil), signature) ||
		jwt.SigningMethodHS256.Verify(signed, signature, []byte(k.secondary)) == nil
}
