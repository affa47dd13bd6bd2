// Package recent keeps the most recent entries of a log, and counts all entries by key.
package recent

import (
	"slices"
	"sync"
)

// Kept is the number of entries that a Log keeps.
const Kept = 1000

// Log keeps the last [Kept] entries. The zero value is an empty log. A Log may be used by several goroutines.
type Log[K comparable, E any] struct {
	mu     sync.Mutex // guards everything below
	all    []E        // a ring once it has Kept entries
	next   int        // the index in the ring of the oldest entry, which the next one replaces
	counts map[K]int
}

// Add adds an entry and counts it for its key. If the log is full, the entry replaces the oldest one.
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

// All returns the entries that the log holds, oldest first.
func (l *Log[K, E]) All() []E {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Concat(l.all[l.next:], l.all[:l.next])
}

// Count returns the number of entries ever added for a key, including those that were replaced.
func (l *Log[K, E]) Count(key K) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[key]
}
