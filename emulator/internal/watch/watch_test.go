package watch

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

func TestASlowWatcherMissesEventsAndDelaysNobody(t *testing.T) {
	board := NewBoard(&hub.Clock{})
	require.False(t, board.Watched())
	w, stop := board.Watch(2)
	require.True(t, board.Watched())
	for range 5 {
		board.Traffic(hub.TrafficEvent{})
	}
	require.Len(t, w.Events, 2)
	require.EqualValues(t, 3, w.Missed())
	require.False(t, (<-w.Events).Time.IsZero())
	stop()
	stop()
	require.False(t, board.Watched())
	board.Traffic(hub.TrafficEvent{})
	require.Len(t, w.Events, 1, "a stopped watcher must receive no events")
}

func TestAWaitEnds(t *testing.T) {
	board := NewBoard(&hub.Clock{})
	board.Changed() // nobody waits
	n := 0
	count := func() int { n++; board.Changed(); return n }
	require.NoError(t, board.Wait(t.Context(), nil, 3, "things", count), "a change during the count must not be missed")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	zero := func() int { return 0 }
	require.EqualError(t, board.Wait(ctx, nil, 1, "things", zero), "emulator: waiting for 1 things, there are 0: context canceled")
	closing := make(chan struct{})
	close(closing)
	require.ErrorIs(t, board.Wait(t.Context(), closing, 1, "things", zero), ErrClosed)
	require.Zero(t, board.waiting.Load())
}
