package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/cmd/internal/programtest"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/wsclient"
)

// negotiate serves a connection URL, like an application server, and returns the endpoint's URL.
func negotiate(t *testing.T, url string) string {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"url":%q}`, url)
	}))
	t.Cleanup(app.Close)
	return app.URL
}

// connect runs webpubsub connect, and waits until it is connected.
func connect(t *testing.T, server *emulator.Server, args ...string) *programtest.Process {
	t.Helper()
	p := programtest.Start(t, append([]string{"connect"}, args...), on(server)...)
	p.Stderr.WaitFor(t, " connected, ")
	return p
}

// service returns a service client for the hub.
func service(t *testing.T, server *emulator.Server) *webpubsub.ServiceClient {
	t.Helper()
	client, err := webpubsub.NewClientFromConnectionString(server.ConnectionString(), hub, nil)
	require.NoError(t, err)
	return client
}

// end interrupts connect, which must exit with 0 and leave no connection on the server.
func end(t *testing.T, server *emulator.Server, p *programtest.Process) string {
	t.Helper()
	p.Interrupt(t)
	code, stdout := p.Result(t)
	require.Equal(t, exitOK, code, "%s", p.Stderr)
	// Without a close frame the server would keep a reliable client for 30 seconds.
	require.NoError(t, server.WaitForConnections(deadline(t), hub, 0))
	return stdout
}

const clockPattern = `\d\d:\d\d:\d\d\.\d\d\d `

func TestConnectShowsMessages(t *testing.T) {
	server := emulator.StartT(t, nil)
	client := service(t, server)
	p := connect(t, server, "--user", "alice", "--group", "room")
	require.Regexp(t, `^`+clockPattern+`connected, user alice, connection \S+, json.reliable.webpubsub.azure.v1\n$`, p.Stderr.String())

	require.NoError(t, client.SendToAll(t.Context(), webpubsub.Text("hello\n\x1b[31mred"), nil))
	require.Regexp(t, `^`+clockPattern+`server, text: hello$`, p.Line(t))
	require.Equal(t, `\u001b[31mred`, p.Line(t), "control characters of a message are escaped")
	require.NoError(t, client.SendToGroup(t.Context(), "room", webpubsub.JSON(map[string]any{"a": []int{1}}),
		&webpubsub.SendToGroupOptions{Metadata: map[string]string{"k": "v"}}))
	require.Regexp(t, `^`+clockPattern+`group room, json \(k=v\):$`, p.Line(t))
	for _, line := range []string{"{", `  "a": [`, "    1", "  ]", "}"} {
		require.Equal(t, line, p.Line(t))
	}
	require.NoError(t, client.SendToUser(t.Context(), "alice", webpubsub.Binary([]byte{0, 'A', 255}), nil))
	require.Regexp(t, `^`+clockPattern+`server, binary \(3 bytes\):$`, p.Line(t))
	require.Equal(t, "00000000  00 41 ff                                          |.A.|", p.Line(t))
	require.Empty(t, end(t, server, p))
	require.Equal(t, 1, strings.Count(p.Stderr.String(), "\n"), "%s", p.Stderr)
}

func TestConnectPrintsJSONForPrograms(t *testing.T) {
	server := emulator.StartT(t, nil)
	client := service(t, server)
	for _, protocol := range []string{"json-reliable", "json", "protobuf-reliable", "protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			p := programtest.Start(t, []string{"connect", "--json", "--user", "alice", "--group", "room", "--protocol", protocol, "--count", "3"}, on(server)...)
			line := jsonLine(t, p)
			require.Equal(t, "connected", line["event"])
			require.Equal(t, true, line["first"])
			require.NoError(t, client.SendToAll(t.Context(), webpubsub.Text("<hello>"), nil))
			require.NoError(t, client.SendToGroup(t.Context(), "room", webpubsub.JSON(map[string]any{"a": 1}), nil))
			require.NoError(t, client.SendToUser(t.Context(), "alice", webpubsub.Binary([]byte{0, 255}), nil))
			for _, want := range []map[string]any{
				{"from": "server", "dataType": "text", "data": "<hello>"},
				{"from": "group", "group": "room", "dataType": "json", "data": map[string]any{"a": 1.0}},
				{"from": "server", "dataType": "binary", "data": "AP8="},
			} {
				got := jsonLine(t, p)
				require.Equal(t, "message", got["event"])
				require.NotEmpty(t, got["time"])
				delete(got, "event")
				delete(got, "time")
				delete(got, "sequenceId")
				require.Equal(t, want, got)
			}
			code, rest := p.Result(t)
			require.Equal(t, exitOK, code, "--count ends it: %s", p.Stderr)
			require.Empty(t, rest)
			require.Empty(t, p.Stderr.String())
			require.NoError(t, server.WaitForConnections(deadline(t), hub, 0))
		})
	}
}

// jsonLine reads a line of JSON.
func jsonLine(t *testing.T, p *programtest.Process) (line map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(p.Line(t)), &line))
	return line
}

func TestWhatIsTypedIsSentToAGroup(t *testing.T) {
	server := emulator.StartT(t, nil)
	bob := newConn(t, server, "bob", "room")
	for _, args := range [][]string{{"--user", "alice", "--to-group", "room"}, {"--user", "alice", "--to-group", "room", "--input", "json", "--json"}} {
		p := programtest.Start(t, append([]string{"connect"}, args...), on(server)...)
		_, err := io.WriteString(p.Stdin, "\"hello\"\n")
		require.NoError(t, err)
		m := receive(t, bob)
		require.Equal(t, "alice", m.FromUserID)
		if len(args) == 4 {
			require.Equal(t, wsclient.Text(`"hello"`), m.Payload)
		} else {
			require.Equal(t, []any{wsclient.DataJSON, `"hello"`}, []any{m.DataType, string(m.Data)})
			require.Equal(t, "connected", jsonLine(t, p)["event"])
			_, err = io.WriteString(p.Stdin, "{\n")
			require.NoError(t, err)
			require.Equal(t, "the line is not JSON", jsonLine(t, p)["error"])
		}
		// The client stays connected after the end of the input.
		require.NoError(t, p.Stdin.Close())
		p.Interrupt(t)
		code, _ := p.Result(t)
		require.Equal(t, exitOK, code)
		require.NoError(t, server.WaitForConnections(deadline(t), hub, 1))
	}
}

func TestWhatIsTypedIsSentAsAnEvent(t *testing.T) {
	server := emulator.StartT(t, nil)
	require.NoError(t, server.SetHubSettings(hub, emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
		UserEventPattern: "*",
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WebHook-Allowed-Origin", "*")
			said, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprintf(w, "%s: %s", r.Header.Get("ce-eventName"), said)
		}),
	}}}))
	p := connect(t, server, "--event", "order")
	_, err := io.WriteString(p.Stdin, "two teas\n")
	require.NoError(t, err)
	require.Contains(t, p.Line(t), "server, text: order: two teas")
	end(t, server, p)
}

func TestALineThatTheServiceRejectsIsReported(t *testing.T) {
	server := emulator.StartT(t, nil)
	p := connect(t, server, "--to-group", "room", "--role", "webpubsub.joinLeaveGroup")
	_, err := io.WriteString(p.Stdin, "hello\n")
	require.NoError(t, err)
	p.Stderr.WaitFor(t, "not sent: ")
	p.Stderr.WaitFor(t, "Forbidden")
	end(t, server, p)
}

func TestALineThatIsTooLongIsReportedAndSkipped(t *testing.T) {
	server := emulator.StartT(t, nil)
	bob := newConn(t, server, "bob", "room")
	p := connect(t, server, "--to-group", "room")
	_, err := io.WriteString(p.Stdin, strings.Repeat("x", maxLine+1)+"\r\nhello\r\n\nlast")
	require.NoError(t, err)
	require.NoError(t, p.Stdin.Close())
	for _, want := range []string{"hello", "", "last"} {
		require.Equal(t, want, receive(t, bob).Text())
	}
	p.Stderr.WaitFor(t, "not sent: the line is longer than 1 MiB\n")
	require.NoError(t, bob.Close())
	end(t, server, p)
}

func TestAConnectionThatIsCutRecovers(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		server := emulator.StartT(t, nil)
		client := service(t, server)
		args := []string{"connect", "--user", "alice"}
		if asJSON {
			args = append(args, "--json")
		}
		p := programtest.Start(t, args, on(server)...)
		require.NoError(t, server.WaitForUser(deadline(t), hub, "alice", 1))
		if asJSON {
			require.Equal(t, "connected", jsonLine(t, p)["event"])
		} else {
			p.Stderr.WaitFor(t, " connected, ")
		}
		id := server.Connections(hub)[0].ID
		require.True(t, server.DropConnection(hub, id))
		require.NoError(t, client.SendToAll(t.Context(), webpubsub.Text("sent meanwhile"), nil))
		if asJSON {
			events := map[string]map[string]any{}
			for range 3 { // the message may come before the event, because hooks run on another goroutine
				line := jsonLine(t, p)
				events[line["event"].(string)] = line
			}
			require.Equal(t, id, events["recovering"]["connectionId"])
			require.Equal(t, id, events["recovered"]["connectionId"])
			require.Equal(t, "sent meanwhile", events["message"]["data"])
		} else {
			require.Contains(t, p.Line(t), "server, text: sent meanwhile")
			p.Stderr.WaitFor(t, "connection lost, recovering: ")
			p.Stderr.WaitFor(t, "recovered, no messages lost, connection "+id)
		}
		require.Empty(t, end(t, server, p))
	}
}

func TestAConnectionThatIsClosedIsMadeAnewUnlessToldOtherwise(t *testing.T) {
	server := emulator.StartT(t, nil)
	client := service(t, server)
	p := connect(t, server, "--user", "alice")
	first := server.Connections(hub)[0].ID
	require.NoError(t, client.CloseUserConnections(t.Context(), "alice", &webpubsub.CloseUserConnectionsOptions{Reason: "bye"}))
	p.Stderr.WaitFor(t, "disconnected: ")
	p.Stderr.WaitFor(t, "reconnected, messages may be missing, user alice, connection ")
	require.Contains(t, p.Stderr.String(), "bye")
	require.NotEqual(t, first, server.Connections(hub)[0].ID)
	end(t, server, p)

	p = connect(t, server, "--user", "alice", "--no-reconnect")
	require.NoError(t, client.CloseUserConnections(t.Context(), "alice", &webpubsub.CloseUserConnectionsOptions{Reason: "bye"}))
	code, _ := p.Result(t)
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `\nwebpubsub: connect: [^\n]*bye[^\n]*\n$`, p.Stderr.String())

	p = connect(t, server, "--no-reconnect", "--protocol", "json") // this protocol cannot recover
	require.True(t, server.DropConnection(hub, server.Connections(hub)[0].ID))
	code, _ = p.Result(t)
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `\nwebpubsub: connect: the connection ended: [^\n]*\n$`, p.Stderr.String())
}

func TestConnectFailsIfTheServiceRefuses(t *testing.T) {
	server := emulator.StartT(t, nil)
	wrongKey := []string{"WEBPUBSUB_CONNECTION_STRING=Endpoint=" + server.Endpoint() + ";AccessKey=the-wrong-key;", "WEBPUBSUB_HUB=" + hub}
	line := fail(t, exitFailed, wrongKey, "connect")
	require.Regexp(t, `^webpubsub: connect: .*401`, line)
	require.NotContains(t, line, "eyJ")
	require.NoError(t, server.InjectFault(emulator.Fault{Operation: emulator.OperationConnect, Status: 503}))
	require.Regexp(t, `^webpubsub: connect: .*503`, fail(t, exitFailed, on(server), "connect"))
	require.Contains(t, fail(t, exitFailed, nil, "connect", "--negotiate", negotiate(t, "http://127.0.0.1:1/client?access_token=secret-token")),
		"webpubsub: connect: --negotiate: Dial: url http://127.0.0.1:1/client must begin with ws:// or wss://")
	gone := httptest.NewServer(nil)
	gone.Close()
	line = fail(t, exitFailed, nil, "connect", "--negotiate", gone.URL+"?access_token=secret-token")
	require.NotContains(t, line, "secret-token")
}

func TestTheDebugLogOfConnectHasNoSecrets(t *testing.T) {
	server := emulator.StartT(t, nil)
	p := connect(t, server, "--log-level", "debug")
	require.True(t, server.DropConnection(hub, server.Connections(hub)[0].ID))
	p.Stderr.WaitFor(t, "recovered, no messages lost")
	end(t, server, p)
	log := p.Stderr.String()
	require.Contains(t, log, "level=INFO msg=connected url=ws://")
	require.NotContains(t, log, "eyJ")
	require.NotContains(t, log, "token=")
	require.NotContains(t, log, server.AccessKey())
}

func TestAnInterruptEndsConnectWhileItDials(t *testing.T) {
	dialed := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(dialed)
		<-ctx.Done()
	}))
	defer silent.Close()
	defer cancel()
	env := []string{"WEBPUBSUB_CONNECTION_STRING=Endpoint=" + silent.URL + ";AccessKey=key;", "WEBPUBSUB_HUB=" + hub}
	p := programtest.Start(t, []string{"connect"}, env...)
	<-dialed
	p.Interrupt(t)
	code, _ := p.Result(t)
	require.Equal(t, exitOK, code, "%s", p.Stderr)
}

// Messages come from strangers. One that claims to be JSON must not end the output.
func TestInvalidJSONIsPrintedAsText(t *testing.T) {
	for _, data := range []string{"", "{", "{}{}"} {
		m := &wsclient.Message{Payload: wsclient.Payload{DataType: wsclient.DataJSON, Data: []byte(data)}}
		var b bytes.Buffer
		require.NoError(t, (&jsonDisplay{w: &b}).message(m))
		var line struct{ Data string }
		require.NoError(t, json.Unmarshal(b.Bytes(), &line))
		require.Equal(t, data, line.Data)
	}
}
