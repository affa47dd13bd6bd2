package wsclient

import "sync"

// hooks runs the application's hooks in order, on a goroutine that exists only while there are hooks to run. Close does
// not wait for this goroutine, because a hook may call Close.
type hooks struct {
	mu      sync.Mutex // guards everything below
	queue   []func()
	running bool
	closed  bool
}

// add adds a hook to the queue. It does nothing after close.
func (h *hooks) add(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.queue = append(h.queue, f)
	if !h.running {
		h.running = true
		go h.run()
	}
}

// start runs a hook immediately, on a goroutine of its own. It does nothing after close.
func (h *hooks) start(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		go f()
	}
}

func (h *hooks) run() {
	finished := false
	defer func() {
		if !finished { // a hook called runtime.Goexit, like a test's FailNow
			go h.run()
		}
	}()
	for {
		h.mu.Lock()
		if len(h.queue) == 0 {
			h.queue, h.running, finished = nil, false, true
			h.mu.Unlock()
			return
		}
		f := h.queue[0]
		h.queue = h.queue[1:]
		h.mu.Unlock()
		f()
	}
}

// close discards the queued hooks. No hook starts afterwards.
func (h *hooks) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed, h.queue = true, nil
}
