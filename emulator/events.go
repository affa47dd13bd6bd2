package emulator

import (
	"bytes"
	"context"
	"time"
)

// This file is what a test sees of the events that a server tells the application.

// Event describes an event that was sent to the application, and the application's answer. An event that no handler receives is
// not recorded.
type Event struct {
	Time         time.Time // of the event, by the server's clock
	Type         string    // ce-type, such as "azure.webpubsub.sys.connected" or "azure.webpubsub.user.order"
	Hub          string    // in lower case, as the application sees it
	ConnectionID string
	UserID       string // "" for an anonymous client
	Name         string // ce-eventName, such as "connected" or "order"
	ID           string // ce-id: "0" for connect, then "1", "2" and so on within the connection

	// ContentType and Body are what the application was sent. Body has at most the first 16 KiB. Keys and tokens are replaced
	// by REDACTED.
	ContentType string
	Body        []byte

	Attempts int // the number of times it was sent; 0 if the handler refused the validation
	Status   int // of the last answer; 0 if there was none

	// AnswerContentType and AnswerBody are the last answer, with the rules of ContentType and Body.
	AnswerContentType string
	AnswerBody        []byte

	// Error tells people why the event failed, such as that there was no answer or that the answer could not be used. It is ""
	// after success.
	Error string
}

// Events returns the events that were sent to the application, with its last answers, in the order in which the events ended.
// The server remembers the last 1,000.
func (s *Server) Events() []Event {
	told := s.events.Events()
	all := make([]Event, len(told))
	for i, e := range told {
		all[i] = Event(e)
		all[i].Body, all[i].AnswerBody = bytes.Clone(e.Body), bytes.Clone(e.AnswerBody)
	}
	return all
}

// EventCount returns the number of events with a name, such as "connected" or "order", that the application was sent for a
// hub, whatever it answered. An event that is sent again counts once, when it ends. Both names are read in any case.
func (s *Server) EventCount(hub, name string) int { return s.events.Count(hub, name) }

// WaitForEvents waits until at least n events with a name, such as "connected" or "order", have ended for a hub since the server
// started: the application has answered them, whatever the answer, or their last attempt has failed. The effect of an answer,
// such as a message to the client, follows at once. Both names are read in any case. See also [Server.WaitForConnections].
func (s *Server) WaitForEvents(ctx context.Context, hub, name string, n int) error {
	return s.wait(ctx, n, name+" events of hub "+hub, func() int { return min(n, s.EventCount(hub, name)) })
}
