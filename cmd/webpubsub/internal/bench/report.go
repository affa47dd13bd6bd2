package bench

import (
	"sync/atomic"
	"time"
)

// Progress describes the progress of a run.
type Progress struct {
	Elapsed                         time.Duration
	Connected, Sent, Delivered      int64
	Failed                          int64 // connections and sends
	Recovered, Reconnected, Clients int64
}

func (r *run) progress() Progress {
	return Progress{
		Elapsed: r.since(), Clients: int64(r.Clients),
		Connected: r.connected.Load(), Sent: r.sent.Load(), Delivered: r.delivered.Load(),
		Failed:    r.connectFailed.Load() + r.sendFailed.Load(),
		Recovered: r.recovered.Load(), Reconnected: r.reconnected.Load(),
	}
}

// Report is the result of a run. Its JSON form is part of the program's interface.
type Report struct {
	Clients    Clients    `json:"clients"`
	Messages   Messages   `json:"messages"`
	Deliveries Deliveries `json:"deliveries"`

	// Interrupted reports whether the run was ended early.
	Interrupted bool `json:"interrupted"`

	// Error is the first error of a connection or a send, if there was one.
	Error string `json:"error,omitempty"`
}

// Clients counts the clients by outcome.
type Clients struct {
	Connected   int64       `json:"connected"`
	Failed      int64       `json:"failed"`      // clients that did not connect
	Ended       int64       `json:"ended"`       // clients that connected and later gave up
	Recovered   int64       `json:"recovered"`   // connections that were recovered
	Reconnected int64       `json:"reconnected"` // connections that were replaced by new ones
	Seconds     float64     `json:"seconds"`     // until all clients were connected
	Connect     Percentiles `json:"connectMilliseconds"`
}

// Messages describes the messages that were sent.
type Messages struct {
	Target    Target  `json:"target"`
	Targets   int     `json:"targets"` // groups or users
	Size      int     `json:"size"`    // in bytes
	Sent      int64   `json:"sent"`    // accepted by the service
	Failed    int64   `json:"failed"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"`
}

// Deliveries describes the messages that arrived.
type Deliveries struct {
	Expected   int64       `json:"expected"` // deliveries of the messages that the service accepted
	Received   int64       `json:"received"` // without duplicates
	Lost       int64       `json:"lost"`
	Duplicated int64       `json:"duplicated"`
	Reordered  int64       `json:"reordered"`
	PerSecond  float64     `json:"perSecond"` // from the first send to the last arrival
	Latency    Percentiles `json:"latencyMilliseconds"`
}

// Percentiles are durations in milliseconds.
type Percentiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func (r *run) report(connectTime, sendTime, firstSend time.Duration, interrupted bool) *Report {
	report := &Report{
		Clients: Clients{
			Connected: r.connected.Load(), Failed: r.connectFailed.Load(), Ended: r.ended.Load(),
			Recovered: r.recovered.Load(), Reconnected: r.reconnected.Load(),
			Seconds: connectTime.Seconds(), Connect: r.connectLatency.percentiles(),
		},
		Messages: Messages{
			Target: r.Target, Targets: r.targets, Size: r.Size, Sent: r.sent.Load(), Failed: r.sendFailed.Load(),
			Seconds: sendTime.Seconds(), PerSecond: perSecond(&r.sent, sendTime),
		},
		Deliveries: Deliveries{
			Expected: r.expected(), Received: r.delivered.Load(), Lost: r.lost(),
			PerSecond: perSecond(&r.delivered, time.Duration(r.lastArrive.Load())-firstSend), Latency: r.latency.percentiles(),
		},
		Interrupted: interrupted,
	}
	for _, c := range r.clients {
		for _, s := range r.senders {
			t := &c.trackers[s.index]
			report.Deliveries.Duplicated += int64(t.duplicated)
			report.Deliveries.Reordered += int64(t.reordered)
		}
	}
	if err := r.firstError.get(); err != nil {
		report.Error = err.Error()
	}
	return report
}

func perSecond(n *atomic.Int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n.Load()) / d.Seconds()
}
