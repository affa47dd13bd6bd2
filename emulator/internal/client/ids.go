package client

import (
	"crypto/rand"
	"encoding/base64"
)

// newConnectionID makes an id as the service's are: 31 characters of A-Za-z0-9_-.
func newConnectionID() string {
	var b [24]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])[:31]
}

// maxRemembered is how many ackIds are remembered.
const maxRemembered = 1000

// recentIDs is the numbers that were added last.
type recentIDs struct {
	set  map[uint64]struct{}
	ring []uint64 // in the order of their coming, once around
	next int      // where in ring the next goes, when it is full
}

// has reports whether a number was added and is remembered.
func (r *recentIDs) has(id uint64) bool {
	_, ok := r.set[id]
	return ok
}

// add adds a number, and forgets the oldest if there are too many.
func (r *recentIDs) add(id uint64) {
	if r.set == nil {
		r.set = make(map[uint64]struct{})
	}
	if r.has(id) {
		return
	}
	r.set[id] = struct{}{}
	if len(r.ring) < maxRemembered {
		r.ring = append(r.ring, id)
		return
	}
	delete(r.set, r.ring[r.next])
	r.ring[r.next] = id
	r.next = (r.next + 1) % maxRemembered
}
