package recent

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheLastEntriesAreKeptInOrder(t *testing.T) {
	var l Log[bool, int]
	require.Empty(t, l.All())
	require.Zero(t, l.Count(true))
	const added = 2*Kept + 3
	for i := range added {
		l.Add(i%2 == 0, i)
		require.Len(t, l.All(), min(i+1, Kept))
	}
	for i, entry := range l.All() {
		require.Equal(t, added-Kept+i, entry)
	}
	require.Equal(t, Kept+2, l.Count(true))
	require.Equal(t, Kept+1, l.Count(false))
}
