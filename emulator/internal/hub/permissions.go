package hub

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"
)

// Permission is what a client may do with groups.
type Permission uint8

const (
	SendToGroup Permission = iota
	JoinLeaveGroup
	permissionCount
)

// permissionNames are the names in REST paths. The roles in tokens are "webpubsub." and these names.
var permissionNames = [permissionCount]string{"sendToGroup", "joinLeaveGroup"}

// ParsePermission returns the permission of a name in a REST path, in any case.
func ParsePermission(name string) (Permission, bool) {
	for p, n := range permissionNames {
		if strings.EqualFold(n, name) {
			return Permission(p), true
		}
	}
	return 0, false
}

// PermissionNames are the names of all permissions, in REST paths.
func PermissionNames() []string { return permissionNames[:] }

func (p Permission) String() string { return permissionNames[p] }

// The limits of one permission of one connection. Microsoft's emulator has a constant of 10 for the patterns, but lets
// only 9 in. Nobody outside knows which of the two the service has: a test that gets by with 9 passes there either way.
const (
	maxExceptions    = 1000 // groups by name
	maxPatterns      = 9
	maxPatternLength = 1024 // UTF-16 units
	maxPatternStars  = 5
)

// permissions are what one connection may do. The zero value allows nothing. They are guarded by the hub's lock.
type permissions [permissionCount]*grants

// grants is one permission of one connection: a rule, and exceptions from it.
type grants struct {
	all        bool            // the rule is every group
	patterns   []pattern       // or else the groups that match one of these
	exceptions map[string]bool // groups by name for which the rule does not hold: true grants, false denies
}

// allowed reports what the rule says, whatever the exceptions.
func (g *grants) allowed(group string) bool {
	return g.all || slices.ContainsFunc(g.patterns, func(p pattern) bool { return p.matches(group) })
}

// set makes a group allowed or denied. A change that undoes an exception removes it, and a change that changes nothing
// takes no room.
func (g *grants) set(group string, allowed bool) error {
	if is, exception := g.exceptions[group]; exception {
		if is != allowed {
			delete(g.exceptions, group)
		}
		return nil
	}
	if g.allowed(group) == allowed {
		return nil
	}
	if len(g.exceptions) >= maxExceptions {
		return fmt.Errorf("the connection has %d groups for this permission already, the most there can be", maxExceptions)
	}
	if g.exceptions == nil {
		g.exceptions = make(map[string]bool)
	}
	g.exceptions[group] = allowed
	return nil
}

// grantAll allows every group. What was said before counts no more.
func (g *grants) grantAll() { *g = grants{all: true} }

// grantPattern allows the groups that match a pattern.
func (g *grants) grantPattern(text string) error {
	p, err := parsePattern(text)
	if err != nil {
		return err
	}
	if group, literal := p.literal(); literal {
		return g.set(group, true)
	}
	if len(p) == 1 && p[0].kind == anyText {
		g.grantAll()
		return nil
	}
	if len(g.patterns) >= maxPatterns {
		return fmt.Errorf("the connection has %d patterns for this permission already, the most that are sure to count", maxPatterns)
	}
	g.patterns = append(g.patterns, p)
	maps.DeleteFunc(g.exceptions, func(group string, _ bool) bool { return p.matches(group) })
	return nil
}

// newPermissions reads the roles of a token, in sorted order, and returns those that grant nothing with the reason: a token
// with any roles connects. check returns what is wrong with the name of a group.
func newPermissions(roles []string, check func(group string) string) (permissions, map[string]string) {
	var p permissions
	skipped := make(map[string]string)
	for _, role := range slices.Sorted(slices.Values(roles)) {
		if fault := p.add(role, check); fault != "" {
			skipped[role] = fault
		}
	}
	return p, skipped
}

// add adds what a role grants, or returns why it grants nothing.
func (p *permissions) add(role string, check func(group string) string) string {
	rest, ok := strings.CutPrefix(role, "webpubsub.")
	name, target, targeted := strings.Cut(rest, ".")
	for perm, permission := range permissionNames {
		switch {
		case !ok:
		case name == permission && !targeted:
			p.edit(Permission(perm)).grantAll()
			return ""
		case name == permission:
			if fault := check(target); fault != "" {
				return fault
			}
			return faultOf(p.edit(Permission(perm)).set(target, true))
		case name == permission+"s" && targeted:
			return faultOf(p.edit(Permission(perm)).grantPattern(target))
		}
	}
	return "the service knows no such role: roles are webpubsub.sendToGroup, webpubsub.joinLeaveGroup, either with .GROUP, " +
		"and webpubsub.sendToGroups.PATTERN, webpubsub.joinLeaveGroups.PATTERN, in this case"
}

func faultOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (p *permissions) edit(perm Permission) *grants {
	if p[perm] == nil {
		p[perm] = &grants{}
	}
	return p[perm]
}

// allows reports whether the permission covers a group; without a group, whether it covers every group.
func (p *permissions) allows(perm Permission, group string) bool {
	g := p[perm]
	if g == nil {
		return false
	}
	if group == "" {
		return g.all
	}
	if allowed, exception := g.exceptions[group]; exception {
		return allowed
	}
	return g.allowed(group)
}

// grant allows a group. It fails when there are too many exceptions.
func (p *permissions) grant(perm Permission, group string) error {
	return p.edit(perm).set(group, true)
}

// revoke denies a group. It fails when there are too many exceptions.
func (p *permissions) revoke(perm Permission, group string) error {
	return p.edit(perm).set(group, false)
}

// pattern is which groups a role covers.
type pattern []token

// token is a part of a pattern: one character as it is, or a wildcard.
type token struct {
	kind tokenKind
	unit uint16 // of UTF-16, if it is a character
}

type tokenKind uint8

const (
	character tokenKind = iota
	anyUnit             // ?: one character but a dot
	anyPart             // *: any characters but dots
	anyText             // **: any characters
)

// The faults of patterns.
var (
	errPatternEmpty  = errors.New("the pattern is empty")
	errPatternLong   = fmt.Errorf("the pattern is longer than %d characters", maxPatternLength)
	errPatternStars  = fmt.Errorf("the pattern has more than %d stars, each of ** counted", maxPatternStars)
	errPatternEscape = errors.New(`in a pattern, a \ comes only before another \, a * or a ?`)
)

// parsePattern reads a pattern. Its characters are UTF-16 units, as those of names are.
func parsePattern(text string) (pattern, error) {
	units := utf16.Encode([]rune(text))
	switch {
	case len(units) == 0:
		return nil, errPatternEmpty
	case len(units) > maxPatternLength:
		return nil, errPatternLong
	}
	p := make(pattern, 0, len(units))
	stars := 0
	for i := 0; i < len(units); i++ {
		switch units[i] {
		case '?':
			p = append(p, token{kind: anyUnit})
		case '*':
			kind := anyPart
			for stars++; i+1 < len(units) && units[i+1] == '*'; i++ {
				kind = anyText
				stars++
			}
			p = append(p, token{kind: kind})
		case '\\':
			if i++; i == len(units) || !strings.ContainsRune(`\*?`, rune(units[i])) {
				return nil, errPatternEscape
			}
			fallthrough
		default:
			p = append(p, token{unit: units[i]})
		}
	}
	if stars > maxPatternStars {
		return nil, errPatternStars
	}
	return p, nil
}

// literal returns the only group that matches a pattern without wildcards.
func (p pattern) literal() (group string, ok bool) {
	units := make([]uint16, len(p))
	for i, t := range p {
		if t.kind != character {
			return "", false
		}
		units[i] = t.unit
	}
	return string(utf16.Decode(units)), true
}

// matches reports whether a group matches. The time is bounded by the product of the lengths.
func (p pattern) matches(group string) bool {
	g := utf16.Encode([]rune(group))
	reach := make([]bool, len(g)+1) // reach[i] reports whether p[:j] matches g[:i], for the j at hand
	reach[0] = true
	for _, t := range p {
		if t.kind == anyPart || t.kind == anyText {
			for i := 1; i <= len(g); i++ {
				reach[i] = reach[i] || reach[i-1] && (t.kind == anyText || g[i-1] != '.')
			}
			continue
		}
		for i := len(g); i > 0; i-- {
			fits := g[i-1] == t.unit
			if t.kind == anyUnit {
				fits = g[i-1] != '.'
			}
			reach[i] = reach[i-1] && fits
		}
		reach[0] = false
	}
	return reach[len(g)]
}
