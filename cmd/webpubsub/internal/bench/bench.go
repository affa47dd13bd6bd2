// Package bench puts load on a hub: it opens clients, sends them messages over REST, and counts and times what arrives.
// Clients and senders are in one process, so one clock times both.
package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/wsclient"
)

// Target is whom the messages are sent to.
type Target string

// The targets.
const (
	Groups Target = "groups" // each message to one group, one group after the other
	Users  Target = "users"  // each message to one user, one user after the other; each client is a user
	All    Target = "all"    // each message to all connections of the hub
)

// Config is what a run does. All fields but Progress are required.
type Config struct {
	Service     *webpubsub.ServiceClient
	Protocol    wsclient.Protocol
	Clients     int
	ConnectRate int // clients that begin to connect in a second; 0 means no limit
	Target      Target
	GroupSize   int           // clients in a group
	Senders     int           // requests at once
	Rate        int           // messages a second, all senders together; 0 means no limit
	Messages    int           // end after so many messages; 0 means no limit
	Duration    time.Duration // end after so long
	Size        int           // of a message in bytes, at least MinSize
	Drain       time.Duration // wait so long for a missing delivery while none arrives

	// Progress is called each second until the run ends, by one goroutine. It may be nil.
	Progress func(Progress)
}

// run is a run under way.
type run struct {
	Config
	id      string // of this run, in group names, users and messages
	start   time.Time
	targets int

	clients []*client // those that connected
	senders []*sender

	connected, connectFailed     atomic.Int64
	recovered, reconnected       atomic.Int64
	sent, sendFailed             atomic.Int64
	delivered, ended, lastArrive atomic.Int64 // lastArrive in nanoseconds since start
	firstError                   firstError

	latency, connectLatency histogram
}

// Run connects the clients, sends, waits for what is to arrive, and closes the clients. It returns an error if there is
// nothing to report because no client connected, or ctx ended before. If ctx ends later, the report is marked as interrupted.
func Run(ctx context.Context, config Config) (*Report, error) {
	r := &run{Config: config, id: newID(), start: time.Now(), targets: targetCount(config)}
	stopProgress := r.reportProgress()
	defer stopProgress()
	connecting := time.Now()
	r.connect(ctx)
	connectTime := time.Since(connecting)
	defer r.close()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case len(r.clients) == 0:
		return nil, fmt.Errorf("no client connected: %w", r.firstError.get())
	}
	sending := time.Now()
	r.send(ctx)
	sendTime := time.Since(sending)
	r.drain(ctx)
	r.close()
	stopProgress()
	return r.report(connectTime, sendTime, sending.Sub(r.start), ctx.Err() != nil), nil
}

func targetCount(c Config) int {
	switch c.Target {
	case Groups:
		return (c.Clients + c.GroupSize - 1) / c.GroupSize
	case Users:
		return c.Clients
	}
	return 1
}

// targetOf returns the target that a client belongs to.
func (r *run) targetOf(client int) int {
	switch r.Target {
	case Groups:
		return client / r.GroupSize
	case Users:
		return client
	}
	return 0
}

// targetName returns the name of a group or user.
func (r *run) targetName(target int) string { return "bench-" + r.id + "-" + strconv.Itoa(target) }

// since returns the time since the run's start, by which messages are timed.
func (r *run) since() time.Duration { return time.Since(r.start) }

func newID() string {
	var id [4]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// drain waits until all that was sent has arrived, or nothing more arrives.
func (r *run) drain(ctx context.Context) {
	const interval = 20 * time.Millisecond
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	expected := r.expected()
	last, lastChange := int64(-1), time.Now()
	for (r.delivered.Load() < expected || r.lost() > 0) && time.Since(lastChange) < r.Drain {
		if n := r.delivered.Load(); n != last {
			last, lastChange = n, time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// expected returns how many deliveries follow from the messages that the service accepted.
func (r *run) expected() (n int64) {
	for _, c := range r.clients {
		for _, s := range r.senders {
			n += int64(s.accepted(c.target))
		}
	}
	return n
}

// lost returns how many deliveries are missing. It is not the difference of what is expected and what was delivered:
// messages whose send failed may be delivered all the same.
func (r *run) lost() (n int64) {
	for _, c := range r.clients {
		n += c.lost(r.senders)
	}
	return n
}

// reportProgress begins to report the progress, and returns what ends it.
func (r *run) reportProgress() (stop func()) {
	if r.Progress == nil {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				r.Progress(r.progress())
			}
		}
	})
	return sync.OnceFunc(func() { close(done); wg.Wait() })
}

// firstError keeps the first of many errors: the others are seldom different.
type firstError struct {
	mu  sync.Mutex
	err error
}

func (e *firstError) set(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = err
	}
}

func (e *firstError) get() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}
