package client

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// nobody is an observer that ignores everything.
type nobody struct{}

func (nobody) Changed()                 {}
func (nobody) Watched() bool            { return false }
func (nobody) Traffic(hub.TrafficEvent) {}

// TestAnEventIsNotRejectedWhenTheConnectionCloses: if the connection leaves its hub while an event is on its way to the
// application, the event has not failed. The client receives no error, only the close frame.
func TestAnEventIsNotRejectedWhenTheConnectionCloses(t *testing.T) {
	service := hub.NewService(slog.New(slog.DiscardHandler), &hub.Clock{}, nobody{})
	for name, tt := range map[string]struct {
		err       error
		responded bool
	}{
		"the connection is closed": {hub.ErrGone, false},
		"the application failed":   {errors.New("no"), true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &socket{writing: true} // so that no writer starts
			s.Hub = service.Hub("chat")
			s.setProtocol("json.webpubsub.azure.v1", protocol.Raw{})
			ackID := uint64(1)
			s.eventFailed(&request{Request: &protocol.Request{Kind: protocol.RequestEvent, Event: "e", AckID: &ackID}}, tt.err)
			require.Equal(t, tt.responded, !s.outbox.Empty())
		})
	}
}
