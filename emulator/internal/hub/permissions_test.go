package hub

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRolePatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern, group string
		want           bool
	}{
		{"a", "a", true}, {"a", "A", false}, {"a", "ab", false},
		{"*", "abc", true}, {"*", "a.b", false}, {"*", "", true},
		{"**", "a.b.c", true}, {"**", "", true},
		{"a.*", "a.b", true}, {"a.*", "a.b.c", false}, {"a.*", "a", false},
		{"a.**", "a.b.c", true}, {"a.*.c", "a.b.c", true}, {"*.b.*", "a.b.c", true}, {"a.**.d", "a.b.c.d", true},
		{"a*b*c", "a1b2c", true}, {"a*b*c", "a1b2", false}, {"***x", "a.b.x", true},
		{"?", "a", true}, {"?", ".", false}, {"?", "é", true}, {"a?c", "abc", true}, {"??", "a", false}, {"??", "😀", true},
		{`\*`, "*", true}, {`\*`, "a", false}, {`a\?`, "a?", true}, {`a\\b`, `a\b`, true},
		{".", ".", true}, {"*a*a*a*a*a", strings.Repeat("a", 1000) + "b", false},
	} {
		p, err := parsePattern(tt.pattern)
		require.NoError(t, err, tt.pattern)
		require.Equal(t, tt.want, p.matches(tt.group), "%q and %q", tt.pattern, tt.group)
	}
	for pattern, want := range map[string]error{
		"": errPatternEmpty, strings.Repeat("x", 1025): errPatternLong, strings.Repeat("😀", 513): errPatternLong,
		"*.*.*.*.*.*": errPatternStars, "******": errPatternStars, "**.**.**": errPatternStars,
		`a\b`: errPatternEscape, `a\`: errPatternEscape, `\.*`: errPatternEscape,
	} {
		_, err := parsePattern(pattern)
		require.ErrorIs(t, err, want, pattern)
	}
	for _, pattern := range []string{strings.Repeat("x", 1024), "*.*.*.*.*", "**.**.*", `\*\*\*\*\*\*\*`} {
		_, err := parsePattern(pattern)
		require.NoError(t, err, pattern)
	}
}

// roles returns the permissions that roles grant, and the roles that grant nothing.
func roles(all ...string) (permissions, map[string]string) {
	return newPermissions(all, func(group string) string {
		if group == "" {
			return "empty"
		}
		return ""
	})
}

func TestRolesGrantAndDeny(t *testing.T) {
	p, skipped := roles("webpubsub.sendToGroup", "webpubsub.joinLeaveGroup.a.b", "webpubsub.joinLeaveGroups.x.*",
		"webpubsub.sendToGroups.", "webpubsub.sendToGroup.", "something.else", "webpubsub.none", "", "webpubsub.sendToGroups",
		"Webpubsub.sendToGroup", "webpubsub.SendToGroup")
	require.Len(t, skipped, 8)
	for name, tt := range map[string]struct {
		perm  Permission
		group string
		want  bool
	}{
		"any group":                       {SendToGroup, "g", true},
		"every group":                     {SendToGroup, "", true},
		"the group named":                 {JoinLeaveGroup, "a.b", true},
		"another group":                   {JoinLeaveGroup, "a", false},
		"a group of the pattern":          {JoinLeaveGroup, "x.y", true},
		"a group outside the pattern":     {JoinLeaveGroup, "x.y.z", false},
		"every group, with patterns only": {JoinLeaveGroup, "", false},
	} {
		require.Equal(t, tt.want, p.allows(tt.perm, tt.group), name)
	}
	p, skipped = roles("webpubsub.sendToGroups.**", `webpubsub.joinLeaveGroups.a\*b`)
	require.Empty(t, skipped)
	require.True(t, p.allows(SendToGroup, ""), "the pattern ** must allow every group")
	require.True(t, p.allows(JoinLeaveGroup, "a*b"), "a pattern without wildcards must allow the group with that name")
	require.Len(t, p[JoinLeaveGroup].exceptions, 1)
}

func TestTooManyRolesAreSkippedInOrder(t *testing.T) {
	var all []string
	for i := range 12 {
		all = append(all, fmt.Sprintf("webpubsub.sendToGroups.p%02d*", 11-i))
	}
	for i := range 1001 {
		all = append(all, fmt.Sprintf("webpubsub.sendToGroup.g%04d", 1000-i))
	}
	p, skipped := roles(all...)
	require.Len(t, skipped, 4)
	for group, want := range map[string]bool{"p00x": true, "p08x": true, "p09x": false, "p11x": false, "g0000": true, "g0999": true, "g1000": false} {
		require.Equal(t, want, p.allows(SendToGroup, group), group)
	}
	p, skipped = roles(append(all, "webpubsub.sendToGroup")...)
	require.Len(t, skipped, 3, "a role for every group must replace the groups by name")
	require.True(t, p.allows(SendToGroup, "any"))
	p, skipped = roles(append(all[:12], "webpubsub.sendToGroups.literal")...)
	require.Len(t, skipped, 3)
	require.True(t, p.allows(SendToGroup, "literal"), "a name without wildcards must not count as a pattern")
}

func TestExceptionsToTheRule(t *testing.T) {
	p, _ := roles("webpubsub.sendToGroups.x*", "webpubsub.sendToGroup.x0", "webpubsub.sendToGroup.named")
	require.NoError(t, p.grant(SendToGroup, "g"))
	require.NoError(t, p.revoke(SendToGroup, "g"))
	require.NoError(t, p.revoke(SendToGroup, "x1"))
	require.NoError(t, p.revoke(SendToGroup, "x0"))
	require.NoError(t, p.revoke(SendToGroup, "never"))
	require.NoError(t, p.grant(SendToGroup, "x2"))
	require.Equal(t, map[string]bool{"x0": false, "x1": false, "named": true}, p[SendToGroup].exceptions)
	require.NoError(t, p.revoke(SendToGroup, "named"))
	require.NoError(t, p.grant(SendToGroup, "x1"))
	require.Equal(t, map[string]bool{"x0": false}, p[SendToGroup].exceptions)
	for _, tt := range []struct {
		group string
		want  bool
	}{{"g", false}, {"x0", false}, {"x1", true}, {"x2", true}, {"named", false}} {
		require.Equal(t, tt.want, p.allows(SendToGroup, tt.group), tt.group)
	}
	for i := range maxExceptions - 1 {
		require.NoError(t, p.grant(SendToGroup, fmt.Sprint("g", i)))
	}
	require.ErrorContains(t, p.grant(SendToGroup, "overflow"), "1000 groups")
	require.False(t, p.allows(SendToGroup, "overflow"))
	require.NoError(t, p.grant(SendToGroup, "g1"), "a grant that changes nothing must not count")
	require.NoError(t, p.grant(SendToGroup, "x0"), "a grant that undoes an exception must free its place")
	require.NoError(t, p.grant(SendToGroup, "overflow"))
}

func TestPermissionNamesIgnoreCase(t *testing.T) {
	for _, name := range []string{"sendToGroup", "SENDTOGROUP", "sendtogroup", "joinLeaveGroup", "JoinLeaveGroup"} {
		p, ok := ParsePermission(name)
		require.True(t, ok)
		require.True(t, strings.EqualFold(name, p.String()))
	}
	for _, name := range []string{"", "1", "2", "sendToGroups", "sendToGroup,joinLeaveGroup"} {
		_, ok := ParsePermission(name)
		require.False(t, ok, name)
	}
}
