package rest

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// This file is how names in paths are read and checked.

// encodedSlash is a slash in a path that is not a separator. The service leaves it as it is.
var encodedSlash = regexp.MustCompile("%2[Ff]")

// decodeSegment decodes one segment of a path, but for encoded slashes: the segment a%2Fb names "a%2Fb".
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

// invalidGroup is what the service says about the name of a group, wherever it is.
const invalidGroup = "Invalid group name. Valid group name should be in between 1 and 1024 characters long."

// badGroup is the answer to a group's name that cannot be. The hint is why.
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
				err = wire.Invalid("hub", "the hub name %.140q does not match %s", value, protocol.HubPattern)
			}
		case "{group}":
			if fault := protocol.CheckGroup(value); fault != "" {
				err = badGroup("group", fault)
			}
		case "{connectionId}", "{userId}":
			if strings.TrimSpace(value) == "" {
				err = wire.Invalid(strings.Trim(name, "{}"), "the id in the path is empty or only white space")
			}
		case "{permission}":
			var ok bool
			if c.permission, ok = parsePermission(value); !ok {
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

// parsePermission reads the name of a permission in any case.
func parsePermission(name string) (hub.Permission, bool) {
	i := slices.IndexFunc(hub.PermissionNames(), func(known string) bool { return strings.EqualFold(known, name) })
	return hub.Permission(max(i, 0)), i >= 0
}

// mentionSlashes logs what a developer will trip over: an encoded slash in a path reaches nobody whose name has a slash.
func (c *call) mentionSlashes() {
	raw := strings.Split(strings.TrimPrefix(c.request.URL.EscapedPath(), "/api/"), "/")
	for i, name := range c.route.path {
		if !strings.HasPrefix(name, "{") || !encodedSlash.MatchString(raw[i]) {
			continue
		}
		value := c.path[i]
		slashed := encodedSlash.ReplaceAllString(value, "/")
		var t *hub.Target
		var nobody, hint string
		switch name {
		case "{group}":
			t, nobody = &hub.Target{Group: value}, "the group "+value+" has no members"
			hint = "reach the group " + slashed + " by a filter, \"'" + slashed + "' in groups\", or by AddConnectionsToGroups and RemoveConnectionsFromGroups"
		case "{userId}":
			t, nobody = &hub.Target{User: value}, "the user "+value+" has no connections"
			hint = "reach the user " + slashed + " by a filter, \"userId eq '" + slashed + "'\""
		case "{connectionId}":
			t, nobody = &hub.Target{Connection: value}, "there is no connection "+value
			hint = "reach the connection " + slashed + " by a filter, \"connectionId eq '" + slashed + "'\""
		default:
			continue
		}
		const fact = ": the service does not decode %2F in paths"
		if c.hub().Count(t) == 0 {
			c.api.service.Log.Info(nobody+fact, "operation", c.route.operation, "hint", hint)
		} else if strings.HasPrefix(c.route.operation, "Add") && name == "{group}" {
			c.api.service.Log.Info("the group that was joined is "+value+", not "+slashed+fact, "operation", c.route.operation, "hint", hint)
		}
	}
}
