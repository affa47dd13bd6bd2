package wsclient

import (
	"fmt"
	"net/http"

	"github.com/awps-go/webpubsub/internal/redact"
)

// Format prints the options with any verb, with "REDACTED" in place of credentials in Header.
func (o Options) Format(s fmt.State, verb rune) {
	type plain Options // without this method
	header := make(http.Header, len(o.Header))
	for name, values := range o.Header {
		header[name] = []string{redact.Header(name, values)}
	}
	o.Header = header
	fmt.Fprintf(s, fmt.FormatString(s, verb), plain(o))
}
