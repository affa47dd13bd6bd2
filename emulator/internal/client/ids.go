package client

import (
	"crypto/rand"
	"encoding/base64"
)

// newConnectionID returns a random id like the hosted service's: 31 characters from A-Za-z0-9_-. The first character is a
// letter or a digit, so that a command line never mistakes an id for an option.
func newConnectionID() string {
	for {
		var b [24]byte
		rand.Read(b[:])
		if id := base64.RawURLEncoding.EncodeToString(b[:])[:31]; id[0] != '-' && id[0] != '_' {
			return id
		}
	}
}

// maxRemembered is the number of ackIds that recentIDs remembers.
const maxRemembered = 1000

// recentIDs remembers the ids that were added last. The zero value is empty.
type recentIDs struct {
	set  map[uint64]struct{}
	ring []uint64 // ring buffer of the ids in set, in the order they were added
	next int      // index of the oldest id, once ring is full
}

// has reports whether an id is remembered.
func (r *recentIDs) has(id uint64) bool {
	_, ok := r.set[id]
	return ok
}

// add adds an id, and forgets the oldest one if there are too many.
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
