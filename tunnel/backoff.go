package tunnel

import (
	"context"
	"math/rand/v2"
	"time"
)

// resetDelayAfter is how long a connection must have been up to reset the delay.
const resetDelayAfter = 30 * time.Second

// backoff computes the delays before one connection is opened again.
type backoff struct {
	options ReconnectOptions
	bound   time.Duration // the bound of the last delay; zero before the first
}

// next returns the delay before the connection is opened again. The connection was up for the duration up. The delay is
// random, so that many servers do not reconnect at the same time.
func (b *backoff) next(up time.Duration) time.Duration {
	if b.bound == 0 || up >= resetDelayAfter {
		b.bound = b.options.MinDelay
	} else {
		b.bound = min(max(2*b.bound, b.bound), b.options.MaxDelay)
	}
	return rand.N(b.bound) + 1
}

// sleep waits for d, or until the context ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
