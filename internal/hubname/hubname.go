// Package hubname validates hub names.
package hubname

import "regexp"

// pattern is the one that the service uses.
var pattern = regexp.MustCompile("^[A-Za-z][A-Za-z0-9_`,.[\\]]{0,127}$")

// Problem returns the problem with a hub name, phrased to follow the name, or "" if the name is valid.
func Problem(name string) string {
	switch {
	case name == "":
		return "is empty"
	case pattern.MatchString(name):
		return ""
	}
	return "must be a letter, then up to 127 letters, digits and any of _`,.[]"
}
