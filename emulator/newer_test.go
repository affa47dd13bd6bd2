package emulator_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/wsclient"
)

func TestInvocations(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{user: "ann"})
	const price = `{"type":"invoke","invocationId":"1","target":"event","event":"price","dataType":"text","data":"apples"}`
	const failed = `{"type":"invokeResponse","invocationId":"1","success":false,"error":{"message":"Internal server error","name":"InternalServerError"}}`
	require.Equal(t, failed, c.ask(price), "there is no handler")

	begun, cancelled := make(chan string, 1), make(chan string, 1)
	application(t, srv, nil, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.Header.Get("ce-eventName") {
		case "price":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"of":%q,"type":%q}`, body, r.Header.Get("ce-type"))
		case "refuse":
			w.WriteHeader(400)
			io.WriteString(w, "a secret")
		case "slow":
			begun <- r.Header.Get("ce-userId")
			<-r.Context().Done()
			cancelled <- r.Header.Get("ce-eventName")
		}
	})
	require.Equal(t, `{"type":"invokeResponse","invocationId":"1","success":true,"dataType":"json","data":{"of":"apples","type":"azure.webpubsub.user.price"}}`, c.ask(price))
	require.Equal(t, `{"type":"invokeResponse","invocationId":"2","success":true}`, c.ask(`{"type":"invoke","invocationId":"2","target":"event","event":"nothing"}`))
	require.Equal(t, `{"type":"invokeResponse","invocationId":"3","success":false,"error":{"message":"Internal server error","name":"InternalServerError"}}`,
		c.ask(`{"type":"invoke","invocationId":"3","target":"event","event":"refuse"}`))

	c.write(`{"type":"invoke","invocationId":"4","target":"event","event":"slow"}`)
	require.Equal(t, "ann", <-begun)
	c.write(`{"type":"invoke","invocationId":"5","target":"event","event":"price"}`) // cancelled while it waits
	c.write(`{"type":"invoke","invocationId":"1","target":"event","event":"price","dataType":"text","data":"pears"}`)
	c.write(`{"type":"cancelInvocation","invocationId":"5"}`)
	c.write(`{"type":"cancelInvocation","invocationId":"4"}`)
	c.write(`{"type":"cancelInvocation","invocationId":"unknown"}`)
	require.Equal(t, "slow", <-cancelled)
	require.Contains(t, c.text(), `"of":"pears"`, "cancelled invocations have no response")

	require.NoError(t, srv.InjectClientFault(emulator.ClientFault{Operation: emulator.ClientInvoke, Error: "Timeout"}))
	require.Contains(t, c.ask(price), `"success":false,"error":{"message":"A fault that was asked for.","name":"Timeout"}`)

	c.write(`{"type":"invoke","invocationId":"1","event":"price"}`) // without a target
	ce, _ := c.closed()
	require.Equal(t, websocket.StatusInvalidFramePayloadData, ce.Code)
}

func TestGroupStreams(t *testing.T) {
	srv := emulator.StartT(t, nil)
	roles := []string{"webpubsub.sendToGroup.g"}
	member := dialReliable(t, srv, dialOptions{groups: []string{"g"}})
	raw := dial(t, srv, dialOptions{groups: []string{"g"}})
	c := dialReliable(t, srv, dialOptions{user: "ann", roles: roles, groups: []string{"g"}})
	const open = `{"type":"sendToGroup","group":"g","noEcho":true,"metadata":{"k":"v"},"stream":{"streamId":"s","idleTimeoutMs":60000}}`
	ack := func(expected int) string {
		return fmt.Sprintf(`{"type":"streamAck","streamId":"s","expectedSequenceId":%d}`, expected)
	}
	data := func(number int, text string) string {
		return fmt.Sprintf(`{"type":"streamData","streamId":"s","streamSequenceId":%d,"dataType":"text","data":%q}`, number, text)
	}
	require.Equal(t, ack(1), c.ask(open))
	require.Equal(t, ack(2), c.ask(data(1, "one")))
	require.Equal(t, ack(2), c.ask(data(1, "one")), "a repeated fragment is acknowledged")
	require.Equal(t, `{"type":"streamNack","streamId":"s","name":"InvalidSequenceId","message":"A fragment of the stream is missing.","expectedSequenceId":2}`, c.ask(data(3, "three")))
	c.cut()
	c.comeBack()
	require.Equal(t, ack(2), c.ask(open), "the stream continues after a recovery")
	require.Equal(t, ack(3), c.ask(data(2, "two")))
	c.write(`{"type":"streamData","streamId":"s"}`) // resets the idle timeout
	require.Equal(t, `{"type":"streamClosed","streamId":"s"}`, c.ask(`{"type":"streamEnd","streamId":"s"}`))

	for i, text := range []string{"one", "two"} {
		require.Equal(t, fmt.Sprintf(`{"sequenceId":%d,"type":"message","from":"group","group":"g","fromUserId":"ann","stream":{"streamId":"s","streamSequenceId":%d},"dataType":"text","metadata":{"k":"v"},"data":%q}`, i+1, i+1, text), member.text())
		require.Equal(t, text, raw.text())
	}
	require.Equal(t, `{"sequenceId":3,"type":"message","from":"group","group":"g","fromUserId":"ann","stream":{"streamId":"s","streamSequenceId":3,"endOfStream":true},"dataType":"text","data":""}`, member.text(),
		"the official JavaScript client needs a data type, and reads empty text as no data")

	// The stream id can be reused. Members receive the sender's error.
	require.Equal(t, ack(1), c.ask(open))
	require.Equal(t, `{"type":"streamClosed","streamId":"s"}`, c.ask(`{"type":"streamEnd","streamId":"s","error":{"message":"out of tokens","userErrorCode":"42"}}`))
	require.Contains(t, member.text(), `"endOfStream":true,"error":{"name":"UserError","message":"out of tokens","userErrorCode":"42"}`)
	rest{t, srv}.text("hubs/chat/groups/g/:send", "after")
	require.Equal(t, "after", raw.text(), "a raw client receives no frame for an end without data")
	require.Equal(t, "after", member.object()["data"])
	require.Equal(t, "after", c.object()["data"])
}

// TestTheWebSocketClientInvokesAndStreams runs package wsclient against the emulator.
func TestTheWebSocketClientInvokesAndStreams(t *testing.T) {
	srv := emulator.StartT(t, nil)
	application(t, srv, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "the price")
	})
	dialClient := func(groups ...string) *wsclient.Conn {
		url := dialOptions{roles: []string{"webpubsub.sendToGroup.g"}, groups: groups}.url(t, srv)
		conn, err := wsclient.Dial(t.Context(), wsclient.StaticURL(url), nil)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	member, c := dialClient("g"), dialClient()
	answer, err := c.Invoke(t.Context(), "price", wsclient.Text("apples"), nil)
	require.NoError(t, err)
	require.Equal(t, "the price", string(answer.Data))

	w, err := c.OpenGroupStream(t.Context(), "g", nil)
	require.NoError(t, err)
	const many = 200
	for i := range many {
		_, err := fmt.Fprint(w, i)
		require.NoError(t, err)
		if i == many/2 {
			require.True(t, srv.DropConnection("chat", c.ConnectionID()))
		}
	}
	require.NoError(t, w.Close())
	for i := range many {
		m, err := member.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(m.Data))
		require.EqualValues(t, i+1, m.Stream.Number)
	}
	m, err := member.Receive(t.Context())
	require.NoError(t, err)
	require.True(t, m.Stream.End)
}

func TestGroupStreamsThatEndEarly(t *testing.T) {
	const open = `{"type":"sendToGroup","group":"g","stream":{"streamId":"s","idleTimeoutMs":60000}}`
	for name, test := range map[string]struct {
		frame          string // sent after the stream is open
		act            func(srv *emulator.Server, c *client)
		sender, member string
	}{
		"idle": {"", func(srv *emulator.Server, _ *client) { srv.Advance(time.Minute) }, `"error":{"name":"IdleTimeout"`, `"error":{"name":"IdleTimeout"`},
		"only fragments that are not accepted": {"", func(srv *emulator.Server, c *client) {
			srv.Advance(40 * time.Second)
			require.Contains(c.t, c.ask(`{"type":"streamData","streamId":"s","streamSequenceId":2,"dataType":"json","data":1}`), "streamNack")
			srv.Advance(20 * time.Second)
		}, `"error":{"name":"IdleTimeout"`, `"error":{"name":"IdleTimeout"`},
		"the permission is revoked": {`{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"json","data":1}`, func(srv *emulator.Server, c *client) {
			rest{c.t, srv}.must(204, "DELETE", "hubs/chat/permissions/sendToGroup/connections/"+c.id+"?targetName=g")
		}, `"error":{"name":"Forbidden"`, `"error":{"name":"Forbidden"`},
		"the sender is cut off": {"", func(srv *emulator.Server, c *client) { srv.DropConnection("chat", c.id) }, "", `"error":{"name":"Cancelled"`},
		"the sender is closed": {"", func(srv *emulator.Server, c *client) {
			rest{c.t, srv}.must(204, "DELETE", "hubs/chat/connections/"+c.id)
		}, `"disconnected"`, `"error":{"name":"Cancelled"`},
		"the sender closes":              {"", func(_ *emulator.Server, c *client) { c.ws.Close(websocket.StatusNormalClosure, "") }, "", `"error":{"name":"Cancelled"`},
		"another group with the same id": {`{"type":"sendToGroup","group":"h","stream":{"streamId":"s"}}`, nil, `"error":{"name":"BadRequest"`, `"error":{"name":"BadRequest"`},
		"data of an unknown stream":      {`{"type":"streamData","streamId":"x","streamSequenceId":1,"dataType":"json","data":1}`, nil, `"streamId":"x","error":{"name":"StreamNotFound"`, ""},
		"the end of an unknown stream":   {`{"type":"streamEnd","streamId":"x"}`, nil, `"streamId":"x","error":{"name":"StreamNotFound"`, ""},
		"no permission":                  {`{"type":"sendToGroup","group":"other","stream":{"streamId":"x"}}`, nil, `"streamId":"x","error":{"name":"Forbidden"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			member := dialJSON(t, srv, dialOptions{groups: []string{"g"}})
			c := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.sendToGroup.g", "webpubsub.sendToGroup.h"}})
			require.Contains(t, c.ask(open), "streamAck")
			if test.act != nil {
				test.act(srv, c)
			}
			if test.frame != "" {
				c.write(test.frame)
			}
			if test.sender != "" {
				require.Contains(t, c.text(), test.sender)
			}
			if test.member != "" {
				require.Contains(t, member.text(), test.member)
			}
		})
	}
	for _, frame := range []string{
		`{"type":"sendToGroup","group":"g","data":1,"stream":{"streamId":"s"}}`, `{"type":"sendToGroup","group":"g","ackId":1,"stream":{"streamId":"s"}}`,
		`{"type":"sendToGroup","group":"g","stream":{}}`, `{"type":"sendToGroup","group":"g","stream":{"streamId":""}}`, `{"type":"sendToGroup","group":"g","stream":null}`,
		`{"type":"sendToGroup","group":"g","stream":{"streamId":"s","idleTimeoutMs":-1}}`, `{"type":"streamData","streamId":"s","streamSequenceId":0,"dataType":"json","data":1}`,
		`{"type":"sendToGroup","group":"g","stream":{"streamId":"s","idleTimeoutMs":0}}`, `{"type":"streamData","streamId":"s","streamSequenceId":null,"dataType":"json","data":1}`,
		`{"type":"streamData","streamId":"s","streamSequenceId":1,"data":1}`, `{"type":"streamData","streamId":"s","dataType":"json","data":1}`, `{"type":"streamData","streamId":"s","dataType":"json"}`,
		`{"type":"streamEnd","streamId":"s","error":{"name":"UserError"}}`,
		`{"type":"streamData","streamId":"s","streamSequenceId":1}`, `{"type":"streamEnd"}`, `{"type":"streamEnd","streamId":"s","error":1}`, `{"type":"cancelInvocation"}`,
	} {
		srv := emulator.StartT(t, nil)
		c := dialJSON(t, srv, dialOptions{roles: []string{"webpubsub.sendToGroup"}})
		c.write(frame)
		ce, _ := c.closed()
		require.Equal(t, websocket.StatusInvalidFramePayloadData, ce.Code, frame)
	}
}
