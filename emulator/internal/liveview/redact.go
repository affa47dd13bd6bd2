package liveview

import (
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/internal/redact"
)

// shortestSecret is the minimum length of a key that is hidden, in bytes. A shorter key is no protection, and hiding it
// everywhere would make the text unreadable.
const shortestSecret = 8

// redactor removes secrets from texts.
type redactor struct{ secrets []string }

// newRedactor returns a redactor for a list of secrets. It ignores those shorter than shortestSecret.
func newRedactor(secrets []string) redactor {
	var r redactor
	for _, secret := range secrets {
		if len(secret) >= shortestSecret {
			r.secrets = append(r.secrets, secret)
		}
	}
	return r
}

// redact removes keys and tokens from a text.
func (r redactor) redact(s string) string { return redact.Text(s, r.secrets...) }

// maxShownData bounds the part of a payload that is shown, in bytes.
const maxShownData = 512

// event returns a traffic event without secrets, with its text and its data shortened.
func (r redactor) event(e hub.TrafficEvent) hub.TrafficEvent {
	e.Text = text.Shorten(r.redact(e.Text), 2*maxShownData)
	e.ConnectionID = r.redact(e.ConnectionID) // an MQTT client chooses its own id
	e.UserID = r.redact(e.UserID)
	e.Group = r.redact(e.Group)
	if data := r.redact(e.Data); len(data) > maxShownData {
		e.Data = text.Shorten(data, maxShownData) + "\u2026"
	} else {
		e.Data = data
	}
	return e
}
