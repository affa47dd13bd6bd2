package emulator_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
)

// tryDial connects a client. If the handshake fails, tryDial returns the response with the error. It may be called in any
// goroutine.
func tryDial(t *testing.T, url string, subprotocols ...string) (*http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: subprotocols})
	if err == nil {
		t.Cleanup(func() { ws.CloseNow() })
	}
	return resp, err
}

// eventLog records the events that a handler receives.
type eventLog struct {
	mu    sync.Mutex
	lines []string
	added chan struct{}
}

func newEventLog() *eventLog { return &eventLog{added: make(chan struct{}, 10_000)} }

func (l *eventLog) add(format string, args ...any) {
	l.mu.Lock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
	l.mu.Unlock()
	l.added <- struct{}{}
}

// wait waits for n lines and returns all lines.
func (l *eventLog) wait(t *testing.T, n int) []string {
	t.Helper()
	for {
		l.mu.Lock()
		lines := slices.Clone(l.lines)
		l.mu.Unlock()
		if len(lines) >= n {
			return lines
		}
		select {
		case <-l.added:
		case <-time.After(patience):
			t.Fatalf("the handler received only %q", lines)
		}
	}
}

var allEvents = []string{"connect", "connected", "disconnected"}

// way is how events reach a handler.
type way int

const (
	inProcess way = iota
	overHTTP
	throughTunnel
)

// listen sets a handler for all events of the hub chat.
func listen(t *testing.T, s *emulator.Server, handler http.Handler, by way) {
	t.Helper()
	e := emulator.EventHandler{SystemEvents: allEvents, UserEventPattern: "*"}
	switch by {
	case inProcess:
		e.Handler = handler
	case overHTTP:
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		e.URLTemplate = server.URL + "/eventhandler/{hub}/{event}"
	case throughTunnel:
		e.URLTemplate = "tunnel:///eventhandler/{hub}/{event}"
		serveTunnel(t, s, handler)
	}
	require.NoError(t, s.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{e}}))
}

// inEachWay runs a test once for each way that events reach a handler.
func inEachWay(t *testing.T, test func(t *testing.T, by way)) {
	t.Run("in process", func(t *testing.T) { test(t, inProcess) })
	t.Run("over HTTP", func(t *testing.T) { test(t, overHTTP) })
	t.Run("through the tunnel", func(t *testing.T) { test(t, throughTunnel) })
}

func TestTheEventHandlerReceivesAllEventsOfAClient(t *testing.T) {
	inEachWay(t, func(t *testing.T, by way) {
		log := newEventLog()
		record := func(e *eventhandler.Event, more string) {
			log.add("%s %s %s user=%s subprotocol=%s state=%s %s", e.EventID, e.Hub, e.EventName, e.UserID, e.Subprotocol, string(e.State["n"]), more)
		}
		s := emulator.StartT(t, nil)
		handler, err := eventhandler.New(&eventhandler.Options{
			Hub: "chat", ConnectionStrings: []string{s.ConnectionString()}, AllowedOrigins: []string{"127.0.0.1"},
			OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
				record(&r.Event, fmt.Sprintf("sub=%v query=%v agent=%s offers=%v", r.Claims["sub"], r.Query, r.Header.Get("X-Agent"), r.Subprotocols))
				return &eventhandler.ConnectResponse{UserID: "Ann", Groups: []string{"lobby"},
					Roles: []string{webpubsub.RoleSendToGroup("lobby")}, SetState: map[string]any{"n": 1}}, nil
			},
			OnConnected: func(_ context.Context, r *eventhandler.ConnectedRequest) error { record(&r.Event, ""); return nil },
			OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
				record(&r.Event, r.ContentType+" "+r.Text()+" "+r.Metadata["trace"])
				n := 0
				if _, err := r.State.Get("n", &n); err != nil {
					return nil, err
				}
				return &eventhandler.UserEventResponse{Message: webpubsub.JSON(map[string]int{"n": n}),
					Metadata: map[string]string{"from": "handler"}, SetState: map[string]any{"n": n + 1}}, nil
			},
			OnDisconnected: func(_ context.Context, r *eventhandler.DisconnectedRequest) error {
				record(&r.Event, r.Reason)
				return nil
			},
		})
		require.NoError(t, err)
		listen(t, s, handler, by)

		c := dial(t, s, dialOptions{user: "ann", query: "&room=1&room=2&list=a;b&&rest=5%", subprotocols: []string{"x", protocolJSON}})
		require.Contains(t, c.text(), `"userId":"Ann"`)
		c.write(`{"type":"event","event":"order","ackId":1,"dataType":"json","data":{"a":1},"metadata":{"trace":"t"}}`)
		require.JSONEq(t, `{"type":"message","from":"server","dataType":"json","data":{"n":1},"metadata":{"from":"handler"}}`, c.text())
		require.JSONEq(t, `{"type":"ack","ackId":1,"success":true}`, c.text())
		c.write(`{"type":"event","event":"Order","dataType":"text","data":"hi"}`)
		require.Contains(t, c.text(), `{"n":2}`)
		c.write(`{"type":"sendToGroup","group":"lobby","dataType":"text","data":"to all"}`) // with the role and group from the response to connect
		require.Contains(t, c.text(), `"data":"to all"`)
		require.NoError(t, c.ws.Close(websocket.StatusNormalClosure, ""))

		lines := log.wait(t, 5)
		require.Equal(t, []string{
			"0 chat connect user=ann subprotocol= state= sub=[ann] query=map[list:[a;b] rest:[5%] room:[1 2]] agent= offers=[x json.webpubsub.azure.v1]",
			"1 chat connected user=Ann subprotocol=json.webpubsub.azure.v1 state=1 ",
			`2 chat order user=Ann subprotocol=json.webpubsub.azure.v1 state=1 application/json {"a":1} t`,
			"3 chat Order user=Ann subprotocol=json.webpubsub.azure.v1 state=2 text/plain hi ",
		}, lines[:4])
		require.True(t, strings.HasPrefix(lines[4], "4 chat disconnected user=Ann subprotocol=json.webpubsub.azure.v1 state=3 "), lines[4])
	})
}

func TestEventsOfProtobufClients(t *testing.T) {
	inEachWay(t, func(t *testing.T, by way) {
		s := emulator.StartT(t, nil)
		handler, err := eventhandler.New(&eventhandler.Options{Hub: "chat", ConnectionStrings: []string{s.ConnectionString()},
			OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
				return &eventhandler.UserEventResponse{Message: webpubsub.Text(fmt.Sprintf("%s %s: %x", r.Subprotocol, r.ContentType, r.Data))}, nil
			},
		})
		require.NoError(t, err)
		listen(t, s, handler, by)
		c := dialProtobuf(t, s, dialOptions{user: "ann"})
		for data, want := range map[string]string{
			`{"binaryData":"AP8="}`: "application/octet-stream: 00ff",
			`{"textData":"hi"}`:     "text/plain: 6869",
			`{"protobufData":{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"hello"}}`: "application/x-protobuf: " +
				"0a2f747970652e676f6f676c65617069732e636f6d2f676f6f676c652e70726f746f6275662e537472696e6756616c756512070a0568656c6c6f",
		} {
			c.writeProtobuf(`{"eventMessage":{"event":"order","data":` + data + `}}`)
			requireProtobuf(t, `{"dataMessage":{"from":"server","data":{"textData":"protobuf.webpubsub.azure.v1 `+want+`"}}}`, c.readProtobuf())
		}
	})
}

func TestEventsOfRawClients(t *testing.T) {
	inEachWay(t, func(t *testing.T, by way) {
		s := emulator.StartT(t, nil)
		handler, err := eventhandler.New(&eventhandler.Options{
			Hub: "chat", AccessKeys: []string{s.AccessKey()},
			OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
				return &eventhandler.ConnectResponse{Subprotocol: "my.protocol"}, nil
			},
			OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
				switch {
				case r.EventName != "message" || r.Subprotocol != "my.protocol":
					return nil, fmt.Errorf("event %s of a client of %s", r.EventName, r.Subprotocol)
				case r.ContentType == eventhandler.ContentTypeBinary:
					return &eventhandler.UserEventResponse{Message: webpubsub.Binary(r.Data)}, nil
				case r.Text() == "quiet":
					return nil, nil
				case r.Text() == "bad":
					return nil, eventhandler.Reject(http.StatusBadRequest, "I do not like it")
				}
				return &eventhandler.UserEventResponse{Message: webpubsub.Text("you said " + r.Text())}, nil
			},
		})
		require.NoError(t, err)
		listen(t, s, handler, by)

		c := dial(t, s, dialOptions{subprotocols: []string{protocolJSON, "my.protocol"}})
		require.Equal(t, "my.protocol", c.ws.Subprotocol(), "the handler's choice takes precedence over a protocol of the service")
		c.write("quiet")
		c.write("héllo")
		require.Equal(t, "you said héllo", c.text())
		require.NoError(t, c.ws.Write(t.Context(), websocket.MessageBinary, []byte{0, 255}))
		_, data := c.read()
		require.Equal(t, "\x00\xff", data)
		c.write("bad")
		closed, _ := c.closed()
		require.Equal(t, websocket.StatusInternalError, closed.Code)
		require.Equal(t, "Internal server error", closed.Reason, "the client does not receive the application's text")
	})
}

func TestARejectionReachesTheHandshake(t *testing.T) {
	inEachWay(t, func(t *testing.T, by way) {
		s := emulator.StartT(t, nil)
		var reject error
		handler, err := eventhandler.New(&eventhandler.Options{
			Hub: "chat", AccessKeys: []string{s.AccessKey()},
			OnConnect: func(context.Context, *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
				return nil, reject
			},
		})
		require.NoError(t, err)
		listen(t, s, handler, by)
		for _, status := range []int{400, 401, 403, 404, 429} {
			reject = eventhandler.Reject(status, "you may not")
			resp, err := tryDial(t, dialOptions{user: "ann"}.url(t, s), protocolJSON)
			require.Error(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, status, resp.StatusCode)
			require.Equal(t, "you may not", string(body), "the client receives the application's response")
			require.Equal(t, "text/plain; charset=utf-8", resp.Header.Get("Content-Type"))
		}
	})
}

func TestTheSecondaryKey(t *testing.T) {
	s := emulator.StartT(t, &emulator.Options{AccessKey: "one", SecondaryAccessKey: "two"})
	connectionString, err := webpubsub.ParseConnectionString(s.SecondaryConnectionString())
	require.NoError(t, err)
	require.Equal(t, "two", connectionString.AccessKey)
	for key, ok := range map[string]bool{"one": true, "two": true, "three": false} {
		handler, err := eventhandler.New(&eventhandler.Options{Hub: "chat", AccessKeys: []string{key}})
		require.NoError(t, err)
		listen(t, s, handler, overHTTP)
		resp, err := tryDial(t, dialOptions{user: "ann"}.url(t, s))
		if ok {
			require.NoError(t, err)
			continue
		}
		require.Error(t, err)
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	}

	client, err := webpubsub.NewClientFromConnectionString(s.SecondaryConnectionString(), "chat", nil)
	require.NoError(t, err)
	require.NoError(t, client.SendToAll(t.Context(), webpubsub.Text("x"), nil), "the server accepts tokens of both keys")
}

// scripted is a handler that accepts the validation and passes events to answer.
type scripted struct {
	log    *eventLog
	answer func(w http.ResponseWriter, r *http.Request, try int)

	mu    sync.Mutex
	tries map[string]int
}

func (h *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		return
	}
	h.answer(w, r, h.try(r.Header.Get("ce-id")))
	h.log.add("%s %s", r.Header.Get("ce-id"), r.Header.Get("ce-time"))
}

// try counts the tries of an event.
func (h *scripted) try(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tries == nil {
		h.tries = map[string]int{}
	}
	h.tries[id]++
	return h.tries[id]
}

func TestEventsAreRetried(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		tries  int
		status int // of the handshake
	}{
		"after 500":              {func(w http.ResponseWriter) { w.WriteHeader(500) }, 4, 500},
		"after 503":              {func(w http.ResponseWriter) { w.WriteHeader(503) }, 4, 503},
		"after 408":              {func(w http.ResponseWriter) { w.WriteHeader(408) }, 4, 408},
		"after a cut connection": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 4, 500},
		"not after 400":          {func(w http.ResponseWriter) { w.WriteHeader(400) }, 1, 400},
		"not after 429":          {func(w http.ResponseWriter) { w.WriteHeader(429) }, 1, 429},
		"not after a redirect":   {func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(302) }, 1, 302},
	} {
		t.Run(name, func(t *testing.T) {
			inEachWay(t, func(t *testing.T, by way) {
				s := emulator.StartT(t, nil)
				log := newEventLog()
				listen(t, s, &scripted{log: log, answer: func(w http.ResponseWriter, r *http.Request, _ int) {
					log.add("%s %s", r.Header.Get("ce-id"), r.Header.Get("ce-time"))
					test.answer(w)
				}}, by)
				refused := make(chan int, 1)
				url := dialOptions{user: "ann"}.url(t, s)
				go func() {
					resp, err := tryDial(t, url)
					if err == nil || resp == nil {
						refused <- 0
						return
					}
					refused <- resp.StatusCode
				}()
				require.Equal(t, test.status, advanceUntil(s, refused))
				lines := log.wait(t, test.tries)
				events := slices.Compact(lines)
				require.Len(t, events, 1, "all attempts have the same id and time")
			})
		})
	}
}

// advanceUntil advances the server's clock until it receives from arrived.
func advanceUntil[T any](s *emulator.Server, arrived <-chan T) T {
	for {
		select {
		case v := <-arrived:
			return v
		case <-time.After(time.Millisecond):
			s.Advance(500 * time.Millisecond)
		}
	}
}

func TestEventsAreRetriedAfter1And3And5Seconds(t *testing.T) {
	s := emulator.StartT(t, nil)
	tried := make(chan time.Time)
	listen(t, s, &scripted{log: newEventLog(), answer: func(w http.ResponseWriter, _ *http.Request, _ int) {
		tried <- s.Now()
		w.WriteHeader(500)
	}}, inProcess)
	done := make(chan struct{})
	url := dialOptions{user: "ann"}.url(t, s)
	go func() {
		defer close(done)
		_, _ = tryDial(t, url)
	}()
	last := <-tried
	for _, wait := range []time.Duration{time.Second, 3 * time.Second, 5 * time.Second} {
		require.NoError(t, s.WaitForDelayed(t.Context(), 1))
		s.Advance(wait)
		next := <-tried
		require.GreaterOrEqual(t, next.Sub(last), wait)
		last = next
	}
	<-done // without advancing the clock: there is no fourth retry
}

func TestAnEventThatSucceedsAfterRetriesIsDelivered(t *testing.T) {
	s := emulator.StartT(t, nil)
	listen(t, s, &scripted{log: newEventLog(), answer: func(w http.ResponseWriter, r *http.Request, try int) {
		if r.Header.Get("ce-eventName") == "message" && try < 4 {
			w.WriteHeader(503)
			return
		}
		if r.Header.Get("ce-eventName") == "message" {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprintf(w, "%s at try %d", body, try)
		}
	}}, overHTTP)
	c := dial(t, s, dialOptions{user: "ann"})
	c.write("hello")
	for range 3 {
		require.NoError(t, s.WaitForDelayed(t.Context(), 1))
		s.Advance(5 * time.Second)
	}
	require.Equal(t, "hello at try 4", c.text())
}

func TestAReliableClientConnectsAndDisconnectsOnce(t *testing.T) {
	s := emulator.StartT(t, nil)
	log := newEventLog()
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub: "chat", AccessKeys: []string{s.AccessKey()},
		OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			log.add("%s %s", r.EventID, r.EventName)
			return &eventhandler.ConnectResponse{SetState: map[string]any{"kept": true}}, nil
		},
		OnConnected: func(_ context.Context, r *eventhandler.ConnectedRequest) error {
			log.add("%s %s", r.EventID, r.EventName)
			return nil
		},
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			log.add("%s %s %s", r.EventID, r.EventName, r.State["kept"])
			return nil, nil
		},
		OnDisconnected: func(_ context.Context, r *eventhandler.DisconnectedRequest) error {
			log.add("%s %s", r.EventID, r.EventName)
			return nil
		},
	})
	require.NoError(t, err)
	listen(t, s, handler, inProcess)

	c := dialReliable(t, s, dialOptions{})
	c.cut()
	c.comeBack()
	c.write(`{"type":"event","event":"back","dataType":"text","data":"x"}`)
	log.wait(t, 3)
	c.cut()
	s.Advance(time.Minute)
	require.Equal(t, []string{"0 connect", "1 connected", "2 back true", "3 disconnected"}, log.wait(t, 4))
}

func TestClosingTheServerEndsRetries(t *testing.T) {
	s := emulator.StartT(t, nil)
	log := newEventLog()
	listen(t, s, &scripted{log: log, answer: func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.Header.Get("ce-eventName") == "connected" {
			w.WriteHeader(500)
		}
	}}, overHTTP)
	dial(t, s, dialOptions{user: "ann"})
	log.wait(t, 2)
	require.NoError(t, s.Close()) // does not wait for the retry after a second
	require.Len(t, log.wait(t, 3), 3, "connect, connected once, disconnected")
}

func TestClosingTheServerClosesItsConnectionsToHandlers(t *testing.T) {
	open := make(map[net.Conn]bool)
	changed := make(chan int, 100)
	var mu sync.Mutex
	handler := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
	}))
	handler.Config.ConnState = func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if open[c] = true; state == http.StateClosed {
			delete(open, c)
		}
		changed <- len(open)
	}
	handler.Start()
	defer handler.Close()
	s := emulator.StartT(t, &emulator.Options{Hubs: map[string]emulator.HubSettings{"chat": {EventHandlers: []emulator.EventHandler{
		{URLTemplate: handler.URL, SystemEvents: allEvents}}}}})
	dialJSON(t, s, dialOptions{user: "ann"})
	require.Equal(t, 1, <-changed)
	require.NoError(t, s.Close())
	for n := 1; n > 0; {
		select {
		case n = <-changed:
		case <-time.After(patience):
			t.Fatalf("%d connections to the event handler are still open", n)
		}
	}
}

func TestClosingTheServerTellsTheApplicationWhileItIsStillServed(t *testing.T) {
	inEachWay(t, func(t *testing.T, by way) {
		s := emulator.StartT(t, nil)
		log := newEventLog()
		handler, err := eventhandler.New(&eventhandler.Options{
			Hub: "chat", ConnectionStrings: []string{s.ConnectionString()},
			OnDisconnected: func(ctx context.Context, r *eventhandler.DisconnectedRequest) error {
				client, err := webpubsub.NewClientFromConnectionString(s.ConnectionString(), "chat", nil)
				if err != nil {
					return err
				}
				here, err := client.UserExists(ctx, r.UserID, nil)
				log.add("%s: %s, still here: %t, %v", r.UserID, r.Reason, here, err)
				return err
			},
		})
		require.NoError(t, err)
		listen(t, s, handler, by)
		dialJSON(t, s, dialOptions{user: "ann"})
		dialReliable(t, s, dialOptions{user: "ben"}).cut()
		require.NoError(t, s.WaitForRecovering(t.Context(), "chat", 1))
		require.NoError(t, s.Close())
		require.ElementsMatch(t, []string{"ann: " + closeReason + ", still here: false, <nil>",
			"ben: " + closeReason + ", still here: false, <nil>"}, log.wait(t, 2))
	})
}

func TestAHandlerInProcessThatPanicsOrExits(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer other.Close()
	to, err := url.Parse(other.URL)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	for name, end := range map[string]http.HandlerFunc{
		"by runtime.Goexit, like t.Fatal": func(http.ResponseWriter, *http.Request) { runtime.Goexit() },
		"by a panic":                      func(http.ResponseWriter, *http.Request) { panic("a secret of the application") },
		"by http.ErrAbortHandler":         func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"by an invalid status":            func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(0) },
		"by a short body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "2")
			io.WriteString(w, "x")
		},
		"as a proxy of a cut response": proxy.ServeHTTP,
	} {
		t.Run(name, func(t *testing.T) {
			var logged syncBuffer
			handler := &scripted{log: newEventLog(), answer: func(w http.ResponseWriter, r *http.Request, _ int) {
				if r.Header.Get("ce-eventName") == "x" {
					end(w, r)
				}
			}}
			s := emulator.StartT(t, &emulator.Options{
				Logger: slog.New(slog.NewTextHandler(&logged, nil)),
				Hubs:   map[string]emulator.HubSettings{"chat": {EventHandlers: []emulator.EventHandler{{Handler: handler, UserEventPattern: "*"}}}},
			})
			c := dialJSON(t, s, dialOptions{user: "ann"})
			c.write(`{"type":"event","event":"x","dataType":"text","data":"x","ackId":1}`)
			answer := make(chan string, 1)
			go func() {
				_, data, err := c.ws.Read(t.Context())
				answer <- fmt.Sprint(string(data), err)
			}()
			data := advanceUntil(s, answer)
			require.Contains(t, data, `"message":"Internal server error"`)
			require.NotContains(t, data, "a secret")
			require.Contains(t, logged.String(), "the event handler ended without a response")
			require.Equal(t, name == "by a panic", strings.Contains(logged.String(), "a secret of the application"))
			c.write(`{"type":"event","event":"y","dataType":"text","data":"y","ackId":2}`)
			require.Contains(t, c.text(), `"success":true`, "the next event is delivered")
		})
	}
}

// syncBuffer is a buffer that is safe for concurrent use.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestClosingTheServerDoesNotWaitForAHandlerInProcessThatIgnoresItsContext(t *testing.T) {
	for _, event := range []string{"x", "connected"} {
		t.Run(event, func(t *testing.T) {
			called, release, returned := make(chan bool, 1), make(chan bool), make(chan bool)
			s := emulator.StartT(t, nil)
			listen(t, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WebHook-Allowed-Origin", "*")
				if r.Header.Get("ce-eventName") == event {
					defer close(returned)
					called <- true
					<-release
					w.Header().Set("X", "written too late")
					io.WriteString(w, "late")
				}
			}), inProcess)
			c := dialJSON(t, s, dialOptions{user: "ann"})
			c.write(`{"type":"event","event":"x","dataType":"text","data":"x"}`)
			<-called
			require.NoError(t, s.Close())
			close(release)
			<-returned
		})
	}
}

// What a handler has left to a goroutine fails like over the network: the context has ended, and the body is closed.
func TestARequestEndsWithItsHandler(t *testing.T) {
	inEachWay(t, func(t *testing.T, by way) {
		s := emulator.StartT(t, nil)
		requests := make(chan *http.Request, 1)
		listen(t, s, &scripted{log: newEventLog(), answer: func(w http.ResponseWriter, r *http.Request, try int) {
			if r.Header.Get("ce-eventName") == "x" {
				requests <- r
				w.WriteHeader(http.StatusServiceUnavailable) // the event waits for its retry
			}
		}}, by)
		dialJSON(t, s, dialOptions{}).write(`{"type":"event","event":"x","dataType":"text","data":"x"}`)
		require.NoError(t, s.WaitForDelayed(t.Context(), 1))
		r := <-requests
		select {
		case <-r.Context().Done():
		case <-time.After(patience):
			require.Fail(t, "the context of a request must end with its handler")
		}
		if by != throughTunnel { // package tunnel is the server there, and keeps the body
			_, err := r.Body.Read(make([]byte, 1))
			require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
		}
	})
}

func TestAHandlerInProcessRespondsLikeOneOverTheNetwork(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   string // part of the acknowledgement, or of the message before it
	}{
		"text without a content type": {func(w http.ResponseWriter) { io.WriteString(w, "plain text") }, `"data":"plain text"`},
		"text that is flushed": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/plain")
			io.WriteString(w, "flushed ")
			w.(http.Flusher).Flush()
			io.WriteString(w, "text")
		}, `"data":"flushed text"`},
		"text without a content type that is flushed": {func(w http.ResponseWriter) {
			w.(http.Flusher).Flush()
			io.WriteString(w, "text")
		}, `"dataType":"binary","data":"dGV4dA=="`},
		"a page without a content type": {func(w http.ResponseWriter) { io.WriteString(w, "<html>") }, `"message":"Internal server error"`},
		"a body after 204": {func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusNoContent)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		}, `"success":true`},
		"metadata with spaces around it": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header()["X-WebPubSub-Metadata-a"] = []string{" b "}
			io.WriteString(w, "x")
		}, `"metadata":{"a":"b"}`},
		"metadata of two lines": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header()["X-WebPubSub-Metadata-a"] = []string{"b\r\nc"}
			io.WriteString(w, "x")
		}, `"metadata":{"a":"b  c"}`},
		"a header whose name HTTP does not allow": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header()["X-WebPubSub-Metadata-a b"] = []string{"c"}
			io.WriteString(w, "x")
		}, `"data":"x"`},
	} {
		t.Run(name, func(t *testing.T) {
			inEachWay(t, func(t *testing.T, by way) {
				s := emulator.StartT(t, nil)
				listen(t, s, &scripted{log: newEventLog(), answer: func(w http.ResponseWriter, r *http.Request, _ int) {
					if r.Header.Get("ce-eventName") == "x" {
						test.answer(w)
					}
				}}, by)
				c := dialJSON(t, s, dialOptions{user: "ann"})
				require.Contains(t, c.ask(`{"type":"event","event":"x","dataType":"text","data":"x","ackId":1}`), test.want)
			})
		})
	}
}

func TestAResponseOverTheLimitIsNotRetried(t *testing.T) {
	s := emulator.StartT(t, nil)
	log := newEventLog()
	listen(t, s, &scripted{log: log, answer: func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.Header.Get("ce-eventName") == "x" {
			w.Write(make([]byte, maxAnswerSize+1))
		}
	}}, inProcess)
	c := dialJSON(t, s, dialOptions{user: "ann"})
	require.Contains(t, c.ask(`{"type":"event","event":"x","dataType":"text","data":"x","ackId":1}`), `"message":"Internal server error"`)
	require.Len(t, log.wait(t, 3), 3, "connect, connected and x")
	require.Contains(t, s.Events()[2].Error, "longer than 16777216 bytes")
}

// A validation that fails is repeated for nine seconds. The log explains the wait from the beginning.
func TestAFailedValidationIsLoggedBeforeItIsRepeated(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS() // with a certificate that the emulator does not trust
	t.Cleanup(server.Close)
	logger, lines := logged()
	s := emulator.StartT(t, &emulator.Options{Logger: logger})
	require.NoError(t, s.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{URLTemplate: server.URL, UserEventPattern: "*"}}}))
	dialJSON(t, s, dialOptions{}).write(`{"type":"event","event":"e","data":1}`)
	require.NoError(t, s.WaitForDelayed(t.Context(), 1))
	require.Contains(t, lines(), "the validation of an event handler failed")
	require.Contains(t, lines(), "failed to verify certificate")
	require.Contains(t, lines(), "retry in 1s")
}

func TestValidation(t *testing.T) {
	type request struct{ method, path, origin, version string }
	for name, test := range map[string]struct {
		answer   func(w http.ResponseWriter, r *http.Request)
		asked    []string // methods
		status   int      // of the handshake; 101 = accepted
		validate bool
	}{
		"any origin is allowed": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("WebHook-Allowed-Origin", "*") }, []string{"OPTIONS"}, 101, true},
		"this origin is allowed": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WebHook-Allowed-Origin", r.Header.Get("WebHook-Request-Origin"))
		}, []string{"OPTIONS"}, 101, true},
		"this host is allowed": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("WebHook-Allowed-Origin", "127.0.0.1") }, []string{"OPTIONS"}, 101, true},
		"a list in one header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WebHook-Allowed-Origin", "a.example, 127.0.0.1")
		}, []string{"OPTIONS"}, 500, false},
		"a suffix of the host": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("WebHook-Allowed-Origin", "7.0.0.1") }, []string{"OPTIONS"}, 500, false},
		"one of several headers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Webhook-Allowed-Origin"] = []string{"a.example", "127.0.0.1"}
		}, []string{"OPTIONS"}, 101, true},
		"by GET, because OPTIONS is a 404": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WebHook-Allowed-Origin", "*")
			if r.Method == "OPTIONS" {
				w.WriteHeader(404)
			}
		}, []string{"OPTIONS", "GET"}, 101, true},
		"another origin is allowed": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("WebHook-Allowed-Origin", "a.example") }, []string{"OPTIONS"}, 500, false},
		"no origin is allowed":      {func(http.ResponseWriter, *http.Request) {}, []string{"OPTIONS"}, 500, false},
		"a status that rejects": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WebHook-Allowed-Origin", "*")
			w.WriteHeader(405)
		}, []string{"OPTIONS"}, 500, false},
		"neither by OPTIONS nor by GET": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, []string{"OPTIONS", "GET"}, 500, false},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var asked []request
			events := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if r.Method == http.MethodPost {
					events++
					return
				}
				asked = append(asked, request{r.Method, r.URL.Path, r.Header.Get("WebHook-Request-Origin"), r.Header.Get("ce-awpsversion")})
				test.answer(w, r)
			}))
			t.Cleanup(server.Close)
			s := emulator.StartT(t, &emulator.Options{Hubs: map[string]emulator.HubSettings{"chat": {EventHandlers: []emulator.EventHandler{
				{URLTemplate: server.URL + "/{hub}/on/{event}", SystemEvents: []string{"Connect"}}}}}})

			resp, err := tryDial(t, dialOptions{user: "ann"}.url(t, s))
			if test.validate {
				require.NoError(t, err)
			}
			require.Equal(t, test.status, resp.StatusCode)
			want := []request{}
			for _, method := range test.asked {
				want = append(want, request{method, "/chat/on/validate", "127.0.0.1", "1.0"})
			}
			require.Equal(t, want, asked)
			resp, _ = tryDial(t, dialOptions{user: "ann"}.url(t, s))
			require.Equal(t, test.status, resp.StatusCode)
			require.Equal(t, want, asked, "the result of the validation is cached")
			require.Equal(t, map[bool]int{true: 2}[test.validate], events, "a handler that fails the validation receives no events")
		})
	}
}

func TestTheFirstMatchingHandlerReceivesAnEvent(t *testing.T) {
	log := newEventLog()
	named := func(name string, system []string, pattern string) emulator.EventHandler {
		return emulator.EventHandler{SystemEvents: system, UserEventPattern: pattern, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WebHook-Allowed-Origin", "*")
			if r.Method == http.MethodPost {
				log.add("%s: %s %s at %s", name, r.Header.Get("ce-id"), r.Header.Get("ce-eventName"), r.URL.EscapedPath())
			}
		})}
	}
	s := emulator.StartT(t, &emulator.Options{Hubs: map[string]emulator.HubSettings{
		"other": {EventHandlers: []emulator.EventHandler{named("other hub", allEvents, "*")}},
		"CHAT": {EventHandlers: []emulator.EventHandler{
			named("A", []string{"CONNECTED"}, "order, Pay.Now"),
			named("B", nil, "message,PAY.NOW"),
			named("C", []string{"connected", "Disconnected"}, " * "),
		}},
	}})
	c := dial(t, s, dialOptions{user: "ann", subprotocols: []string{protocolJSON}})
	for i, event := range []string{"pay.now", "Message", "else", "ORDER"} {
		c.write(fmt.Sprintf(`{"type":"event","event":%q,"dataType":"text","data":"x","ackId":%d}`, event, i))
	}
	log.wait(t, 5)
	require.NoError(t, c.ws.CloseNow())
	require.Equal(t, []string{
		"A: 1 connected at /eventhandler/connected",
		"A: 2 pay.now at /eventhandler/pay.now",
		"B: 3 Message at /eventhandler/Message",
		"C: 4 else at /eventhandler/else",
		"A: 5 ORDER at /eventhandler/ORDER",
		"C: 6 disconnected at /eventhandler/disconnected",
	}, log.wait(t, 6))
}

func TestAUserEventWithoutAHandlerFails(t *testing.T) {
	s := emulator.StartT(t, &emulator.Options{Hubs: map[string]emulator.HubSettings{"chat": {EventHandlers: []emulator.EventHandler{
		{Handler: http.NotFoundHandler(), UserEventPattern: "order"}}}}})
	c := dial(t, s, dialOptions{user: "ann", subprotocols: []string{protocolJSON}})
	c.text()
	c.write(`{"type":"event","event":"pay","dataType":"text","data":"x","ackId":1}`)
	require.Contains(t, c.text(), `"success":false,"error":{"name":"InternalServerError"`)

	raw := dial(t, s, dialOptions{user: "ann"})
	raw.write("x")
	closed, _ := raw.closed()
	require.Equal(t, websocket.StatusInternalError, closed.Code)
}

func TestInvalidResponsesFailTheEvent(t *testing.T) {
	for name, test := range map[string]struct {
		contentType, body, fault string
		header                   http.Header
	}{
		"a web page":                {"text/html", "<p>", "content type", nil},
		"invalid JSON":              {"application/json", "{", "not valid JSON", nil},
		"JSON that is not UTF-8":    {"application/json", "\"\xff\"", "not valid UTF-8", nil},
		"invalid protobuf":          {"application/x-protobuf", "\xff", "not valid google.protobuf.Any", nil},
		"text that is not UTF-8":    {"text/plain", "\xff", "not valid UTF-8", nil},
		"a body over the limit":     {"text/plain", strings.Repeat("x", maxAnswerSize+1), "longer than", nil},
		"two states":                {"text/plain", "x", "2 ce-connectionState headers", http.Header{"Ce-Connectionstate": {"a", "b"}}},
		"non-ASCII metadata":        {"text/plain", "x", "ASCII", http.Header{"X-Webpubsub-Metadata-A": {"ü"}}},
		"metadata that is too long": {"text/plain", "x", "longer than", http.Header{"X-Webpubsub-Metadata-A": {strings.Repeat("x", 1025)}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := emulator.StartT(t, nil)
			states := newEventLog()
			listen(t, s, &scripted{log: newEventLog(), answer: func(w http.ResponseWriter, r *http.Request, _ int) {
				states.add("%q", r.Header.Get("ce-connectionState"))
				if !strings.Contains(r.Header.Get("ce-type"), ".user.") {
					return
				}
				maps.Copy(w.Header(), test.header)
				w.Header()["Content-Type"] = []string{test.contentType}
				if len(test.header["Ce-Connectionstate"]) == 0 {
					w.Header().Set("ce-connectionState", "e30=")
				}
				io.WriteString(w, test.body)
			}}, overHTTP)
			c := dial(t, s, dialOptions{user: "ann", subprotocols: []string{protocolJSON}})
			c.text()
			c.write(`{"type":"event","event":"x","dataType":"text","data":"x","ackId":1}`)
			answer := make(chan string, 1)
			go func() {
				_, data, err := c.ws.Read(t.Context())
				answer <- fmt.Sprint(string(data), err)
			}()
			var ack struct {
				Success bool
				Error   struct{ Name, Message string }
			}
			data := advanceUntil(s, answer)
			require.NoError(t, json.Unmarshal([]byte(strings.TrimSuffix(data, "<nil>")), &ack), data)
			require.False(t, ack.Success)
			require.Equal(t, "InternalServerError", ack.Error.Name)
			require.Equal(t, "Internal server error", ack.Error.Message)
			require.Contains(t, s.Events()[2].Error, test.fault)
			c.write(`{"type":"event","event":"y","dataType":"text","data":"x","ackId":2}`)
			require.NoError(t, s.WaitForEvents(t.Context(), "chat", "y", 1))
			require.Equal(t, `""`, states.wait(t, 4)[3], "the state in an invalid response is ignored")
		})
	}
}

func TestInvalidResponsesToConnectRejectTheClient(t *testing.T) {
	for name, body := range map[string]string{
		"not JSON":                        `hello`,
		"JSON of another shape":           `{"groups":"g"}`,
		"a subprotocol nobody offers":     `{"subprotocol":"other"}`,
		"only white space":                ` `,
		"text that is not UTF-8":          "{\"userId\":\"\xff\"}",
		"a user with a line break":        `{"userId":"a\nb"}`,
		"a user with leading white space": `{"userId":" admin"}`,
		"a null group":                    `{"groups":[null]}`,
		"a null role":                     `{"roles":["webpubsub.sendToGroup",null]}`,
		"an empty role":                   `{"roles":[""]}`,
		"a group without a name":          `{"groups":[""]}`,
		"a user with a control character": `{"userId":"a\tb"}`,
		"a user named ..":                 `{"userId":".."}`,
		"a group with a name too long":    `{"groups":["` + strings.Repeat("g", 1025) + `"]}`,
		"a blank group":                   `{"groups":[" "]}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := emulator.StartT(t, nil)
			listen(t, s, &scripted{log: newEventLog(), answer: func(w http.ResponseWriter, _ *http.Request, _ int) {
				io.WriteString(w, body)
			}}, inProcess)
			resp, err := tryDial(t, dialOptions{user: "ann"}.url(t, s), "mine")
			require.Error(t, err)
			require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
		})
	}
}

func TestEventsOnTheWire(t *testing.T) {
	type sent struct {
		header http.Header
		uri    string
		body   string
	}
	requests := make(chan sent, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodPost {
			requests <- sent{r.Header, r.RequestURI, string(body)}
		}
		if r.Header.Get("ce-eventName") == "connect" {
			w.Header().Set("ce-connectionState", "any text")
		}
	}))
	t.Cleanup(server.Close)
	s := emulator.StartT(t, &emulator.Options{AccessKey: "one", SecondaryAccessKey: "two", Hubs: map[string]emulator.HubSettings{"chat": {EventHandlers: []emulator.EventHandler{
		{URLTemplate: server.URL + "/on/{event}?code=1&hub={hub}", SystemEvents: allEvents, UserEventPattern: "*"}}}}})
	c := dial(t, s, dialOptions{user: "jürgen <a>", query: "&x=1", subprotocols: []string{"odd", protocolJSON}})
	var system struct{ ConnectionID string }
	require.NoError(t, json.Unmarshal([]byte(c.text()), &system))
	id := system.ConnectionID
	c.write(`{"type":"event","event":"order","data":{"a": [1]},"metadata":{"Trace":"t u"}}`)
	next := func() sent {
		select {
		case r := <-requests:
			return r
		case <-time.After(patience):
			t.Fatal("the event did not arrive")
			return sent{}
		}
	}
	connect := next()
	require.NoError(t, checkConnect(connect.header, connect.uri, connect.body, id))
	connected, user := next(), next()
	common := map[string]string{
		"Ce-Specversion": "1.0", "Ce-Awpsversion": "1.0", "Ce-Source": "/hubs/chat/client/" + id, "Ce-Hub": "chat", "Ce-Connectionid": id,
		"Ce-Userid": "jürgen <a>", "Ce-Subprotocol": protocolJSON, "Ce-Connectionstate": "any text",
		"Ce-Signature": "sha256=" + hmacHex("one", id) + ",sha256=" + hmacHex("two", id), "Webhook-Request-Origin": "127.0.0.1",
	}
	for _, test := range []struct {
		got                          sent
		id, ceType, name, kind, body string
	}{
		{connected, "1", "azure.webpubsub.sys.connected", "connected", "application/json", "{}"},
		{user, "2", "azure.webpubsub.user.order", "order", "application/json", `{"a": [1]}`},
	} {
		for name, value := range common {
			require.Equal(t, []string{value}, test.got.header[name], name)
		}
		require.Equal(t, test.id, test.got.header.Get("ce-id"))
		require.Equal(t, test.ceType, test.got.header.Get("ce-type"))
		require.Equal(t, test.name, test.got.header.Get("ce-eventName"))
		require.Equal(t, test.kind, test.got.header.Get("Content-Type"))
		require.Equal(t, test.body, test.got.body)
		require.Equal(t, "/on/"+test.name+"?code=1&hub=chat", test.got.uri)
		_, err := time.Parse("2006-01-02T15:04:05Z", test.got.header.Get("ce-time"))
		require.NoError(t, err)
	}
	require.Equal(t, "t u", user.header.Get("X-WebPubSub-Metadata-Trace"))

	client, err := webpubsub.NewClientFromConnectionString(s.ConnectionString(), "chat", nil)
	require.NoError(t, err)
	require.NoError(t, client.CloseConnection(t.Context(), id, &webpubsub.CloseConnectionOptions{Reason: "enough"}))
	gone := next()
	require.Equal(t, "3", gone.header.Get("ce-id"))
	require.Equal(t, `{"reason":"Application server closed the connection. Reason: enough"}`, gone.body)
}

func hmacHex(key, id string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(id))
	return hex.EncodeToString(mac.Sum(nil))
}

func checkConnect(header http.Header, uri, body, id string) error {
	var b struct {
		Claims, Query, Headers map[string][]string
		Subprotocols           []string
		ClientCertificates     []any
	}
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		return err
	}
	switch {
	case uri != "/on/connect?code=1&hub=chat":
		return errors.New(uri)
	case header.Get("ce-id") != "0" || header.Get("ce-connectionId") != id || header.Get("ce-type") != "azure.webpubsub.sys.connect":
		return fmt.Errorf("%v", header)
	case header.Get("ce-connectionState") != "" || header.Get("ce-subprotocol") != "":
		return fmt.Errorf("%v", header)
	case len(b.Claims["sub"]) != 1 || !slices.Equal(b.Query["x"], []string{"1"}) || b.Query["access_token"] != nil,
		!slices.Equal(b.Subprotocols, []string{"odd", protocolJSON}), b.ClientCertificates == nil, len(b.Headers) == 0,
		strings.Contains(body, "access_token"):
		return errors.New(body)
	}
	return nil
}

func TestManyClientsEventsKeepTheirOrder(t *testing.T) {
	const clients, events = 64, 157 // more than 10,000 in all
	var mu sync.Mutex
	got := map[string][]string{}
	s := emulator.StartT(t, nil)
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub: "chat", AccessKeys: []string{s.AccessKey()},
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			mu.Lock()
			defer mu.Unlock()
			got[r.UserID] = append(got[r.UserID], r.EventID+":"+r.Text())
			return &eventhandler.UserEventResponse{Message: webpubsub.Text(r.Text())}, nil
		},
	})
	require.NoError(t, err)
	listen(t, s, handler, inProcess)
	var all sync.WaitGroup
	for n := range clients {
		c := dial(t, s, dialOptions{user: strconv.Itoa(n)})
		all.Go(func() {
			for i := range events {
				if err := c.ws.Write(t.Context(), websocket.MessageText, []byte(strconv.Itoa(i))); err != nil {
					t.Error(err)
					return
				}
			}
			for i := range events {
				if _, data, err := c.ws.Read(t.Context()); err != nil || string(data) != strconv.Itoa(i) {
					t.Errorf("response %d to client %d is %q, %v", i, n, data, err)
					return
				}
			}
		})
	}
	all.Wait()
	var want []string
	for i := range events {
		want = append(want, fmt.Sprintf("%d:%d", i+2, i))
	}
	for n := range clients {
		require.Equal(t, want, got[strconv.Itoa(n)])
	}
}

func TestInvalidHubSettings(t *testing.T) {
	ok := func(e emulator.EventHandler) emulator.HubSettings {
		if e.SystemEvents == nil {
			e.UserEventPattern = "*"
		}
		return emulator.HubSettings{EventHandlers: []emulator.EventHandler{{Handler: http.NotFoundHandler(), UserEventPattern: "*"}, e}}
	}
	for name, test := range map[string]struct {
		hub      string
		settings emulator.HubSettings
		fault    string
	}{
		"an invalid hub":            {"1", emulator.HubSettings{}, `the hub name "1"`},
		"no URL":                    {"chat", ok(emulator.EventHandler{}), "EventHandlers[1]: URLTemplate or Handler is required"},
		"a URL of another scheme":   {"chat", ok(emulator.EventHandler{URLTemplate: "ftp://h/"}), "EventHandlers[1]: URLTemplate is not"},
		"a path":                    {"chat", ok(emulator.EventHandler{URLTemplate: "/x"}), "URLTemplate is not"},
		"a URL that does not parse": {"chat", ok(emulator.EventHandler{URLTemplate: "http://h:x/"}), "URLTemplate is not"},
		"an unknown placeholder":    {"chat", ok(emulator.EventHandler{URLTemplate: "http://h/{user}"}), "placeholder {user}"},
		"a secret of Key Vault":     {"chat", ok(emulator.EventHandler{URLTemplate: "http://h/?code={@Microsoft.KeyVault(SecretUri=https://v/)}"}), "placeholder {@Microsoft.KeyVault"},
		"a placeholder in the host": {"chat", ok(emulator.EventHandler{URLTemplate: "http://{hub}.example/{event}"}), "in its host"},
		"an unknown system event":   {"chat", ok(emulator.EventHandler{URLTemplate: "http://h/", SystemEvents: []string{"join"}}), `"join"`},
		"an invalid event":          {"chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{URLTemplate: "http://h/", UserEventPattern: "a,,b"}}}, "UserEventPattern"},
		"a handler without events":  {"chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{URLTemplate: "http://h/"}}}, "receives no events"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := emulator.Start(&emulator.Options{Hubs: map[string]emulator.HubSettings{test.hub: test.settings}})
			require.ErrorContains(t, err, test.fault)
		})
	}
}

func TestHubSettingsAreReadFromJSON(t *testing.T) {
	var hubs map[string]emulator.HubSettings
	require.NoError(t, json.Unmarshal([]byte(`{"chat": {"eventHandlers": [
		{"urlTemplate": "http://h/{event}", "systemEvents": ["connect"], "userEventPattern": "*"}]}}`), &hubs))
	require.Equal(t, map[string]emulator.HubSettings{"chat": {EventHandlers: []emulator.EventHandler{
		{URLTemplate: "http://h/{event}", SystemEvents: []string{"connect"}, UserEventPattern: "*"}}}}, hubs)
}

func TestTheAccessTokenStaysWithTheServer(t *testing.T) {
	bodies := make(chan string, 1)
	s := emulator.StartT(t, nil)
	listen(t, s, &scripted{log: newEventLog(), answer: func(_ http.ResponseWriter, r *http.Request, _ int) {
		if r.Header.Get("ce-eventName") == "connect" {
			body, _ := io.ReadAll(r.Body)
			bodies <- string(body)
		}
	}}, inProcess)
	token := sign(t, s.AccessKey(), jwt.MapClaims{"aud": s.Endpoint() + "/client/hubs/chat", "sub": "ann",
		"exp": s.Now().Add(time.Hour).Unix()})
	ws, _, err := websocket.Dial(t.Context(), s.Endpoint()+"/client/hubs/chat", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}, "X-Agent": {"test"}}})
	require.NoError(t, err)
	defer ws.CloseNow()
	body := <-bodies
	require.NotContains(t, body, token)
	require.Contains(t, body, `"X-Agent":["test"]`)
	require.NotContains(t, body, "null", "empty members are empty, not null")
}
