// Package watch is the kernel's observer: it hands the traffic to those who watch, and wakes those who wait for the
// state to change. When nobody does, either costs one atomic load. It knows the kernel's events and nothing else of the
// emulator.
package watch

import "github.com/awps-go/webpubsub/emulator/internal/hub"

// Board is a [hub.Observer].
type Board struct {
	traffic
	changes
}

// NewBoard makes a board whose events carry the time of a clock.
func NewBoard(clock *hub.Clock) *Board { return &Board{traffic: traffic{clock: clock}} }
