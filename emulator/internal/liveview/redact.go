package liveview

import (
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/internal/redact"
)

// shortestSecret is the length below which a key is shown, in bytes: it keeps nothing secret, and to hide it everywhere would
// leave no text readable.
const shortestSecret = 8

// redactor takes secrets out of what people are shown.
type redactor struct{ secrets []string }

// newRedactor makes a redactor that knows some secrets.
func newRedactor(secrets []string) redactor {
	var r redactor
	for _, secret := range secrets {
		if len(secret) >= shortestSecret {
			r.secrets = append(r.secrets, secret)
		}
	}
	return r
}

// redact takes keys and tokens out of a text.
func (r redactor) redact(s string) string { return redact.Text(s, r.secrets...) }

// maxShownData is how much of a payload is shown, in bytes.
const maxShownData = 512

// event returns what a page is shown of an event.
func (r redactor) event(e hub.TrafficEvent) hub.TrafficEvent {
	e.Text = text.Shorten(r.redact(e.Text), 2*maxShownData)
	e.ConnectionID = r.redact(e.ConnectionID) // an MQTT client chooses its own
	e.UserID = r.redact(e.UserID)
	e.Group = r.redact(e.Group)
	if data := r.redact(e.Data); len(data) > maxShownData {
		e.Data = text.Shorten(data, maxShownData) + "\u2026"
	} else {
		e.Data = data
	}
	return e
}
