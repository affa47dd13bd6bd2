package wsclient

import "sync"

// goroutines tracks the goroutines of a Conn, so that Close can wait for them.
type goroutines struct {
	wg sync.WaitGroup

	mu     sync.Mutex // guards closed
	closed bool
}

// spawn starts a goroutine. It returns false after close, without starting one.
func (g *goroutines) spawn(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.wg.Go(f)
	return true
}

// close prevents new goroutines from starting.
func (g *goroutines) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
}
