package emulator_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

// handlerFunc returns a handler that accepts the validation and passes events to answer.
func handlerFunc(answer func(w http.ResponseWriter, r *http.Request)) http.Handler {
	return &scripted{log: newEventLog(), answer: func(w http.ResponseWriter, r *http.Request, _ int) { answer(w, r) }}
}

func TestEventsAreRecordedAndAwaited(t *testing.T) {
	s := emulator.StartT(t, nil)
	require.Empty(t, s.Events())
	listen(t, s, handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.EqualFold(r.Header.Get("ce-eventName"), "order") {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, "no tea; the key is "+s.AccessKey())
		}
	}), overHTTP)
	c := dialJSON(t, s, dialOptions{user: "ann"})
	c.write(`{"type":"event","event":"Order","dataType":"json","data":{"tea":1}}`)
	c.write(`{"type":"event","event":"order","dataType":"binary","data":"AP8="}`)
	require.NoError(t, s.WaitForEvents(t.Context(), "CHAT", "ORDER", 2))
	require.Equal(t, 2, s.EventCount("chat", "order"))
	require.Zero(t, s.EventCount("other", "order"))

	all := s.Events()
	require.Len(t, all, 4)
	for i, name := range []string{"connect", "connected"} {
		require.Equal(t, name, all[i].Name)
		require.Equal(t, "azure.webpubsub.sys."+name, all[i].Type)
		require.Equal(t, 200, all[i].Status)
		require.Empty(t, all[i].Error)
	}
	order := all[2]
	require.Contains(t, order.Error, "400")
	require.False(t, order.Time.IsZero())
	order.Time, order.Error = time.Time{}, ""
	require.Equal(t, emulator.Event{Type: "azure.webpubsub.user.Order", Hub: "chat", ConnectionID: c.id, UserID: "ann", Name: "Order", ID: "2",
		ContentType: "application/json", Body: []byte(`{"tea":1}`), Attempts: 1, Status: 400,
		AnswerContentType: "text/plain", AnswerBody: []byte("no tea; the key is REDACTED")}, order)
	require.Equal(t, []byte{0, 255}, all[3].Body)
	require.Equal(t, 400, all[3].Status)
}

func TestTheConnectEventHasTheHeadersOfTheHandshake(t *testing.T) {
	s := emulator.StartT(t, nil)
	listen(t, s, handlerFunc(func(http.ResponseWriter, *http.Request) {}), inProcess)
	header := http.Header{"X-Agent": {"a", "b"}, "X-Asrs-Internal-Secret": {"no"}, "Authorization": {"Bearer no"}}
	ws, _, err := websocket.Dial(t.Context(), dialOptions{}.url(t, s), &websocket.DialOptions{HTTPHeader: header, Host: "Chat.example.com", Subprotocols: []string{protocolJSON}})
	require.NoError(t, err)
	defer ws.CloseNow()
	var body struct{ Headers map[string][]string }
	require.NoError(t, json.Unmarshal(s.Events()[0].Body, &body))
	require.Equal(t, map[string][]string{"Host": {"Chat.example.com"}, "X-Agent": {"a", "b"}, "Accept-Encoding": {"gzip"}, "Connection": {"Upgrade"},
		"Upgrade": {"websocket"}, "User-Agent": {"Go-http-client/1.1"}, "Sec-WebSocket-Version": {"13"}, "Sec-WebSocket-Protocol": {protocolJSON},
		"Sec-WebSocket-Key": body.Headers["Sec-WebSocket-Key"]}, body.Headers)
	require.Len(t, body.Headers["Sec-WebSocket-Key"], 1)
}

func TestEventsAreRecordedUpToALimit(t *testing.T) {
	s := emulator.StartT(t, nil)
	listen(t, s, handlerFunc(func(http.ResponseWriter, *http.Request) {}), inProcess)
	c := dialJSON(t, s, dialOptions{user: "ann"})
	c.write(`{"type":"event","event":"long","dataType":"text","data":"` + strings.Repeat("x", 100_000) + `"}`)
	require.NoError(t, s.WaitForEvents(t.Context(), "chat", "long", 1))
	require.Len(t, s.Events()[2].Body, 16<<10)
	for range maxRequests {
		c.write(`{"type":"event","event":"short","dataType":"text","data":"x"}`)
	}
	require.NoError(t, s.WaitForEvents(t.Context(), "chat", "short", maxRequests))
	all := s.Events()
	require.Len(t, all, maxRequests)
	require.Equal(t, "3", all[0].ID)
	require.Equal(t, "1002", all[maxRequests-1].ID)
	require.Equal(t, 1, s.EventCount("chat", "long"), "the count includes events that are no longer kept")
}

func TestWaitsHaveADefaultTimeoutUnderStartT(t *testing.T) {
	s := emulator.StartT(t, nil)
	require.Equal(t, 10*time.Second, emulator.SetWaitTimeout(s, time.Millisecond))
	waits := 0
	for method, v := range reflect.ValueOf(s).Methods() {
		if !strings.HasPrefix(method.Name, "WaitFor") {
			continue
		}
		waits++
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		for i := 1; i < v.Type().NumIn(); i++ {
			switch kind := v.Type().In(i); kind.Kind() {
			case reflect.Int:
				args = append(args, reflect.ValueOf(1))
			default:
				args = append(args, reflect.ValueOf("SendToAll").Convert(kind)) // a hub, a group or an operation
			}
		}
		err, _ := reflect.TypeAssert[error](v.Call(args)[0])
		require.ErrorIs(t, err, context.DeadlineExceeded, method.Name)
	}
	require.Equal(t, 8, waits)
	own, err := emulator.Start(nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, own.WaitForEvents(ctx, "chat", "never", 1), context.Canceled)
	require.NoError(t, own.Close())
	require.Error(t, own.WaitForConnections(t.Context(), "chat", 1), "the server is closed")
}

// The error of a wait says why the awaited state may never come.
func TestTheErrorOfAWaitNamesLikelyReasons(t *testing.T) {
	s := emulator.StartT(t, nil)
	emulator.SetWaitTimeout(s, time.Millisecond)
	const nobody = "no event handler of hub chat receives this event"
	require.ErrorContains(t, s.WaitForEvents(t.Context(), "chat", "order", 1), nobody)
	fails := handlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	require.NoError(t, s.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{Handler: fails, UserEventPattern: "*"}}}))
	require.ErrorContains(t, s.WaitForEvents(t.Context(), "chat", "connected", 1), nobody)
	err := s.WaitForEvents(t.Context(), "CHAT", "Order", 1)
	require.NotContains(t, err.Error(), nobody)
	require.NotContains(t, err.Error(), "delayed")

	dialJSON(t, s, dialOptions{}).write(`{"type":"event","event":"order","data":1}`)
	emulator.SetWaitTimeout(s, patience)
	require.NoError(t, s.WaitForDelayed(t.Context(), 1))
	emulator.SetWaitTimeout(s, time.Millisecond)
	err = s.WaitForEvents(t.Context(), "chat", "order", 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "delayed by the server's clock until Advance: 1 requests or events")
	require.ErrorContains(t, s.WaitForUser(t.Context(), "chat", "ann", 1), "connections of user ann to hub chat, there are 0")
	require.ErrorContains(t, s.WaitForGroup(t.Context(), "chat", "g", 1), "connections in group g of hub chat, there are 0")
	require.NotContains(t, s.WaitForDelayed(t.Context(), 9).Error(), "Advance")
	require.ErrorContains(t, s.WaitForRequests(t.Context(), emulator.OperationGetClientAccessToken, 1), "sign tokens without a request")
}

func TestDisconnectedCanOvertakeConnected(t *testing.T) {
	s := emulator.StartT(&failureRecorder{TB: t}, nil)
	for _, f := range []emulator.Fault{
		{Operation: emulator.OperationConnectedEvent},
		{Operation: emulator.OperationConnectedEvent, Delay: time.Second, Status: 500},
		{Operation: emulator.OperationConnectedEvent, Delay: time.Second, Cut: emulator.CutBeforeEffect},
	} {
		require.ErrorContains(t, s.InjectFault(f), "needs a Fault.Delay")
	}
	require.NoError(t, s.InjectFault(emulator.Fault{Operation: emulator.OperationConnectedEvent, Delay: time.Minute}))
	dialJSON(t, s, dialOptions{hub: "other"}) // has no event handler, and does not use up the fault
	log := newEventLog()
	listen(t, s, handlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		log.add("%s", r.Header.Get("ce-id")+" "+r.Header.Get("ce-eventName"))
	}), inProcess)
	c := dialJSON(t, s, dialOptions{user: "ann"})
	require.NoError(t, c.ws.Close(websocket.StatusNormalClosure, ""))
	require.Equal(t, []string{"0 connect", "2 disconnected"}, log.wait(t, 2))
	require.NoError(t, s.WaitForDelayed(t.Context(), 1))
	s.Advance(time.Minute)
	require.Equal(t, "1 connected", log.wait(t, 3)[2])
}

func TestEventsNameTheHostThatTheClientConnectedTo(t *testing.T) {
	s := emulator.StartT(t, nil)
	origins := newEventLog()
	listen(t, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origins.add("%s %s", r.Method, r.Header.Get("WebHook-Request-Origin"))
		w.Header().Set("WebHook-Allowed-Origin", "localhost")
	}), inProcess)
	u := dialOptions{user: "ann"}.url(t, s)
	ws, _, err := websocket.Dial(t.Context(), strings.Replace(u, "127.0.0.1", "LocalHost", 1), nil)
	require.NoError(t, err)
	defer ws.CloseNow()
	require.NoError(t, s.WaitForEvents(t.Context(), "chat", "connected", 1))
	resp, err := tryDial(t, dialOptions{user: "ann"}.url(t, s))
	require.Error(t, err)
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
	require.Equal(t, []string{"OPTIONS localhost", "POST localhost", "POST localhost", "OPTIONS 127.0.0.1"}, origins.wait(t, 4))
}

func TestARejectedClientReceivesTheApplicationsResponse(t *testing.T) {
	for name, test := range map[string]struct {
		status      int
		contentType string
		body        string
		want        string
	}{
		"401":                  {401, "application/problem+json", `{"title":"no"}`, `{"title":"no"}`},
		"403 without a type":   {403, "", "no", "no"},
		"429 without a body":   {429, "", "", ""},
		"400 with a long page": {400, "text/html", strings.Repeat("x", 100_000), strings.Repeat("x", 100_000)},
		"500":                  {500, "text/plain", "a stack trace", ""},
		"302":                  {302, "text/plain", "elsewhere", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := emulator.StartT(t, nil)
			listen(t, s, handlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Content-Type"] = nil
				if test.contentType != "" {
					w.Header().Set("Content-Type", test.contentType)
				}
				w.WriteHeader(test.status)
				io.WriteString(w, test.body)
			}), overHTTP)
			answer := make(chan *http.Response, 1)
			url := "http" + strings.TrimPrefix(dialOptions{user: "ann"}.url(t, s), "ws")
			go func() {
				r, _ := http.NewRequest("GET", url, nil)
				for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
					"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
					r.Header.Set(name, value)
				}
				resp, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					t.Error(err)
				}
				answer <- resp
			}()
			resp := advanceUntil(s, answer)
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, test.status, resp.StatusCode)
			require.Equal(t, test.want, string(body))
			if test.status/100 == 4 {
				require.Equal(t, test.contentType, resp.Header.Get("Content-Type"))
			} else {
				require.Empty(t, resp.Header.Get("Content-Type"))
			}
			require.NotContains(t, s.Hubs(), "chat", "a rejected client creates no hub")
		})
	}
}

func TestAHandlerAddedLaterReceivesEvents(t *testing.T) {
	s := emulator.StartT(t, nil)
	c := dialJSON(t, s, dialOptions{user: "ann"})
	require.Contains(t, c.ask(`{"type":"event","event":"x","dataType":"text","data":"x","ackId":1}`), `"success":false`)
	listen(t, s, handlerFunc(func(http.ResponseWriter, *http.Request) {}), inProcess)
	require.Contains(t, c.ask(`{"type":"event","event":"x","dataType":"text","data":"x","ackId":2}`), `"success":true`)
	require.NoError(t, s.SetHubSettings("chat", emulator.HubSettings{}))
	require.Contains(t, c.ask(`{"type":"event","event":"x","dataType":"text","data":"x","ackId":3}`), `"success":false`)
	listen(t, s, handlerFunc(func(http.ResponseWriter, *http.Request) {}), inProcess)
	require.NoError(t, c.ws.Close(websocket.StatusNormalClosure, ""))
	require.NoError(t, s.WaitForEvents(t.Context(), "chat", "disconnected", 1))
	require.Equal(t, "2", s.Events()[1].ID, "connect and connected are numbered even if nobody receives them")
}

func TestAnEventsRequestIsCanceledWhenItsClientLeaves(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *emulator.Server, c *client){
		"without a close frame": func(_ *testing.T, _ *emulator.Server, c *client) { c.ws.CloseNow() },
	} {
		t.Run(name, func(t *testing.T) {
			s := emulator.StartT(t, nil)
			began, ended := make(chan struct{}), make(chan struct{})
			listen(t, s, handlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.Header.Get("ce-eventName") == "slow" {
					_, _ = io.ReadAll(r.Body) // after that, net/http detects that the client is gone
					close(began)
					select {
					case <-r.Context().Done():
						close(ended)
					case <-time.After(patience):
					}
				}
			}), overHTTP)
			c := dialJSON(t, s, dialOptions{user: "ann"})
			c.write(`{"type":"event","event":"slow","dataType":"text","data":"x"}`)
			<-began
			end(t, s, c)
			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatal("the request is not canceled")
			}
			require.NoError(t, s.WaitForEvents(t.Context(), "chat", "disconnected", 1))
			require.Equal(t, 1, s.Events()[2].Attempts, "the event is not retried")
		})
	}
}
