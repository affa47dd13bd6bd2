package emulator

import (
	"bytes"
	"context"
	"time"
)

// This file is what a test sees of the events that a server tells the application.

// Event is an event that the application was told, and its answer. An event that no handler takes is told to nobody.
type Event struct {
	Time         time.Time // of the event, by the server's clock
	Type         string    // ce-type, such as "azure.webpubsub.sys.connected" or "azure.webpubsub.user.order"
	Hub          string    // in lower case, as the application sees it
	ConnectionID string
	UserID       string // "" for an anonymous client
	Name         string // ce-eventName, such as "connected" or "order"
	ID           string // ce-id: "0" for connect, then "1", "2" and so on within the connection

	// ContentType and Body are what the application was sent: the first 16 KiB of the body. Keys and tokens are replaced by
	// REDACTED.
	ContentType string
	Body        []byte

	Attempts int // how often it was sent: 0 if the handler did not accept events of this server
	Status   int // of the last answer; 0 if there was none

	// AnswerContentType and AnswerBody are the last answer, as ContentType and Body are the event.
	AnswerContentType string
	AnswerBody        []byte

	// Error is why the event failed, for people: there was no answer, or it could not be used. It is "" after success.
	Error string
}

// Events returns the events that the application was told, in the order in which they ended, with their last answers. It
// remembers the last 1,000.
func (s *Server) Events() []Event {
	told := s.events.Events()
	all := make([]Event, len(told))
	for i, e := range told {
		all[i] = Event(e)
		all[i].Body, all[i].AnswerBody = bytes.Clone(e.Body), bytes.Clone(e.AnswerBody)
	}
	return all
}

// EventCount returns how many events of a name, such as "connected" or "order", the application was told for a hub,
// whatever it answered. An event that is sent again counts once, when it ends. Both names count in any case.
func (s *Server) EventCount(hub, name string) int { return s.events.Count(hub, name) }

// WaitForEvents waits until the application has been told at least n events of a name, such as "connected" or "order", for a
// hub since the server started, whatever it answered: the answer to each has come, and its effect follows at once. Both
// names count in any case. See also [Server.WaitForConnections].
func (s *Server) WaitForEvents(ctx context.Context, hub, name string, n int) error {
	return s.wait(ctx, n, name+" events of hub "+hub, func() int { return min(n, s.EventCount(hub, name)) })
}
