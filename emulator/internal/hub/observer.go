package hub

import "time"

// Observer is notified of changes and of traffic in the service. The kernel may hold locks when it calls these methods, so
// they must not block or call the kernel.
type Observer interface {
	// Changed reports that connections, groups, users, tunnels or delays have changed.
	Changed()
	// Watched reports whether anybody watches the traffic. If it returns false, callers skip Traffic.
	Watched() bool
	// Traffic reports one traffic event.
	Traffic(e TrafficEvent)
}

// TrafficEvent describes, for people, something that passed through the service. It may contain a token that a client or an
// application sent, so viewers must redact it.
type TrafficEvent struct {
	Time         time.Time `json:"time"`
	Kind         string    `json:"kind"` // "rest", "connection", "group", "message", "event" or "tunnel"
	Hub          string    `json:"hub,omitempty"`
	ConnectionID string    `json:"connectionId,omitempty"`
	UserID       string    `json:"userId,omitempty"`
	Group        string    `json:"group,omitempty"`
	Text         string    `json:"text"`                 // what happened, in one line
	Status       int       `json:"status,omitempty"`     // response status of a REST call, an event or a rejected handshake
	Milliseconds float64   `json:"durationMs,omitempty"` // duration of a REST call
	Data         string    `json:"data,omitempty"`       // the beginning of a message's payload
}
