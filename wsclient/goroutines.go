package wsclient

import "sync"

// goroutines counts the goroutines of a Conn, so that Close can wait for them.
type goroutines struct {
	wg sync.WaitGroup

	mu   sync.Mutex // guards shut
	shut bool
}

// spawn starts a goroutine, and reports false if the Conn is closed.
func (g *goroutines) spawn(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	g.wg.Go(f)
	return true
}

// close lets no goroutine start any more.
func (g *goroutines) close() {
	g.mu.Lock()
	g.shut = true
	g.mu.Unlock()
}
