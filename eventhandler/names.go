package eventhandler

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/awps-go/webpubsub"
)

// The functions below describe what is wrong with a name, in words that follow it. They return "" for a name that is
// right. A name is wrong if the service rejects it, or if it would reach somebody as another name.

// nameProblem describes what is wrong with a user id or a group that is not empty. The rules are those of the service
// client, so that a name which an event handler gives can be sent to.
func nameProblem(name string) string {
	switch {
	case name == "." || name == "..": // clients, proxies and servers resolve these
		return "is a dot segment, which no REST path can name"
	case !utf8.ValidString(name):
		return "is not valid UTF-8"
	case strings.ContainsFunc(name, isControl):
		return "contains a control character, which HTTP headers cannot carry"
	case strings.TrimSpace(name) == "" && name != "":
		return "is only white space"
	case strings.Trim(name, " ") != name: // "admin" and " admin" would be one user to an event handler
		return "begins or ends with a space, which HTTP drops from headers"
	}
	return ""
}

// maxGroupUnits is the service's limit for the name of a group and for a pattern, in UTF-16 units.
const maxGroupUnits = 1024

// groupProblem describes what is wrong with the name of a group.
func groupProblem(name string) string {
	switch {
	case name == "":
		return "is empty"
	case utf16Len(name) > maxGroupUnits:
		return "is longer than 1,024 UTF-16 units"
	}
	return nameProblem(name)
}

// roleProblem describes what is wrong with a role. The service ignores a role that it does not know, so that the client
// would connect and lack a permission without a word.
func roleProblem(role string) string {
	for _, permission := range []string{webpubsub.RoleSendToAnyGroup, webpubsub.RoleJoinLeaveAnyGroup} {
		if role == permission {
			return ""
		}
		if group, found := strings.CutPrefix(role, permission+"."); found {
			if problem := groupProblem(group); problem != "" {
				return "names a group that " + problem
			}
			return ""
		}
		if pattern, found := strings.CutPrefix(role, permission+"s."); found {
			return patternProblem(pattern)
		}
	}
	switch {
	case role == "":
		return "is empty"
	case isServiceRole(role):
		return "is not a role of the service: make roles with the functions webpubsub.RoleSendToGroup and its like"
	}
	return "" // a role of the application's own, which the service ignores
}

// isServiceRole reports whether a role is one of the service, or meant to be.
func isServiceRole(role string) bool {
	return strings.HasPrefix(strings.ToLower(role), "webpubsub")
}

// patternProblem describes what is wrong with the pattern of a role.
func patternProblem(pattern string) string {
	const maxStars = 5
	stars := 0
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\': // the next character stands for itself
			i++
		case '*':
			stars++
		}
	}
	switch {
	case pattern == "":
		return "has an empty pattern"
	case !utf8.ValidString(pattern):
		return "has a pattern that is not valid UTF-8"
	case utf16Len(pattern) > maxGroupUnits:
		return "has a pattern longer than 1,024 UTF-16 units"
	case stars > maxStars:
		return "has a pattern with more than 5 stars"
	}
	return ""
}

// utf16Len returns the length of a text as the service measures it.
func utf16Len(text string) int {
	n := 0
	for _, r := range text {
		n += utf16.RuneLen(r)
	}
	return n
}

// isControl reports whether a character is a control character of ASCII or Latin-1.
func isControl(r rune) bool { return r < ' ' || r >= 0x7F && r <= 0x9F }
