package hub

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"
)

// Permission is an action with a group that a client may have the right to.
type Permission uint8

const (
	SendToGroup Permission = iota
	JoinLeaveGroup
	permissionCount
)

// permissionNames are the names in REST paths. Roles in tokens are these names after "webpubsub.".
var permissionNames = [permissionCount]string{"sendToGroup", "joinLeaveGroup"}

// ParsePermission returns the permission with a name in a REST path, and false if there is none. Names are
// case-insensitive.
func ParsePermission(name string) (Permission, bool) {
	for p, n := range permissionNames {
		if strings.EqualFold(n, name) {
			return Permission(p), true
		}
	}
	return 0, false
}

// PermissionNames returns the names of all permissions in REST paths.
func PermissionNames() []string { return permissionNames[:] }

func (p Permission) String() string { return permissionNames[p] }

// The limits for one permission of one connection. Microsoft's emulator has a constant of 10 patterns, but accepts only 9.
// The hosted service's limit is not documented; a test that needs no more than 9 passes with either.
const (
	maxExceptions    = 1000 // groups by name
	maxPatterns      = 9
	maxPatternLength = 1024 // UTF-16 code units
	maxPatternStars  = 5
)

// permissions holds the permissions of one connection. The zero value allows nothing. The hub's lock guards it.
type permissions [permissionCount]*grants

// grants holds one permission of one connection: a rule, and exceptions to the rule.
type grants struct {
	all        bool            // the rule allows every group
	patterns   []pattern       // otherwise, the rule allows groups that match any of these
	exceptions map[string]bool // by group name; true allows the group, false denies it
}

// allowed reports whether the rule allows a group. It ignores the exceptions.
func (g *grants) allowed(group string) bool {
	return g.all || slices.ContainsFunc(g.patterns, func(p pattern) bool { return p.matches(group) })
}

// set allows or denies a group. It stores an exception only if the rule says otherwise, and removes the exception that the
// call undoes. It returns an error if there are too many exceptions.
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
		return fmt.Errorf("the connection already has %d groups for this permission, the maximum", maxExceptions)
	}
	if g.exceptions == nil {
		g.exceptions = make(map[string]bool)
	}
	g.exceptions[group] = allowed
	return nil
}

// grantAll allows every group. It replaces all earlier rules and exceptions.
func (g *grants) grantAll() { *g = grants{all: true} }

// grantPattern allows the groups that match a pattern. It returns an error if the pattern is not valid or there are too many
// patterns.
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
		return fmt.Errorf("the connection already has %d patterns for this permission, the maximum that is sure to work", maxPatterns)
	}
	g.patterns = append(g.patterns, p)
	maps.DeleteFunc(g.exceptions, func(group string, _ bool) bool { return p.matches(group) })
	return nil
}

// newPermissions returns the permissions that roles grant, and the roles that grant nothing, each with the reason. Roles are
// read in sorted order. check returns what is wrong with a group name, or "".
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

// add adds the permission that a role grants, or returns the reason why the role grants nothing.
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
	return "unknown role: roles are case-sensitive, and must be webpubsub.sendToGroup or webpubsub.joinLeaveGroup, " +
		"either with or without .GROUP, or webpubsub.sendToGroups.PATTERN or webpubsub.joinLeaveGroups.PATTERN"
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

// allows reports whether a permission covers a group, or every group if group is "".
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

// grant allows a group. It returns an error if there are too many exceptions.
func (p *permissions) grant(perm Permission, group string) error {
	return p.edit(perm).set(group, true)
}

// revoke denies a group. It returns an error if there are too many exceptions.
func (p *permissions) revoke(perm Permission, group string) error {
	return p.edit(perm).set(group, false)
}

// pattern is a parsed pattern for the names of groups.
type pattern []token

// token is one element of a pattern: a literal character or a wildcard.
type token struct {
	kind tokenKind
	unit uint16 // the UTF-16 code unit, if kind is character
}

type tokenKind uint8

const (
	character tokenKind = iota
	anyUnit             // ? matches one character except a dot
	anyPart             // * matches any number of characters except dots
	anyText             // ** matches any number of characters
)

// The errors of parsePattern.
var (
	errPatternEmpty  = errors.New("the pattern is empty")
	errPatternLong   = fmt.Errorf("the pattern is longer than %d characters", maxPatternLength)
	errPatternStars  = fmt.Errorf("the pattern has more than %d stars (** counts as two)", maxPatternStars)
	errPatternEscape = errors.New(`in a pattern, \ must be followed by \, * or ?`)
)

// parsePattern parses a pattern. A character is a UTF-16 code unit, both in patterns and in group names.
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

// literal returns the only group that a pattern without wildcards matches, and false if the pattern has wildcards.
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

// matches reports whether the pattern matches a group. Its running time is at most proportional to the product of the two
// lengths.
func (p pattern) matches(group string) bool {
	g := utf16.Encode([]rune(group))
	reach := make([]bool, len(g)+1) // reach[i]: the tokens of p processed so far match g[:i]
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
