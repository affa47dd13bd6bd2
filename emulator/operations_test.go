package emulator_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestEveryOperationHasItsConstant(t *testing.T) {
	srv := emulator.StartT(&failureRecorder{TB: t}, &emulator.Options{AcceptBearer: func(string) bool { return true }})
	source, err := os.ReadFile("operations.go")
	require.NoError(t, err)
	var constants []string
	for _, m := range regexp.MustCompile(`\tOperation(\w+) +Operation = "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		require.Equal(t, m[1], m[2])
		constants = append(constants, m[2])
		require.Zero(t, srv.RequestCount(emulator.Operation(m[2])))
		require.NoError(t, srv.InjectFault(emulator.Fault{Operation: emulator.Operation(m[2]), Status: 503}))
	}
	err = srv.InjectFault(emulator.Fault{Operation: "none"})
	require.Error(t, err)
	for _, name := range regexp.MustCompile(`\w+`).FindAllString(regexp.MustCompile(`the operations are (.*)`).FindStringSubmatch(err.Error())[1], -1) {
		if name != string(emulator.OperationConnect) && name != string(emulator.OperationConnectedEvent) {
			require.Contains(t, constants, name)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	test := &failureRecorder{TB: t}
	srv := emulator.StartT(test, nil)
	has, err := srv.HasPermission("chat", "c", "sendToGroups", "g")
	require.False(t, has)
	require.EqualError(t, err, `emulator: HasPermission: there is no permission "sendToGroups": the permissions are sendToGroup, joinLeaveGroup`)
	require.Equal(t, err.Error(), test.take(), "the error fails the test")
	require.False(t, hasPermission(t, srv, "c", emulator.PermissionSendToGroup, "g"))
	require.Empty(t, test.take())
	require.Panics(t, func() { srv.RequestCount("SendToAlll") })
	require.ErrorContains(t, srv.WaitForRequests(t.Context(), "SendToAlll", 1), "there is no operation")
}
