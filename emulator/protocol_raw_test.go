package emulator_test

import (
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestARawClientsFrameIsAnEventThatNobodyHandles(t *testing.T) {
	srv := emulator.StartT(t, nil)
	for name, query := range map[string]string{"by default": "", "by its mode": "&webpubsub_mode=sendEvent"} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, srv, dialOptions{query: query})
			c.write("hello")
			ce, _ := c.closed()
			require.Equal(t, websocket.StatusInternalError, ce.Code)
			require.Equal(t, "Internal server error", ce.Reason)
		})
	}
}

func TestARawClientSendsToItsGroup(t *testing.T) {
	srv := emulator.StartT(t, nil)
	member := dialJSON(t, srv, dialOptions{groups: []string{"g"}})
	o := dialOptions{user: "ann", groups: []string{"g"}, roles: []string{"webpubsub.sendToGroup.g"},
		query: "&webpubsub_mode=sendToGroup&group=g"}
	echo := dial(t, srv, o)
	echo.write("one")
	require.Equal(t, `{"type":"message","from":"group","group":"g","fromUserId":"ann","dataType":"text","data":"one"}`, member.text())
	require.Equal(t, "one", echo.text())

	o.query += "&noEcho=true"
	silent := dial(t, srv, o)
	require.NoError(t, silent.ws.Write(t.Context(), websocket.MessageBinary, []byte{0, 255}))
	require.Equal(t, "AP8=", member.object()["data"])
	_, data := echo.read()
	require.Equal(t, "\x00\xff", data)
	echo.write("two")
	require.Equal(t, "two", silent.text(), "a client with noEcho does not receive its own message")
}

func TestARawClientWithoutTheRoleSendsNothing(t *testing.T) {
	srv := emulator.StartT(t, nil)
	member := dialJSON(t, srv, dialOptions{groups: []string{"g"}})
	c := dial(t, srv, dialOptions{groups: []string{"g"}, query: "&webpubsub_mode=sendToGroup&group=g"})
	c.write("hello")
	ce, _ := c.closed()
	require.Equal(t, websocket.CloseError{Code: websocket.StatusPolicyViolation,
		Reason: "The connection is not authorized for raw sendToGroup mode."}, ce)
	rest{t, srv}.text("hubs/chat/groups/g/:send", "after")
	require.Equal(t, "after", member.object()["data"])
}

func TestAClientOfACustomSubprotocolIsRaw(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dial(t, srv, dialOptions{subprotocols: []string{"my.own"}})
	require.Empty(t, c.ws.Subprotocol())
	rest{t, srv}.text("hubs/chat/:send", "hello")
	require.Equal(t, "hello", c.text())
}

func TestTextThatIsNotUTF8ClosesARawClient(t *testing.T) {
	c := dial(t, emulator.StartT(t, nil), dialOptions{query: "&webpubsub_mode=sendToGroup&group=g"})
	c.write("\xff")
	ce, _ := c.closed()
	require.Equal(t, websocket.StatusInvalidFramePayloadData, ce.Code)
}

func TestTheQueryOfARawClient(t *testing.T) {
	srv := emulator.StartT(t, nil)
	for query, status := range map[string]int{
		"&webpubsub_mode=": 101, "&WEBPUBSUB_MODE=SendEvent&group=+&noEcho=x": 101, "&webpubsub_mode=x&webpubsub_mode=sendEvent": 101,
		"&webpubsub_mode=sendToGroup&GROUP=+&group=g&noEcho=": 101, "&webpubsub_mode=SENDTOGROUP&group=g&NOECHO=False": 101,
		"&webpubsub_mode=x": 400, "&webpubsub_mode=sendToGroup": 400, "&webpubsub_mode=sendToGroup&group=g&group=": 400,
		"&webpubsub_mode=sendToGroup&group=g&noEcho=1": 400, "&webpubsub_mode=sendToGroup&group=..": 400,
	} {
		require.Equal(t, status, upgradeStatus(t, dialOptions{query: query}.httpURL(t, srv)), query)
		require.Equal(t, status, upgradeStatus(t, dialOptions{query: query}.httpURL(t, srv), "Sec-WebSocket-Protocol", protocolJSON), query)
	}
}
