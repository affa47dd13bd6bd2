package tunnel

import (
	"context"
	"math/rand/v2"
	"time"
)

// steady is how long a connection must have been up so that the next delay is a short one again.
const steady = 30 * time.Second

// backoff is the delays of one connection that is opened again and again.
type backoff struct {
	options ReconnectOptions
	bound   time.Duration // of the last delay; zero for none
}

// next returns how long to wait before the connection is opened again, if it was up for so long. The delay is random so that
// many servers do not come back at the same time.
func (b *backoff) next(up time.Duration) time.Duration {
	if b.bound == 0 || up >= steady {
		b.bound = b.options.MinDelay
	} else {
		b.bound = min(max(2*b.bound, b.bound), b.options.MaxDelay)
	}
	return rand.N(b.bound) + 1
}

// sleep waits for so long, or until the context ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
