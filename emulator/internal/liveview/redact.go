package liveview

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/text"
)

// redacted stands for a key or a token.
const redacted = "REDACTED"

var (
	// tokenPattern is a JSON Web Token, or the beginning of one.
	tokenPattern = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{6,}(\.[A-Za-z0-9_-]*){1,2}`)
	// secretPattern is a value whose name marks it as a secret: in a query, in JSON, in a connection string, or in
	// a header; also percent-encoded, as in the path of a request.
	secretPattern = regexp.MustCompile(`(?i)((?:\b|%[0-9A-F]{2}|\\u[0-9A-F]{4})(?:` +
		`(?:access_token|awps_reconnection_token|reconnectionToken|AccessKey)\\*(?:"|%22)?\s*(?:[:=]|%3[AD])\s*\\*(?:"|%22)?|` +
		`Bearer(?:\s|\+|%20)+))[A-Za-z0-9%._~+/=-]{6,}`)
)

// redactor takes secrets out of what people are shown.
type redactor struct{ secrets *strings.Replacer }

// newRedactor makes a redactor that knows some secrets, as they are and as they are in a URL. A secret of a few characters
// keeps nothing secret, and to take it out would leave no text readable.
func newRedactor(secrets []string) redactor {
	var pairs []string
	for _, secret := range secrets {
		if len(secret) >= 8 {
			pairs = append(pairs, secret, redacted, url.QueryEscape(secret), redacted, url.PathEscape(secret), redacted)
		}
	}
	return redactor{strings.NewReplacer(pairs...)}
}

// redact takes keys and tokens out of a text.
func (r redactor) redact(s string) string {
	if len(s) < 8 {
		return s
	}
	s = tokenPattern.ReplaceAllLiteralString(r.secrets.Replace(s), redacted)
	return secretPattern.ReplaceAllString(s, "${1}"+redacted)
}

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
