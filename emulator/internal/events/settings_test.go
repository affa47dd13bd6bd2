package events

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlaceholdersAreAllowedAfterTheHostOnly(t *testing.T) {
	for template, want := range map[string]string{
		"http://h/{event}":          "http://h/validate",
		"http://h?e={EVENT}&h={h}":  "",
		"http://h?e={Event}":        "http://h?e=validate",
		"http://h/{hub}?e={event}":  "http://h/chat?e=validate",
		"http://{hub}.h/":           "",
		"http://h{event}?e={event}": "",
		"http://{event}#x":          "",
	} {
		h, err := newHandler("Chat", Handler{URLTemplate: template, UserEventPattern: "*"}, nil, slog.New(slog.DiscardHandler))
		if want == "" {
			require.Error(t, err, template)
			continue
		}
		require.NoError(t, err, template)
		u, err := h.url(eventValidate)
		require.NoError(t, err)
		require.Equal(t, want, u.String())
	}
}
