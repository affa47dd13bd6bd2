package eventhandler_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/eventhandler"
)

// lines sets a header that spans several lines.
func lines(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

// No form that the service, its tunnel or its replicas may use may break an event.
func TestWhatMayDifferInAnEvent(t *testing.T) {
	const origin = "name.webpubsub.azure.com"
	for name, edit := range map[string]func(*http.Request){
		"no ce-awpsversion":                  with("ce-awpsversion", ""),
		"another ce-awpsversion":             with("ce-awpsversion", "2.0"),
		"ce-awpsversion on two lines":        lines("ce-awpsversion", "1.0", "1.0"),
		"no ce-source":                       with("ce-source", ""),
		"another ce-source":                  with("ce-source", "/client/c1"),
		"ce-source on two lines":             lines("ce-source", "a", "b"),
		"signatures on two lines":            lines("ce-signature", sign("c1", "another key"), sign("c1", testKey)),
		"signatures the other way round":     lines("ce-signature", sign("c1", testKey), sign("c1", "another key")),
		"lists of signatures on two lines":   lines("ce-signature", sign("c1", "a", "b"), sign("c1", "c", testKey)),
		"an empty line of signatures":        lines("ce-signature", "", sign("c1", testKey)),
		"origins as a list":                  with("WebHook-Request-Origin", "replica.webpubsub.azure.com, "+origin),
		"origins on two lines":               lines("WebHook-Request-Origin", origin, "ws.contoso.com"),
		"an unknown ce- header":              with("ce-new", "x"),
		"an unknown ce- header on two lines": lines("ce-new", "a", "b"),
		"an unknown ce- header of 40 KB":     with("ce-new", strings.Repeat("x", 40<<10)),
		"an unknown ce- header with a tab":   with("ce-new", "a\tb"),
		"an unknown ce- header in Latin-1":   with("ce-new", "\xe4"),
		"a state of 40 KB":                   with("ce-connectionState", strings.Repeat("x", 40<<10)),
		"metadata on two lines":              lines("X-WebPubSub-Metadata-a", "x", "y"),
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			url := serve(t, eventhandler.Options{
				AllowedOrigins: []string{origin},
				OnUserEvent: func(context.Context, *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
					calls++
					return nil, nil
				},
			})
			answer := do(t, newEvent(url, "user.message", "text/plain", "hi", edit))
			require.Equal(t, http.StatusNoContent, answer.status, answer.body)
			require.Equal(t, 1, calls)
		})
	}
}

func TestATimeThatIsMissingOrWrongIsZero(t *testing.T) {
	var got time.Time
	url := serve(t, eventhandler.Options{
		OnConnected: func(_ context.Context, r *eventhandler.ConnectedRequest) error { got = r.Time; return nil },
	})
	for name, edit := range map[string]func(*http.Request){
		"missing":      with("ce-time", ""),
		"not RFC 3339": with("ce-time", "Wed, 10 Nov 2021 04:23:55 GMT"),
		"there twice":  lines("ce-time", "2021-11-10T04:23:55Z", "2021-11-10T04:23:55Z"),
	} {
		t.Run(name, func(t *testing.T) {
			got = time.Now()
			require.Equal(t, http.StatusNoContent, do(t, newEvent(url, "sys.connected", "application/json", "{}", edit)).status)
			require.True(t, got.IsZero(), got)
		})
	}
}

func TestTheLastLineOfMetadataCounts(t *testing.T) {
	var got map[string]string
	url := serve(t, eventhandler.Options{
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			got = r.Metadata
			return nil, nil
		},
	})
	do(t, newEvent(url, "user.message", "text/plain", "hi", lines("X-WebPubSub-Metadata-Trace", "first", "last")))
	require.Equal(t, map[string]string{"trace": "last"}, got)
}

// The type distinguishes system events from user events, and the name distinguishes joined from left. Unknown events
// are ignored.
func TestTypesAndNamesOfEvents(t *testing.T) {
	for _, test := range []struct {
		eventType, name string
		status          int
		called          string
	}{
		{"azure.webpubsub.gp.joined", "joined", 204, "joined"},
		{"azure.webpubsub.gp.left", "left", 204, "left"},
		{"azure.webpubsub.sys.joined", "joined", 204, "joined"},
		{"azure.webpubsub.sys.left", "left", 204, "left"},
		{"azure.webpubsub.gp.groupJoined", "joined", 204, "joined"},
		{"azure.webpubsub.user.joined", "joined", 204, "user"},
		{"azure.webpubsub.user.connect", "connect", 204, "user"},
		{"azure.webpubsub.sys.renamed", "renamed", 204, ""},
		{"azure.webpubsub.gp.emptied", "emptied", 204, ""},
		{"azure.webpubsub.gp.connect", "connect", 204, ""},
		{"azure.webpubsub.sys.renamed", "connect", 204, ""},
		{"azure.webpubsub.gp.joined", "left", 400, ""},
		{"azure.webpubsub.sys.connected", "joined", 400, ""},
		{"azure.webpubsub.sys.connect", "connected", 400, ""},
		{"azure.webpubsub.new.thing", "thing", 400, ""},
		{"com.example.created", "created", 400, ""},
	} {
		t.Run(test.eventType+" "+test.name, func(t *testing.T) {
			called := ""
			url := serve(t, eventhandler.Options{
				OnConnect: func(context.Context, *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
					called += "connect"
					return nil, nil
				},
				OnConnected: func(context.Context, *eventhandler.ConnectedRequest) error { called += "connected"; return nil },
				OnUserEvent: func(context.Context, *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
					called += "user"
					return nil, nil
				},
				OnGroupJoined: func(_ context.Context, r *eventhandler.GroupRequest) error { called += "joined"; return nil },
				OnGroupLeft:   func(_ context.Context, r *eventhandler.GroupRequest) error { called += "left"; return nil },
			})
			answer := do(t, newEvent(url, "user.message", "application/json", `{"group":"g"}`,
				with("ce-type", test.eventType), with("ce-eventName", test.name)))
			require.Equal(t, test.status, answer.status, answer.body)
			require.Equal(t, test.called, called)
		})
	}
	t.Run("an event that is ignored is verified as well", func(t *testing.T) {
		answer := do(t, newEvent(serve(t, neverCalled(t)), "sys.renamed", "application/json", "{}", with("ce-signature", sign("c1", "x"))))
		require.Equal(t, http.StatusUnauthorized, answer.status)
	})
}

func TestAHandlerOfSeveralHubs(t *testing.T) {
	var got string
	url := serve(t, eventhandler.Options{
		Hub: "Chat", Hubs: []string{"News", "orders"},
		OnConnected: func(_ context.Context, r *eventhandler.ConnectedRequest) error { got = r.Hub; return nil },
	})
	for hub, want := range map[string]string{"chat": "chat", "CHAT": "chat", "news": "news", "orders": "orders", "new": "", "chat,news": ""} {
		t.Run(hub, func(t *testing.T) {
			got = ""
			answer := do(t, newEvent(url, "sys.connected", "application/json", "{}", with("ce-hub", hub)))
			require.Equal(t, want, got)
			require.Equal(t, want == "", answer.status == http.StatusNotFound, answer.status)
		})
	}
	t.Run("Hubs alone", func(t *testing.T) {
		handler, err := eventhandler.New(&eventhandler.Options{Hubs: []string{"chat"}, AccessKeys: []string{testKey}})
		require.NoError(t, err)
		require.NotNil(t, handler)
	})
}

// net/http's router redirects a path without a trailing slash to the path with it, and the service does not follow
// redirects.
func TestBothPatternsReachTheHandler(t *testing.T) {
	handler, err := eventhandler.New(&eventhandler.Options{Hub: "chat", AccessKeys: []string{testKey}})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/eventhandler", handler)
	mux.Handle("/eventhandler/", handler)
	for _, path := range []string{"/eventhandler", "/eventhandler/", "/eventhandler/connected", "/eventhandler?code=x"} {
		t.Run(path, func(t *testing.T) {
			server := newServer(t, mux)
			require.Equal(t, http.StatusNoContent, do(t, newEvent(server+path, "sys.connected", "application/json", "{}")).status)
			r, err := http.NewRequest(http.MethodOptions, server+path, nil)
			require.NoError(t, err)
			with("WebHook-Request-Origin", "x.example")(r)
			require.Equal(t, http.StatusOK, do(t, r).status)
		})
	}
}

func TestTheMessageOfAUserEvent(t *testing.T) {
	for name, test := range map[string]struct {
		contentType, data string
		want              webpubsub.Message
	}{
		"text":                  {"text/plain", "héllo", webpubsub.Text("héllo")},
		"JSON":                  {"application/json", `"<x>"`, webpubsub.JSON("<x>")},
		"binary":                {"application/octet-stream", "\x00\xff", webpubsub.Binary([]byte("\x00\xff"))},
		"protobuf":              {"application/x-protobuf", "\x0a", webpubsub.Binary([]byte("\x0a"))},
		"a vendor's JSON":       {"application/vnd.own+json", "1", webpubsub.JSON(1)},
		"text that is not text": {"text/plain", "\xff", webpubsub.Binary([]byte("\xff"))},
		"JSON that is not JSON": {"application/json", "{", webpubsub.Binary([]byte("{"))},
		"a picture":             {"image/png", "PNG", webpubsub.Binary([]byte("PNG"))},
	} {
		t.Run(name, func(t *testing.T) {
			r := &eventhandler.UserEventRequest{ContentType: test.contentType, Data: []byte(test.data)}
			require.Equal(t, test.want, r.Message())
		})
	}
}
