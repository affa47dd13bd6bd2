package emulator_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
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

func TestATokenWithRolesForTooManyGroupsIsRefused(t *testing.T) {
	var roles []string
	for i := range maxGrants + 1 {
		roles = append(roles, fmt.Sprint("webpubsub.sendToGroup.g", i), fmt.Sprint("webpubsub.sendToGroups.p", i))
	}
	srv := emulator.StartT(t, nil)
	_, resp, err := tryDial(t, srv, dialOptions{roles: roles})
	require.Error(t, err)
	require.Equal(t, 400, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), "the connection has 1000 groups for this permission already")
	dialJSON(t, srv, dialOptions{roles: roles[:2*maxGrants]})

	both(t, func(t *testing.T, version mqttVersion) {
		c := openWire(t, srv, version, dialOptions{roles: roles})
		c.send(connectPacket("id"))
		_, ack := c.closed()
		require.Equal(t, map[mqttVersion]byte{mqtt311: 5, mqtt5: 0x97}[version], ack.ReasonCode)
	})
}

func TestRolesGrantAndDeny(t *testing.T) {
	p, err := newPermissions([]string{"webpubsub.sendToGroup", "webpubsub.joinLeaveGroup.a.b", "webpubsub.joinLeaveGroups.x.*",
		"webpubsub.sendToGroups.", "something.else", "webpubsub.none", ""})
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		perm  permission
		group string
		want  bool
	}{
		"any group":                       {permissionSendToGroup, "g", true},
		"every group":                     {permissionSendToGroup, "", true},
		"the group named":                 {permissionJoinLeaveGroup, "a.b", true},
		"another group":                   {permissionJoinLeaveGroup, "a", false},
		"a group of the pattern":          {permissionJoinLeaveGroup, "x.y", true},
		"a group outside the pattern":     {permissionJoinLeaveGroup, "x.y.z", false},
		"every group, with patterns only": {permissionJoinLeaveGroup, "", false},
	} {
		require.Equal(t, tt.want, p.allows(tt.perm, tt.group), name)
	}
}

func TestPermissionsOverREST(t *testing.T) {
	type step struct {
		method, permission, target string
		status                     int
	}
	for name, tt := range map[string]struct {
		roles []string
		steps []step
	}{
		"nothing to begin with": {nil, []step{
			{"HEAD", "sendToGroup", "", 404}, {"HEAD", "joinLeaveGroup", "g", 404}}},
		"grant a group": {nil, []step{
			{"PUT", "sendToGroup", "g", 200}, {"HEAD", "sendToGroup", "g", 200}, {"HEAD", "sendToGroup", "h", 404},
			{"HEAD", "sendToGroup", "", 404}, {"HEAD", "joinLeaveGroup", "g", 404}}},
		"grant every group": {nil, []step{
			{"PUT", "joinLeaveGroup", "", 200}, {"HEAD", "joinLeaveGroup", "g", 200}, {"HEAD", "joinLeaveGroup", "", 200}}},
		"revoke a group": {nil, []step{
			{"PUT", "sendToGroup", "g", 200}, {"DELETE", "sendToGroup", "g", 204}, {"HEAD", "sendToGroup", "g", 404}}},
		"revoke a group that a role allows, until it is granted again": {[]string{"webpubsub.sendToGroup"}, []step{
			{"DELETE", "sendToGroup", "g", 204}, {"HEAD", "sendToGroup", "g", 404}, {"HEAD", "sendToGroup", "h", 200},
			{"PUT", "sendToGroup", "g", 200}, {"HEAD", "sendToGroup", "g", 200}}},
		"revoke a group that a pattern allows": {[]string{"webpubsub.sendToGroups.a.*"}, []step{
			{"HEAD", "sendToGroup", "a.b", 200}, {"DELETE", "sendToGroup", "a.b", 204},
			{"HEAD", "sendToGroup", "a.b", 404}, {"HEAD", "sendToGroup", "a.c", 200}}},
		"revoke everything": {[]string{"webpubsub.sendToGroup", "webpubsub.sendToGroup.g"}, []step{
			{"DELETE", "sendToGroup", "", 204}, {"HEAD", "sendToGroup", "g", 404}}},
		"a blank group": {nil, []step{{"PUT", "sendToGroup", "%20", 400}}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			c := dialJSON(t, srv, dialOptions{roles: tt.roles})
			for _, s := range tt.steps {
				path := "hubs/chat/permissions/" + s.permission + "/connections/" + c.id
				if s.target != "" {
					path += "?targetName=" + s.target
				}
				rest{t, srv}.must(s.status, s.method, path)
			}
		})
	}
}

func TestPermissionsOfNobody(t *testing.T) {
	api := rest{t, emulator.StartT(t, nil)}
	const path = "hubs/chat/permissions/sendToGroup/connections/nobody"
	api.must(404, "PUT", path)
	api.must(404, "HEAD", path)
	api.must(204, "DELETE", path)
}

func TestAPermissionNamesAThousandGroupsAtMost(t *testing.T) {
	srv := emulator.StartT(t, nil)
	var roles []string
	for i := range maxGrants {
		roles = append(roles, fmt.Sprintf("webpubsub.sendToGroup.g%d", i))
	}
	c := dialJSON(t, srv, dialOptions{roles: roles})
	api := rest{t, srv}
	path := "hubs/chat/permissions/sendToGroup/connections/" + c.id + "?targetName="
	require.Equal(t, "Conflict", api.must(409, "PUT", path+"one-more").errorCode())
	api.must(200, "PUT", path+"g7")
	api.must(204, "DELETE", path+"g7")
	api.must(200, "PUT", path+"one-more")
}

func TestARevokeTakesNobodyOutOfAGroup(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.joinLeaveGroup"}, groups: []string{"g"}})
	rest{t, srv}.must(204, "DELETE", "hubs/chat/permissions/joinLeaveGroup/connections/"+c.id+"?targetName=g")
	rest{t, srv}.text("hubs/chat/groups/g/:send", "still here")
	require.Equal(t, "still here", c.object()["data"])
	require.Contains(t, c.ask(`{"type":"leaveGroup","group":"g","ackId":1}`), ackForbidden)
}
