package emulator_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestATokenWithAnyRolesConnects(t *testing.T) {
	var roles []string
	for i := range maxGrants + 1 {
		roles = append(roles, fmt.Sprintf("webpubsub.sendToGroup.g%04d", i), fmt.Sprintf("webpubsub.sendToGroups.p%04d*", i))
	}
	var logged syncBuffer
	srv := emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	c := dialJSON(t, srv, dialOptions{roles: roles})
	for group, want := range map[string]bool{"g0000": true, "g0999": true, "g1000": false, "p0008": true, "p0010": false} {
		require.Equal(t, want, hasPermission(t, srv, c.id, "sendToGroup", group), group)
	}
	require.Contains(t, logged.String(), "role=webpubsub.sendToGroup.g1000")

	both(t, func(t *testing.T, version mqttVersion) {
		c := openWire(t, srv, version, dialOptions{roles: roles})
		c.send(connectPacket("id"))
		require.Zero(t, c.read().Code)
	})
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
		"no permission": {nil, []step{
			{"HEAD", "sendToGroup", "g", 404}, {"HEAD", "joinLeaveGroup", "g", 404}}},
		"grant a group": {nil, []step{
			{"PUT", "sendToGroup", "g", 200}, {"HEAD", "sendToGroup", "g", 200}, {"HEAD", "sendToGroup", "h", 404},
			{"HEAD", "sendToGroup", "G", 404}, {"HEAD", "joinLeaveGroup", "g", 404}}},
		"a permission in another case": {nil, []step{
			{"PUT", "SENDTOGROUP", "g", 200}, {"HEAD", "sendtogroup", "g", 200}, {"DELETE", "SendToGroup", "g", 204}, {"HEAD", "sendToGroup", "g", 404}}},
		"a star is a group name": {nil, []step{
			{"PUT", "joinLeaveGroup", "*", 200}, {"HEAD", "joinLeaveGroup", "*", 200}, {"HEAD", "joinLeaveGroup", "g", 404}}},
		"there is no permission for every group": {[]string{"webpubsub.sendToGroup"}, []step{
			{"PUT", "sendToGroup", "", 400}, {"HEAD", "sendToGroup", "", 400}, {"DELETE", "sendToGroup", "", 400}, {"HEAD", "sendToGroup", "g", 200}}},
		"revoke a group": {nil, []step{
			{"PUT", "sendToGroup", "g", 200}, {"DELETE", "sendToGroup", "g", 204}, {"HEAD", "sendToGroup", "g", 404}}},
		"revoke a group that a role allows, until it is granted again": {[]string{"webpubsub.sendToGroup"}, []step{
			{"DELETE", "sendToGroup", "g", 204}, {"HEAD", "sendToGroup", "g", 404}, {"HEAD", "sendToGroup", "h", 200},
			{"PUT", "sendToGroup", "g", 200}, {"HEAD", "sendToGroup", "g", 200}}},
		"revoke a group that a pattern allows": {[]string{"webpubsub.sendToGroups.a.*"}, []step{
			{"HEAD", "sendToGroup", "a.b", 200}, {"DELETE", "sendToGroup", "a.b", 204},
			{"HEAD", "sendToGroup", "a.b", 404}, {"HEAD", "sendToGroup", "a.c", 200}}},
		"invalid names": {nil, []step{{"PUT", "sendToGroup", "%20%09", 400}, {"HEAD", "sendToGroup", "%E3%80%80", 400},
			{"DELETE", "sendToGroup", strings.Repeat("g", 1025), 400}, {"PUT", "1", "g", 400}, {"PUT", "sendToGroup,joinLeaveGroup", "g", 400}}},
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

func TestPermissionsOfAnUnknownConnection(t *testing.T) {
	api := rest{t, emulator.StartT(t, nil)}
	const path = "hubs/chat/permissions/sendToGroup/connections/nobody?targetName=g"
	api.must(404, "PUT", path)
	api.must(404, "HEAD", path)
	api.must(204, "DELETE", path)
}

func TestAPermissionHasAtMostAThousandGroups(t *testing.T) {
	srv := emulator.StartT(t, nil)
	var roles []string
	for i := range maxGrants {
		roles = append(roles, fmt.Sprintf("webpubsub.sendToGroup.g%d", i))
	}
	c := dialJSON(t, srv, dialOptions{roles: roles})
	api := rest{t, srv}
	path := "hubs/chat/permissions/sendToGroup/connections/" + c.id + "?targetName="
	require.Equal(t, "Error.Connection.Conflict", api.must(409, "PUT", path+"one-more").errorCode())
	api.must(200, "PUT", path+"g7")
	api.must(204, "DELETE", path+"g7")
	api.must(200, "PUT", path+"one-more")
}

func TestRevokingAPermissionKeepsMemberships(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.joinLeaveGroup"}, groups: []string{"g"}})
	rest{t, srv}.must(204, "DELETE", "hubs/chat/permissions/joinLeaveGroup/connections/"+c.id+"?targetName=g")
	rest{t, srv}.text("hubs/chat/groups/g/:send", "still here")
	require.Equal(t, "still here", c.object()["data"])
	require.Contains(t, c.ask(`{"type":"leaveGroup","group":"g","ackId":1}`), ackForbidden)
}
