package webpubsub

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// misbehaving is a seekable stream of 100 bytes. The test sets its Read.
type misbehaving struct {
	read     func(p []byte) (int, error)
	seek     func() // if not nil, called for each Seek from the start
	position int64
}

func (s *misbehaving) Read(p []byte) (int, error) { return s.read(p) }

func (s *misbehaving) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		if s.position = offset; s.seek != nil {
			s.seek()
		}
	case io.SeekCurrent:
		s.position += offset
	case io.SeekEnd:
		s.position = 100 + offset
	}
	return s.position, nil
}

// The call returns the stream's error or panics with the stream's value, on the caller's goroutine. If it panicked on
// another goroutine, the test process would crash.
func TestAStreamThatMisbehaves(t *testing.T) {
	server, _ := flakyServer(t)
	attempts := 0
	client := newTestClient(t, server.URL, func(o *ClientOptions) {
		o.PerRetryPolicies = append(o.PerRetryPolicies, policyFunc(func(req *policy.Request) (*http.Response, error) {
			attempts++
			return req.Next()
		}))
	})
	for name, test := range map[string]struct {
		read func(p []byte) (int, error)
		want error
	}{
		"it reads more than asked":         {func(p []byte) (int, error) { return len(p) + 1, nil }, errTooMuchRead},
		"it reads less than nothing":       {func([]byte) (int, error) { return -1, nil }, errTooMuchRead},
		"it makes no progress":             {func([]byte) (int, error) { return 0, nil }, io.ErrNoProgress},
		"it fails":                         {func([]byte) (int, error) { return 0, errBroken }, errBroken},
		"it fails after reading something": {func(p []byte) (int, error) { return copy(p, "x"), errBroken }, errBroken},
		"it reads too much with an error":  {func(p []byte) (int, error) { return len(p) + 1, errBroken }, errTooMuchRead},
	} {
		for kind, stream := range map[string]io.Reader{"seeks": &misbehaving{read: test.read}, "does not seek": readerFunc(test.read)} {
			t.Run(name+", and "+kind, func(t *testing.T) {
				attempts = 0
				err := client.SendToAll(t.Context(), BinaryStream(stream), nil)
				require.ErrorIs(t, err, test.want)
				require.NotErrorIs(t, err, ErrUnavailable)
				require.LessOrEqual(t, attempts, 1)
			})
		}
	}
	boom := errors.New("a bug of the stream")
	once := func() func() {
		seeks := 0
		return func() {
			if seeks++; seeks > 1 {
				panic(boom)
			}
		}
	}
	for name, stream := range map[string]io.Reader{
		"Read, and seeks":         &misbehaving{read: func([]byte) (int, error) { panic(boom) }},
		"Read, and does not seek": readerFunc(func([]byte) (int, error) { panic(boom) }),
		"the second Seek":         &misbehaving{read: func(p []byte) (int, error) { return len(p), nil }, seek: once()},
		"the first Seek":          &misbehaving{read: func(p []byte) (int, error) { return len(p), nil }, seek: func() { panic(boom) }},
	} {
		t.Run("it panics in "+name, func(t *testing.T) {
			require.PanicsWithValue(t, boom, func() { _ = client.SendToAll(t.Context(), BinaryStream(stream), nil) })
		})
	}
	require.NoError(t, client.SendToAll(t.Context(), Text("the client still works"), nil))
}

var errBroken = errors.New("broken")

func TestEveryBodyHasALength(t *testing.T) {
	var lengths []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		lengths = append(lengths, fmt.Sprintln(req.ContentLength, req.TransferEncoding, req.Header.Get("Content-Type")))
	}))
	defer server.Close()
	client := newTestClient(t, server.URL, nil)
	for _, message := range []Message{Text("four"), Text(""), JSON("12"), Binary(nil), BinaryStream(strings.NewReader("four")),
		BinaryStream(io.MultiReader(strings.NewReader("four"))), BinaryStream(strings.NewReader("")), BinaryStream(io.MultiReader())} {
		require.NoError(t, client.SendToAll(t.Context(), message, nil))
	}
	require.Equal(t, []string{"4 [] text/plain\n", "0 [] text/plain\n", "4 [] application/json\n", "0 [] application/octet-stream\n",
		"4 [] application/octet-stream\n", "4 [] application/octet-stream\n", "0 [] application/octet-stream\n", "0 [] application/octet-stream\n"}, lengths)
}

// endless responds with a body that ends only when the client disconnects.
func endless(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.WriteHeader(status)
		if req.Method == http.MethodHead {
			return
		}
		for block := bytes.Repeat([]byte("<p>endless</p>\n"), 1000); req.Context().Err() == nil; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
}

func TestEndlessResponsesAreBounded(t *testing.T) {
	var before, after runtime.MemStats
	for _, code := range []int{200, 202, 302, 400, 404, 429, 500} {
		server := httptest.NewServer(endless(code))
		client := newTestClient(t, server.URL, nil)
		runtime.ReadMemStats(&before)
		err := client.SendToAll(t.Context(), Text("hello"), nil)
		_, existsErr := client.GroupExists(t.Context(), "g", nil)
		runtime.ReadMemStats(&after)
		require.Equal(t, isSuccess(code), err == nil, "%d: %v", code, err)
		require.Equal(t, isSuccess(code) || code == 404, existsErr == nil, "%d: %v", code, existsErr)
		require.Less(t, (after.TotalAlloc-before.TotalAlloc)>>20, uint64(32), "MiB allocated for %d", code)
		if err != nil {
			require.Less(t, len(err.Error()), 500)
			require.ErrorContains(t, err, fmt.Sprint(code))
		}
		_, err = client.NewListConnectionsInGroupPager("g", nil).NextPage(t.Context())
		if code == 200 || code == 202 {
			require.ErrorIs(t, err, errLargeResponse)
		} else {
			require.ErrorContains(t, err, fmt.Sprint(code))
		}
		req, err := http.NewRequest("POST", "/api/x", nil)
		require.NoError(t, err)
		resp, err := client.SendRequest(t.Context(), req)
		if isSuccess(code) {
			require.ErrorIs(t, err, errLargeResponse)
		} else {
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Len(t, body, maxErrorBody)
		}
		server.Close()
	}
}

func TestAnErrorIsText(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(strings.Repeat("<p>the gateway says no</p>", 20)))
	_ = z.Close()
	for name, body := range map[string]func(http.Header) string{
		"terminal escapes":         func(http.Header) string { return "\x1b]0;title\x07\x1b[2J\x1b[1;1HAll is well\x1b[8m\u202e" },
		"terminal escapes in JSON": func(http.Header) string { return `{"code":"A\u001b[2J","message":"B\u001b[2J\u0007\u202e\u2066"}` },
		"invalid UTF-8":            func(http.Header) string { return "\xff\xfe\x00\x80" },
		"gzip without Accept-Encoding": func(h http.Header) string {
			h.Set("Content-Encoding", "gzip")
			return zipped.String()
		},
		"in headers": func(h http.Header) string {
			h["X-Ms-Error-Code"] = []string{"A\x80\u202e\t"}
			h["X-Ms-Request-Id"] = []string{"B\x80\u202e"}
			return ""
		},
		"in a problem": func(http.Header) string { return `{"title":"A\u001b","detail":"B\u0085"}` },
	} {
		t.Run(name, func(t *testing.T) {
			client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
				resp := respondWith(req, 400, body)
				return resp, nil
			})
			text := client.SendToAll(t.Context(), Text("hello"), nil).Error()
			require.True(t, utf8.ValidString(text), "%q", text)
			require.False(t, strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }), "%q", text)
		})
	}
	client := newTestClient(t, testEndpoint, func(o *ClientOptions) {
		o.Retry.MaxRetries = -1
		o.Transport = transportFunc(func(*http.Request) (*http.Response, error) { return nil, errors.New("a\x1b[2J\nb\xff") })
	})
	require.EqualError(t, client.SendToAll(t.Context(), Text("hello"), nil), `webpubsub: SendToAll: a\u001b[2J b\xff`)
}

func respondWith(req *http.Request, status int, body func(http.Header) string) *http.Response {
	resp := respond(req, status, "")
	resp.Body = io.NopCloser(strings.NewReader(body(resp.Header)))
	return resp
}

func TestAnErrorNamesTheRequestThatTheClientSent(t *testing.T) {
	var ids []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ids = append(ids, req.Header.Get("x-ms-client-request-id"))
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	client := newTestClient(t, server.URL, nil)
	err := client.SendToAll(t.Context(), Text("hello"), nil)
	require.Len(t, ids, 4)
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, ids[0])
	require.Equal(t, []string{ids[0], ids[0], ids[0], ids[0]}, ids, "all attempts of a call have the same id")
	require.EqualError(t, err, "webpubsub: SendToAll: 503 Service Unavailable (client request id "+ids[0]+")")
	require.Error(t, client.SendToAll(t.Context(), Text("hello"), nil))
	require.NotEqual(t, ids[0], ids[4])

	req, err := http.NewRequest("GET", "/api/x", nil)
	require.NoError(t, err)
	req.Header.Set("x-ms-client-request-id", "mine")
	_, err = client.SendRequest(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, "mine", ids[8])
}

func TestAContextThatEndsDuringRetriesNamesTheLastResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		client := newTestClient(t, testEndpoint, func(o *ClientOptions) {
			o.Retry.RetryDelay = time.Minute
			o.Transport = transportFunc(func(req *http.Request) (*http.Response, error) {
				if attempts++; attempts == 3 { // the third attempt has no response
					<-req.Context().Done()
					return nil, req.Context().Err()
				}
				resp := respond(req, []int{503, 429}[attempts-1], `{"code":"Busy","message":"slow down"}`)
				resp.Header.Set("Retry-After", "7")
				return resp, nil
			})
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // ends during the second delay
		defer cancel()
		err := client.SendToAll(ctx, Text("hello"), nil)
		require.EqualError(t, err, "webpubsub: SendToAll: context deadline exceeded; the last response was 429 Too Many Requests: Busy: slow down")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, ErrThrottled)
		require.NotErrorIs(t, err, ErrUnavailable)
		var response *azcore.ResponseError
		require.ErrorAs(t, err, &response)
		require.Equal(t, 429, response.StatusCode)
		wait, ok := RetryAfter(err)
		require.True(t, ok)
		require.Equal(t, 7*time.Second, wait)

		attempts = 0
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(20*time.Second, cancel) // during the third attempt
		err = client.SendToAll(ctx, BinaryStream(strings.NewReader("hello")), nil)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, ErrThrottled)

		attempts = 2
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		err = client.SendToAll(ctx, Text("hello"), nil)
		require.EqualError(t, err, "webpubsub: SendToAll: context canceled", "there was no response")
	})
}

// lostConn is a connection whose other end has vanished since lost was closed.
type lostConn struct {
	net.Conn
	lost, closed chan struct{}
	once         sync.Once
}

func (c *lostConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.lost:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *lostConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func TestUnavailable(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	cutting := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer cutting.Close()
	blocking := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-blocking }))
	defer silent.Close()
	defer close(blocking)
	trusted := httptest.NewUnstartedServer(nil)
	trusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	trusted.StartTLS()
	defer trusted.Close()
	http2 := httptest.NewUnstartedServer(cutting.Config.Handler)
	http2.EnableHTTP2 = true
	http2.StartTLS()
	defer http2.Close()
	lost := make(chan struct{}) // closed when the server has received a request; the client then receives nothing more
	losing := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		close(lost)
		<-req.Context().Done()
	}))
	losing.EnableHTTP2 = true
	losing.StartTLS()
	defer losing.Close()
	losingClient := losing.Client()
	losingTransport := losingClient.Transport.(*http.Transport)
	losingTransport.HTTP2 = &http.HTTP2Config{SendPingTimeout: 10 * time.Millisecond, PingTimeout: 10 * time.Millisecond}
	losingTransport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &lostConn{Conn: conn, lost: lost, closed: make(chan struct{})}, err
	}
	short := &http.Client{Timeout: 20 * time.Millisecond}
	status := func(code int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
		t.Cleanup(server.Close)
		return server.URL
	}
	for name, test := range map[string]struct {
		endpoint string
		client   *http.Client
		want     bool
	}{
		"502":                                 {status(502), nil, true},
		"503":                                 {status(503), nil, true},
		"504":                                 {status(504), nil, true},
		"500":                                 {status(500), nil, false},
		"404":                                 {status(404), nil, false},
		"a refused connection":                {closed.URL, nil, true},
		"the same, with an http.Client":       {closed.URL, &http.Client{}, true},
		"a connection that is cut":            {cutting.URL, nil, true},
		"an HTTP/2 stream that is cut":        {http2.URL, http2.Client(), true},
		"an HTTP/2 connection that is lost":   {losing.URL, losingClient, true},
		"a timeout of the http.Client":        {silent.URL, short, true},
		"a certificate that is not trusted":   {trusted.URL, &http.Client{}, false},
		"a server that does not speak TLS":    {"https" + strings.TrimPrefix(cutting.URL, "http"), &http.Client{}, false},
		"a host that does not exist anywhere": {"http://does-not-exist.invalid", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			client := newTestClient(t, test.endpoint, func(o *ClientOptions) {
				o.Retry.MaxRetries = -1
				if test.client != nil {
					o.Transport = test.client
				}
			})
			err := client.GetServiceStatus(t.Context(), nil)
			require.Error(t, err)
			require.Equal(t, test.want, errors.Is(err, ErrUnavailable), "%v", err)
			require.NotErrorIs(t, err, ErrInvalidArgument)
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := newTestClient(t, silent.URL, nil).GetServiceStatus(ctx, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, ErrUnavailable, "the caller's deadline has passed")
}

func TestUnavailableInTheMiddleOfAResponse(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"token":`)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	options := &ClientOptions{}
	options.Transport = server.Client()
	options.Retry.MaxRetries = -1
	client, err := NewClient(server.URL, "chat", staticToken("token"), options)
	require.NoError(t, err)
	_, err = client.GetClientAccessToken(t.Context(), nil)
	require.ErrorIs(t, err, ErrUnavailable)
	require.EqualError(t, err, "webpubsub: GetClientAccessToken: unexpected EOF")
	_, err = client.NewListConnectionsInGroupPager("g", nil).NextPage(t.Context())
	require.ErrorIs(t, err, ErrUnavailable)
}

// startRawServer starts a server that responds to each request with the same bytes. If cut is true, it then closes the connection.
func startRawServer(t *testing.T, response string, cut bool) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, response)
		if !cut {
			_, _ = io.Copy(io.Discard, conn) // until the client closes the connection
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// A response that ends within its header is a connection that broke off, wherever it ends.
func TestUnavailableInTheMiddleOfAHeader(t *testing.T) {
	const response = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
	for n := range len(response) {
		server := startRawServer(t, response[:n], true)
		client := newTestClient(t, server.URL, func(o *ClientOptions) { o.Retry.MaxRetries = -1 })
		require.ErrorIs(t, client.SendToAll(t.Context(), Text("hello"), nil), ErrUnavailable, "cut after %d bytes", n)
	}
}

// The body of a 101 is the connection, which stays open.
func TestSwitchingProtocolsIsAnError(t *testing.T) {
	server := startRawServer(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n", false)
	for name, transport := range map[string]policy.Transporter{"default": nil, "http.Client": &http.Client{}} {
		t.Run(name, func(t *testing.T) {
			client := newTestClient(t, server.URL, func(o *ClientOptions) { o.Transport = transport })
			require.ErrorContains(t, client.SendToAll(t.Context(), Text("hello"), nil), "101 Switching Protocols")
			_, err := client.UserExists(t.Context(), "u", nil)
			require.ErrorContains(t, err, "101 Switching Protocols")
		})
	}
}

func TestRetryAfter(t *testing.T) {
	future := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for name, test := range map[string]struct {
		header, value string
		want          time.Duration
		ok            bool
	}{
		"seconds":            {"Retry-After", "7", 7 * time.Second, true},
		"zero":               {"Retry-After", "0", 0, true},
		"white space":        {"Retry-After", " 7 ", 7 * time.Second, true},
		"milliseconds":       {"retry-after-ms", "1500", 1500 * time.Millisecond, true},
		"more milliseconds":  {"x-ms-retry-after-ms", "2500", 2500 * time.Millisecond, true},
		"a date":             {"Retry-After", future, time.Hour, true},
		"a date in the past": {"Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT", 0, true},
		"the end of time":    {"Retry-After", "18446744073709551615", 9223372036 * time.Second, true},
		"a negative number":  {"Retry-After", "-7", 0, false},
		"words":              {"Retry-After", "soon", 0, false},
		"nothing":            {"X-Other", "7", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			client := newTestClient(t, testEndpoint, func(o *ClientOptions) {
				o.Retry.MaxRetries = -1
				o.Transport = transportFunc(func(req *http.Request) (*http.Response, error) {
					resp := respond(req, 429, "")
					resp.Header.Set(test.header, test.value)
					return resp, nil
				})
			})
			wait, ok := RetryAfter(fmt.Errorf("wrapped: %w", client.SendToAll(t.Context(), Text("hello"), nil)))
			require.Equal(t, test.ok, ok)
			require.InDelta(t, test.want, wait, float64(time.Minute))
			if test.value != future {
				require.Equal(t, test.want, wait)
			}
		})
	}
	for _, err := range []error{nil, io.EOF, ErrThrottled, &azcore.ResponseError{}} {
		_, ok := RetryAfter(err)
		require.False(t, ok)
	}
}

// TestNamesAreCheckedEverywhere passes valid and invalid names to each argument that accepts a name.
func TestNamesAreCheckedEverywhere(t *testing.T) {
	sent := atomic.Int64{}
	client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return respond(req, 200, `{"value":[]}`), nil
	})
	ctx := t.Context()
	token := func(o ClientAccessTokenOptions) error {
		_, err := client.GetClientAccessToken(ctx, &o)
		return err
	}
	second := func(_ any, err error) error { return err }
	hello := Text("hello")
	arguments := map[string]func(name string) error{
		"SendToGroup":                 func(n string) error { return client.SendToGroup(ctx, n, hello, nil) },
		"GroupExists":                 func(n string) error { return second(client.GroupExists(ctx, n, nil)) },
		"AddConnectionsToGroups":      func(n string) error { return client.AddConnectionsToGroups(ctx, []string{"a", n}, "", nil) },
		"RemoveConnectionsFromGroups": func(n string) error { return client.RemoveConnectionsFromGroups(ctx, []string{n}, "", nil) },
		"AddUserToGroup":              func(n string) error { return client.AddUserToGroup(ctx, n, "u", nil) },
		"a permission's target": func(n string) error {
			return client.GrantPermission(ctx, PermissionSendToGroup, "c", &GrantPermissionOptions{TargetName: n})
		},
		"a list":               func(n string) error { return second(client.NewListConnectionsInGroupPager(n, nil).NextPage(ctx)) },
		"a token's group":      func(n string) error { return token(ClientAccessTokenOptions{Groups: []string{n}}) },
		"a token's role":       func(n string) error { return token(ClientAccessTokenOptions{Roles: []string{RoleSendToGroup(n)}}) },
		"a token's pattern":    func(n string) error { return token(ClientAccessTokenOptions{Roles: []string{RoleJoinLeaveGroups(n)}}) },
		"a token's user":       func(n string) error { return token(ClientAccessTokenOptions{UserID: n}) },
		"SendToUser":           func(n string) error { return client.SendToUser(ctx, n, hello, nil) },
		"UserExists":           func(n string) error { return second(client.UserExists(ctx, n, nil)) },
		"RemoveUserFromGroup":  func(n string) error { return client.RemoveUserFromGroup(ctx, "g", n, nil) },
		"SendToConnection":     func(n string) error { return client.SendToConnection(ctx, n, hello, nil) },
		"CloseConnection":      func(n string) error { return client.CloseConnection(ctx, n, nil) },
		"SendToAll's excluded": func(n string) error { return client.SendToAll(ctx, hello, &SendToAllOptions{Excluded: []string{n}}) },
		"a permission's connection": func(n string) error {
			return client.RevokePermission(ctx, PermissionSendToGroup, n, &RevokePermissionOptions{TargetName: "g"})
		},
		"RemoveConnectionFromAllGroups": func(n string) error { return client.RemoveConnectionFromAllGroups(ctx, n, nil) },
	}
	for argument, call := range arguments {
		for _, bad := range []string{".", "..", "../a", "a/..", "a/./b", `a\..\b`, " ", "\t", "\u00a0", " a", "a ", "a\n", "\ta", "\u2003", "a\tb", "a\x00b", "a\x7f", "a\u0085b", "\xff"} {
			sent.Store(0)
			require.ErrorIs(t, call(bad), ErrInvalidArgument, "%s: %q", argument, bad)
			require.Zero(t, sent.Load())
		}
		for _, good := range []string{"a b", "...", ".hidden", "a/b", "a/.b", "a../b", "/", "\u2003a", "a\u2028", "a%2Fb", "é日本😀", "*", "a,b", "~!@$^*()_-", "cafe\u0301", strings.Repeat("😀", 512)} {
			require.NoError(t, call(good), "%s: %q", argument, good)
		}
	}
	require.NoError(t, token(ClientAccessTokenOptions{Roles: []string{RoleSendToGroups(`a*b*c*d**\*\\\*`), RoleSendToGroup("a*b*c*d*e*f*")}}))
	for _, pattern := range []string{"a*b*c*d*e*f*", "a**b**c**", `\\*\\*\\*\\*\\*\\*`} {
		require.ErrorIs(t, token(ClientAccessTokenOptions{Roles: []string{RoleJoinLeaveGroups(pattern)}}), ErrInvalidArgument, pattern)
	}
	require.NoError(t, token(ClientAccessTokenOptions{Roles: []string{"admin", RoleSendToAnyGroup, RoleJoinLeaveAnyGroup, "reader.of things"}}))
	require.ErrorIs(t, client.SendToGroup(ctx, strings.Repeat("😀", 512)+"a", hello, nil), ErrInvalidArgument)
	require.NoError(t, client.SendToUser(ctx, strings.Repeat("😀", 600), hello, nil), "user ids have no such limit")
}

func TestFormatFilterIsBounded(t *testing.T) {
	type pointer *pointer
	var cycle pointer
	cycle = &cycle
	var loop any
	loop = &loop
	list := []any{nil}
	list[0] = list
	deep := new(any)
	for range 20 {
		next := any(deep)
		deep = &next
	}
	text := "text"
	once := &text
	for name, value := range map[string]any{
		"a pointer to itself":     cycle,
		"an interface of itself":  loop,
		"a list of itself":        list,
		"a list of cycles":        []any{loop},
		"too many pointers":       deep,
		"a text of two mebibytes": strings.Repeat("a", 2<<20),
		"a long list":             make([]int64, 1<<20),
		"a list of long texts":    []string{strings.Repeat("a", 600<<10), strings.Repeat("b", 600<<10)},
	} {
		require.NotEmpty(t, FormatFilter("userId in %v", value).problem(), name)
	}
	require.NotEmpty(t, FormatFilter("userId eq %v or userId eq %v", strings.Repeat("a", 600<<10), strings.Repeat("b", 600<<10)).problem())
	require.Equal(t, Filter("userId eq 'text'"), FormatFilter("userId eq %v", &once))
}

func TestEndpointAndHub(t *testing.T) {
	client, err := NewClientFromConnectionString("Endpoint=HTTPS://Name.webpubsub.azure.com:443/;AccessKey=key", "Chat",
		&ClientOptions{ReverseProxyEndpoint: "https://proxy.example"})
	require.NoError(t, err)
	require.Equal(t, "https://name.webpubsub.azure.com", client.Endpoint())
	require.Equal(t, "Chat", client.Hub())
}

// A list whose pages link to themselves would never end.
func TestALinkToTheSamePageIsAnError(t *testing.T) {
	requests := 0
	client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
		if requests++; requests > 10 {
			return nil, errors.New("too many requests")
		}
		return respond(req, 200, `{"value":[{"connectionId":"c"}],"nextLink":"/api/hubs/chat/groups/g/connections?continuationToken=c"}`), nil
	})
	members := 0
	var last error
	for _, err := range client.ConnectionsInGroup(t.Context(), "g", nil) {
		if last = err; err == nil {
			members++
		}
	}
	require.EqualError(t, last, "webpubsub: ListConnectionsInGroup: the link to the next page leads to the same page")
	require.Equal(t, 2, requests)
	require.Equal(t, 1, members)
}

// net/http rejects these headers before it sends anything, so a retry would be in vain.
func TestHeadersThatCannotBeSentAreNotRetried(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }))
	defer server.Close()
	attempts := 0
	count := func(o *ClientOptions) {
		o.Transport = transportFunc(func(req *http.Request) (*http.Response, error) {
			attempts++
			return server.Client().Do(req)
		})
	}
	o := &ClientOptions{}
	count(o)
	entra, err := NewClient(server.URL, "chat", staticToken("read-from-a-file\n"), o)
	require.NoError(t, err)
	err = entra.SendToAll(t.Context(), Text("hello"), nil)
	require.ErrorContains(t, err, "Authorization")
	require.NotContains(t, err.Error(), "read-from-a-file")
	require.Equal(t, 1, attempts)

	attempts = 0
	ctx := policy.WithHTTPHeader(t.Context(), http.Header{"X-Name": {"a\r\nb"}})
	err = newTestClient(t, server.URL, count).SendToAll(ctx, Text("hello"), nil)
	require.ErrorContains(t, err, "X-Name")
	require.NotErrorIs(t, err, ErrUnavailable)
	require.Equal(t, 1, attempts)
}

// Without our hook, net/http's error is only the text of the proxy's status, such as "Bad Gateway".
func TestAProxyThatRejectsTheConnection(t *testing.T) {
	for status, test := range map[string]struct {
		attempts    int
		unavailable bool
	}{
		"407 Proxy Authentication Required": {1, false},
		"403 Forbidden":                     {1, false},
		"429 Too Many Requests":             {2, true},
		"502 Bad Gateway":                   {2, true},
		"503 Service Unavailable":           {2, true},
		"502 Bad\x1b[31m Gateway":           {2, true},
	} {
		t.Run(status, func(t *testing.T) {
			var attempts atomic.Int64
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				assert.Equal(t, "CONNECT contoso.webpubsub.azure.com:443", req.Method+" "+req.RequestURI)
				attempts.Add(1)
				conn, _, err := w.(http.Hijacker).Hijack()
				if !assert.NoError(t, err) {
					return
				}
				defer conn.Close()
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", status)
			}))
			defer proxy.Close()
			proxyURL, err := url.Parse(proxy.URL)
			require.NoError(t, err)
			proxyURL.User = url.UserPassword("user", "proxy-password")
			transport := sharedTransport().Clone() // which reads the proxy from the environment, once for the process
			transport.Proxy = http.ProxyURL(proxyURL)
			defer transport.CloseIdleConnections()
			client := newTestClient(t, testEndpoint, func(o *ClientOptions) {
				o.Transport = roundTripper{transport}
				o.Retry.MaxRetries = 1
			})
			err = client.SendToAll(t.Context(), Text("hello"), nil)
			require.EqualError(t, err, "webpubsub: SendToAll: proxyconnect tcp: the proxy "+proxyURL.Host+" responded with "+line(status))
			require.NotContains(t, err.Error(), "\x1b")
			require.Equal(t, test.unavailable, errors.Is(err, ErrUnavailable))
			require.Equal(t, int64(test.attempts), attempts.Load())
		})
	}
}

// Transports in tests often return a response without a body and without headers.
func TestAResponseOfAFakeTransport(t *testing.T) {
	for _, code := range []int{200, 202, 307, 404, 503} {
		log, records := logTo(t, slog.LevelDebug)
		client := newTestClient(t, testEndpoint, func(o *ClientOptions) {
			o.Logger = log
			o.Transport = transportFunc(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: code}, nil })
		})
		err := client.SendToAll(t.Context(), Text("hello"), nil)
		require.Equal(t, isSuccess(code), err == nil)
		exists, err := client.UserExists(t.Context(), "user1", nil)
		require.Equal(t, isSuccess(code), exists)
		require.Equal(t, isSuccess(code) || code == 404, err == nil)
		_, err = client.NewListConnectionsInGroupPager("g", nil).NextPage(t.Context())
		require.Equal(t, isSuccess(code), err == nil)
		req, err := http.NewRequest(http.MethodGet, "/api/health", nil)
		require.NoError(t, err)
		resp, err := client.SendRequest(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, code, resp.StatusCode)
		require.NoError(t, resp.Body.Close())
		require.Len(t, records(), 4)
	}
}

func TestTheEndOfAList(t *testing.T) {
	for name, end := range map[string]string{"absent": `{"value":[]}`, "null": `{"value":[],"nextLink":null}`, "empty": `{"value":[],"nextLink":""}`,
		"null members": "\uFEFF" + `{"value":[{"connectionId":"c","userId":null}],"nextLink":null}`} {
		requests := 0
		client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
			requests++
			return respond(req, 200, end), nil
		})
		for _, err := range client.ConnectionsInGroup(t.Context(), "g", nil) {
			require.NoError(t, err, name)
		}
		require.Equal(t, 1, requests, name)
	}
}
