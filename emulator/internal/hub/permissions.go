package hub

import (
	"fmt"
	"strings"
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

// ParsePermission returns the permission of a name in a REST path.
func ParsePermission(name string) (Permission, bool) {
	for p, n := range permissionNames {
		if n == name {
			return Permission(p), true
		}
	}
	return 0, false
}

// PermissionNames are the names of all permissions, in REST paths.
func PermissionNames() []string { return permissionNames[:] }

func (p Permission) String() string { return permissionNames[p] }

// maxGrants is how many groups one permission of one connection may name.
const maxGrants = 1000

// permissions are what one connection may do. The zero value allows nothing. They are guarded by the hub's lock.
type permissions [permissionCount]*grants

// grants is one permission of one connection.
type grants struct {
	all      bool            // every group
	patterns []string        // groups that match one of these
	groups   map[string]bool // groups by name, which override the above: true grants, false denies
}

// CheckRoles fails if roles name too many groups.
func CheckRoles(roles []string) error {
	_, err := newPermissions(roles)
	return err
}

// newPermissions reads the roles of a token. It ignores roles that the service does not know. It fails when they
// name too many groups.
func newPermissions(roles []string) (permissions, error) {
	var p permissions
	for _, role := range roles {
		role, ok := strings.CutPrefix(role, "webpubsub.")
		if !ok {
			continue
		}
		name, target, targeted := strings.Cut(role, ".")
		if perm, ok := ParsePermission(name); ok {
			if !targeted {
				p.edit(perm).all = true
			} else if target != "" {
				if err := p.edit(perm).set(target, true); err != nil {
					return p, err
				}
			}
		} else if perm, ok := ParsePermission(strings.TrimSuffix(name, "s")); ok && target != "" {
			g := p.edit(perm)
			g.patterns = append(g.patterns, target)
		}
	}
	return p, nil
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
	if allowed, ok := g.groups[group]; ok {
		return allowed
	}
	if g.all {
		return true
	}
	for _, pattern := range g.patterns {
		if matchGroup(pattern, group) {
			return true
		}
	}
	return false
}

// grant allows a group, or every group. It fails when the permission names too many groups already.
func (p *permissions) grant(perm Permission, group string) error {
	g := p.edit(perm)
	if group == "" {
		*g = grants{all: true}
		return nil
	}
	return g.set(group, true)
}

// revoke denies a group, whatever wider role would allow it, or takes the permission away altogether.
func (p *permissions) revoke(perm Permission, group string) error {
	if group == "" {
		p[perm] = nil
		return nil
	}
	if !p.allows(perm, group) {
		return nil
	}
	g := p[perm]
	delete(g.groups, group)
	if !p.allows(perm, group) { // nothing wider is left that would have to be overridden
		return nil
	}
	return g.set(group, false)
}

func (g *grants) set(group string, allowed bool) error {
	if _, known := g.groups[group]; !known && len(g.groups) >= maxGrants {
		return fmt.Errorf("the connection has %d groups for this permission already, the most there can be", maxGrants)
	}
	if g.groups == nil {
		g.groups = make(map[string]bool)
	}
	g.groups[group] = allowed
	return nil
}

// matchGroup matches a group against a role's pattern: * stands for any characters but dots, ** for any characters,
// ? for one character that is not a dot, and \ takes the next character as it is. Case matters. The time is bounded by the
// product of the lengths.
func matchGroup(pattern, group string) bool {
	p, g := []rune(pattern), []rune(group)
	// reach[i] tells whether p[:j] matches g[:i], for the j at hand.
	reach := make([]bool, len(g)+1)
	reach[0] = true
	for j := 0; j < len(p); j++ {
		switch {
		case p[j] == '*':
			deep := j+1 < len(p) && p[j+1] == '*'
			for j+1 < len(p) && p[j+1] == '*' {
				j++
			}
			for i := 1; i <= len(g); i++ {
				reach[i] = reach[i] || reach[i-1] && (deep || g[i-1] != '.')
			}
			continue
		case p[j] == '\\' && j+1 < len(p):
			j++
			step(reach, func(i int) bool { return g[i] == p[j] })
		case p[j] == '?':
			step(reach, func(i int) bool { return g[i] != '.' })
		default:
			step(reach, func(i int) bool { return g[i] == p[j] })
		}
	}
	return reach[len(g)]
}

// step moves every match on by one character of the group, if that character will do.
func step(reach []bool, ok func(i int) bool) {
	for i := len(reach) - 1; i > 0; i-- {
		reach[i] = reach[i-1] && ok(i-1)
	}
	reach[0] = false
}
