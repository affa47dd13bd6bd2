package events

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/faults"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// application returns a handler that allows every origin and responds to events by answer.
func application(answer func(w http.ResponseWriter, r *http.Request)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		if r.Method == http.MethodPost {
			answer(w, r)
		}
	})
}

// journal collects entries from a handler. Its methods may be called concurrently.
type journal struct {
	mu  sync.Mutex
	all []string
}

func (j *journal) add(entries ...string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, entries...)
	return len(j.all)
}

func (j *journal) entries() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.all
}

func noRequest() *hub.ConnectRequest { return &hub.ConnectRequest{} }

// enter connects a client.
func (s *setup) enter(t *testing.T, id string) *hub.Connection {
	t.Helper()
	c := s.newConnection(id, "ann")
	_, err := c.Connect(t.Context(), nil, nil, noRequest)
	require.NoError(t, err)
	c.Hub.Add(c, nil, func() {})
	return c
}

// advance moves the clock until done is closed.
func (s *setup) advance(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
			s.service.Clock.Advance(500 * time.Millisecond)
		}
	}
}

func TestARetrySendsTheSameEvent(t *testing.T) {
	for name, test := range map[string]struct {
		answer   func(w http.ResponseWriter)
		attempts int
	}{
		"408":              {func(w http.ResponseWriter) { w.WriteHeader(408) }, 4},
		"500":              {func(w http.ResponseWriter) { w.WriteHeader(500) }, 4},
		"599":              {func(w http.ResponseWriter) { w.WriteHeader(599) }, 4},
		"cut off":          {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 4},
		"400":              {func(w http.ResponseWriter) { w.WriteHeader(400) }, 1},
		"404":              {func(w http.ResponseWriter) { w.WriteHeader(404) }, 1},
		"429":              {func(w http.ResponseWriter) { w.WriteHeader(429) }, 1},
		"unsupported type": {func(w http.ResponseWriter) { w.Header().Set("Content-Type", "a/b"); io.WriteString(w, "x") }, 1},
		"too long":         {func(w http.ResponseWriter) { w.Write(make([]byte, maxAnswer+1)) }, 1},
		"redirect":         {func(w http.ResponseWriter) { w.Header().Set("Location", "/"); w.WriteHeader(307) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var requests journal
			app := httptest.NewServer(application(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				requests.add(fmt.Sprint(r.Header, string(body)))
				test.answer(w)
			}))
			defer app.Close()
			s := newSetup(t)
			s.listen(t, Handler{URLTemplate: app.URL, UserEventPattern: "*"})
			c := s.enter(t, "a")
			done := make(chan struct{})
			var err error
			go func() {
				defer close(done)
				_, err = raise(t, c, "e", hub.Payload{Type: hub.DataText, Data: []byte("x")})
			}()
			s.advance(done)
			require.Error(t, err)
			require.Len(t, requests.entries(), test.attempts)
			for _, request := range requests.entries() {
				require.Equal(t, requests.entries()[0], request)
			}
			require.Equal(t, test.attempts, s.sender.Events()[0].Attempts)
			require.Equal(t, test.attempts-1, strings.Count(s.log.String(), "retry in"))
			require.Equal(t, 1, strings.Count(s.log.String(), "no retry"))
		})
	}
}

func TestTheLogHasTheHandlersResponseWithoutSecrets(t *testing.T) {
	s := newSetup(t)
	s.listen(t, Handler{Handler: application(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(400)
		io.WriteString(w, "no such room\naccessKey=abcdefghijkl primary")
	}), UserEventPattern: "*"})
	_, err := raise(t, s.enter(t, "a"), "e", hub.Payload{})
	require.Error(t, err)
	log := s.log.String()
	require.Contains(t, log, "no such room")
	require.Contains(t, log, "status=400")
	require.Contains(t, log, "the client's event fails, and the client is not told why")
	require.NotContains(t, log, "abcdefghijkl")
	require.NotContains(t, log, "primary")
	record := s.sender.Events()[0]
	require.Contains(t, string(record.AnswerBody), "no such room")
	require.NotContains(t, string(record.AnswerBody), "primary")
}

func TestAnEventWithAHeaderThatTheServiceCannotSendFails(t *testing.T) {
	for name, test := range map[string]struct {
		state, user string
		metadata    map[string]string
		fault       string
	}{
		"a state":               {"ü", "", nil, "ce-connectionState"},
		"metadata":              {"", "", map[string]string{"k": "ü"}, "X-Webpubsub-Metadata-k"},
		"metadata of two lines": {"", "", map[string]string{"k": "a\nb"}, "X-Webpubsub-Metadata-k"},
		"a user with a newline": {"", "a\nb", nil, "ce-userId"},
		"a user with a space":   {"", "a ", nil, "ce-userId"},
	} {
		t.Run(name, func(t *testing.T) {
			told := 0
			s := newSetup(t)
			c := s.newConnection("a", test.user)
			_, err := c.Connect(t.Context(), nil, nil, noRequest)
			require.NoError(t, err)
			s.listen(t, Handler{Handler: application(func(w http.ResponseWriter, r *http.Request) {
				if told++; test.state != "" {
					w.Header().Set("ce-connectionState", test.state)
				}
			}), UserEventPattern: "*"})
			c.Hub.Add(c, nil, func() {})
			before := 0
			if test.state != "" {
				_, err = raise(t, c, "first", hub.Payload{})
				require.NoError(t, err)
				before = 1
			}
			_, err = raise(t, c, "e", hub.Payload{Metadata: test.metadata})
			require.ErrorContains(t, err, test.fault)
			require.Equal(t, before, told, "the event must not be sent")
		})
	}
}

func TestTheWhiteSpaceAroundMetadataIsLost(t *testing.T) {
	s := newSetup(t)
	c := s.newConnection("a", "")
	_, err := c.Connect(t.Context(), nil, nil, noRequest)
	require.NoError(t, err)
	got := make(chan http.Header, 1)
	server := httptest.NewServer(application(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	defer server.Close()
	s.listen(t, Handler{URLTemplate: server.URL, UserEventPattern: "*"})
	c.Hub.Add(c, nil, func() {})
	_, err = raise(t, c, "e", hub.Payload{Metadata: map[string]string{"a": " x, y\t", "b": " ", "c": ""}})
	require.NoError(t, err)
	header := <-got
	for name, want := range map[string]string{"a": "x, y", "b": "", "c": ""} {
		require.Equal(t, []string{want}, header.Values("X-WebPubSub-Metadata-"+name))
	}
}

func TestCookiesOfSuccessfulResponsesAreSentToTheirURLs(t *testing.T) {
	var got journal
	app := httptest.NewServer(application(func(w http.ResponseWriter, r *http.Request) {
		switch got.add(r.URL.Path + ": " + r.Header.Get("Cookie")) {
		case 1:
			w.Header().Add("Set-Cookie", "a=1; Path=/")
			w.Header().Add("Set-Cookie", "b=2; Path=/x")
			w.Header().Add("Set-Cookie", "other=4; Domain=other.example")
		case 2:
			w.Header().Set("Set-Cookie", "a=refused; Path=/")
			w.WriteHeader(400)
		case 3:
			w.Header().Set("Set-Cookie", "a=; Path=/; Max-Age=0")
		}
	}))
	defer app.Close()
	s := newSetup(t)
	s.listen(t, Handler{URLTemplate: app.URL + "/{event}", UserEventPattern: "*"})
	c, other := s.enter(t, "a"), s.enter(t, "b")
	for _, name := range []string{"x", "x", "y", "x"} {
		_, _ = raise(t, c, name, hub.Payload{})
	}
	_, _ = raise(t, other, "x", hub.Payload{})
	require.Equal(t, []string{"/x: ", "/x: b=2; a=1", "/y: a=1", "/x: b=2", "/x: "}, got.entries())
}

func TestAnEventsRequestEndsWithItsContext(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	s := newSetup(t)
	s.listen(t, Handler{Handler: application(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	}), SystemEvents: []string{"connect"}})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	c := s.newConnection("a", "ann")
	go func() {
		_, err := c.Connect(ctx, nil, nil, noRequest)
		failed <- err
	}()
	within(t, began)
	cancel()
	within(t, ended)
	require.ErrorContains(t, within(t, failed), "the client has disconnected")
	require.Equal(t, 1, s.sender.Events()[0].Attempts)
}

func TestATimeoutIsNotRetried(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	app := httptest.NewServer(application(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer app.Close()
	s := newSetup(t)
	s.sender.timeout = 50 * time.Millisecond
	s.listen(t, Handler{URLTemplate: app.URL, UserEventPattern: "*"})
	_, err := raise(t, s.enter(t, "a"), "e", hub.Payload{})
	require.ErrorContains(t, err, "did not respond within 50ms")
	require.Equal(t, 1, s.sender.Events()[0].Attempts)
}

func TestASlowButSteadyResponseSucceeds(t *testing.T) {
	app := httptest.NewServer(application(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		for range 8 {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond) // the whole response exceeds the time limit, but no part does
		}
	}))
	defer app.Close()
	s := newSetup(t)
	s.sender.timeout = 300 * time.Millisecond
	s.listen(t, Handler{URLTemplate: app.URL, UserEventPattern: "*"})
	reply, err := raise(t, s.enter(t, "a"), "e", hub.Payload{})
	require.NoError(t, err)
	require.Equal(t, "xxxxxxxx", string(reply.Data))
}

func TestEventsUseHTTP2IfTheHandlerSupportsIt(t *testing.T) {
	var got journal
	app := httptest.NewUnstartedServer(application(func(w http.ResponseWriter, r *http.Request) {
		got.add(r.Proto, r.Header.Get("ce-userId"))
	}))
	app.EnableHTTP2 = true
	app.StartTLS()
	defer app.Close()
	s := newSetup(t)
	s.sender.client.Transport.(*http.Transport).TLSClientConfig = app.Client().Transport.(*http.Transport).TLSClientConfig
	s.listen(t, Handler{URLTemplate: app.URL, UserEventPattern: "*"})
	c := s.newConnection("a", "用户")
	_, err := c.Connect(t.Context(), nil, nil, noRequest)
	require.NoError(t, err)
	c.Hub.Add(c, nil, func() {})
	_, err = raise(t, c, "e", hub.Payload{})
	require.NoError(t, err)
	require.Equal(t, []string{"HTTP/2.0", "用户"}, got.entries())
}

func TestDisconnectedOvertakesADelayedConnected(t *testing.T) {
	told := make(chan string, 10)
	s := newSetup(t)
	s.listen(t, Handler{Handler: application(func(_ http.ResponseWriter, r *http.Request) {
		told <- r.Header.Get("ce-id") + " " + r.Header.Get("ce-eventName")
	}), SystemEvents: []string{"connected", "disconnected"}})
	s.sender.Faults.Inject(faults.Fault{Operation: faults.ConnectedEvent, Times: 1, Delay: time.Minute})
	s.enter(t, "a").End("bye")
	require.Equal(t, "2 disconnected", within(t, told))
	s.service.Clock.Advance(time.Minute)
	require.Equal(t, "1 connected", within(t, told))
}

// validated is a handler that records its validation requests.
type validated struct {
	mu      sync.Mutex
	origins []string
	status  int
	allowed string
	began   chan struct{}
	wait    chan struct{}
}

func (a *validated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		return
	}
	a.mu.Lock()
	a.origins = append(a.origins, r.Header.Get("WebHook-Request-Origin"))
	status, allowed := a.status, a.allowed
	a.mu.Unlock()
	if a.began != nil {
		a.began <- struct{}{}
		<-a.wait
	}
	w.Header().Set("WebHook-Allowed-Origin", allowed)
	w.WriteHeader(status)
}

func (a *validated) set(status int, allowed string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status, a.allowed = status, allowed
}

func (a *validated) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.origins)
}

func TestConcurrentCallersShareAValidationAndKeepTheirContexts(t *testing.T) {
	app := &validated{status: 200, allowed: "*", began: make(chan struct{}), wait: make(chan struct{})}
	s := newSetup(t)
	s.listen(t, Handler{Handler: app, SystemEvents: []string{"connect"}})
	h := s.sender.hubs["chat"][0]
	impatient, cancel := context.WithCancel(t.Context())
	results := make(chan error, 8)
	for range 7 {
		go func() { results <- s.sender.validate(t.Context(), h, "o") }()
	}
	within(t, app.began)
	gone := make(chan error, 1)
	go func() { gone <- s.sender.validate(impatient, h, "o") }()
	cancel()
	require.Error(t, within(t, gone), "validate must return when its context ends")
	close(app.wait)
	for range 7 {
		require.NoError(t, within(t, results))
	}
	require.Equal(t, 1, app.count())
}

func TestWhenAValidationIsRepeated(t *testing.T) {
	app := &validated{status: 200, allowed: "O"}
	s := newSetup(t)
	s.listen(t, Handler{Handler: app, SystemEvents: []string{"connect"}})
	h := s.sender.hubs["chat"][0]
	// check calls validate, and waits for a validation that the call starts in the background.
	check := func(allowed bool, count int) {
		t.Helper()
		err := s.sender.validate(t.Context(), h, "o")
		require.Equal(t, allowed, err == nil, err)
		v := h.validation("o")
		require.Eventually(t, func() bool {
			v.mu.Lock()
			defer v.mu.Unlock()
			return v.running == nil
		}, patience, time.Millisecond)
		require.Equal(t, count, app.count())
	}
	advance := s.service.Clock.Advance
	check(true, 1)
	advance(59 * time.Second)
	check(true, 1)
	app.set(200, "other")
	advance(2 * time.Second)
	check(true, 2) // the previous result is used while the validation runs in the background
	check(false, 2)
	count := 2
	for _, wait := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		advance(time.Duration(wait)*time.Second - 500*time.Millisecond)
		check(false, count)
		advance(500 * time.Millisecond)
		count++
		check(false, count)
	}
	app.set(200, "*")
	advance(time.Minute)
	check(false, count+1)
	check(true, count+1)
	require.NoError(t, s.sender.validate(t.Context(), h, "another"), "each origin has its own validation")
	require.Equal(t, count+2, app.count())
	require.Contains(t, s.log.String(), "the first event after 32s validates the handler again")
}

func TestAllowedOrigins(t *testing.T) {
	for _, test := range []struct {
		lines []string
		want  bool
	}{
		{nil, false}, {[]string{""}, false}, {[]string{"*"}, true}, {[]string{" * "}, true}, {[]string{"A.Example"}, true},
		{[]string{"b.example", "a.example"}, true}, {[]string{"b.example, a.example"}, false}, {[]string{"a.example:443"}, false},
		{[]string{"a.example.evil"}, false}, {[]string{"*.example"}, false}, {[]string{"https://a.example"}, false},
	} {
		require.Equal(t, test.want, allows(test.lines, "a.example"), test.lines)
	}
}

func TestAHandlerThatFailsItsValidationReceivesNoEvents(t *testing.T) {
	s := newSetup(t)
	s.listen(t, Handler{Handler: &validated{status: 403, allowed: "*"}, SystemEvents: []string{"connect"}})
	c := s.newConnection("a", "")
	_, err := c.Connect(t.Context(), nil, nil, noRequest)
	require.ErrorContains(t, err, "responded to the validation with status 403")
	var rejection *hub.Rejection
	require.NotErrorAs(t, err, &rejection, "the client must not receive the validation's status")
	require.Zero(t, s.sender.Events()[0].Attempts)
}

// awaitLog waits until the log contains a text.
func (s *setup) awaitLog(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(s.log.String(), text) }, patience, time.Millisecond)
}

func TestClosingTheServerWhileAnEventWaitsForARetryIsLogged(t *testing.T) {
	s := newSetup(t)
	s.listen(t, Handler{Handler: application(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }),
		SystemEvents: []string{"connect"}})
	failed := make(chan error, 1)
	go func() {
		_, err := s.newConnection("a", "").Connect(t.Context(), nil, nil, noRequest)
		failed <- err
	}()
	s.awaitLog(t, "retry in 1s")
	s.service.Life.BeginClose()
	require.EqualError(t, within(t, failed), "the server is closing")
	lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
	last := lines[len(lines)-1]
	require.Contains(t, last, `error="the server is closing"`)
	require.Contains(t, last, "no retry; the client is rejected with status 500", "the client does not receive the handler's status")
}

func TestClosingTheServerWhileAValidationWaitsForARetryIsNotTheHandlersFault(t *testing.T) {
	app := &validated{status: 503, allowed: "*"}
	s := newSetup(t)
	s.listen(t, Handler{Handler: app, SystemEvents: []string{"connect"}})
	failed := make(chan error, 1)
	go func() { failed <- s.sender.validate(t.Context(), s.sender.hubs["chat"][0], "o") }()
	require.Eventually(t, func() bool { return app.count() == 1 }, patience, time.Millisecond)
	s.service.Life.BeginClose()
	require.EqualError(t, within(t, failed), "the validation of the event handler failed: the server is closing")
	require.NotContains(t, s.log.String(), "does not accept events")
}

// mqttLink is an MQTT client that ignores everything.
type mqttLink struct{ link }

func (mqttLink) Identity() (physicalID, sessionID string) { return "physical", "session" }
func (mqttLink) Disconnection() *protocol.MQTTDisconnect  { return &protocol.MQTTDisconnect{} }

func TestTheLogDescribesTheEffectOfAFailedEventOnAnMQTTClient(t *testing.T) {
	s := newSetup(t)
	s.listen(t, Handler{Handler: application(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) })})
	c := s.newConnection("a", "")
	c.Link = mqttLink{}
	_, err := c.Connect(t.Context(), nil, nil, noRequest)
	require.Error(t, err)
	require.Contains(t, s.log.String(), `next="no retry; the client is rejected"`)
	c.Hub.Add(c, nil, func() {})
	for name, next := range map[string]string{"text/plain": "no retry; the client receives the response",
		"t\n": "no retry; the client's event fails, and the client is not told why"} {
		done := make(chan struct{})
		c.Raise(&hub.UserEvent{Name: "e", Detail: &protocol.MQTTEvent{ContentType: name}}, func(*hub.Payload, error) { close(done) })
		within(t, done)
		require.Contains(t, s.log.String(), next)
	}
}

func TestTheWhiteSpaceAroundMQTTUserPropertiesIsLost(t *testing.T) {
	s := newSetup(t)
	c := s.newConnection("a", "")
	c.Link = mqttLink{}
	_, err := c.Connect(t.Context(), nil, nil, noRequest)
	require.NoError(t, err)
	got := make(chan http.Header, 1)
	s.listen(t, Handler{Handler: application(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }), UserEventPattern: "*"})
	c.Hub.Add(c, nil, func() {})
	detail := &protocol.MQTTEvent{ContentType: "text/plain", UserProperties: []protocol.MQTTUserProperty{{Name: "a", Value: " x, y\t"}, {Name: "a", Value: " "}}}
	var failed error
	done := make(chan struct{})
	c.Raise(&hub.UserEvent{Name: "e", Detail: detail}, func(_ *hub.Payload, err error) { failed = err; close(done) })
	within(t, done)
	require.NoError(t, failed)
	require.Equal(t, []string{"x, y", ""}, (<-got).Values("mqtt-a"))
}

func TestARecordedConnectEventHidesTheClientsSecrets(t *testing.T) {
	s := newSetup(t)
	s.listen(t, Handler{Handler: application(func(http.ResponseWriter, *http.Request) {}), SystemEvents: []string{"connect"}})
	_, err := s.newConnection("a", "").Connect(t.Context(), nil, nil, func() *hub.ConnectRequest {
		return &hub.ConnectRequest{Query: map[string][]string{"api_key": {"hunter]2"}},
			Header: map[string][]string{"Cookie": {"session=hunter2"}, "Proxy-Authorization": {"Basic hunter2"}, "Host": {"name.example"}}}
	})
	require.NoError(t, err)
	body := string(s.sender.Events()[0].Body)
	require.NotContains(t, body, "hunter")
	require.NotContains(t, body, "]2")
	require.Contains(t, body, "name.example")
	require.True(t, json.Valid([]byte(strings.ReplaceAll(body, "REDACTED", ""))), body)
}

func TestEveryFailedEventIsRecordedWithAnError(t *testing.T) {
	s := newSetup(t)
	s.listen(t, Handler{Handler: application(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("ce-eventName") != "connect" {
			w.WriteHeader(400)
		}
	})})
	c := s.newConnection("a", "")
	c.Link = mqttLink{}
	_, err := c.Connect(t.Context(), nil, nil, noRequest)
	require.NoError(t, err)
	c.Hub.Add(c, nil, func() {})
	done := make(chan struct{})
	c.Raise(&hub.UserEvent{Name: "e", Detail: &protocol.MQTTEvent{ContentType: "text/plain"}}, func(*hub.Payload, error) { close(done) })
	within(t, done)
	c.End("bye")
	require.Eventually(t, func() bool { return len(s.sender.Events()) == 4 }, patience, time.Millisecond)
	for _, e := range s.sender.Events() {
		want := "400: the event handler answered 400"
		if e.Name == "connect" {
			want = ""
		}
		require.Equal(t, want, e.Error, e.Name)
	}
}

func TestAHandlerInProcessCannotWriteMoreThanItDeclares(t *testing.T) {
	var failed error
	s := newSetup(t)
	s.listen(t, Handler{Handler: application(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1")
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "x")
		_, failed = io.WriteString(w, "y")
	}), UserEventPattern: "*"})
	reply, err := raise(t, s.enter(t, "a"), "e", hub.Payload{})
	require.NoError(t, err)
	require.Equal(t, "x", string(reply.Data))
	require.ErrorIs(t, failed, http.ErrContentLength)
}

func TestAHandlerInProcessReceivesTheURLOfAServer(t *testing.T) {
	var got journal
	app := application(func(_ http.ResponseWriter, r *http.Request) { got.add(r.URL.String() + " " + r.RequestURI) })
	server := httptest.NewServer(app)
	defer server.Close()
	s := newSetup(t)
	for _, h := range []Handler{{Handler: app, URLTemplate: "http://localhost/a%2Fb/{event}?code=1"}, {URLTemplate: server.URL + "/a%2Fb/{event}?code=1"}} {
		h.UserEventPattern = "*"
		s.listen(t, h)
		_, err := raise(t, s.enter(t, "a"), "e", hub.Payload{})
		require.NoError(t, err)
	}
	require.Equal(t, []string{"/a%2Fb/e?code=1 /a%2Fb/e?code=1", "/a%2Fb/e?code=1 /a%2Fb/e?code=1"}, got.entries())
}
