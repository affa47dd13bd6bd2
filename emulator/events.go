package emulator

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// This file lets a test inspect and await the events that were sent to the application.

// Event describes an event that was sent to the application, and the application's response. Events that no handler receives are
// not recorded.
type Event struct {
	Time         time.Time // of the event, by the server's clock
	Type         string    // ce-type, such as "azure.webpubsub.sys.connected" or "azure.webpubsub.user.order"
	Hub          string    // in lower case, as sent to the application
	ConnectionID string
	UserID       string // "" for an anonymous client
	Name         string // ce-eventName, such as "connected" or "order"
	ID           string // ce-id: "0" for connect, then "1", "2" and so on within the connection

	// ContentType and Body are those of the request to the application. Body holds at most the first 16 KiB, with REDACTED in
	// place of keys and tokens.
	ContentType string
	Body        []byte

	Attempts int // the number of times the event was sent; 0 if the validation of the handler failed
	Status   int // of the last response; 0 if there was none

	// AnswerContentType and AnswerBody are those of the last response. AnswerBody is limited and redacted like Body.
	AnswerContentType string
	AnswerBody        []byte

	// Error is a description of why the event failed, for example that there was no response, or an invalid one. It is "" if
	// the event succeeded.
	Error string
}

// Events returns the events that were sent to the application, with the last response to each, in the order in which the events
// ended. The server keeps the last 1,000.
func (s *Server) Events() []Event {
	sent := s.events.Events()
	all := make([]Event, len(sent))
	for i, e := range sent {
		all[i] = Event(e)
		all[i].Body, all[i].AnswerBody = bytes.Clone(e.Body), bytes.Clone(e.AnswerBody)
	}
	return all
}

// EventCount returns the number of events with a name, such as "connected" or "order", that were sent to the application for a
// hub, successfully or not. An event counts once, when it ends, however often it was sent. Both names are case-insensitive.
func (s *Server) EventCount(hub, name string) int { return s.events.Count(hub, name) }

// WaitForEvents waits until at least n events with a name, such as "connected" or "order", have ended for a hub since the
// server started. An event ends when the application has responded, with a status that is not retried, or when the last attempt
// has failed. The effect of a response, such as a message to the client, may come a moment later. Both names are
// case-insensitive. See also [Server.WaitForConnections].
func (s *Server) WaitForEvents(ctx context.Context, hub, name string, n int) error {
	err := s.wait(ctx, n, name+" events of hub "+hub, func() int { return min(n, s.EventCount(hub, name)) })
	if err != nil && !s.events.Receives(hub, name) {
		err = fmt.Errorf("%w; no event handler of hub %s receives this event", err, hub)
	}
	return err
}
