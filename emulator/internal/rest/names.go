package rest

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// This file decodes and checks the names in paths.

// encodedSlash matches an encoded slash, which the service does not decode.
var encodedSlash = regexp.MustCompile("%2[Ff]")

// decodeSegment decodes one segment of a path, except for encoded slashes: the segment a%2Fb names "a%2Fb".
func decodeSegment(segment string) (string, error) {
	if !encodedSlash.MatchString(segment) {
		return url.PathUnescape(segment)
	}
	var decoded strings.Builder
	for {
		at := encodedSlash.FindStringIndex(segment)
		if at == nil {
			at = []int{len(segment), len(segment)}
		}
		part, err := url.PathUnescape(segment[:at[0]])
		if err != nil {
			return "", err
		}
		decoded.WriteString(part + segment[at[0]:at[1]])
		if segment = segment[at[1]:]; segment == "" {
			return decoded.String(), nil
		}
	}
}

// invalidGroup is the service's text for an invalid group name, in paths, queries and bodies.
const invalidGroup = "Invalid group name. Valid group name should be in between 1 and 1024 characters long."

// badGroup returns the error for an invalid group name. The hint is the reason.
func badGroup(target, hint string) *wire.Error {
	e := wire.Invalid(target, invalidGroup)
	e.Hint = hint
	return e
}

// checkNames checks every name in the path.
func (c *call) checkNames() error {
	for i, name := range c.route.path {
		value, err := c.path[i], (*wire.Error)(nil)
		switch name {
		case "{hub}":
			if !protocol.HubPattern.MatchString(value) {
				err = wire.Invalid("hub", "The field hub must match the regular expression '%s'.", protocol.HubPattern)
				err.Hint = fmt.Sprintf("the hub of this request is %.140q", value)
			}
		case "{group}":
			if fault := protocol.CheckGroup(value); fault != "" {
				err = badGroup("group", fault)
			}
		case "{connectionId}", "{userId}":
			if strings.TrimSpace(value) == "" {
				err = wire.Invalid(strings.Trim(name, "{}"), "the id in the path must not be empty or white space")
			}
		case "{permission}":
			var ok bool
			if c.permission, ok = hub.ParsePermission(value); !ok {
				err = wire.Invalid("permission", "The value '%.64s' is not valid.", value)
				err.Hint = "the permissions are " + strings.Join(hub.PermissionNames(), ", ")
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// logEncodedSlashes logs a common mistake: an encoded slash in a path does not address a name with a slash.
func (c *call) logEncodedSlashes() {
	raw := strings.Split(strings.TrimPrefix(c.request.URL.EscapedPath(), "/api/"), "/")
	for i, name := range c.route.path {
		if !strings.HasPrefix(name, "{") || !encodedSlash.MatchString(raw[i]) {
			continue
		}
		value := c.path[i]
		slashed := encodedSlash.ReplaceAllString(value, "/")
		var t *hub.Target
		var notFound, hint string
		switch name {
		case "{group}":
			t, notFound = &hub.Target{Group: value}, "the group "+value+" has no members"
			hint = "address the group " + slashed + " with the filter \"'" + slashed + "' in groups\", or with AddConnectionsToGroups and RemoveConnectionsFromGroups"
		case "{userId}":
			t, notFound = &hub.Target{User: value}, "the user "+value+" has no connections"
			hint = "address the user " + slashed + " with the filter \"userId eq '" + slashed + "'\""
		case "{connectionId}":
			t, notFound = &hub.Target{Connection: value}, "there is no connection "+value
			hint = "address the connection " + slashed + " with the filter \"connectionId eq '" + slashed + "'\""
		default:
			continue
		}
		const fact = ": the service does not decode %2F in paths"
		if c.hub().Count(t) == 0 {
			c.api.Service.Log.Info(notFound+fact, "operation", c.route.operation, "hint", hint)
		} else if strings.HasPrefix(c.route.operation, "Add") && name == "{group}" {
			c.api.Service.Log.Info("the group that was joined is "+value+", not "+slashed+fact, "operation", c.route.operation, "hint", hint)
		}
	}
}
