package eventhandler

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/internal/names"
)

// The functions below describe the problem with a name, in words that follow the name. They return "" for a valid name.
// A name is invalid if the service rejects it, or if it would reach a client or handler as another name.

// nameProblem describes the problem with a user ID or a non-empty group. The rules are those of the service client, so
// it can send to every name that an event handler sets.
func nameProblem(name string) string {
	switch {
	case names.IsDots(name): // clients, proxies and servers resolve dot segments
		return "is a dot segment, which no REST path can name"
	case names.HasDots(name):
		return "has a dot segment between slashes, which proxies may resolve in a REST path"
	case !utf8.ValidString(name):
		return "is not valid UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "contains a control character, which HTTP headers cannot carry"
	case strings.TrimSpace(name) == "" && name != "":
		return "is only white space"
	case strings.Trim(name, " ") != name: // an event handler would receive " admin" as "admin"
		return "begins or ends with a space, which HTTP drops from headers"
	}
	return ""
}

// groupProblem describes the problem with a group name.
func groupProblem(name string) string {
	switch {
	case name == "":
		return "is empty"
	case names.Units(name) > names.MaxGroupUnits:
		return "is longer than 1,024 UTF-16 units"
	}
	return nameProblem(name)
}

// roleProblem describes the problem with a role. The service silently ignores unknown roles: the client would connect
// and lack a permission.
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
		return "is not a role of the service: use webpubsub.RoleSendToGroup and the other role functions"
	}
	return "" // the application's own role, which the service ignores
}

// isServiceRole reports whether a role is, or is meant to be, a role of the service.
func isServiceRole(role string) bool {
	return strings.HasPrefix(strings.ToLower(role), "webpubsub")
}

// patternProblem describes the problem with the pattern of a role.
func patternProblem(pattern string) string {
	switch {
	case pattern == "":
		return "has an empty pattern"
	case !utf8.ValidString(pattern):
		return "has a pattern that is not valid UTF-8"
	case names.Units(pattern) > names.MaxGroupUnits:
		return "has a pattern longer than 1,024 UTF-16 units"
	case names.Asterisks(pattern) > names.MaxAsterisks:
		return "has a pattern with more than 5 asterisks"
	}
	return ""
}
