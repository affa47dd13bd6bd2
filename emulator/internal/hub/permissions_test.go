package hub

import (
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
		{"?", "a", true}, {"?", ".", false}, {"?", "é", true}, {"a?c", "abc", true}, {"??", "a", false},
		{`\*`, "*", true}, {`\*`, "a", false}, {`a\?`, "a?", true}, {`a\\b`, `a\b`, true}, {`a\`, `a\`, true},
		{"", "", true}, {"", "a", false}, {".", ".", true},
	} {
		require.Equal(t, tt.want, matchGroup(tt.pattern, tt.group), "%q and %q", tt.pattern, tt.group)
	}
	require.False(t, matchGroup(strings.Repeat("*a", 500), strings.Repeat("a", 1000)+"b"), "and it ends")
}

func TestRolesGrantAndDeny(t *testing.T) {
	p, err := newPermissions([]string{"webpubsub.sendToGroup", "webpubsub.joinLeaveGroup.a.b", "webpubsub.joinLeaveGroups.x.*",
		"webpubsub.sendToGroups.", "something.else", "webpubsub.none", ""})
	require.NoError(t, err)
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
}

func TestARevokedGroupFreesItsPlaceUnlessAPatternAllowsIt(t *testing.T) {
	p, err := newPermissions([]string{"webpubsub.sendToGroups.x*"})
	require.NoError(t, err)
	require.NoError(t, p.grant(SendToGroup, "g"))
	require.NoError(t, p.revoke(SendToGroup, "g"))
	require.NoError(t, p.revoke(SendToGroup, "x1"))
	require.False(t, p.allows(SendToGroup, "g"))
	require.False(t, p.allows(SendToGroup, "x1"))
	require.Equal(t, map[string]bool{"x1": false}, p[SendToGroup].groups)
}
