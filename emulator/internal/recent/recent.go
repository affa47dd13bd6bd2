// Package recent remembers what happened last: a bounded number of entries, and for each key how many there ever were.
package recent

import (
	"slices"
	"sync"
)

// Kept is how many entries a Log remembers.
const Kept = 1000

// Log is a log of the last entries. Its zero value is empty. It may be used by several goroutines.
type Log[K comparable, E any] struct {
	mu     sync.Mutex // guards everything below
	all    []E        // a ring once it is full
	next   int        // where the next goes then
	counts map[K]int
}

// Add remembers an entry, and counts it for its key. The oldest entry is forgotten when there are too many.
func (l *Log[K, E]) Add(key K, entry E) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		l.counts = make(map[K]int)
	}
	l.counts[key]++
	if len(l.all) < Kept {
		l.all = append(l.all, entry)
		return
	}
	l.all[l.next] = entry
	l.next = (l.next + 1) % Kept
}

// All returns the entries that are remembered, in the order in which they were added.
func (l *Log[K, E]) All() []E {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Concat(l.all[l.next:], l.all[:l.next])
}

// Count returns how many entries of a key were added, forgotten ones too.
func (l *Log[K, E]) Count(key K) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[key]
}
