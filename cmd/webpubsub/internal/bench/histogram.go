package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// histogram counts durations to three significant digits, in constant memory. It has several parts, so that many
// clients do not contend for one lock.
type histogram struct {
	parts [8]struct {
		mu sync.Mutex
		h  *hdrhistogram.Histogram
	}
}

const maxRecorded = 10 * time.Minute // longer durations are recorded as this

// record counts a duration. The key selects the part.
func (h *histogram) record(key int, d time.Duration) {
	part := &h.parts[key%len(h.parts)]
	part.mu.Lock()
	defer part.mu.Unlock()
	if part.h == nil {
		part.h = newHistogram()
	}
	_ = part.h.RecordValue(min(max(d, 0), maxRecorded).Microseconds()) // cannot be out of range
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, maxRecorded.Microseconds(), 3)
}

// percentiles returns the percentiles of all durations.
func (h *histogram) percentiles() Percentiles {
	all := newHistogram()
	for i := range h.parts {
		part := &h.parts[i]
		part.mu.Lock()
		if part.h != nil {
			all.Merge(part.h)
		}
		part.mu.Unlock()
	}
	at := func(quantile float64) float64 { return float64(all.ValueAtQuantile(quantile)) / 1000 }
	return Percentiles{P50: at(50), P95: at(95), P99: at(99), Max: float64(all.Max()) / 1000}
}
