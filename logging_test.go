package webpubsub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/tracing"
	"github.com/stretchr/testify/require"
)

// logTo returns a logger, and a function that returns the records logged so far.
func logTo(t *testing.T, level slog.Level) (*slog.Logger, func() []map[string]any) {
	var buf bytes.Buffer
	return slog.New(slog.NewJSONHandler(&buf, &slog.HandlerOptions{Level: level})), func() []map[string]any {
		var records []map[string]any
		for decoder := json.NewDecoder(&buf); ; {
			var record map[string]any
			err := decoder.Decode(&record)
			if errors.Is(err, io.EOF) {
				return records
			}
			require.NoError(t, err)
			records = append(records, record)
		}
	}
}

func echoServer(t *testing.T, status int) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("x-ms-request-id", "4711")
		w.Header().Set("X-Session-Token", "marked-secret")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"code":"Echo","message":"answered"}`)
	}))
	t.Cleanup(server.Close)
	return server
}

func TestACallIsOneRecord(t *testing.T) {
	server, _ := flakyServer(t, status(503), status(202), status(503))
	url := server.URL + "/api/hubs/chat/groups/a%20b/:send?api-version=2024-12-01"
	log, records := logTo(t, slog.LevelInfo)
	client := newTestClient(t, server.URL, func(o *ClientOptions) { o.Logger = log })
	require.NoError(t, client.SendToGroup(context.Background(), "a b", Text("the message"), nil))
	all := records()
	require.Len(t, all, 1)
	record := all[0]
	require.Equal(t, "INFO", record["level"])
	require.Equal(t, "webpubsub call", record["msg"])
	require.Equal(t, "SendToGroup", record["operation"])
	require.EqualValues(t, 202, record["status"])
	require.EqualValues(t, 2, record["tries"])
	require.Positive(t, record["duration"])
	for _, name := range []string{"method", "url", "requestHeaders", "responseHeaders", "requestBody", "error"} {
		require.NotContains(t, record, name)
	}

	log, records = logTo(t, slog.LevelDebug)
	require.NoError(t, client.SendToGroup(WithLogger(context.Background(), log), "a b", Text("the message"), nil))
	record = records()[0]
	require.Equal(t, "INFO", record["level"])
	require.Equal(t, "POST", record["method"])
	require.Equal(t, url, record["url"])
	headers := record["requestHeaders"].(map[string]any)
	require.Equal(t, "REDACTED", headers["Authorization"])
	require.Equal(t, "text/plain", headers["Content-Type"])
	require.Contains(t, record["responseHeaders"], "Date")
	require.Equal(t, "the message", record["requestBody"])
}

func TestAnErrorIsAWarning(t *testing.T) {
	log, records := logTo(t, slog.LevelWarn)
	client := newTestClient(t, echoServer(t, 404).URL, func(o *ClientOptions) { o.Logger = log })
	require.Error(t, client.AddUserToGroup(context.Background(), "room", "user1", nil))
	_, err := client.GroupExists(context.Background(), "room", nil)
	require.NoError(t, err)
	all := records()
	require.Len(t, all, 1, "a logger at Warn receives errors only, and 404 is not an error of GroupExists")
	require.Equal(t, "WARN", all[0]["level"])
	require.EqualValues(t, 404, all[0]["status"])
	require.Equal(t, "PUT", all[0]["method"])
	require.Contains(t, all[0]["url"], "/api/hubs/chat/users/user1/groups/room")
	require.NotContains(t, all[0], "requestHeaders")
	require.Equal(t, "webpubsub: AddUserToGroup: 404 Not Found: Echo: answered (request id 4711)", all[0]["error"])
}

func TestAResponseThatCannotBeDecodedIsAWarning(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		call func(*ServiceClient) error
	}{
		"no JSON": {"<html>", func(c *ServiceClient) error {
			_, err := c.NewListConnectionsInGroupPager("g", nil).NextPage(t.Context())
			return err
		}},
		"no token": {"{}", func(c *ServiceClient) error {
			_, err := c.GetClientAccessToken(t.Context(), nil)
			return err
		}},
	} {
		log, records := logTo(t, slog.LevelInfo)
		options := &ClientOptions{Logger: log}
		options.Transport = transportFunc(func(req *http.Request) (*http.Response, error) { return respond(req, 200, test.body), nil })
		client, err := NewClient(testEndpoint, "chat", staticToken("token"), options)
		require.NoError(t, err)
		err = test.call(client)
		require.Error(t, err)
		all := records()
		require.Len(t, all, 1)
		require.Equal(t, "WARN", all[0]["level"], name)
		require.Equal(t, err.Error(), all[0]["error"])
		require.EqualValues(t, 200, all[0]["status"])
	}
}

func TestInvalidArgumentsAreNotLogged(t *testing.T) {
	log, records := logTo(t, slog.LevelInfo)
	client := newTestClient(t, testEndpoint, func(o *ClientOptions) { o.Logger = log })
	require.ErrorIs(t, client.SendToUser(t.Context(), "", Text("hello"), nil), ErrInvalidArgument)
	large := io.LimitReader(readerFunc(func(p []byte) (int, error) { return len(p), nil }), maxStreamCopy+1)
	require.ErrorIs(t, client.SendToAll(t.Context(), BinaryStream(large), nil), ErrInvalidArgument)
	require.Empty(t, records())
	require.ErrorIs(t, client.SendToAll(t.Context(), BinaryStream(readerFunc(func([]byte) (int, error) { return 0, errBroken })), nil), errBroken)
	require.Len(t, records(), 1, "an error of the stream is logged")
}

func TestBodiesAtDebug(t *testing.T) {
	log, records := logTo(t, slog.LevelDebug)
	client := newTestClient(t, echoServer(t, 200).URL, func(o *ClientOptions) { o.Logger = log })
	require.NoError(t, client.SendToAll(context.Background(), JSON(map[string]string{"a": strings.Repeat("b", 2*maxLoggedBody)}), nil))
	require.NoError(t, client.SendToAll(context.Background(), BinaryStream(strings.NewReader("stream")), nil))
	all := records()
	require.Len(t, all, 2)
	require.Len(t, all[0]["requestBody"], maxLoggedBody)
	require.Contains(t, all[0]["responseBody"], "answered")
	require.NotContains(t, all[1], "requestBody")
}

func TestASecretThatCrossesTheLimitIsOmitted(t *testing.T) {
	log, records := logTo(t, slog.LevelDebug)
	client := newTestClient(t, echoServer(t, 200).URL, func(o *ClientOptions) { o.Logger = log })
	for _, secret := range []string{testKey, "Bearer abcdefghijklmnop0123"} {
		message := strings.Repeat(" ", maxLoggedBody-10) + secret
		require.NoError(t, client.SendToAll(t.Context(), Text(message), nil))
		require.NotContains(t, records()[0]["requestBody"], secret[:10])
	}
}

func TestLoggingForOneCall(t *testing.T) {
	server := echoServer(t, 200)
	log, records := logTo(t, slog.LevelInfo)
	other, otherRecords := logTo(t, slog.LevelInfo)
	client := newTestClient(t, server.URL, nil)
	require.NoError(t, client.SendToAll(context.Background(), Text("silent"), nil))
	require.NoError(t, client.SendToAll(WithLogger(context.Background(), log), Text("logged"), nil))
	require.Len(t, records(), 1)

	client = newTestClient(t, server.URL, func(o *ClientOptions) { o.Logger = other })
	require.NoError(t, client.SendToAll(WithLogger(context.Background(), log), Text("logged"), nil))
	require.NoError(t, client.SendToAll(WithLogger(context.Background(), nil), Text("silent"), nil))
	require.Empty(t, otherRecords(), "the call's logger replaces the client's")
}

// TestNoSecretInAnyLog makes calls with marked secrets, and checks every log and error for the marks.
func TestNoSecretInAnyLog(t *testing.T) {
	if !inOwnProcess(t) {
		return
	}
	var mu sync.Mutex
	var azure strings.Builder
	azlog.SetListener(func(_ azlog.Event, text string) {
		mu.Lock()
		defer mu.Unlock()
		azure.WriteString(text)
	})
	defer azlog.SetListener(nil)

	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Set-Cookie", "session=marked-secret")
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(req.URL.Path, ":generateToken") {
			_, _ = io.WriteString(w, `{"token":"opaque-marked-secret"}`)
			return
		}
		w.WriteHeader(400)
		_, _ = io.WriteString(w, `{"code":"Bad","message":"`+req.Header.Get("Authorization")+` at `+req.URL.String()+`"}`)
	}))
	defer server.Close()
	var out bytes.Buffer
	options := &ClientOptions{Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	options.Transport = server.Client()
	options.Logging.IncludeBody = true // azcore then logs the bodies of the caller, but must not log the service's tokens
	byKey, err := NewClientFromConnectionString("Endpoint="+server.URL+";AccessKey=marked-secret", "chat", options)
	require.NoError(t, err)
	byCredential, err := NewClientWithKeyCredential(server.URL, "chat", azcore.NewKeyCredential("marked-secret"), options)
	require.NoError(t, err)
	byEntra, err := NewClient(server.URL, "chat", staticToken("marked-secret"), options)
	require.NoError(t, err)
	var errs strings.Builder
	for _, client := range []*ServiceClient{byKey, byCredential, byEntra} {
		ctx := context.Background()
		access, err := client.GetClientAccessToken(ctx, nil)
		require.NoError(t, err)
		options.Logger.Info("a token", "access", access)
		req, err := http.NewRequest("POST", "/api/x?access_token=marked-secret&sig=marked-secret", strings.NewReader(`{"access_token":"marked-secret"}`))
		require.NoError(t, err)
		req.Header.Set("Ocp-Apim-Subscription-Key", "marked-secret")
		_, err = client.SendRequest(ctx, req)
		require.NoError(t, err)
		err = client.SendToAll(ctx, JSON(map[string]string{"authorization": "Bearer hidden-" + access.Token}), nil)
		require.Error(t, err)
		errs.WriteString(err.Error())
		var responseError *azcore.ResponseError
		require.ErrorAs(t, err, &responseError)
		errs.WriteString(responseError.Error())
	}
	for name, text := range map[string]string{"our log": out.String(), "an error": errs.String()} {
		require.NotEmpty(t, text)
		require.NotContains(t, text, "marked-secret", name)
		require.NotRegexp(t, `eyJ[\w-]+\.`, text, name)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Contains(t, azure.String(), "/api/hubs/chat/:send", "azcore's log works")
	require.Contains(t, azure.String(), "Try=1")
	require.NotContains(t, azure.String(), `"token"`)
}

func TestTracing(t *testing.T) {
	type span struct {
		name       string
		parent     string
		attributes map[string]any
		status     tracing.SpanStatus
		ended      bool
	}
	var spans []*span
	type spanKey struct{}
	provider := tracing.NewProvider(func(name, version string) tracing.Tracer {
		require.Equal(t, moduleName, name)
		return tracing.NewTracer(func(ctx context.Context, name string, options *tracing.SpanOptions) (context.Context, tracing.Span) {
			s := &span{name: name, attributes: map[string]any{}}
			s.parent, _ = ctx.Value(spanKey{}).(string)
			set := func(attributes ...tracing.Attribute) {
				for _, a := range attributes {
					s.attributes[a.Key] = a.Value
				}
			}
			set(options.Attributes...)
			spans = append(spans, s)
			return context.WithValue(ctx, spanKey{}, name), tracing.NewSpan(tracing.SpanImpl{
				End: func() { s.ended = true }, SetAttributes: set,
				SetStatus: func(status tracing.SpanStatus, _ string) { s.status = status },
			})
		}, nil)
	}, nil)
	client := newTestClient(t, echoServer(t, 200).URL, func(o *ClientOptions) { o.TracingProvider = provider })
	require.NoError(t, client.SendToAll(context.Background(), Text("hello"), nil))
	require.Len(t, spans, 2)
	require.Equal(t, "ServiceClient.SendToAll", spans[0].name)
	require.Equal(t, "Microsoft.SignalRService", spans[0].attributes["az.namespace"])
	require.Equal(t, "HTTP POST", spans[1].name)
	require.Equal(t, "ServiceClient.SendToAll", spans[1].parent)
	require.EqualValues(t, 200, spans[1].attributes["http.status_code"])

	spans = nil
	failing := newTestClient(t, echoServer(t, 404).URL, func(o *ClientOptions) { o.TracingProvider = provider })
	for _, err := range failing.ConnectionsInGroup(context.Background(), "room", nil) {
		require.ErrorIs(t, err, ErrNotFound)
	}
	require.Equal(t, "ServiceClient.ListConnectionsInGroup", spans[0].name)
	require.Equal(t, tracing.SpanStatusError, spans[0].status)
	for _, s := range spans {
		require.True(t, s.ended, s.name)
	}
}

func TestTheUserAgent(t *testing.T) {
	const ours = "awps-go-webpubsub/" + moduleVersion
	platform := " (" + runtime.Version() + "; " + runtime.GOOS + ")"
	for name, test := range map[string]struct {
		telemetry   policy.TelemetryOptions
		own, expect string
	}{
		"by default":             {expect: ours + platform},
		"with an application id": {policy.TelemetryOptions{ApplicationID: "my app"}, "", "my/app " + ours + platform},
		"with one that is long":  {policy.TelemetryOptions{ApplicationID: strings.Repeat("a", 30)}, "", strings.Repeat("a", 24) + " " + ours + platform},
		"with the request's own": {policy.TelemetryOptions{}, "mine/1", ours + platform + " mine/1"},
		"disabled":               {policy.TelemetryOptions{Disabled: true, ApplicationID: "app"}, "", ""},
		"disabled, with its own": {policy.TelemetryOptions{Disabled: true}, "mine/1", "mine/1"},
	} {
		t.Run(name, func(t *testing.T) {
			var agent string
			client := newTestClient(t, testEndpoint, func(o *ClientOptions) {
				o.Telemetry = test.telemetry
				o.Transport = transportFunc(func(req *http.Request) (*http.Response, error) {
					agent = req.Header.Get("User-Agent")
					return respond(req, 202, ""), nil
				})
			})
			req, err := http.NewRequest("GET", "/api/health", nil)
			require.NoError(t, err)
			if test.own != "" {
				req.Header.Set("User-Agent", test.own)
			}
			_, err = client.SendRequest(t.Context(), req)
			require.NoError(t, err)
			require.Equal(t, test.expect, agent)
		})
	}
}

// elsewhere is a handler in a time zone whose offset takes six bytes instead of one.
type elsewhere struct{ slog.Handler }

func (h elsewhere) Handle(ctx context.Context, r slog.Record) error {
	r.Time = r.Time.In(time.FixedZone("", 20700)) // +05:45
	return h.Handler.Handle(ctx, r)
}

func TestASuccessfulCallTakesLittleSpaceInALog(t *testing.T) {
	for name, handler := range map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		"JSON": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			client := newTestClient(t, testEndpoint, func(o *ClientOptions) {
				o.Logger = slog.New(elsewhere{handler(&out)})
				o.Transport = transportFunc(func(req *http.Request) (*http.Response, error) {
					time.Sleep(10*time.Minute - 1) // a duration of as many digits as possible
					return respond(req, http.StatusNoContent, ""), nil
				})
			})
			require.NoError(t, client.RemoveConnectionFromAllGroups(t.Context(), strings.Repeat("c", 500), nil)) // the longest name
			require.Less(t, out.Len(), 200, "%s: %s", name, &out)
		})
	}
}

func TestPoliciesOfTheCallerRun(t *testing.T) {
	var order []string
	note := func(name string) policy.Policy {
		return policyFunc(func(req *policy.Request) (*http.Response, error) {
			order = append(order, name)
			return req.Next()
		})
	}
	server, _ := flakyServer(t, status(500))
	client := newTestClient(t, server.URL, func(o *ClientOptions) {
		o.PerCallPolicies = []policy.Policy{note("call")}
		o.PerRetryPolicies = []policy.Policy{note("try")}
	})
	require.NoError(t, client.SendToAll(context.Background(), Text("hello"), nil))
	require.Equal(t, []string{"call", "try", "try"}, order)
}

type policyFunc func(*policy.Request) (*http.Response, error)

func (f policyFunc) Do(req *policy.Request) (*http.Response, error) { return f(req) }
