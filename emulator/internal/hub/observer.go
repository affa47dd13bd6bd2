package hub

import "time"

// Observer is notified of what happens in the service. Its methods are called under locks of the kernel: they must not block,
// nor call back.
type Observer interface {
	// Changed reports that connections, groups, users or tunnels have changed.
	Changed()
	// Watched reports whether anybody looks at the traffic, so that nobody describes what no one will read.
	Watched() bool
	// Traffic shows one event of the traffic.
	Traffic(e TrafficEvent)
}

// TrafficEvent is one thing that passed through the service, for people to look at. It holds what clients and
// applications sent, and with that, perhaps, a token: whoever shows it redacts it.
type TrafficEvent struct {
	Time         time.Time `json:"time"`
	Kind         string    `json:"kind"` // "rest", "connection", "group", "message", "event" or "tunnel"
	Hub          string    `json:"hub,omitempty"`
	ConnectionID string    `json:"connectionId,omitempty"`
	UserID       string    `json:"userId,omitempty"`
	Group        string    `json:"group,omitempty"`
	Text         string    `json:"text"`                 // what happened, in a line
	Status       int       `json:"status,omitempty"`     // of the answer, of a REST call, an event, a refused handshake
	Milliseconds float64   `json:"durationMs,omitempty"` // until the answer of a REST call
	Data         string    `json:"data,omitempty"`       // the beginning of a message's payload
}
