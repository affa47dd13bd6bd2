package emulator

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
)

// KeyType selects one of the two access keys of a [Server].
type KeyType int

const (
	// KeyTypePrimary is the key of AccessKey and ConnectionString.
	KeyTypePrimary KeyType = iota
	// KeyTypeSecondary is the key of SecondaryConnectionString.
	KeyTypeSecondary
)

// accessKeys are the access keys of a server.
type accessKeys struct {
	mu   sync.Mutex // guards everything below
	now  [2]string  // by KeyType
	past []string
}

func newAccessKeys(primary, secondary string) *accessKeys {
	return &accessKeys{now: [2]string{KeyTypePrimary: primary, KeyTypeSecondary: secondary}}
}

// current returns the keys by their type.
func (k *accessKeys) current() [2]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

// secrets returns the current keys and all past keys.
func (k *accessKeys) secrets() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append(slices.Clone(k.past), k.now[:]...)
}

// AccessKey returns the primary key. Service clients sign their tokens with it.
func (s *Server) AccessKey() string { return s.keys.current()[KeyTypePrimary] }

// ConnectionString returns the connection string for service clients, with the primary key:
// "Endpoint=...;AccessKey=...;Version=1.0;".
func (s *Server) ConnectionString() string { return s.connectionString(KeyTypePrimary) }

// SecondaryConnectionString returns the connection string with the secondary key.
func (s *Server) SecondaryConnectionString() string { return s.connectionString(KeyTypeSecondary) }

func (s *Server) connectionString(key KeyType) string {
	return "Endpoint=" + s.Endpoint() + ";AccessKey=" + s.keys.current()[key] + ";Version=1.0;"
}

// RegenerateKey replaces an access key with a random key, and returns the new key. It panics if the type is unknown.
//
// From then on, the server rejects tokens signed with the old key, and signs events with the new key. AccessKey and the
// connection strings use the new key. Connected clients stay connected.
//
// To rotate a key without an interruption, as in production, switch the applications to the other key, regenerate this one, and
// switch the applications back.
func (s *Server) RegenerateKey(key KeyType) string {
	if key != KeyTypePrimary && key != KeyTypeSecondary {
		panic(fmt.Sprintf("emulator: RegenerateKey: unknown key type %d", key))
	}
	k := s.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	k.past = append(k.past, k.now[key])
	k.now[key] = rand.Text() + rand.Text()
	s.tokens.SetKeys(k.now[KeyTypePrimary], k.now[KeyTypeSecondary])
	return k.now[key]
}
