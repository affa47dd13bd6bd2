package client

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// nobody observes nothing.
type nobody struct{}

func (nobody) Changed()                 {}
func (nobody) Watched() bool            { return false }
func (nobody) Traffic(hub.TrafficEvent) {}

// TestAnEventThatTheCloseOvertakesIsNotRefused: the connection left its hub while the event was on its way to the
// application. That is no failure of the event, and the client is told goodbye next.
func TestAnEventThatTheCloseOvertakesIsNotRefused(t *testing.T) {
	service := hub.NewService(slog.New(slog.DiscardHandler), &hub.Clock{}, nobody{})
	for name, tt := range map[string]struct {
		err      error
		answered bool
	}{
		"the connection is closed": {hub.ErrGone, false},
		"the application failed":   {errors.New("no"), true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &socket{writing: true} // nobody writes
			s.Hub = service.Hub("chat")
			s.speak("json.webpubsub.azure.v1", protocol.Raw{})
			ackID := uint64(1)
			s.eventFailed(&request{Request: &protocol.Request{Kind: protocol.RequestEvent, Event: "e", AckID: &ackID}}, tt.err)
			require.Equal(t, tt.answered, !s.outbox.Empty())
		})
	}
}
