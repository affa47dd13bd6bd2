package emulator_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/internal/pb"
)

// reliableClient is a client of json.reliable.webpubsub.azure.v1 that can be cut off and recover.
type reliableClient struct {
	*client
	srv   *emulator.Server
	token string
}

func dialReliable(t testing.TB, srv *emulator.Server, o dialOptions) *reliableClient {
	t.Helper()
	o.subprotocols = []string{protocolJSONReliable}
	c := &reliableClient{client: dial(t, srv, o), srv: srv}
	c.hello()
	return c
}

func (c *reliableClient) hello() {
	c.t.Helper()
	hello := c.object()
	require.Equal(c.t, "connected", hello["event"])
	require.NotEmpty(c.t, hello["reconnectionToken"])
	c.id, c.token = hello["connectionId"].(string), hello["reconnectionToken"].(string)
}

// recoverURL returns the URL for the client's recovery.
func (c *reliableClient) recoverURL(hub string) string {
	return fmt.Sprintf("ws%s/client/hubs/%s?awps_connection_id=%s&awps_reconnection_token=%s",
		strings.TrimPrefix(c.srv.Endpoint(), "http"), hub, c.id, c.token)
}

// cut cuts the connection and waits until the server has noticed.
func (c *reliableClient) cut() {
	c.t.Helper()
	c.ws.CloseNow()
	require.Eventually(c.t, func() bool {
		return slices.ContainsFunc(c.srv.Connections("chat"), func(is emulator.Connection) bool {
			return is.ID == c.id && is.Recovering
		})
	}, patience, time.Millisecond)
}

// reconnect opens a new WebSocket for the client.
func (c *reliableClient) reconnect(target, subprotocol string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, target, &websocket.DialOptions{Subprotocols: []string{subprotocol}})
	require.NoError(c.t, err)
	ws.SetReadLimit(8 << 20)
	c.t.Cleanup(func() { ws.CloseNow() })
	c.ws = ws
}

func (c *reliableClient) comeBack() {
	c.t.Helper()
	c.reconnect(c.recoverURL("chat"), protocolJSONReliable)
}

// expect reads a message and checks its sequence id and text.
func (c *reliableClient) expect(id int, text string) {
	c.t.Helper()
	m := c.object()
	require.Equal(c.t, float64(id), m["sequenceId"], "%v", m)
	require.Equal(c.t, text, m["data"])
}

func TestReliableMessagesAreNumbered(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialReliable(t, srv, dialOptions{user: "ann", groups: []string{"g"}})
	api := rest{t, srv}
	api.text("hubs/chat/:send", "one")
	api.text("hubs/chat/groups/g/:send", "two")
	require.Equal(t, `{"sequenceId":1,"type":"message","from":"server","dataType":"text","data":"one"}`, c.text())
	c.expect(2, "two")
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`), "only messages have a sequence id")
}

func TestAReliableClientRecoversWithoutLosingMessages(t *testing.T) {
	srv := emulator.StartT(t, nil)
	api := rest{t, srv}
	c := dialReliable(t, srv, dialOptions{user: "ann", groups: []string{"g"}, roles: []string{"webpubsub.joinLeaveGroup"}})
	for i := 1; i <= 5; i++ {
		api.text("hubs/chat/groups/g/:send", strconv.Itoa(i))
		c.expect(i, strconv.Itoa(i))
	}
	require.Contains(t, c.ask(`{"type":"joinGroup","group":"h","ackId":1}`), "true")
	c.write(`{"type":"sequenceAck","sequenceId":3}`)
	require.Contains(t, c.ask(`{"type":"ping"}`), "pong")

	c.cut()
	api.must(200, "HEAD", "hubs/chat/connections/"+c.id)
	require.Contains(t, api.must(200, "GET", "hubs/chat/groups/g/connections").body, c.id)
	api.text("hubs/chat/users/ann/:send", "6")
	api.text("hubs/chat/groups/h/:send", "7")

	c.comeBack()
	for i := 4; i <= 7; i++ {
		c.expect(i, strconv.Itoa(i))
	}
	api.text("hubs/chat/:send", "8")
	c.expect(8, "8")
	require.Contains(t, c.ask(`{"type":"joinGroup","group":"h","ackId":1}`), ackDuplicate, "the server remembers an ackId over a recovery")

	c.write(`{"type":"sequenceAck","sequenceId":8}`)
	require.Contains(t, c.ask(`{"type":"ping"}`), "pong")
	c.cut()
	c.comeBack()
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`), "acknowledged messages are not sent again")
}

func TestAReliableClientRecoversBeforeTheServerNoticesTheCut(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialReliable(t, srv, dialOptions{})
	rest{t, srv}.text("hubs/chat/:send", "one")
	c.comeBack() // the old socket is still open
	c.expect(1, "one")
	rest{t, srv}.text("hubs/chat/:send", "two")
	c.expect(2, "two")
}

func TestOnlyMessagesWaitForAReliableClient(t *testing.T) {
	srv := emulator.StartT(t, nil)
	begun, release := make(chan struct{}), make(chan struct{})
	application(t, srv, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ce-eventName") != "slow" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		close(begun)
		<-release
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(w, "the response")
	})
	c := dialReliable(t, srv, dialOptions{roles: []string{"webpubsub.joinLeaveGroup"}})
	const event = `{"type":"event","event":"slow","data":1,"ackId":1}`
	c.write(event)
	<-begun
	c.write(`{"type":"joinGroup","group":"g","ackId":2}`)
	c.write(`{"type":"event","event":"last","data":1}`)
	c.cut()
	close(release)
	require.NoError(t, srv.WaitForEvents(t.Context(), "chat", "last", 1)) // then the acknowledgements before it have been dropped
	c.comeBack()
	c.expect(1, "the response")
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`), "acknowledgements do not wait")
	require.Contains(t, c.ask(event), "Duplicate", "but the requests were executed")
}

func TestAReliableClientRecoversWhileItsRequestsFillTheQueue(t *testing.T) {
	srv := emulator.StartT(t, nil)
	begun, release := make(chan struct{}), make(chan struct{})
	application(t, srv, nil, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ce-eventName") == "slow" {
			close(begun)
			<-release
		}
	})
	c := dialReliable(t, srv, dialOptions{})
	c.write(`{"type":"event","event":"slow","data":1,"ackId":0}`)
	<-begun
	data := strings.Repeat("x", maxMessageSize-1000)
	for i := range 18 { // one more than the queue's 16 MiB
		_ = c.ws.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"type":"event","event":"big","data":%q,"ackId":%d}`, data, i+1))
	}
	c.comeBack() // the server has not noticed that the old connection is gone
	rest{t, srv}.text("hubs/chat/connections/"+c.id+"/:send", "after")
	c.expect(1, "after")
	close(release)
	require.Contains(t, c.text(), `"ackId":0,"success":true`)
	require.Contains(t, c.text(), `"ackId":1,"success":true`)
}

func TestAcknowledgingWhileMessagesAreSentAgain(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialReliable(t, srv, dialOptions{})
	c.cut()
	big := strings.Repeat("x", maxMessageSize-200) // more than the socket buffers hold
	for range 15 {
		rest{t, srv}.text("hubs/chat/:send", big)
	}
	c.comeBack()
	for i := 1; i <= 15; i++ {
		c.expect(i, big)
	}
	c.cut() // nothing was acknowledged, so all messages are sent again
	c.comeBack()
	for i := 1; i <= 15; i++ {
		c.expect(i, big)
		c.write(fmt.Sprintf(`{"type":"sequenceAck","sequenceId":%d}`, i))
	}
}

func TestOneOfTwoSimultaneousRecoveriesSucceeds(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialReliable(t, srv, dialOptions{})
	for range 20 {
		var greeted atomic.Int32
		var dialing sync.WaitGroup
		for range 2 {
			again := &reliableClient{client: &client{t: t, id: c.id}, srv: srv, token: c.token}
			dialing.Go(func() {
				again.reconnect(again.recoverURL("chat"), protocolJSONReliable)
				_ = again.ws.Write(t.Context(), websocket.MessageText, []byte(`{"type":"ping"}`))
				if _, _, err := again.ws.Read(t.Context()); err == nil { // fails if the other recovery has taken over
					greeted.Add(1)
				}
			})
		}
		dialing.Wait()
		require.NotZero(t, greeted.Load())
	}
	require.Len(t, srv.Connections("chat"), 1)
}

func TestProtobufClientRecovers(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := &reliableClient{client: dial(t, srv, dialOptions{subprotocols: []string{protocolProtobufReliable}}), srv: srv}
	hello := c.readProtobuf().GetSystemMessage().GetConnectedMessage()
	c.id, c.token = hello.GetConnectionId(), hello.GetReconnectionToken()
	read := func(want *pb.DataMessage) {
		t.Helper()
		got := c.readProtobuf().GetDataMessage()
		require.Equal(t, want.GetSequenceId(), got.GetSequenceId())
		require.Equal(t, want.GetData().GetTextData(), got.GetData().GetTextData())
	}
	one, two := uint64(1), uint64(2)
	text := func(id *uint64, s string) *pb.DataMessage {
		return &pb.DataMessage{SequenceId: id, Data: &pb.MessageData{Data: &pb.MessageData_TextData{TextData: s}}}
	}
	api := rest{t, srv}
	api.text("hubs/chat/:send", "one")
	read(text(&one, "one"))
	c.cut()
	api.text("hubs/chat/:send", "two")
	c.reconnect(c.recoverURL("chat"), protocolProtobufReliable)
	read(text(&one, "one"))
	read(text(&two, "two"))
	c.writeProtobuf(`{"sequenceAckMessage":{"sequenceId":2}}`)
	c.writeProtobuf(`{"pingMessage":{}}`)
	require.NotNil(t, c.readProtobuf().GetPongMessage())
}

func TestAReliableClientThatCannotRecoverIsClosedWith1008(t *testing.T) {
	for name, try := range map[string]func(c *reliableClient){
		"too late": func(c *reliableClient) {
			c.srv.Advance(recoveryWindow + time.Second)
			c.reconnect(c.recoverURL("chat"), protocolJSONReliable)
		},
		"a wrong token":      func(c *reliableClient) { c.token += "x"; c.reconnect(c.recoverURL("chat"), protocolJSONReliable) },
		"a wrong connection": func(c *reliableClient) { c.id += "x"; c.reconnect(c.recoverURL("chat"), protocolJSONReliable) },
		"a wrong hub":        func(c *reliableClient) { c.reconnect(c.recoverURL("other"), protocolJSONReliable) },
		"no token":           func(c *reliableClient) { c.token = ""; c.reconnect(c.recoverURL("chat"), protocolJSONReliable) },
	} {
		t.Run(name, func(t *testing.T) {
			c := dialReliable(t, emulator.StartT(t, nil), dialOptions{})
			c.cut()
			try(c)
			ce, frames := c.closed()
			require.Equal(t, websocket.StatusPolicyViolation, ce.Code)
			require.Equal(t, "The connection could not be recovered.", ce.Reason)
			require.Empty(t, frames)
		})
	}
}

func TestAClientMayReceiveConnectedAfterRecovery(t *testing.T) {
	srv := emulator.StartT(t, &emulator.Options{ConnectedAfterRecovery: true})
	c := dialReliable(t, srv, dialOptions{})
	rest{t, srv}.text("hubs/chat/:send", "one")
	c.cut()
	id := c.id
	c.comeBack()
	c.hello()
	require.Equal(t, id, c.id)
	c.expect(1, "one")
}

func TestRecoveryKeepsTheSubprotocol(t *testing.T) {
	for offered, chosen := range map[string]string{protocolProtobufReliable: "", protocolJSON: "", "": "",
		strings.ToUpper(protocolJSONReliable): strings.ToUpper(protocolJSONReliable)} {
		srv := emulator.StartT(t, nil)
		c := dialReliable(t, srv, dialOptions{})
		rest{t, srv}.text("hubs/chat/:send", "one")
		c.cut()
		c.reconnect(c.recoverURL("CHAT"), offered)
		require.Equal(t, chosen, c.ws.Subprotocol())
		c.expect(1, "one")
	}
}

func TestAReliableClientRecoversAfterAnyCloseCodeBut1000(t *testing.T) {
	for _, code := range []websocket.StatusCode{websocket.StatusGoingAway, websocket.StatusInternalError, 4000} {
		srv := emulator.StartT(t, nil)
		c := dialReliable(t, srv, dialOptions{groups: []string{"g"}})
		c.ws.Close(code, "later")
		require.NoError(t, srv.WaitForRecovering(t.Context(), "chat", 1))
		rest{t, srv}.text("hubs/chat/groups/g/:send", "one")
		c.comeBack()
		c.expect(1, "one")
	}
}

func TestAnEmptyConnectionIDIsANewConnection(t *testing.T) {
	srv := emulator.StartT(t, nil)
	require.Equal(t, 101, upgradeStatus(t, dialOptions{query: "&awps_connection_id=&awps_reconnection_token=x"}.httpURL(t, srv)))
	require.Equal(t, 401, upgradeStatus(t, srv.Endpoint()+"/client/hubs/chat?awps_connection_id="))
}

func TestAReliableClientRecoversAtTheEndOfTheWindow(t *testing.T) {
	c := dialReliable(t, emulator.StartT(t, nil), dialOptions{})
	c.cut()
	c.srv.Advance(recoveryWindow - time.Second)
	c.comeBack()
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`), "the client has recovered")
	c.srv.Advance(time.Hour)
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`), "the old recovery window does not close the new connection")
}

func TestAReliableClientThatDoesNotRecoverIsRemoved(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialReliable(t, srv, dialOptions{user: "ann"})
	c.cut()
	srv.Advance(recoveryWindow + time.Second)
	rest{t, srv}.must(404, "HEAD", "hubs/chat/connections/"+c.id)
	rest{t, srv}.must(404, "HEAD", "hubs/chat/users/ann")
}

func TestAReliableClientThatClosesWith1000IsRemovedImmediately(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialReliable(t, srv, dialOptions{user: "ann"})
	c.ws.Close(websocket.StatusNormalClosure, "")
	require.NoError(t, srv.WaitForConnections(t.Context(), "chat", 0))
}

func TestAReliableClientThatIsClosedCannotRecover(t *testing.T) {
	srv := emulator.StartT(t, nil)
	api := rest{t, srv}
	for name, cut := range map[string]bool{"while connected": false, "while cut off": true} {
		t.Run(name, func(t *testing.T) {
			c := dialReliable(t, srv, dialOptions{})
			if cut {
				c.cut()
			}
			api.must(204, "DELETE", "hubs/chat/connections/"+c.id)
			c.reconnect(c.recoverURL("chat"), protocolJSONReliable)
			ce, _ := c.closed()
			require.Equal(t, websocket.StatusPolicyViolation, ce.Code)
		})
	}
}

func TestTooManyUnacknowledgedMessagesCloseAReliableClientPermanently(t *testing.T) {
	for name, tt := range map[string]struct{ messages, size int }{
		"messages": {maxUnacknowledged, 1},
		"bytes":    {maxUnacknowledgedBytes / maxMessageSize, maxMessageSize - 100},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			c := dialReliable(t, srv, dialOptions{})
			text := strings.Repeat("x", tt.size)
			for range tt.messages {
				rest{t, srv}.text("hubs/chat/:send", text)
			}
			require.Len(t, srv.Connections("chat"), 1, "the limit itself is allowed")
			rest{t, srv}.text("hubs/chat/:send", text)
			require.NoError(t, srv.WaitForConnections(t.Context(), "chat", 0))
			ce, frames := c.closed()
			require.Equal(t, websocket.StatusPolicyViolation, ce.Code)
			require.Equal(t, "The reliable message buffer is full.", ce.Reason)
			require.Contains(t, frames[len(frames)-1], "disconnected")
		})
	}
}

func TestAcknowledgingMakesRoom(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialReliable(t, srv, dialOptions{})
	for i := 1; i <= 3*maxUnacknowledged; i++ {
		rest{t, srv}.text("hubs/chat/:send", strconv.Itoa(i))
		c.expect(i, strconv.Itoa(i))
		if i%(maxUnacknowledged/2) == 0 {
			c.write(fmt.Sprintf(`{"type":"sequenceAck","sequenceId":%d}`, i))
			require.Contains(t, c.ask(`{"type":"ping"}`), "pong")
		}
	}
}

func TestMessagesExpire(t *testing.T) {
	srv := emulator.StartT(t, nil)
	api := rest{t, srv}
	c := dialReliable(t, srv, dialOptions{groups: []string{"g"}})
	sender := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.sendToGroup"}})
	api.text("hubs/chat/:send?messageTtlSeconds=60", "written, for a minute")
	c.expect(1, "written, for a minute")
	sender.object()
	c.cut()
	api.text("hubs/chat/connections/"+c.id+"/:send?messageTtlSeconds=10", "for ten seconds")
	api.text("hubs/chat/connections/"+c.id+"/:send?messageTtlSeconds=20", "for twenty seconds")
	api.text("hubs/chat/connections/"+c.id+"/:send", "without a TTL")
	require.Contains(t, sender.ask(`{"type":"sendToGroup","group":"g","dataType":"text","data":"short","ttlSeconds":5,"ackId":1}`), "true")
	srv.Advance(15 * time.Second)
	c.comeBack()
	c.expect(1, "written, for a minute")
	c.expect(2, "for twenty seconds")
	c.expect(3, "without a TTL")

	c.cut()
	srv.Advance(20 * time.Second)
	c.comeBack()
	c.expect(1, "written, for a minute")
	c.expect(3, "without a TTL")
	require.Equal(t, `{"type":"pong"}`, c.ask(`{"type":"ping"}`))
}

func TestExpiredMessagesDoNotCount(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialReliable(t, srv, dialOptions{})
	c.cut()
	for range maxUnacknowledged {
		rest{t, srv}.text("hubs/chat/:send?messageTtlSeconds=1", "old")
	}
	srv.Advance(2 * time.Second)
	rest{t, srv}.text("hubs/chat/:send", "new")
	c.comeBack()
	c.expect(1, "new")
}
