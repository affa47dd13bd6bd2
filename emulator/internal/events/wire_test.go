package events

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/faults"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/watch"
)

// patience bounds how long a test waits for an expected event.
const patience = 10 * time.Second

// setup is a service with a Sender. listen gives the hub chat an event handler.
type setup struct {
	service *hub.Service
	sender  *Sender
	log     *lines
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	log := &lines{}
	clock := &hub.Clock{}
	board := watch.NewBoard(clock)
	service := hub.NewService(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), clock, board)
	sender := NewSender(Options{Service: service, Faults: faults.NewList(service), Host: "localhost",
		Keys: func() [2]string { return [2]string{"primary", "secondary"} }})
	service.Application = sender
	t.Cleanup(func() {
		if !service.Life.IsClosing() {
			service.Life.BeginClose()
		}
		service.Life.Stop()
		service.Life.Wait()
		sender.CloseIdleConnections()
	})
	return &setup{service, sender, log}
}

// listen sets the event handler of the hub chat. Without a choice of events, the handler receives all of them.
func (s *setup) listen(t *testing.T, e Handler) {
	t.Helper()
	if e.SystemEvents == nil && e.UserEventPattern == "" {
		e.SystemEvents, e.UserEventPattern = []string{"connect", "connected", "disconnected"}, "*"
	}
	require.NoError(t, s.sender.Set("Chat", []Handler{e}))
}

// link is a client that ignores everything.
type link struct{}

func (link) Deliver(*hub.Message) {}
func (link) Close(string)         {}
func (link) Drop() func() bool    { return nil }
func (link) Away() bool           { return false }

// newConnection returns a connection that is not in its hub, chat, yet.
func (s *setup) newConnection(id, user string) *hub.Connection {
	return &hub.Connection{ID: id, Hub: s.service.Hub("Chat"), UserID: user, Host: "name.webpubsub.example", Link: link{}}
}

// raise sends an event to the application and returns the outcome.
func raise(t *testing.T, c *hub.Connection, name string, p hub.Payload) (reply *hub.Payload, err error) {
	t.Helper()
	done := make(chan struct{})
	c.Raise(&hub.UserEvent{Name: name, Payload: p}, func(r *hub.Payload, e error) {
		reply, err = r, e
		close(done)
	})
	within(t, done)
	return reply, err
}

// lines is the output of a log. It may be used concurrently.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func within[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("timed out")
		panic("unreachable")
	}
}

// receivedRequest is a request that a handler received.
type receivedRequest struct {
	method, uri, body string
	header            http.Header
}

func TestEventsMatchTheServiceByteForByte(t *testing.T) {
	requests := make(chan receivedRequest, 20)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- receivedRequest{r.Method, r.RequestURI, string(body), r.Header.Clone()}
		w.Header().Set("WebHook-Allowed-Origin", "*")
		switch {
		case r.Method == http.MethodOptions:
			w.WriteHeader(http.StatusNotFound)
		case r.Header.Get("ce-eventName") == "connect":
			w.Header().Set("ce-connectionState", "anystring")
			http.SetCookie(w, &http.Cookie{Name: "affinity", Value: "a1"})
			io.WriteString(w, `{"userId":"用户"}`)
		case r.Header.Get("ce-id") == "2":
			w.Header().Set("ce-connectionState", "")
		}
	}))
	defer app.Close()
	s := newSetup(t)
	s.listen(t, Handler{URLTemplate: app.URL + "/eventhandler/{HUB}/{Event}?code=1",
		SystemEvents: []string{"connect", "connected", "disconnected"}, UserEventPattern: "*"})
	c := s.newConnection("0f9c97a2f0bf4706afe87a14e0797b11", "ddd")
	c.Subprotocol = "protocol1"
	_, err := c.Connect(t.Context(), nil, nil, func() *hub.ConnectRequest {
		return &hub.ConnectRequest{
			Claims: map[string][]string{"sub": {"ddd"}, "exp": {"1629186974"},
				"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier": {"ddd"}},
			Query: map[string][]string{"query1": {"a1", "a2"}, "Access_Token": {"secret"}},
			Header: map[string][]string{"Request-Id": {"aaa"}, "Cookie": {"client=1"}, "Authorization": {"Bearer secret"},
				"X-Asrs-Internal-Trace": {"x"}},
			Subprotocols: []string{"protocol1", "protocol2"},
		}
	})
	require.NoError(t, err)
	c.Hub.Add(c, nil, func() {})
	for _, p := range []hub.Payload{
		{Type: hub.DataText, Data: []byte("你好"), Metadata: map[string]string{"Trace": "first", "trace": "last"}},
		{Type: hub.DataJSON, Data: []byte(`{"hello": "world"}`)},
		{Type: hub.DataBinary, Data: []byte{0, 255, 1}},
		{Type: hub.DataProtobuf, Data: []byte("\n\x03abc")},
	} {
		_, err := raise(t, c, "message", p)
		require.NoError(t, err)
	}
	c.End("{Reason}")

	files, err := filepath.Glob("testdata/*.http")
	require.NoError(t, err)
	require.Len(t, files, 9)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			want, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
			require.NoError(t, err)
			body, err := io.ReadAll(want.Body)
			require.NoError(t, err)
			got := within(t, requests)
			require.Equal(t, want.Method, got.method)
			require.Equal(t, want.RequestURI, got.uri)
			if filepath.Base(file) == "03-connect.http" {
				require.JSONEq(t, string(body), got.body)
				want.Header.Del("Content-Length") // the JSON is compared by value, so its length may differ
				got.header.Del("Content-Length")
			} else {
				require.Equal(t, string(body), got.body)
			}
			for name, pattern := range map[string]string{
				"Ce-Time":                `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`,
				"X-Ms-Client-Request-Id": `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`,
			} {
				if want.Header.Get(name) == "*" {
					require.Regexp(t, pattern, got.header.Get(name))
					got.header.Set(name, "*")
				}
			}
			require.Equal(t, want.Header, got.header)
		})
	}
	require.Empty(t, requests)
}
