package eventhandler_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/eventhandler"
)

func TestNewRefusesOptionsThatAreWrong(t *testing.T) {
	ok := []string{testKey}
	for name, test := range map[string]struct {
		options eventhandler.Options
		fault   string
	}{
		"no hub":                      {eventhandler.Options{AccessKeys: ok}, "Hub is empty"},
		"an empty hub of several":     {eventhandler.Options{Hubs: []string{"chat", ""}, AccessKeys: ok}, "Hubs[1] is empty"},
		"an invalid hub name":         {eventhandler.Options{Hub: "my-hub", AccessKeys: ok}, "Hub must be a letter, then"},
		"no key":                      {eventhandler.Options{Hub: "chat"}, "AccessKeys is empty"},
		"an empty key":                {eventhandler.Options{Hub: "chat", AccessKeys: []string{"k", ""}}, "AccessKeys[1] is empty"},
		"a nil credential":            {eventhandler.Options{Hub: "chat", KeyCredentials: make([]*azcore.KeyCredential, 1)}, "KeyCredentials[0] is nil"},
		"an empty credential":         {eventhandler.Options{Hub: "chat", KeyCredentials: []*azcore.KeyCredential{azcore.NewKeyCredential("")}}, "KeyCredentials[0] holds an empty key"},
		"a wrong connection string":   {eventhandler.Options{Hub: "chat", ConnectionStrings: []string{"AccessKey=secret"}}, "ConnectionStrings[0]"},
		"a key without verification":  {eventhandler.Options{Hub: "chat", AccessKeys: ok, DangerouslyDisableSignatureVerification: true}, "DangerouslyDisableSignatureVerification"},
		"an origin that is a URL":     {eventhandler.Options{Hub: "chat", AccessKeys: ok, AllowedOrigins: []string{"https://a"}}, "AllowedOrigins[0]"},
		"an empty origin":             {eventhandler.Options{Hub: "chat", AccessKeys: ok, AllowedOrigins: []string{"a", ""}}, "AllowedOrigins[1]"},
		"a negative limit for bodies": {eventhandler.Options{Hub: "chat", AccessKeys: ok, MaxBodyBytes: -1}, "MaxBodyBytes is negative"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := eventhandler.New(&test.options)
			require.ErrorIs(t, err, webpubsub.ErrInvalidArgument)
			require.ErrorContains(t, err, test.fault)
			require.NotContains(t, err.Error(), "secret")
		})
	}
	t.Run("no options", func(t *testing.T) {
		_, err := eventhandler.New(nil)
		require.ErrorIs(t, err, webpubsub.ErrInvalidArgument)
		require.ErrorContains(t, err, "Hub is empty")
	})
}

func TestOptionsMayChangeAfterwards(t *testing.T) {
	options := &eventhandler.Options{Hub: "chat", AccessKeys: []string{testKey}}
	handler, err := eventhandler.New(options)
	require.NoError(t, err)
	require.Equal(t, []string{testKey}, options.AccessKeys, "New does not change the caller's options either")
	*options = eventhandler.Options{Hub: "other", AccessKeys: []string{"other"}, MaxBodyBytes: 1}
	answer := do(t, newEvent(newServer(t, handler), "sys.connected", "application/json", "{}"))
	require.Equal(t, http.StatusNoContent, answer.status, answer.body)
}

func TestConnectRequestHoldsWhatTheServiceSends(t *testing.T) {
	var got *eventhandler.ConnectRequest
	var header http.Header
	base := serve(t, eventhandler.Options{
		OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			got = r
			header, r.Event.Header = r.Event.Header, nil
			return nil, nil
		},
	})
	answer := do(t, newEvent(base+"/any/path?x=1", "sys.connect", "application/json; charset=utf-8", `{
		"claims": {"sub": ["ann"], "role": ["a", "b"]},
		"query": {"room": ["r1", "r2"]},
		"headers": {"user-agent": ["Firefox"], "X-Two": ["1", "2"]},
		"subprotocols": ["json.webpubsub.azure.v1", "my"],
		"clientCertificates": [{"thumbprint": "ABC", "content": "PEM"}],
		"something": "new"
	}`, with("ce-userId", "Jürgen"), with("ce-id", "0"), with("ce-hub", "Chat"),
		with("ce-connectionState", "eyJuIjozLCJzIjoieCJ9"), with("ce-future", "whatever")))

	require.Equal(t, http.StatusNoContent, answer.status)
	require.Empty(t, answer.body)
	require.Equal(t, &eventhandler.ConnectRequest{
		Event: eventhandler.Event{
			Hub: "chat", ConnectionID: "c1", UserID: "Jürgen", EventName: "connect", EventID: "0",
			Time: time.Date(2026, 11, 24, 3, 4, 5, 678e6, time.UTC), Origin: "name.webpubsub.azure.com",
			State: eventhandler.State{"n": []byte("3"), "s": []byte(`"x"`)}, RawState: "eyJuIjozLCJzIjoieCJ9",
		},
		Claims:             map[string][]string{"sub": {"ann"}, "role": {"a", "b"}},
		Query:              url.Values{"room": {"r1", "r2"}},
		Header:             http.Header{"User-Agent": {"Firefox"}, "X-Two": {"1", "2"}},
		Subprotocols:       []string{"json.webpubsub.azure.v1", "my"},
		ClientCertificates: []eventhandler.ClientCertificate{{Thumbprint: "ABC", Content: "PEM"}},
	}, got)
	require.False(t, got.IsMQTT())
	require.Equal(t, []string{"whatever", "c1", ""}, []string{header.Get("ce-future"), header.Get("ce-connectionId"), header.Get("X-Two")},
		"Event.Header holds the headers of the service's request, not the client's")
}

func TestConnectAnswers(t *testing.T) {
	type response = eventhandler.ConnectResponse
	for name, test := range map[string]struct {
		response *response
		err      error
		status   int
		body     string // "-": not checked
		state    string
	}{
		"nil accepts":            {status: 204},
		"an empty one accepts":   {response: &response{}, status: 204},
		"all fields are sent":    {response: &response{UserID: "u<1>", Groups: []string{"g"}, Roles: []string{"webpubsub.sendToGroup"}, Subprotocol: "b"}, status: 200, body: `{"userId":"u\u003c1\u003e","groups":["g"],"roles":["webpubsub.sendToGroup"],"subprotocol":"b"}`},
		"state alone":            {response: &response{SetState: map[string]any{"n": 1}}, status: 204, state: `{"n":1}`},
		"state and user":         {response: &response{UserID: "u", SetState: map[string]any{"s": []string{"ü"}}}, status: 200, body: `{"userId":"u"}`, state: `{"s":["ü"]}`},
		"MQTT for other clients": {response: &response{MQTTUserProperties: []eventhandler.MQTTUserProperty{{Name: "a", Value: "b"}}}, status: 204},

		"a rejection is status and text":                {err: eventhandler.Reject(403, "not you, <Bob>"), status: 403, body: "not you, <Bob>"},
		"a wrapped rejection, too":                      {err: fmt.Errorf("lookup: %w", eventhandler.Reject(401, "who?")), status: 401, body: "who?"},
		"a rejection wins over a response":              {response: &response{UserID: "u"}, err: eventhandler.Reject(404, "no"), status: 404, body: "no"},
		"a rejection with an MQTT code":                 {err: &eventhandler.RejectError{MQTTCode: 0x8A, Reason: "banned"}, status: 403, body: "banned"},
		"any other error is a bare 500":                 {err: errors.New("password=secret"), status: 500, body: "the event handler failed\n"},
		"a rejection with a success status is a fault":  {err: eventhandler.Reject(200, "secret"), status: 422, body: "the event handler failed\n"},
		"a subprotocol that was not offered is a fault": {response: &response{Subprotocol: "c"}, status: 422, body: "the event handler failed\n"},
		"a state that does not encode is a fault":       {response: &response{SetState: map[string]any{"c": make(chan int)}}, status: 422, body: "the event handler failed\n"},
		"a state that is too large is a fault":          {response: &response{SetState: map[string]any{"c": strings.Repeat("x", 32<<10)}}, status: 422, body: "the event handler failed\n"},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, eventhandler.Options{
				OnConnect: func(context.Context, *eventhandler.ConnectRequest) (*response, error) {
					return test.response, test.err
				},
			})
			answer := do(t, newEvent(url, "sys.connect", "application/json", `{"subprotocols":["a","b"]}`))
			require.Equal(t, test.status, answer.status)
			require.Equal(t, test.body, answer.body)
			if test.status == http.StatusOK {
				require.Equal(t, "application/json; charset=utf-8", answer.header.Get("Content-Type"))
			}
			require.Equal(t, test.state, decodeState(t, answer))
		})
	}
}

func TestUserEventRequestHoldsWhatTheClientSends(t *testing.T) {
	for name, test := range map[string]struct {
		contentType, body string
		want              string
	}{
		"text":                  {"text/plain", "héllo", "text/plain"},
		"text with a charset":   {"text/plain; charset=UTF-8", "hi", "text/plain"},
		"empty text":            {"text/plain", "", "text/plain"},
		"JSON":                  {"application/json", `{"a": [1]}`, "application/json"},
		"JSON string":           {"application/json; charset=utf-8", `"x"`, "application/json"},
		"binary":                {"application/octet-stream", "\x00\xff", "application/octet-stream"},
		"protobuf":              {"application/x-protobuf", "\x0a\x01", "application/x-protobuf"},
		"a content type in CAP": {"Application/JSON", `1`, "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			var got *eventhandler.UserEventRequest
			url := serve(t, eventhandler.Options{
				OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
					got = r
					return nil, nil
				},
			})
			answer := do(t, newEvent(url, "user.Order.New-1", test.contentType, test.body,
				with("ce-userId", "ann"), with("ce-subprotocol", "json.webpubsub.azure.v1"),
				with("X-WebPubSub-Metadata-Trace", "t1")))
			require.Equal(t, http.StatusNoContent, answer.status)
			require.Equal(t, test.want, got.ContentType)
			require.Equal(t, test.body, got.Text())
			require.Equal(t, []string{"Order.New-1", "ann", "json.webpubsub.azure.v1", "c1", "3"},
				[]string{got.EventName, got.UserID, got.Subprotocol, got.ConnectionID, got.EventID})
			require.Equal(t, map[string]string{"trace": "t1"}, got.Metadata)
			require.Empty(t, got.State)
		})
	}
}

func TestUserEventAnswers(t *testing.T) {
	type response = eventhandler.UserEventResponse
	tooLong := strings.Repeat("x", 1025)
	many := map[string]string{}
	for i := range 9 {
		many[fmt.Sprint(i)] = tooLong[1:]
	}
	for name, test := range map[string]struct {
		response    *response
		err         error
		status      int
		contentType string
		body        string
		metadata    string
	}{
		"nil is success":          {status: 204},
		"an empty one is success": {response: &response{}, status: 204},
		"text":                    {response: &response{Message: webpubsub.Text("héllo")}, status: 200, contentType: "text/plain; charset=utf-8", body: "héllo"},
		"JSON":                    {response: &response{Message: webpubsub.JSON("x")}, status: 200, contentType: "application/json; charset=utf-8", body: `"x"`},
		"binary":                  {response: &response{Message: webpubsub.Binary([]byte{0, 255})}, status: 200, contentType: "application/octet-stream", body: "\x00\xff"},
		"a stream":                {response: &response{Message: webpubsub.BinaryStream(strings.NewReader("abc"))}, status: 200, contentType: "application/octet-stream", body: "abc"},
		"metadata":                {response: &response{Message: webpubsub.Text("x"), Metadata: map[string]string{"trace": "t 1"}}, status: 200, contentType: "text/plain; charset=utf-8", body: "x", metadata: "t 1"},
		"empty text":              {response: &response{Message: webpubsub.Text("")}, status: 200, contentType: "text/plain; charset=utf-8"},

		"a rejection":                     {err: eventhandler.Reject(429, "slow down"), status: 429, contentType: "text/plain; charset=utf-8", body: "slow down"},
		"a rejection that is nil":         {err: (*eventhandler.RejectError)(nil), status: 422, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"an error that panics":            {err: panicError{}, status: 500, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"another error":                   {err: errors.New("secret"), status: 500, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"JSON that does not encode":       {response: &response{Message: webpubsub.JSON(func() {})}, status: 422, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"a metadata key with a space":     {response: &response{Metadata: map[string]string{"a b": "x"}}, status: 422, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"a metadata key that is empty":    {response: &response{Metadata: map[string]string{"": "x"}}, status: 422, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"a metadata key that is too long": {response: &response{Metadata: map[string]string{tooLong[:257]: "x"}}, status: 422, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"a metadata value with a newline": {response: &response{Metadata: map[string]string{"a": "x\ny"}}, status: 422, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"a metadata value outside ASCII":  {response: &response{Metadata: map[string]string{"a": "ü"}}, status: 422, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"a metadata value too long":       {response: &response{Metadata: map[string]string{"a": tooLong}}, status: 422, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"a metadata value with an end":    {response: &response{Metadata: map[string]string{"a": "x "}}, status: 422, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"metadata keys of one name":       {response: &response{Metadata: map[string]string{"a": "x", "A": "y"}}, status: 422, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"a metadata value with a comma":   {response: &response{Metadata: map[string]string{"a": "x,y"}}, status: 422, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
		"too much metadata":               {response: &response{Metadata: many}, status: 422, contentType: "text/plain; charset=utf-8", body: "the event handler failed\n"},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, eventhandler.Options{
				OnUserEvent: func(context.Context, *eventhandler.UserEventRequest) (*response, error) {
					return test.response, test.err
				},
			})
			answer := do(t, newEvent(url, "user.message", "text/plain", "hi"))
			require.Equal(t, test.status, answer.status)
			require.Equal(t, test.contentType, answer.header.Get("Content-Type"))
			require.Equal(t, test.body, answer.body)
			require.Equal(t, test.metadata, answer.header.Get("X-WebPubSub-Metadata-trace"))
			if test.status >= 400 { // the text may contain input from a client
				require.Equal(t, "nosniff", answer.header.Get("X-Content-Type-Options"))
			}
		})
	}
}

// panicError is an error whose Error method panics.
type panicError struct{}

func (panicError) Error() string { return "an error" }
func (panicError) Unwrap() error { panic("a bug") }

// panicReader is a stream that panics.
type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("a bug") }

// readerFunc is a stream made from a function.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAReplyWhoseStreamFails(t *testing.T) {
	half := strings.NewReader(strings.Repeat("x", 64<<10))
	for name, test := range map[string]struct {
		stream io.Reader
		cutOff bool
		log    string
	}{
		"before its first byte":         {iotest.ErrReader(errors.New("disk")), false, "event failed"},
		"after its start":               {io.MultiReader(half, iotest.ErrReader(errors.New("disk"))), true, "response aborted"},
		"before its first byte, by bug": {panicReader{}, false, "panic: a bug"},
		"that never makes progress":     {readerFunc(func([]byte) (int, error) { return 0, nil }), false, "multiple Read calls return no data"},
		"that stops making progress": {io.MultiReader(strings.NewReader("half"), readerFunc(func([]byte) (int, error) { return 0, nil })),
			true, "multiple Read calls return no data"},
		"with a count too large":  {readerFunc(func(p []byte) (int, error) { return len(p) + 1, nil }), false, "an impossible count"},
		"with a negative count":   {readerFunc(func([]byte) (int, error) { return -1, nil }), false, "an impossible count"},
		"after its start, by bug": {io.MultiReader(strings.NewReader("half"), panicReader{}), true, "panic: a bug"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			handler, err := eventhandler.New(&eventhandler.Options{
				Hub: "chat", AccessKeys: []string{testKey}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
				OnUserEvent: func(context.Context, *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
					return &eventhandler.UserEventResponse{Message: webpubsub.BinaryStream(test.stream),
						Metadata: map[string]string{"a": "b"}, SetState: map[string]any{"n": 1}}, nil
				},
			})
			require.NoError(t, err)
			ended := make(chan bool, 1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() { ended <- true }()
				handler.ServeHTTP(w, r)
			}))
			defer server.Close()
			response, err := http.DefaultClient.Do(newEvent(server.URL, "user.message", "text/plain", "hi"))
			if err == nil {
				_, err = io.ReadAll(response.Body)
				response.Body.Close()
			}
			<-ended
			if test.cutOff {
				require.Error(t, err, "the service must be able to tell half a message from a whole one")
			} else {
				require.NoError(t, err)
				require.Equal(t, http.StatusInternalServerError, response.StatusCode)
				require.Empty(t, response.Header.Get("ce-connectionState")+response.Header.Get("X-WebPubSub-Metadata-a"),
					"an event that failed changes nothing")
			}
			require.Contains(t, log.String(), test.log)
		})
	}
}

func TestNotificationsReachTheirFunctions(t *testing.T) {
	var got any
	failure := errors.New("database")
	options := eventhandler.Options{
		OnConnected: func(_ context.Context, r *eventhandler.ConnectedRequest) error { got, r.Header = r, nil; return nil },
		OnDisconnected: func(_ context.Context, r *eventhandler.DisconnectedRequest) error {
			got, r.Header = r, nil
			return failure
		},
		OnGroupJoined: func(_ context.Context, r *eventhandler.GroupRequest) error { got, r.Header = r, nil; return nil },
		OnGroupLeft: func(_ context.Context, r *eventhandler.GroupRequest) error {
			got, r.Header = r, nil
			return eventhandler.Reject(400, "no")
		},
	}
	url := serve(t, options)
	event := func(name string) eventhandler.Event {
		return eventhandler.Event{
			Hub: "chat", ConnectionID: "c1", EventName: name, EventID: "3", State: eventhandler.State{},
			Time: time.Date(2026, 11, 24, 3, 4, 5, 678e6, time.UTC), Origin: "name.webpubsub.azure.com",
		}
	}
	for name, test := range map[string]struct {
		event, body string
		want        any
		status      int
	}{
		"connected":                       {"sys.connected", `{}`, &eventhandler.ConnectedRequest{Event: event("connected")}, 204},
		"disconnected, failing":           {"sys.disconnected", `{"reason":"gone"}`, &eventhandler.DisconnectedRequest{Event: event("disconnected"), Reason: "gone"}, 500},
		"disconnected without a reason":   {"sys.disconnected", `{"reason":null}`, &eventhandler.DisconnectedRequest{Event: event("disconnected")}, 500},
		"joined a group":                  {"gp.joined", `{"group":"g"}`, &eventhandler.GroupRequest{Event: event("joined"), Group: "g"}, 204},
		"left a group, turned down":       {"gp.left", `{"group":"g"}`, &eventhandler.GroupRequest{Event: event("left"), Group: "g"}, 400},
		"connected, with space in the {}": {"sys.connected", "\n {} ", &eventhandler.ConnectedRequest{Event: event("connected")}, 204},
	} {
		t.Run(name, func(t *testing.T) {
			got = nil
			answer := do(t, newEvent(url, test.event, "application/json", test.body))
			require.Equal(t, test.status, answer.status)
			require.Equal(t, test.want, got)
		})
	}
}

func TestWithoutFunctions(t *testing.T) {
	url := serve(t, eventhandler.Options{})
	for event, status := range map[string]int{
		"sys.connect": 204, "sys.connected": 204, "sys.disconnected": 204, "gp.joined": 204, "gp.left": 204, "user.message": 404,
	} {
		t.Run(event, func(t *testing.T) {
			require.Equal(t, status, do(t, newEvent(url, event, "application/json", `{}`)).status)
		})
	}
}

func TestAPanicIsA500AndALogLine(t *testing.T) {
	var log bytes.Buffer
	url := serve(t, eventhandler.Options{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		OnConnect: func(context.Context, *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			panic("a bug")
		},
		OnConnected: func(context.Context, *eventhandler.ConnectedRequest) error { return nil },
	})
	answer := do(t, newEvent(url, "sys.connect", "application/json", `{}`))
	require.Equal(t, http.StatusInternalServerError, answer.status)
	require.NotContains(t, answer.body, "bug")
	require.Contains(t, log.String(), "panic: a bug")
	require.Contains(t, log.String(), "connectionId=c1")
	require.Contains(t, log.String(), "handler_test.go", "the stack says where")

	require.Equal(t, http.StatusNoContent, do(t, newEvent(url, "sys.connected", "application/json", `{}`)).status,
		"the server serves on")
}

func TestErrAbortHandlerIsPassedOn(t *testing.T) {
	url := serve(t, eventhandler.Options{
		OnConnected: func(context.Context, *eventhandler.ConnectedRequest) error { panic(http.ErrAbortHandler) },
	})
	_, err := http.DefaultClient.Do(newEvent(url, "sys.connected", "application/json", `{}`)) //nolint:bodyclose // there is no response
	require.Error(t, err)
}

func TestErrorsAreLoggedAndNotSent(t *testing.T) {
	var log bytes.Buffer
	url := serve(t, eventhandler.Options{
		Logger:      slog.New(slog.NewTextHandler(&log, nil)),
		OnConnected: func(context.Context, *eventhandler.ConnectedRequest) error { return errors.New("the database is down") },
	})
	answer := do(t, newEvent(url, "sys.connected", "application/json", `{}`))
	require.Equal(t, "the event handler failed\n", answer.body)
	require.Contains(t, log.String(), "the database is down")
	require.Contains(t, log.String(), "level=ERROR")
}

func TestFunctionsGetTheContextOfTheRequest(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan error, 1)
	url := serve(t, eventhandler.Options{
		OnUserEvent: func(ctx context.Context, _ *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			close(arrived)
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := http.DefaultClient.Do(newEvent(url, "user.message", "text/plain", "hi").WithContext(ctx)) //nolint:bodyclose // there is no response
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, <-ended, context.Canceled)
}

// The service cancels the request of an event whose client has gone. That is not a fault of the application.
func TestACanceledRequestIsLoggedAsSuch(t *testing.T) {
	for name, test := range map[string]struct {
		err  func(context.Context) error
		want string
	}{
		"the context's error": {func(ctx context.Context) error { return fmt.Errorf("query: %w", ctx.Err()) },
			`level=WARN msg="event aborted: its request was canceled"`},
		"another error": {func(context.Context) error { return errors.New("the database is down") },
			`level=ERROR msg="event failed; the service retries it"`},
		"the error of another context": {func(context.Context) error { return context.DeadlineExceeded },
			`level=ERROR msg="event failed; the service retries it"`},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			arrived, served := make(chan struct{}), make(chan struct{})
			handler, err := eventhandler.New(&eventhandler.Options{
				Hub: "chat", AccessKeys: []string{testKey}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
				OnUserEvent: func(ctx context.Context, _ *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
					close(arrived)
					<-ctx.Done()
					return nil, test.err(ctx)
				},
			})
			require.NoError(t, err)
			url := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(served)
				handler.ServeHTTP(w, r)
			}))
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-arrived
				cancel()
			}()
			_, err = http.DefaultClient.Do(newEvent(url, "user.message", "text/plain", "hi").WithContext(ctx)) //nolint:bodyclose // there is no response
			require.ErrorIs(t, err, context.Canceled)
			<-served
			require.Contains(t, log.String(), test.want)
			require.Equal(t, 1, strings.Count(log.String(), "\n"))
		})
	}
}

func TestUserEventJSON(t *testing.T) {
	event := func(contentType, data string) *eventhandler.UserEventRequest {
		return &eventhandler.UserEventRequest{ContentType: contentType, Data: []byte(data)}
	}
	var got struct{ N int }
	require.NoError(t, event("application/json", `{"n":3}`).JSON(&got))
	require.Equal(t, 3, got.N)

	var rejection *eventhandler.RejectError
	require.ErrorAs(t, event("text/plain", `{"n":3}`).JSON(&got), &rejection)
	require.Equal(t, http.StatusUnsupportedMediaType, rejection.Status)
	require.ErrorAs(t, event("application/json", `{"n":"x"}`).JSON(&got), &rejection)
	require.Equal(t, http.StatusBadRequest, rejection.Status)
}

func TestANilLoggerLogsNothing(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub: "chat", AccessKeys: []string{testKey},
		OnConnected: func(context.Context, *eventhandler.ConnectedRequest) error { panic("a bug") },
	})
	require.NoError(t, err)
	server := newServer(t, handler)
	require.Equal(t, http.StatusInternalServerError, do(t, newEvent(server, "sys.connected", "application/json", "{}")).status)
	require.Equal(t, http.StatusUnauthorized, do(t, newEvent(server, "sys.connected", "application/json", "{}", with("ce-signature", ""))).status)
	require.Empty(t, log.String())
}
