// Package watch implements the kernel's observer. It sends the traffic to watchers, and wakes goroutines that wait for the
// state to change. If there are none, each call costs one atomic load. The package depends only on the kernel, package hub.
package watch

import "github.com/awps-go/webpubsub/emulator/internal/hub"

// Board is a [hub.Observer]. It is safe for concurrent use.
type Board struct {
	traffic
	changes
}

// NewBoard returns a board that takes the time of its events from a clock.
func NewBoard(clock *hub.Clock) *Board { return &Board{traffic: traffic{clock: clock}} }
