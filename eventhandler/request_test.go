package eventhandler_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/eventhandler"
)

// neverCalled returns options whose callbacks fail the test.
func neverCalled(t testing.TB) eventhandler.Options {
	return eventhandler.Options{
		OnConnect: func(context.Context, *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			t.Error("OnConnect was called")
			return nil, nil
		},
		OnConnected: func(context.Context, *eventhandler.ConnectedRequest) error {
			t.Error("OnConnected was called")
			return nil
		},
		OnUserEvent: func(context.Context, *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			t.Error("OnUserEvent was called")
			return nil, nil
		},
		OnDisconnected: func(context.Context, *eventhandler.DisconnectedRequest) error {
			t.Error("OnDisconnected was called")
			return nil
		},
		OnGroupJoined: func(context.Context, *eventhandler.GroupRequest) error {
			t.Error("OnGroupJoined was called")
			return nil
		},
		OnGroupLeft: func(context.Context, *eventhandler.GroupRequest) error {
			t.Error("OnGroupLeft was called")
			return nil
		},
	}
}

func TestBadEventsAreRefusedAndReachNoFunction(t *testing.T) {
	twice := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = []string{"x", "x"} }
	}
	type test struct {
		event, contentType, body string
		edit                     func(*http.Request)
		status                   int
		reason                   string
	}
	edited := func(status int, reason string, edit func(*http.Request)) test {
		return test{"user.message", "text/plain", "hi", edit, status, reason}
	}
	tests := map[string]test{
		"an event of another service":        edited(400, "does not name an event", with("ce-type", "Microsoft.Storage.BlobCreated")),
		"an event type in capitals":          edited(400, "does not name an event", with("ce-type", "AZURE.WEBPUBSUB.SYS.CONNECT")),
		"a user event without a name":        edited(400, "different events", with("ce-type", "azure.webpubsub.user.")),
		"two names for one event":            edited(400, "different events", with("ce-eventName", "other")),
		"two names for a system event":       edited(400, "different events", with("ce-type", "azure.webpubsub.sys.connect")),
		"CloudEvents of another version":     edited(400, "ce-specversion is not 1.0", with("ce-specversion", "0.3")),
		"a hub of another handler":           edited(404, "does not serve this hub", with("ce-hub", "other")),
		"a header with a tab":                edited(400, "ce-userId contains a control character", with("ce-userId", "a\tb")),
		"a header with a C1 control":         edited(400, "ce-userId contains a control character", with("ce-userId", "a\u0085b")),
		"a header that is not UTF-8":         edited(400, "ce-userId is not valid UTF-8", with("ce-userId", "\xff")),
		"a header that is too long":          edited(400, "ce-userId is longer than 8192", with("ce-userId", strings.Repeat("x", 8193))),
		"no content type":                    edited(415, "Content-Type is missing", with("Content-Type", "")),
		"an invalid content type":            edited(415, "Content-Type is missing or not a media type", with("Content-Type", "text/;")),
		"a content type of no user event":    edited(415, "content type", with("Content-Type", "text/html")),
		"text in another charset":            edited(415, "charset", with("Content-Type", "text/plain; charset=latin1")),
		"no signature":                       edited(401, "ce-signature is missing", with("ce-signature", "")),
		"a signature of another key":         edited(401, "ce-signature", with("ce-signature", sign("c1", "other"))),
		"a signature of another connection":  edited(401, "ce-signature", with("ce-connectionId", "c2")),
		"a signature without its algorithm":  edited(401, "ce-signature", with("ce-signature", strings.TrimPrefix(sign("c1", testKey), "sha256="))),
		"a signature that is cut short":      edited(401, "ce-signature", with("ce-signature", sign("c1", testKey)[:40])),
		"an empty signature":                 edited(401, "ce-signature", with("ce-signature", "sha256=")),
		"more signatures than keys can make": edited(401, "more than 8", with("ce-signature", sign("c1", "1", "2", "3", "4", "5", "6", "7", "8", testKey))),
		"a wrong signature on bad headers":   edited(401, "ce-signature", func(r *http.Request) { with("ce-type", "")(r); with("ce-signature", "x")(r) }),
		"a body with a content encoding":     edited(415, "content encoding", with("Content-Encoding", "gzip")),
		"a metadata value that is too long":  edited(400, "is longer than 8192", with("X-WebPubSub-Metadata-a", strings.Repeat("x", 8193))),
		"a metadata value with a tab":        edited(400, "control character", with("X-WebPubSub-Metadata-a", "a\tb")),
		"JSON that is not UTF-8":             {"user.message", "application/json", "\"\xff\"", nil, 400, "UTF-8"},
		"a connect event that is not UTF-8":  {"sys.connect", "application/json", "{\"claims\":{\"sub\":[\"\xff\"]}}", nil, 400, "UTF-8"},
		"text that is not UTF-8":             {"user.message", "text/plain", "\xff", nil, 400, "UTF-8"},
		"JSON that is not JSON":              {"user.message", "application/json", `{"a":`, nil, 400, "not valid JSON"},
		"an empty body of JSON":              {"user.message", "application/json", ``, nil, 400, "not valid JSON"},
		"two JSON values":                    {"user.message", "application/json", `1 2`, nil, 400, "not valid JSON"},
		"a body over the limit":              {"user.message", "application/octet-stream", strings.Repeat("x", 2<<20+1), nil, 413, "larger than 2097152"},

		"a connect event without a body":      {"sys.connect", "application/json", "", nil, 400, "not a JSON object"},
		"a connect event with an array":       {"sys.connect", "application/json", "[]", nil, 400, "not a JSON object"},
		"a connect event with null":           {"sys.connect", "application/json", "null", nil, 400, "not a JSON object"},
		"a connect event that is cut short":   {"sys.connect", "application/json", `{"claims":{"a":["b`, nil, 400, "not valid JSON for this event"},
		"a connect event of the wrong shape":  {"sys.connect", "application/json", `{"claims":[]}`, nil, 400, "not valid JSON for this event"},
		"a connect event with JSON after it":  {"sys.connect", "application/json", `{} {}`, nil, 400, "not valid JSON for this event"},
		"a connect event as text":             {"sys.connect", "text/plain", `{}`, nil, 415, "application/json"},
		"a connected event with broken JSON":  {"sys.connected", "application/json", `{`, nil, 400, "not valid JSON for this event"},
		"a disconnected event of wrong shape": {"sys.disconnected", "application/json", `{"reason":1}`, nil, 400, "not valid JSON for this event"},
		"a group event of the wrong shape":    {"gp.joined", "application/json", `{"group":1}`, nil, 400, "not valid JSON for this event"},
	}
	for _, header := range []string{
		"ce-specversion", "ce-type", "ce-id", "ce-hub", "ce-connectionId", "ce-eventName",
	} {
		tests["without "+header] = edited(400, "the header "+header+" is missing", with(header, ""))
		tests["twice "+header] = edited(400, "the header "+header+" appears 2 times", twice(header))
	}
	for _, header := range []string{"ce-userId", "ce-subprotocol", "ce-connectionState", "Content-Type"} {
		tests["twice "+header] = edited(400, "the header "+header+" appears 2 times", twice(header))
	}

	url := serve(t, neverCalled(t))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.edit == nil {
				test.edit = func(*http.Request) {}
			}
			answer := do(t, newEvent(url, test.event, test.contentType, test.body, test.edit))
			require.Equal(t, test.status, answer.status, answer.body)
			require.Contains(t, answer.body, test.reason)
			require.Equal(t, 1, strings.Count(answer.body, "\n"), "the reason is one line")
		})
	}
}

// A server rejects most control characters itself, but other code may call a handler.
func TestControlCharactersAreRefusedWithoutAServer(t *testing.T) {
	options := neverCalled(t)
	options.Hub, options.AccessKeys, options.Logger = "chat", []string{testKey}, slog.New(slog.DiscardHandler)
	handler, err := eventhandler.New(&options)
	require.NoError(t, err)
	for _, value := range []string{"a\nb", "a\x00", "\x7f", "a\r\nce-userId: b"} {
		t.Run(fmt.Sprintf("%q", value), func(t *testing.T) {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, newEvent("http://h", "sys.connected", "application/json", "{}", with("ce-userId", value)))
			require.Equal(t, http.StatusBadRequest, w.Code)
			require.Equal(t, "the header ce-userId contains a control character\n", w.Body.String())
		})
	}
}

func TestABodyThatNoServerHasRead(t *testing.T) {
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub: "chat", AccessKeys: []string{testKey}, Logger: slog.New(slog.DiscardHandler),
		OnUserEvent: func(context.Context, *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			return nil, nil
		},
	})
	require.NoError(t, err)
	for name, test := range map[string]struct {
		body   io.ReadCloser
		length int64
		status int
	}{
		"none":                              {nil, 0, 204},
		"one of unknown length":             {io.NopCloser(strings.NewReader("hi")), -1, 204},
		"one that is shorter than its size": {io.NopCloser(strings.NewReader("hi")), 3, 400},
		"none, with a size":                 {nil, 1, 400},
	} {
		t.Run(name, func(t *testing.T) {
			r := newEvent("http://h", "user.message", "text/plain", "")
			r.Body, r.ContentLength = test.body, test.length
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			require.Equal(t, test.status, w.Code, w.Body)
		})
	}
}

func TestABodyCutShortIsRefused(t *testing.T) {
	server, err := url.Parse(serve(t, neverCalled(t)))
	require.NoError(t, err)
	for name, framing := range map[string]struct{ header, body string }{
		"less than Content-Length says": {"Content-Length: 100", "half a mess"},
		"no last chunk":                 {"Transfer-Encoding: chunked", "5\r\nhello\r\n"},
		"an invalid chunk":              {"Transfer-Encoding: chunked", "hello\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", server.Host)
			require.NoError(t, err)
			defer conn.Close()
			var request bytes.Buffer
			fmt.Fprintf(&request, "POST / HTTP/1.1\r\nHost: h\r\n%s\r\n", framing.header)
			require.NoError(t, newEvent(server.String(), "user.message", "text/plain", "").Header.Write(&request))
			request.WriteString("\r\n" + framing.body)
			_, err = conn.Write(request.Bytes())
			require.NoError(t, err)
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())

			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			defer response.Body.Close()
			require.Equal(t, http.StatusBadRequest, response.StatusCode)
			reason, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, "the body ended early\n", string(reason))
		})
	}
}

func TestTheBodyLimitIsTheOneOfTheOptions(t *testing.T) {
	url := serve(t, eventhandler.Options{
		MaxBodyBytes: 10,
		OnUserEvent: func(context.Context, *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			return nil, nil
		},
	})
	require.Equal(t, 204, do(t, newEvent(url, "user.message", "text/plain", "0123456789")).status)
	require.Equal(t, 413, do(t, newEvent(url, "user.message", "text/plain", "0123456789a")).status)
}

func TestOtherMethodsAreRefused(t *testing.T) {
	url := serve(t, neverCalled(t))
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch} {
		r := newEvent(url, "user.message", "text/plain", "hi")
		r.Method = method
		answer := do(t, r)
		require.Equal(t, http.StatusMethodNotAllowed, answer.status)
		require.Equal(t, "POST, OPTIONS, GET", answer.header.Get("Allow"))
	}
}

func TestRefusalsAreLoggedWithoutSecrets(t *testing.T) {
	var log bytes.Buffer
	options := neverCalled(t)
	options.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	url := serve(t, options)
	forged := sign("c1", "other")
	answer := do(t, newEvent(url, "user.message", "text/plain", "body text", with("ce-signature", forged)))
	for _, secret := range []string{testKey, forged, sign("c1", testKey), "body text"} {
		require.NotContains(t, log.String(), secret)
		require.NotContains(t, answer.body, secret)
	}
	require.Contains(t, log.String(), "status=401")
	require.Contains(t, log.String(), "connectionId=c1")
}
