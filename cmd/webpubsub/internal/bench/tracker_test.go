package bench

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTrackerCounts(t *testing.T) {
	for name, test := range map[string]struct {
		numbers                     []uint32
		last                        uint32
		failed                      []uint32
		lost, duplicated, reordered int
	}{
		"all in order":             {[]uint32{1, 2, 3}, 3, nil, 0, 0, 0},
		"nothing":                  {nil, 3, nil, 3, 0, 0},
		"the first lost":           {[]uint32{2, 3}, 3, nil, 1, 0, 0},
		"the last lost":            {[]uint32{1, 2}, 3, nil, 1, 0, 0},
		"late":                     {[]uint32{1, 4, 3, 2}, 4, nil, 0, 0, 2},
		"late in a hole's middle":  {[]uint32{5, 3}, 5, nil, 3, 0, 1},
		"twice":                    {[]uint32{1, 2, 2, 1, 3}, 3, nil, 0, 2, 0},
		"late and twice":           {[]uint32{2, 1, 1}, 2, nil, 0, 1, 1},
		"failed, not delivered":    {[]uint32{1, 3}, 3, []uint32{2}, 0, 0, 0},
		"failed, but delivered":    {[]uint32{1, 2, 3}, 3, []uint32{2}, 0, 0, 0},
		"failed, another one lost": {[]uint32{1, 2}, 3, []uint32{2}, 1, 0, 0},
	} {
		var tr tracker
		for _, n := range test.numbers {
			tr.record(n)
		}
		require.Equal(t, [3]int{test.lost, test.duplicated, test.reordered},
			[3]int{tr.lost(test.last, test.failed), int(tr.duplicated), int(tr.reordered)}, name)
	}
}

// TestTrackerAgreesWithASet compares the tracker with a set of all received numbers and the highest number.
func TestTrackerAgreesWithASet(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var tr tracker
		seen := make(map[uint32]bool)
		var highest, duplicated, reordered uint32
		for range random.IntN(60) {
			n := 1 + random.Uint32N(40)
			switch {
			case seen[n]:
				duplicated++
			case n < highest:
				reordered++
			}
			require.Equal(t, !seen[n], tr.record(n))
			seen[n], highest = true, max(highest, n)
		}
		var failed []uint32
		lost := 0
		for n := uint32(1); n <= 40; n++ {
			require.Equal(t, seen[n], tr.has(n))
			switch {
			case random.IntN(5) == 0:
				failed = append(failed, n)
			case !seen[n]:
				lost++
			}
		}
		require.Equal(t, [3]int{lost, int(duplicated), int(reordered)}, [3]int{tr.lost(40, failed), int(tr.duplicated), int(tr.reordered)})
	}
}

func TestTheHolesOfATrackerAreBounded(t *testing.T) {
	var tr tracker
	for n := range uint32(10 * maxHoles) {
		tr.record(2*n + 2)
	}
	require.Len(t, tr.holes, maxHoles)
	require.Equal(t, 10*maxHoles, tr.lost(20*maxHoles, nil))
}

func TestPercentilesAreExactToThreeDigits(t *testing.T) {
	var h histogram
	for i := range 10_000 {
		h.record(i, time.Duration(i+1)*10*time.Microsecond)
	}
	p := h.percentiles()
	require.InEpsilon(t, 50, p.P50, 0.001)
	require.InEpsilon(t, 95, p.P95, 0.001)
	require.InEpsilon(t, 99, p.P99, 0.001)
	require.InEpsilon(t, 100, p.Max, 0.001)
	h.record(1, 24*time.Hour)
	h.record(1, -time.Second)
	require.InEpsilon(t, maxRecorded.Milliseconds(), h.percentiles().Max, 0.001)
	require.Zero(t, new(histogram).percentiles())
}

func TestMessagesAreParsedAsTheyAreFormatted(t *testing.T) {
	r := &run{id: "0badcafe", start: time.Now().Add(-time.Hour), Config: Config{Size: MinSize, Senders: 10_000}}
	for _, size := range []int{MinSize, 1000} {
		r.Size = size
		text := r.format(9999, 1<<32-1)
		require.Len(t, text, size)
		sender, number, sent, ok := r.parse([]byte(text))
		require.True(t, ok)
		require.Equal(t, 9999, sender)
		require.Equal(t, uint32(1<<32-1), number)
		require.InDelta(t, time.Hour, sent, float64(time.Minute))
	}
	for _, text := range []string{"", "0badcafe", "0badcafe ", "0badcafe 1", "0badcafe 1 1 1", "0badcafe 10000 1 1 .", "0badcafe 1 0 1 .",
		"0badcafe 1 4294967296 1 .", "0badcafe 1 -1 1 .", "0badcaff 1 1 1 ."} {
		_, _, _, ok := r.parse([]byte(text))
		require.False(t, ok, text)
	}
}
