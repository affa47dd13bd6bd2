package eventhandler

import (
	"fmt"
	"slices"

	"github.com/awps-go/webpubsub/internal/redact"
)

// Format prints the options with any verb, with "REDACTED" in place of the keys.
func (o Options) Format(s fmt.State, verb rune) {
	type plain Options // without this method
	o.AccessKeys = slices.Repeat([]string{redact.Mark}, len(o.AccessKeys))
	o.ConnectionStrings = slices.Repeat([]string{redact.Mark}, len(o.ConnectionStrings))
	fmt.Fprintf(s, fmt.FormatString(s, verb), plain(o))
}

// Format prints the fields with any verb, with "REDACTED" in place of the password.
func (c MQTTConnect) Format(s fmt.State, verb rune) {
	type plain MQTTConnect // without this method
	if c.Password != "" {
		c.Password = redact.Mark
	}
	fmt.Fprintf(s, fmt.FormatString(s, verb), plain(c))
}
