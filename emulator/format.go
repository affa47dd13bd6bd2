package emulator

import (
	"fmt"

	"github.com/awps-go/webpubsub/internal/redact"
)

// Format prints the options with any verb, with "REDACTED" in place of the keys.
func (o Options) Format(s fmt.State, verb rune) {
	type plain Options // without this method
	o.AccessKey, o.SecondaryAccessKey = hidden(o.AccessKey), hidden(o.SecondaryAccessKey)
	o.TLSConfig = nil // it holds a private key
	fmt.Fprintf(s, fmt.FormatString(s, verb), plain(o))
}

// Format prints the event handler with any verb, with "REDACTED" in place of credentials in the URL.
func (h EventHandler) Format(s fmt.State, verb rune) {
	type plain EventHandler // without this method
	h.URLTemplate = redact.URL(h.URLTemplate)
	fmt.Fprintf(s, fmt.FormatString(s, verb), plain(h))
}

func hidden(secret string) string {
	if secret == "" {
		return ""
	}
	return redact.Mark
}
