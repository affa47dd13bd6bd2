package webpubsub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestErrorsSayWhatTheServiceSaid(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		header map[string]string
		body   string
		want   string
		is     error
		code   string
	}{
		{"code and message", 400, nil, `{"code":"BadRequest","message":"The filter is wrong.","target":"filter","details":[],"inner":{"code":"X"}}`,
			"webpubsub: SendToAll: 400 Bad Request: BadRequest: The filter is wrong. (request id 4711)", nil, "BadRequest"},
		{"code and message under error", 409, nil, `{"error":{"code":"Conflict","message":"Too many."},"code":"Other","message":"other"}`,
			"webpubsub: SendToAll: 409 Conflict: Conflict: Too many. (request id 4711)", ErrConflict, "Conflict"},
		{"an error that is a string", 403, nil, `{"error":"nope"}`,
			`webpubsub: SendToAll: 403 Forbidden: {"error":"nope"} (request id 4711)`, ErrForbidden, ""},
		{"a code in the header only", 404, map[string]string{"x-ms-error-code": "NotFound"}, "",
			"webpubsub: SendToAll: 404 Not Found: NotFound (request id 4711)", ErrNotFound, "NotFound"},
		{"an HTML page", 502, nil, "<html>\n<body>\n<h1>Bad   Gateway</h1>" + strings.Repeat("x", 1000),
			"webpubsub: SendToAll: 502 Bad Gateway: <html> <body> <h1>Bad Gateway</h1>" + strings.Repeat("x", 300-34) + "... (request id 4711)", ErrUnavailable, ""},
		{"an empty body", 401, nil, "",
			"webpubsub: SendToAll: 401 Unauthorized (request id 4711)", ErrUnauthorized, ""},
		{"a problem", 400, nil, `{"code":"Error.BadRequest","message":"Bad filter.","target":"filter","errors":{"filter":["Bad filter."]},"type":null,"title":"One or more validation errors occurred.","status":400,"detail":null,"instance":null,"extensions":{}}`,
			"webpubsub: SendToAll: 400 Bad Request: Error.BadRequest: Bad filter. (request id 4711)", nil, "Error.BadRequest"},
		{"a problem from another server", 403, nil, `{"title":"Forbidden","detail":"The gateway says no.","status":403}`,
			"webpubsub: SendToAll: 403 Forbidden: Forbidden: The gateway says no. (request id 4711)", ErrForbidden, ""},
		{"a problem without a message", 400, nil, `{"errors":{"hub":["The field hub must match the regular expression '^[A-Za-z]'."],"filter":["Bad.","Worse."]},"type":"https://tools.ietf.org/html/rfc7231#section-6.5.1","title":"One or more validation errors occurred.","status":400,"traceId":"0HMJ5CJBORHSS:00000008"}`,
			"webpubsub: SendToAll: 400 Bad Request: One or more validation errors occurred. filter: Bad. Worse. hub: The field hub must match the regular expression '^[A-Za-z]'. (request id 4711)", nil, ""},
		{"errors of another form", 400, nil, `{"title":"Bad Request","errors":["x"]}`,
			"webpubsub: SendToAll: 400 Bad Request: Bad Request (request id 4711)", nil, ""},
		{"a reason in the challenge only", 401, map[string]string{"WWW-Authenticate": `Bearer error="invalid_token", error_description="The audience \"https://x\" is invalid"`}, "",
			`webpubsub: SendToAll: 401 Unauthorized: The audience "https://x" is invalid (request id 4711)`, ErrUnauthorized, ""},
		{"an error in the challenge only", 401, map[string]string{"WWW-Authenticate": `Bearer realm="x", error="insufficient_claims", claims="e30="`}, "",
			"webpubsub: SendToAll: 401 Unauthorized: insufficient_claims (request id 4711)", ErrUnauthorized, ""},
		{"a challenge without a reason", 401, map[string]string{"WWW-Authenticate": "Bearer"}, "",
			"webpubsub: SendToAll: 401 Unauthorized (request id 4711)", ErrUnauthorized, ""},
		{"a reason in the challenge and in the body", 401, map[string]string{"WWW-Authenticate": `Bearer error="invalid_token"`}, `{"code":"A","message":"B"}`,
			"webpubsub: SendToAll: 401 Unauthorized: A: B (request id 4711)", ErrUnauthorized, "A"},
		{"a code in the header and another in the body", 404, map[string]string{"x-ms-error-code": "Warning.Connection.NotExisted"}, `{"code":"Other","message":"Gone.","target":"Connection","details":null,"inner":null}`,
			"webpubsub: SendToAll: 404 Not Found: Warning.Connection.NotExisted: Gone. (request id 4711)", ErrNotFound, "Warning.Connection.NotExisted"},
		{"a byte order mark", 400, nil, "\uFEFF" + `{"code":"A","message":"B"}`,
			"webpubsub: SendToAll: 400 Bad Request: A: B (request id 4711)", nil, "A"},
		{"JSON that is not an object", 413, nil, `[1]`,
			"webpubsub: SendToAll: 413 Request Entity Too Large: [1] (request id 4711)", nil, ""},
		{"a message of several lines", 429, nil, `{"code":"Throttled","message":"slow\ndown"}`,
			"webpubsub: SendToAll: 429 Too Many Requests: Throttled: slow down (request id 4711)", ErrThrottled, "Throttled"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("x-ms-request-id", "4711")
				for name, value := range test.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
			}))
			defer server.Close()
			client := newTestClient(t, server.URL, func(o *ClientOptions) { o.Retry.MaxRetries = -1 })
			err := client.SendToAll(context.Background(), Text("hello"), nil)
			require.EqualError(t, err, test.want)
			for _, sentinel := range []error{ErrInvalidArgument, ErrUnauthorized, ErrForbidden, ErrNotFound, ErrConflict, ErrThrottled, ErrUnavailable} {
				require.Equal(t, sentinel == test.is, errors.Is(err, sentinel), "errors.Is(err, %v)", sentinel) //nolint:errorlint // one error of a list
			}
			var responseError *azcore.ResponseError
			require.ErrorAs(t, err, &responseError)
			require.Equal(t, test.status, responseError.StatusCode)
			require.Equal(t, test.code, responseError.ErrorCode)
			body, err := io.ReadAll(responseError.RawResponse.Body)
			require.NoError(t, err)
			require.Equal(t, test.body, string(body))
		})
	}
}

func TestSecretsThatTheServiceEchoesAreRedacted(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("X-Echo", req.Header.Get("Authorization"))
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"code":"No","message":"Token %s of %s is not good"}`, req.Header.Get("Authorization"), req.URL)
	}))
	defer server.Close()
	for name, client := range map[string]func() (*ServiceClient, error){
		"key": func() (*ServiceClient, error) {
			return NewClientFromConnectionString("Endpoint="+server.URL+";AccessKey="+testKey, "chat", &ClientOptions{ClientOptions: azcore.ClientOptions{Transport: server.Client()}})
		},
		"entra": func() (*ServiceClient, error) {
			return NewClient(server.URL, "chat", staticToken("opaque-marked-secret"), &ClientOptions{ClientOptions: azcore.ClientOptions{Transport: server.Client()}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := client()
			require.NoError(t, err)
			req, err := http.NewRequest("GET", "/api/x?access_token=url-marked-secret", nil)
			require.NoError(t, err)
			_, err = client.SendRequest(context.Background(), req)
			require.NoError(t, err)

			err = client.SendToAll(context.Background(), Text("hello"), nil)
			require.ErrorIs(t, err, ErrForbidden)
			var responseError *azcore.ResponseError
			require.ErrorAs(t, err, &responseError)
			all := err.Error() + responseError.Error() + fmt.Sprintf("%+v %+v", responseError.RawResponse.Header, responseError.RawResponse.Request.Header)
			require.NotContains(t, all, "marked-secret")
			require.NotRegexp(t, `eyJ[\w-]+\.`, all)
		})
	}
}

func TestNetworkErrorsHoldNoSecret(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	client := newTestClient(t, server.URL, func(o *ClientOptions) { o.Retry.MaxRetries = -1 })
	req, err := http.NewRequest("GET", "/api/x?access_token=marked-secret&a=b", nil)
	require.NoError(t, err)
	_, err = client.SendRequest(context.Background(), req)
	require.ErrorContains(t, err, "webpubsub: SendRequest: ")
	var netError net.Error
	require.ErrorAs(t, err, &netError)
	for ; err != nil; err = errors.Unwrap(err) {
		require.NotContains(t, err.Error(), "marked-secret")
	}
}

// flakyServer starts a server that serves the first requests with the given handlers, and responds with 202 to all
// others. bodies returns one entry for each request since the last call: the body, or "failed" for a request to one of
// the handlers.
func flakyServer(t *testing.T, handlers ...http.HandlerFunc) (server *httptest.Server, bodies func() []string) {
	handler, bodies := flaky(handlers...)
	server = httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server, bodies
}

func flaky(handlers ...http.HandlerFunc) (handler http.HandlerFunc, bodies func() []string) {
	var n atomic.Int32
	all := make(chan string, 100)
	handler = func(w http.ResponseWriter, req *http.Request) {
		i := int(n.Add(1)) - 1
		if i < len(handlers) {
			handlers[i](w, req)
			all <- "failed"
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			all <- "broken"
			return
		}
		all <- string(body)
		w.WriteHeader(http.StatusAccepted)
	}
	return handler, func() []string {
		var bodies []string
		for len(all) > 0 {
			bodies = append(bodies, <-all)
		}
		return bodies
	}
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// cut reads half the body, then closes the connection without a response.
func cut(_ http.ResponseWriter, req *http.Request) {
	_, _ = io.CopyN(io.Discard, req.Body, req.ContentLength/2)
	panic(http.ErrAbortHandler)
}

func TestRetriesSendTheWholeBodyAgain(t *testing.T) {
	text := strings.Repeat("0123456789", 20_000)
	file := filepath.Join(t.TempDir(), "stream")
	require.NoError(t, os.WriteFile(file, []byte("skipped "+text), 0o600))
	for name, message := range map[string]func() Message{
		"text":   func() Message { return Text(text) },
		"binary": func() Message { return Binary([]byte(text)) },
		"a file, from its current position": func() Message {
			f, err := os.Open(file)
			require.NoError(t, err)
			t.Cleanup(func() { _ = f.Close() })
			_, err = f.Seek(int64(len("skipped ")), io.SeekStart)
			require.NoError(t, err)
			return BinaryStream(f)
		},
		"a stream that cannot seek": func() Message { return BinaryStream(io.MultiReader(strings.NewReader(text))) },
		"a pipe, whose Seek fails": func() Message {
			r, w, err := os.Pipe()
			require.NoError(t, err)
			go func() {
				_, _ = io.WriteString(w, text)
				_ = w.Close()
			}()
			t.Cleanup(func() { _ = r.Close() })
			return BinaryStream(r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, bodies := flakyServer(t, status(429, "Retry-After", "0"), cut, status(500))
			client := newTestClient(t, server.URL, nil)
			require.NoError(t, client.SendToAll(context.Background(), message(), nil))
			require.Equal(t, []string{"failed", "failed", text}, bodies(), "a handler that aborts is not recorded")
		})
	}
}

func TestEntraOverTLSThroughEveryFault(t *testing.T) {
	var tokens []string
	flaky, bodies := flaky(status(429, "Retry-After", "0"), status(500), cut, status(307, "Location", "/moved"))
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		tokens = append(tokens, req.Header.Get("Authorization"))
		flaky(w, req)
	}))
	defer server.Close()
	client, err := NewClient(server.URL, "chat", staticToken("entra"), &ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: server.Client(), Retry: policy.RetryOptions{RetryDelay: 1}}})
	require.NoError(t, err)
	require.NoError(t, client.SendToAll(t.Context(), BinaryStream(strings.NewReader("hello")), nil))
	require.Equal(t, []string{"failed", "failed", "failed", "hello"}, bodies(), "a handler that aborts is not recorded")
	require.Equal(t, slices.Repeat([]string{"Bearer entra"}, 5), tokens)
}

// countingSeeker counts the bytes that are read, to show that nothing is read ahead.
type countingSeeker struct {
	io.ReadSeeker
	read int
}

func (s *countingSeeker) Read(p []byte) (int, error) {
	n, err := s.ReadSeeker.Read(p)
	s.read += n
	return n, err
}

func TestAStreamIsNotTouchedAfterTheCall(t *testing.T) {
	source := &countingSeeker{ReadSeeker: bytes.NewReader(make([]byte, 64<<20))}
	client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
		_, err := io.ReadFull(req.Body, make([]byte, 1024))
		require.NoError(t, err)
		t.Cleanup(func() {
			_, err := req.Body.Read(make([]byte, 1))
			require.ErrorIs(t, err, errDetached)
		})
		return respond(req, http.StatusRequestEntityTooLarge, ""), nil
	})
	err := client.SendToAll(context.Background(), BinaryStream(source), nil)
	require.ErrorContains(t, err, "413")
	require.Equal(t, 1024, source.read, "only what the transport asked for was read")
}

func TestAStreamThatCannotSeekHasALimit(t *testing.T) {
	server, bodies := flakyServer(t)
	client := newTestClient(t, server.URL, nil)
	send := func(size int64) error {
		return client.SendToAll(context.Background(), BinaryStream(io.LimitReader(zeros{}, size)), nil)
	}
	require.NoError(t, send(maxStreamCopy))
	require.Len(t, bodies()[0], maxStreamCopy)
	err := send(maxStreamCopy + 1)
	require.ErrorIs(t, err, ErrInvalidArgument)
	require.ErrorContains(t, err, "16 MiB")
	require.Empty(t, bodies())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestAStreamThatCannotSeekIsNotReadAfterTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newRecordingClient(t, nil)
		release := make(chan struct{})
		reads := 0
		stream := readerFunc(func(p []byte) (int, error) {
			reads++
			<-release
			return len(p), nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- client.SendToAll(ctx, BinaryStream(stream), nil) }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		close(release)
		synctest.Wait()
		require.Equal(t, 1, reads, "only the Read that was in progress")
		require.ErrorIs(t, client.SendToAll(ctx, BinaryStream(stream), nil), context.Canceled)
		synctest.Wait()
		require.Equal(t, 1, reads)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAPanicOnAGoroutineOfTheClientIsTheCallers(t *testing.T) {
	log, records := logTo(t, slog.LevelInfo)
	client := newTestClient(t, testEndpoint, func(o *ClientOptions) {
		o.Logger = log
		o.PerCallPolicies = []policy.Policy{policyFunc(func(*policy.Request) (*http.Response, error) { panic("a bug") })}
	})
	for name, stream := range map[string]io.Reader{
		"a stream that cannot seek":           readerFunc(func([]byte) (int, error) { panic("a bug") }),
		"a policy, with a stream that can":    strings.NewReader("stream"),
		"a policy, with a stream that cannot": io.MultiReader(strings.NewReader("stream")),
	} {
		require.PanicsWithValue(t, "a bug", func() { _ = client.SendToAll(t.Context(), BinaryStream(stream), nil) }, name)
	}
	require.Panics(t, func() { _ = client.SendToAll(t.Context(), Text("hello"), nil) })
	all := records()
	require.Len(t, all, 4)
	for _, record := range all {
		require.Equal(t, "WARN", record["level"])
		require.Equal(t, "the call panicked", record["error"])
	}
}

func TestAStreamThatSaysItIsEmptyIsRead(t *testing.T) {
	server, bodies := flakyServer(t, status(503))
	client := newTestClient(t, server.URL, nil)
	for text, want := range map[string]string{"a file of /proc": "a file of /proc", "": ""} {
		source := struct {
			io.Reader
			io.Seeker
		}{strings.NewReader(text), strings.NewReader("")}
		require.NoError(t, client.SendToAll(t.Context(), BinaryStream(source), nil))
		sent := bodies()
		require.Equal(t, want, sent[len(sent)-1])
	}
}

func TestAStreamThatFailsIsTheError(t *testing.T) {
	client := newRecordingClient(t, nil)
	err := client.SendToAll(context.Background(), BinaryStream(io.MultiReader(strings.NewReader("a"), failing{})), nil)
	require.ErrorIs(t, err, io.ErrNoProgress)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

func TestEachTryIsSignedAnew(t *testing.T) {
	credential := azcore.NewKeyCredential("first")
	var keys []string
	signedBy := func(req *http.Request, key string) {
		assert.Equal(t, urlOf(req), signedFor(t, req, key))
		keys = append(keys, key)
	}
	server, _ := flakyServer(t, func(w http.ResponseWriter, req *http.Request) {
		signedBy(req, "first")
		credential.Update("second") // so that the next token has another signature
		w.WriteHeader(503)
	}, func(_ http.ResponseWriter, req *http.Request) {
		signedBy(req, "second")
	})
	client, err := NewClientWithKeyCredential(server.URL, "chat", credential, &ClientOptions{ClientOptions: azcore.ClientOptions{
		Retry: policy.RetryOptions{RetryDelay: 1}}})
	require.NoError(t, err)
	require.NoError(t, client.SendToAll(context.Background(), Text("hello"), nil))
	require.Equal(t, []string{"first", "second"}, keys)
}

func TestAKeyThatAnUpdateHasEmptiedSignsNothing(t *testing.T) {
	credential := azcore.NewKeyCredential("key")
	client, err := NewClientWithKeyCredential(testEndpoint, "chat", credential, &ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: transportFunc(func(*http.Request) (*http.Response, error) {
			t.Error("a request was sent")
			return nil, io.ErrUnexpectedEOF
		})}})
	require.NoError(t, err)
	credential.Update("")
	require.ErrorContains(t, client.SendToAll(t.Context(), Text("hello"), nil), "the credential's key is empty")
	_, err = client.GetClientAccessToken(t.Context(), nil)
	require.ErrorContains(t, err, "the credential's key is empty")
}

func TestRetryAfterIsObeyed(t *testing.T) {
	for _, header := range []string{"Retry-After", "retry-after-ms", "x-ms-retry-after-ms"} {
		t.Run(header, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tries []time.Time
				client := newTestClient(t, testEndpoint, func(o *ClientOptions) {
					o.Retry.RetryDelay = time.Hour // the delay without the header
					o.Transport = transportFunc(func(req *http.Request) (*http.Response, error) {
						if tries = append(tries, time.Now()); len(tries) == 2 {
							return respond(req, 202, ""), nil
						}
						resp := respond(req, 429, "")
						resp.Header.Set(header, map[bool]string{true: "7", false: "7000"}[header == "Retry-After"])
						return resp, nil
					})
				})
				require.NoError(t, client.SendToAll(t.Context(), Text("hello"), nil))
				require.Equal(t, 7*time.Second, tries[1].Sub(tries[0]), "by the test's clock")
			})
		})
	}
}

func TestAnErrorWhoseBodyBreaksOffIsStillThatError(t *testing.T) {
	broken := func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"code":"half`)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	server, bodies := flakyServer(t, broken, broken, broken)
	client := newTestClient(t, server.URL, nil)
	require.NoError(t, client.SendToAll(t.Context(), Text("hello"), nil))
	require.Equal(t, []string{"hello"}, bodies(), "the request is retried")

	server, _ = flakyServer(t, broken)
	err := newTestClient(t, server.URL, func(o *ClientOptions) { o.Retry.MaxRetries = -1 }).SendToAll(t.Context(), Text("hello"), nil)
	require.ErrorContains(t, err, "webpubsub: SendToAll: 429 Too Many Requests: the response body could not be read: body download policy: unexpected EOF")
	require.ErrorIs(t, err, ErrThrottled)
	var responseError *azcore.ResponseError
	require.ErrorAs(t, err, &responseError)

	server, _ = flakyServer(t, broken)
	req, err := http.NewRequest("GET", "/api/x", nil)
	require.NoError(t, err)
	resp, err := newTestClient(t, server.URL, func(o *ClientOptions) { o.Retry.MaxRetries = -1 }).SendRequest(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, http.StatusTooManyRequests, resp.StatusCode)
	_, err = io.ReadAll(resp.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestABodyThatHangsEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
		resp := respond(req, http.StatusFound, "")
		resp.Body = &hangingBody{ctx: ctx, reached: cancel}
		return resp, nil
	})
	err := client.SendToAll(ctx, Text("hello"), nil)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "302")
}

// hangingBody is a response body that blocks until the context ends, like a body of net/http.
type hangingBody struct {
	ctx     context.Context
	reached func()
	closed  bool
}

func (b *hangingBody) Read([]byte) (int, error) {
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	b.reached()
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

func (b *hangingBody) Close() error {
	b.closed = true
	return nil
}

func TestARetryAfterLongerThanMaxRetryDelayIsNotAwaited(t *testing.T) {
	server, bodies := flakyServer(t, status(429, "Retry-After", "3600"))
	client := newTestClient(t, server.URL, nil)
	err := client.SendToAll(context.Background(), Text("hello"), nil)
	require.ErrorIs(t, err, ErrThrottled)
	require.Equal(t, []string{"failed"}, bodies(), "the request is not retried early")
}

func TestRetriesEnd(t *testing.T) {
	for _, test := range []struct {
		status, tries int
	}{{408, 4}, {429, 4}, {500, 4}, {502, 4}, {503, 4}, {504, 4}, {400, 1}, {401, 1}, {403, 1}, {404, 1}, {409, 1}, {413, 1}, {501, 1}} {
		t.Run(http.StatusText(test.status), func(t *testing.T) {
			tries := 0
			client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
				tries++
				return respond(req, test.status, ""), nil
			})
			require.ErrorContains(t, client.SendToAll(context.Background(), Text("hello"), nil), fmt.Sprint(test.status))
			require.Equal(t, test.tries, tries)
		})
	}
}

func TestACancelledContextReturnsAtOnceWithItsOwnError(t *testing.T) {
	reached := make(chan struct{}, 10)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		reached <- struct{}{}
		if strings.Contains(req.URL.Path, "throttled") {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(429)
			return
		}
		<-release
	}))
	defer server.Close()
	defer close(release)
	client := newTestClient(t, server.URL, nil)
	blocked, w := io.Pipe()
	defer func() { _ = w.Close() }()

	for name, call := range map[string]func(context.Context) error{
		"while the service works": func(ctx context.Context) error { return client.SendToAll(ctx, Text("hello"), nil) },
		"while a retry waits":     func(ctx context.Context) error { return client.SendToGroup(ctx, "throttled", Text("hello"), nil) },
		"while a stream blocks": func(ctx context.Context) error {
			reached <- struct{}{}
			return client.SendToAll(ctx, BinaryStream(blocked), nil)
		},
		"while a stream that can seek blocks": func(ctx context.Context) error {
			return client.SendToAll(ctx, BinaryStream(&blockingSeeker{reached: reached, release: release}), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cause := errors.New("enough")
			ctx, cancel := context.WithCancelCause(context.Background())
			done := make(chan error)
			go func() { done <- call(ctx) }()
			<-reached
			cancel(cause)
			err := <-done
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, ErrInvalidArgument)
		})
	}

	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request was sent with a context that had ended")
	}))
	defer silent.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, newTestClient(t, silent.URL, nil).SendToAll(ctx, Text("hello"), nil), context.Canceled)
	ctx, cancel = context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, client.SendToAll(ctx, Text("hello"), nil), context.DeadlineExceeded)
}

// blockingSeeker is a stream of 1 MiB whose Read blocks.
type blockingSeeker struct{ reached, release chan struct{} }

func (s *blockingSeeker) Read([]byte) (int, error) {
	s.reached <- struct{}{}
	<-s.release
	return 0, io.EOF
}

func (s *blockingSeeker) Seek(_ int64, whence int) (int64, error) {
	return map[int]int64{io.SeekEnd: 1 << 20}[whence], nil
}

func TestAStreamThatFailsMidwayIsNotRetried(t *testing.T) {
	server, _ := flakyServer(t)
	tries := 0
	client := newTestClient(t, server.URL, func(o *ClientOptions) {
		o.PerRetryPolicies = []policy.Policy{policyFunc(func(req *policy.Request) (*http.Response, error) {
			tries++
			return req.Next()
		})}
	})
	source := struct {
		io.Reader
		io.Seeker
	}{io.MultiReader(strings.NewReader("half"), failing{}), strings.NewReader("half and half")}
	err := client.SendToAll(context.Background(), BinaryStream(source), nil)
	require.ErrorIs(t, err, io.ErrNoProgress)
	require.Equal(t, 1, tries)

	tries = 0
	source.Reader = strings.NewReader("half")
	err = client.SendToAll(context.Background(), BinaryStream(source), nil)
	require.ErrorContains(t, err, "the stream became shorter")
	require.Equal(t, 1, tries)
}

func TestAnErrorThatIsNotOursIsNotChanged(t *testing.T) {
	shared := &url.Error{Op: "Post", URL: "https://a/?access_token=marked-secret", Err: io.ErrUnexpectedEOF}
	client := newTestClient(t, testEndpoint, func(o *ClientOptions) {
		o.Retry.MaxRetries = -1
		o.Transport = transportFunc(func(*http.Request) (*http.Response, error) { return nil, shared })
	})
	err := client.SendToAll(context.Background(), Text("hello"), nil)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotContains(t, err.Error(), "marked-secret")
	require.Contains(t, shared.URL, "marked-secret")
}

func TestRedirects(t *testing.T) {
	var bodies []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another host was reached") }))
	defer elsewhere.Close()
	redirect := 0
	location := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		assert.Equal(t, urlOf(req), signedFor(t, req, testKey))
		if strings.HasPrefix(req.URL.Path, "/api/") {
			http.Redirect(w, req, location, redirect)
			return
		}
		body, _ := io.ReadAll(req.Body)
		bodies = append(bodies, req.Method+" "+req.URL.RequestURI()+" "+string(body))
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	own := server.Client() // the caller's http.Client: its redirects are restricted too
	for name, transport := range map[string]*http.Client{"our transport": nil, "the caller's http.Client": own} {
		t.Run(name, func(t *testing.T) {
			client := newTestClient(t, server.URL, func(o *ClientOptions) {
				if transport != nil {
					o.Transport = transport
				}
			})
			send := func(status int, to string, message Message) error {
				bodies, redirect, location = nil, status, to
				return client.SendToAll(context.Background(), message, nil)
			}
			for _, status := range []int{307, 308} {
				require.NoError(t, send(status, "/moved?a=b", Text("hello")))
				require.Equal(t, []string{"POST /moved?a=b hello"}, bodies, "the body is sent again, with a token for the new URL")
				require.NoError(t, send(status, "/moved", BinaryStream(strings.NewReader("stream"))))
				require.Equal(t, []string{"POST /moved stream"}, bodies)
			}
			for _, status := range []int{301, 302, 303} {
				require.ErrorContains(t, send(status, "/moved", Text("hello")), fmt.Sprint(status))
				require.Empty(t, bodies, "a send does not become a GET")
			}
			require.ErrorContains(t, send(307, elsewhere.URL+"/api", Text("hello")), "307")
			require.ErrorContains(t, send(307, "/api/loop", Text("hello")), "10 redirects")
		})
	}
}

func TestCheckRedirectOfTheCallersClient(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another host was reached") }))
	defer elsewhere.Close()
	var targets []string
	location := "/moved"
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		targets = append(targets, req.URL.Path)
		if req.URL.Path != "/moved" {
			http.Redirect(w, req, location, http.StatusTemporaryRedirect)
		}
	}))
	defer server.Close()
	send := func(rule error) error {
		targets = nil
		own := server.Client()
		own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
			require.Equal(t, "/moved", req.URL.Path)
			require.Equal(t, http.StatusTemporaryRedirect, req.Response.StatusCode)
			require.Len(t, via, 1)
			return rule
		}
		client, err := NewClient(server.URL, "chat", staticToken("entra"), &ClientOptions{ClientOptions: azcore.ClientOptions{Transport: own}})
		require.NoError(t, err)
		return client.SendToAll(context.Background(), Text("hello"), nil)
	}
	require.NoError(t, send(nil))
	require.Equal(t, []string{"/api/hubs/chat/:send", "/moved"}, targets)
	require.ErrorContains(t, send(http.ErrUseLastResponse), "307")
	require.Equal(t, []string{"/api/hubs/chat/:send"}, targets)
	rule := errors.New("no redirects here")
	require.ErrorIs(t, send(rule), rule)
	require.Equal(t, []string{"/api/hubs/chat/:send"}, targets, "the request is not retried")

	location = elsewhere.URL + "/moved"
	require.ErrorContains(t, send(nil), "307", "CheckRedirect cannot allow another host")
}

func TestARedirectCarriesTheCookiesOfAJarOnce(t *testing.T) {
	var cookies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		cookies = append(cookies, req.Header.Get("Cookie"))
		http.SetCookie(w, &http.Cookie{Name: "n", Value: fmt.Sprint(len(cookies)), Path: "/"})
		if req.URL.Path != "/moved" {
			http.Redirect(w, req, "/moved", http.StatusTemporaryRedirect)
		}
	}))
	defer server.Close()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := newTestClient(t, server.URL, func(o *ClientOptions) { o.Transport = &http.Client{Jar: jar} })
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for range 2 {
		req, err := http.NewRequest("GET", "/api/x", nil)
		require.NoError(t, err)
		req.Header.Set("Cookie", "own=1")
		_, err = client.SendRequest(t.Context(), req)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"own=1", "own=1; n=1", "own=1; n=2", "own=1; n=3"}, cookies)
}

func TestALoopOfRedirectsIsNotRetried(t *testing.T) {
	requests := 0
	client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
		requests++
		resp := respond(req, http.StatusTemporaryRedirect, "")
		resp.Header = http.Header{"Location": {"/api/loop"}}
		return resp, nil
	})
	require.ErrorContains(t, client.SendToAll(context.Background(), Text("hello"), nil), "10 redirects")
	require.Equal(t, 1+maxRedirects, requests)
}

// urlOf returns the URL that a request was sent to.
func urlOf(req *http.Request) string { return "http://" + req.Host + req.URL.RequestURI() }

func TestTheKeyOfACredentialSignsRedirectsToo(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		assert.Equal(t, urlOf(req), signedFor(t, req, "credential"))
		if strings.HasPrefix(req.URL.Path, "/api/") {
			http.Redirect(w, req, "/moved", http.StatusTemporaryRedirect)
		}
	}))
	defer server.Close()
	client, err := NewClientWithKeyCredential(server.URL, "chat", azcore.NewKeyCredential("credential"), nil)
	require.NoError(t, err)
	require.NoError(t, client.SendToAll(context.Background(), Text("hello"), nil))
}

func TestAnyTwoHundredIsSuccess(t *testing.T) {
	for _, status := range []int{200, 201, 202, 204} {
		client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) { return respond(req, status, ""), nil })
		require.NoError(t, client.SendToAll(context.Background(), Text("hello"), nil))
		require.NoError(t, client.CloseAllConnections(context.Background(), nil))
		ok, err := client.GroupExists(context.Background(), "room", nil)
		require.NoError(t, err)
		require.True(t, ok)
	}
}

func TestExistenceIsFalseForNotFoundOnly(t *testing.T) {
	client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) { return respond(req, 403, ""), nil })
	ok, err := client.ConnectionExists(context.Background(), "id", nil)
	require.ErrorIs(t, err, ErrForbidden)
	require.False(t, ok)
	require.ErrorIs(t, client.GetServiceStatus(context.Background(), nil), ErrForbidden)
}

func TestAResponseThatIsNotJSONIsAnError(t *testing.T) {
	client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) { return respond(req, 200, "<html>"), nil })
	_, err := client.NewListConnectionsInGroupPager("room", nil).NextPage(context.Background())
	require.ErrorContains(t, err, "webpubsub: ListConnectionsInGroup: ")
}

func TestAnUntrustedCertificateIsNotRetried(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the server logs the failed handshake
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	defer server.Close()
	options := &ClientOptions{}
	options.Retry = policy.RetryOptions{RetryDelay: time.Millisecond}
	client, err := NewClientWithKeyCredential(server.URL, "chat", azcore.NewKeyCredential("key"), options)
	require.NoError(t, err)
	err = client.SendToAll(t.Context(), Text("hi"), nil)
	require.ErrorContains(t, err, "webpubsub: SendToAll: tls: failed to verify certificate: ")
	require.NotErrorIs(t, err, ErrUnavailable)
	require.Equal(t, int64(1), connections.Load())
}

func TestAnErrorSaysThatTheConnectionWasClosed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer server.Close()
	options := &ClientOptions{}
	options.Retry = policy.RetryOptions{MaxRetries: -1}
	client, err := NewClientWithKeyCredential(server.URL, "chat", azcore.NewKeyCredential("key"), options)
	require.NoError(t, err)
	err = client.SendToAll(t.Context(), Text("hi"), nil)
	require.EqualError(t, err, "webpubsub: SendToAll: the connection was closed before the response: EOF")
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorIs(t, err, io.EOF)
}
