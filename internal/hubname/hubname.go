// Package hubname checks the names of hubs.
package hubname

import "regexp"

// pattern is the service's own.
var pattern = regexp.MustCompile("^[A-Za-z][A-Za-z0-9_`,.[\\]]{0,127}$")

// Problem returns what is wrong with a hub's name, in words that follow it. It is empty for a valid name.
func Problem(name string) string {
	switch {
	case name == "":
		return "is empty"
	case pattern.MatchString(name):
		return ""
	}
	return "must be a letter, then up to 127 letters, digits and any of _`,.[]"
}
