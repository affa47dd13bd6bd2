package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/cmd/internal/programtest"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/internal/tunnelframe"
	"github.com/awps-go/webpubsub/wsclient"
)

// tunnelTo starts an emulator whose hub sends its events through the tunnel.
func tunnelTo(t *testing.T, template string) *emulator.Server {
	t.Helper()
	server := emulator.StartT(t, nil)
	require.NoError(t, server.SetHubSettings(hub, emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
		URLTemplate: template, SystemEvents: []string{"connect"}, UserEventPattern: "*",
	}}}))
	return server
}

// listen runs webpubsub listen, and waits until it is connected.
func listen(t *testing.T, server *emulator.Server, args ...string) *programtest.Process {
	t.Helper()
	p := programtest.Start(t, append([]string{"listen"}, args...), on(server)...)
	require.NoError(t, server.WaitForTunnels(deadline(t), hub, 1), "%s", p.Stderr)
	return p
}

// user returns a URL provider for a user.
func user(t *testing.T, server *emulator.Server, id string) wsclient.URLProvider {
	t.Helper()
	return tokenProvider(service(t, server), &webpubsub.ClientAccessTokenOptions{UserID: id})
}

// dialAs connects a client as a user.
func dialAs(t *testing.T, server *emulator.Server, id string) *wsclient.Conn {
	t.Helper()
	conn, err := wsclient.Dial(deadline(t), user(t, server, id), nil)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// endListen interrupts listen, which must exit with 0. It returns the rest of standard output.
func endListen(t *testing.T, p *programtest.Process) string {
	t.Helper()
	p.Interrupt(t)
	code, stdout := p.Result(t)
	require.Equal(t, exitOK, code, "%s", p.Stderr)
	return stdout
}

func TestListenForwardsEventsToAnEventHandler(t *testing.T) {
	server := tunnelTo(t, "tunnel:///anywhere/{event}")
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub: hub, ConnectionStrings: []string{server.ConnectionString()}, // signatures are verified
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			return &eventhandler.UserEventResponse{Message: webpubsub.Text("you said " + r.Text())}, nil
		},
	})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/eventhandler/", handler)
	app := httptest.NewServer(mux)
	defer app.Close()

	p := listen(t, server, "--to", app.URL+"/eventhandler/")
	conn := dialAs(t, server, "alice\u202e")
	require.Regexp(t, `^`+clockPattern+`connect, user alice\\u202e, 20[04], \d+\.\d\d ms$`, p.Line(t))
	require.NoError(t, conn.SendEvent(t.Context(), "order", wsclient.Text("tea"), nil))
	require.Regexp(t, `^`+clockPattern+`order, user alice\\u202e, 200, \d+\.\d\d ms$`, p.Line(t))
	message, err := conn.Receive(deadline(t))
	require.NoError(t, err)
	require.Equal(t, "you said tea", message.Text())
	require.Empty(t, endListen(t, p))
	require.Contains(t, p.Stderr.String(), `level=INFO msg="the tunnel is connected" hub=chat`)
}

func TestThePathOfAForwardedEvent(t *testing.T) {
	for _, test := range []struct{ to, want string }{
		{"", "/from/order%2F1?code=1;%zz"},
		{"/", "/from/order%2F1?code=1;%zz"},
		{"?key=2", "/from/order%2F1?key=2&code=1;%zz"},
		{"/api/web%2Fhook", "/api/web%2Fhook?code=1;%zz"},
		{"/api/?key=2", "/api/?key=2&code=1;%zz"},
	} {
		t.Run(test.to, func(t *testing.T) {
			server := tunnelTo(t, "tunnel:///from/order%2F1?code=1;%zz")
			type request struct{ host, uri, encoding string }
			requests := make(chan request, 1)
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests <- request{r.Host, r.RequestURI, r.Header.Get("Accept-Encoding")}
			}))
			defer app.Close()
			p := listen(t, server, "--to", app.URL+test.to)
			dialAs(t, server, "alice")
			require.Equal(t, request{strings.TrimPrefix(app.URL, "http://"), test.want, ""}, <-requests)
			endListen(t, p)
		})
	}
}

func TestListenPrintsJSONForPrograms(t *testing.T) {
	server := tunnelTo(t, "tunnel:///{event}")
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}))
	defer app.Close()
	p := listen(t, server, "--to", app.URL, "--json")
	_, err := wsclient.Dial(deadline(t), user(t, server, "alice"), nil)
	require.ErrorContains(t, err, "403")
	line := jsonLine(t, p)
	for _, member := range []string{"time", "connectionId", "milliseconds"} {
		require.NotEmpty(t, line[member], member)
		delete(line, member)
	}
	require.Equal(t, map[string]any{"event": "connect", "hub": hub, "userId": "alice", "status": 403.0}, line)
	require.Empty(t, endListen(t, p))
}

// A response that is cut off or too large must not reach the service as a complete response.
func TestAnEventWithoutAnAnswerIs502AndOneLogLine(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "{}")
		_ = http.NewResponseController(w).Flush() // the test fails if it was not sent
		panic(http.ErrAbortHandler)
	}))
	defer cut.Close()
	large := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, tunnelframe.MaxSize-100)) // with its headers it is too large; the reader may stop
	}))
	defer large.Close()
	switching := rawServer(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: a\r\n\r\n")
	for _, test := range []struct{ to, want string }{
		{gone.URL, "refused"},
		{cut.URL, "the response was cut off: unexpected EOF"},
		{large.URL, "the response is larger than 1 MiB"},
		{switching.URL, "the response is 101 Switching Protocols"},
	} {
		server := tunnelTo(t, "tunnel:///{event}")
		p := listen(t, server, "--to", test.to+"/?key=secret-key", "--log-level", "error", "--json")
		provider := user(t, server, "alice")
		ctx, cancel := context.WithCancel(t.Context())
		refused := make(chan struct{})
		go func() { // until it is canceled, because the service retries the event
			_, _ = wsclient.Dial(ctx, provider, nil)
			close(refused)
		}()
		line := jsonLine(t, p)
		require.EqualValues(t, http.StatusBadGateway, line["status"])
		require.Contains(t, line["error"], test.want)
		cancel()
		<-refused
		more := endListen(t, p)
		logged := p.Stderr.String()
		require.Equal(t, 1+strings.Count(more, "\n"), strings.Count(logged, "\n"), logged)
		require.Regexp(t, `^time=\S+ level=ERROR msg="the event handler at --to did not respond" event=connect error=`, logged)
		require.NotContains(t, logged, "secret-key")
	}
}

// The service may have a time limit that is longer, or none.
func TestAnEventHandlerThatTakesTooLongIs504(t *testing.T) {
	for _, name := range []string{"silent", "stuck in its response"} {
		t.Run(name, func(t *testing.T) {
			server := emulator.StartT(t, nil)
			require.NoError(t, server.SetHubSettings(hub, emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
				URLTemplate: "tunnel:///", UserEventPattern: "*",
			}}}))
			end := make(chan struct{})
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if name != "silent" {
					_, _ = io.WriteString(w, "half of the resp")
					_ = http.NewResponseController(w).Flush() // the test does not depend on it
				}
				<-end
			}))
			defer app.Close()
			defer close(end)
			p := listen(t, server, "--to", app.URL, "--timeout", "50ms", "--log-level", "error", "--json")
			conn := dialAs(t, server, "alice")
			require.NoError(t, conn.SendEvent(t.Context(), "order", wsclient.Text("tea"), &wsclient.SendEventOptions{NoAck: true}))
			line := jsonLine(t, p)
			require.EqualValues(t, http.StatusGatewayTimeout, line["status"])
			const text = "the event handler did not respond in time: --timeout is 50ms"
			require.Equal(t, text, line["error"])
			endListen(t, p)
			require.Contains(t, p.Stderr.String(), `level=ERROR msg="the event handler at --to did not respond" event=order error="`+text+`"`)
		})
	}
}

// If the tunnel's connection ends during an event, the event handler is not to blame.
func TestAnEventWhoseTunnelIsCutNamesTheReason(t *testing.T) {
	server := tunnelTo(t, "tunnel:///{event}")
	began := make(chan struct{})
	var requests atomic.Int32
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) > 1 { // a retry
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // or net/http does not notice the cut
		close(began)
		<-r.Context().Done()
	}))
	defer app.Close()
	p := listen(t, server, "--to", app.URL, "--json")
	provider := user(t, server, "alice")
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan struct{})
	go func() {
		_, _ = wsclient.Dial(ctx, provider, nil)
		close(refused)
	}()
	<-began
	require.True(t, server.DropTunnel(hub, server.Tunnels(hub)[0].ID))
	line := jsonLine(t, p)
	require.EqualValues(t, http.StatusBadGateway, line["status"])
	require.Regexp(t, `^the tunnel's connection has ended: `, line["error"])
	cancel() // the service retries the event after a second
	<-refused
	endListen(t, p)
}

func TestAnInterruptWaitsForTheEventsUnderWay(t *testing.T) {
	server := tunnelTo(t, "tunnel:///{event}")
	began, answer := make(chan struct{}), make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-answer
		fmt.Fprint(w, `{"userId":"the-answer"}`)
	}))
	defer app.Close()
	p := listen(t, server, "--to", app.URL, "--json")
	provider := user(t, server, "alice")
	dialed := make(chan string, 1)
	go func() {
		conn, err := wsclient.Dial(t.Context(), provider, nil)
		if err != nil {
			dialed <- err.Error()
			return
		}
		dialed <- conn.UserID()
		conn.Close()
	}()
	<-began
	p.Interrupt(t)
	p.Stderr.WaitFor(t, "shutting down: waiting for in-flight events")
	close(answer)
	require.Equal(t, "the-answer", <-dialed)
	code, stdout := p.Result(t)
	require.Equal(t, exitOK, code, "%s", p.Stderr)
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &line))
	require.Equal(t, "alice", line["userId"])
}

func TestListenFailsAtOnceIfTheServiceRefuses(t *testing.T) {
	server := emulator.StartT(t, nil)
	wrongKey := []string{"WEBPUBSUB_CONNECTION_STRING=Endpoint=" + server.Endpoint() + ";AccessKey=the-wrong-key;", "WEBPUBSUB_HUB=" + hub}
	line := fail(t, exitFailed, wrongKey, "listen", "--to", "http://localhost")
	require.Regexp(t, `^webpubsub: listen: the service rejected the connection: 401 Unauthorized`, line)
	require.NotContains(t, line, "eyJ")
	require.NotContains(t, line, "the-wrong-key")
}
