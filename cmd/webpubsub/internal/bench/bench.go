// Package bench puts load on a hub. It opens clients, sends them messages over REST, and counts and times the
// deliveries. Clients and senders are in one process, so one clock times both.
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

// Target is the kind of recipient of the messages.
type Target string

// The targets.
const (
	Groups Target = "groups" // each message goes to one group, in turn
	Users  Target = "users"  // each message goes to one user, in turn; each client is a user
	All    Target = "all"    // each message goes to all connections of the hub
)

// Config configures a run. All fields except Progress are required.
type Config struct {
	Service     *webpubsub.ServiceClient
	Protocol    wsclient.Protocol
	Clients     int
	ConnectRate int // clients opened a second; 0 means no limit
	Target      Target
	GroupSize   int           // clients in a group
	Senders     int           // concurrent requests
	Rate        int           // messages a second, of all senders together; 0 means no limit
	Messages    int           // end after this many messages; 0 means no limit
	Duration    time.Duration // end after this time
	Size        int           // size of a message in bytes, at least MinSize
	Drain       time.Duration // stop waiting for missing deliveries if none arrives for this time

	// Progress is called each second until the run ends, always on the same goroutine. It may be nil.
	Progress func(Progress)
}

// run is a run in progress.
type run struct {
	Config
	id      string // identifies the run in group names, users and messages
	start   time.Time
	targets int

	clients []*client // the clients that connected
	senders []*sender

	connected, connectFailed     atomic.Int64
	recovered, reconnected       atomic.Int64
	sent, sendFailed             atomic.Int64
	delivered, ended, lastArrive atomic.Int64 // lastArrive in nanoseconds since start
	firstError                   firstError

	latency, connectLatency histogram
}

// Run connects the clients, sends the messages, waits for the deliveries, and closes the clients. It returns an error
// if no client connected, or if ctx ended while the clients connected. If ctx ends later, the report is marked as
// interrupted.
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

// since returns the time since the start of the run, which is the clock for messages.
func (r *run) since() time.Duration { return time.Since(r.start) }

func newID() string {
	var id [4]byte
	rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// drain waits until every message has arrived, or until nothing has arrived for r.Drain. After an interrupt it still waits for
// a short time, because otherwise messages in flight would be reported as lost.
func (r *run) drain(parent context.Context) {
	ctx, stop := graceful(parent)
	defer stop()
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

// expected returns the number of expected deliveries of the messages that the service accepted.
func (r *run) expected() (n int64) {
	for _, c := range r.clients {
		for _, s := range r.senders {
			n += int64(s.accepted(c.target))
		}
	}
	return n
}

// lost returns the number of missing deliveries. It is not expected minus delivered, because a message whose send
// failed may be delivered anyway.
func (r *run) lost() (n int64) {
	for _, c := range r.clients {
		n += c.lost(r.senders)
	}
	return n
}

// reportProgress starts to report progress, and returns a function that stops it.
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

// firstError keeps the first error. Later errors are rarely different.
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
