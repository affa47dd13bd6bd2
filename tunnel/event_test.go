package tunnel_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/internal/tunnelframe"
	"github.com/awps-go/webpubsub/tunnel"
)

// rawEvent is an event as an HTTP/1.1 request.
type rawEvent struct {
	method, target string
	header         []string // lines
	body           string
}

func parseRaw(t testing.TB, data []byte) rawEvent {
	t.Helper()
	head, body, ok := strings.Cut(string(data), "\r\n\r\n")
	require.True(t, ok)
	lines := strings.Split(head, "\r\n")
	first := strings.Fields(lines[0])
	return rawEvent{first[0], first[1], lines[1:], body}
}

// http returns the bytes of the HTTP/1.1 request.
func (e rawEvent) http() string {
	return e.method + " " + e.target + " HTTP/1.1\r\n" + strings.Join(e.header, "\r\n") + "\r\n\r\n" + e.body
}

// frame returns the event as a message of the tunnel.
func (e rawEvent) frame() *tunnelframe.Request {
	r := &tunnelframe.Request{Method: e.method, Headers: map[string][]string{}}
	for _, line := range e.header {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if strings.EqualFold(name, "Host") {
			r.URL = "http://" + value + e.target
			continue
		}
		r.Headers[name] = append(r.Headers[name], value)
	}
	if e.body != "" {
		r.Body = []byte(e.body)
	}
	return r
}

// edit returns the event with other header lines.
func (e rawEvent) edit(edit func(line string) []string) rawEvent {
	var header []string
	for _, line := range e.header {
		header = append(header, edit(line)...)
	}
	e.header = header
	return e
}

// received is a request as a handler receives it.
type received struct {
	Method, Proto, RequestURI, Host string
	URL                             url.URL
	Header                          http.Header
	ContentLength                   int64
	Body                            string
}

// recorder records requests before it passes them to a handler.
type recorder struct {
	handler  http.Handler
	received chan received
}

func (rec recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	rec.received <- received{r.Method, r.Proto, r.RequestURI, r.Host, *r.URL, r.Header.Clone(), r.ContentLength, string(body)}
	r.Body = io.NopCloser(bytes.NewReader(body))
	rec.handler.ServeHTTP(w, r)
}

// responseOverHTTP sends the bytes of a request to an HTTP server and returns its response.
func responseOverHTTP(t *testing.T, server *httptest.Server, request string) *tunnelframe.Response {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	method, _, _ := strings.Cut(request, " ")
	r := bufio.NewReader(conn)
	response, err := http.ReadResponse(r, &http.Request{Method: method})
	for err == nil && response.StatusCode < 200 { // skip informational responses
		response, err = http.ReadResponse(r, &http.Request{Method: method})
	}
	if err != nil { // net/http's server ends the connection after a panic
		return nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil
	}
	return &tunnelframe.Response{StatusCode: response.StatusCode, Headers: lowerCase(response.Header, "Date", "Connection"), Body: body}
}

func lowerCase(header http.Header, without ...string) map[string][]string {
	lower := map[string][]string{}
	for name, values := range header {
		lower[strings.ToLower(name)] = values
	}
	for _, name := range without {
		delete(lower, strings.ToLower(name))
	}
	return lower
}

// newEventHandler returns a handler whose responses use all features of a response.
func newEventHandler(t *testing.T) http.Handler {
	t.Helper()
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub: "chat", AccessKeys: []string{testKey}, Logger: slog.New(slog.DiscardHandler),
		OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			return &eventhandler.ConnectResponse{UserID: "Zoë", Groups: []string{"g"}, SetState: map[string]any{"n": 1}}, nil
		},
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			if r.EventName == "order" {
				return nil, fmt.Errorf("an error")
			}
			return &eventhandler.UserEventResponse{Message: webpubsub.JSON(r)}, nil
		},
	})
	require.NoError(t, err)
	return handler
}

// events returns the recorded events of eventhandler's tests, and group events. It returns each event a second time with its
// signatures on two lines.
func events(t *testing.T) map[string]rawEvent {
	t.Helper()
	files, err := filepath.Glob("../eventhandler/testdata/*/*.http")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 30)
	events := map[string]rawEvent{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		name := filepath.Base(file)
		events[name] = parseRaw(t, data)
	}
	connected := events["03-json-connected.http"]
	require.NotEmpty(t, connected.header)
	for _, kind := range []string{"joined", "left"} {
		group := connected.edit(func(line string) []string {
			switch name, _, _ := strings.Cut(line, ":"); name {
			case "Ce-Type":
				return []string{"Ce-Type: azure.webpubsub.gp." + kind}
			case "Ce-Eventname":
				return []string{"Ce-Eventname: " + kind}
			case "Ce-Userid":
				return []string{"ce-userId: Zoë"}
			case "Content-Length":
				return []string{"Content-Length: 13"}
			}
			return []string{line}
		})
		group.target, group.body = "/eventhandler/"+kind+"?code=a%20b&c", `{"group":"g"}`
		events[kind] = group
	}
	for name, e := range maps.Clone(events) {
		events[name+", two signature lines"] = e.edit(func(line string) []string {
			if name, value, _ := strings.Cut(line, ": "); strings.EqualFold(name, "ce-signature") {
				if first, second, ok := strings.Cut(value, ","); ok {
					return []string{"ce-signature: " + first, "ce-signature: " + second}
				}
			}
			return []string{line}
		})
	}
	return events
}

func TestEventsAreTheSameAsOverHTTP(t *testing.T) {
	handler := recorder{newEventHandler(t), make(chan received, 1)}
	server := httptest.NewServer(handler)
	defer server.Close()
	s := startService(t)
	startClient(t, s, handler)
	p := s.next(t)
	statuses := map[int]bool{}
	for name, e := range events(t) {
		t.Run(name, func(t *testing.T) {
			overHTTP := responseOverHTTP(t, server, e.http())
			want := <-handler.received
			overTunnel := p.do(t, e.frame())
			require.Equal(t, want, <-handler.received)
			require.Equal(t, overHTTP.StatusCode, overTunnel.StatusCode)
			if _, ok := overHTTP.Headers["content-length"]; !ok { // the response was chunked
				delete(overTunnel.Headers, "content-length")
			}
			require.Equal(t, overHTTP.Headers, overTunnel.Headers)
			require.Equal(t, string(overHTTP.Body), string(overTunnel.Body))
			statuses[overTunnel.StatusCode] = true
			if strings.Contains(name, "two signature lines") && e.method == http.MethodPost {
				require.Len(t, want.Header["Ce-Signature"], 2)
			}
		})
	}
	require.True(t, statuses[200] && statuses[204] && statuses[500], "the events had the statuses %v", statuses)
}

func TestTheLargestMessage(t *testing.T) {
	handler := recorder{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}), make(chan received, 1)}
	s := startService(t)
	startClient(t, s, handler)
	e := event("/say")
	e.Body = bytes.Repeat([]byte("a"), 1<<20)
	require.Equal(t, 200, s.next(t).do(t, e).StatusCode)
	require.Equal(t, string(e.Body), (<-handler.received).Body)
}

func TestResponsesAreTheSameAsOverHTTP(t *testing.T) {
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"] = nil
		io.WriteString(w, "te")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer cut.Close()
	handlers := map[string]func(w http.ResponseWriter, r *http.Request){
		"nothing":      func(http.ResponseWriter, *http.Request) {},
		"a status":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) },
		"two statuses": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); w.WriteHeader(500) },
		"hints":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusProcessing); w.WriteHeader(201) },
		"text":         func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "text") },
		"HTML":         func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
		"bytes":        func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte{0, 1, 2, 255}) },
		"no type": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "text")
		},
		"encoded": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "x")
			io.WriteString(w, "text")
		},
		"flushed": func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); io.WriteString(w, "text") },
		"flushed later": func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "<html>")
			w.(http.Flusher).Flush()
			io.WriteString(w, strings.Repeat("a", 3000))
		},
		"in parts":     func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "te"); io.WriteString(w, "xt") },
		"late headers": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "t"); w.Header().Set("X-Late", "1") },
		"values":       func(w http.ResponseWriter, _ *http.Request) { w.Header()["X-Two"] = []string{"a", "b"} },
		"a bad value":  func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Bad", " a\r\nb ") },
		"a bad name":   func(w http.ResponseWriter, _ *http.Request) { w.Header()["X Bad"] = []string{"a"} },
		"no content":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); io.WriteString(w, "text") },
		"not modified": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) },
		"http.Error":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "text", 400) },
		"redirect":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) },
		"too long": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1")
			io.WriteString(w, "text")
		},
		"too short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, "text")
		},
		"panic":         func(http.ResponseWriter, *http.Request) { panic("the handler's bug") },
		"panic halfway": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "text"); panic("the handler's bug") },
		"abort":         func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"bad status":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(99) },
		"a proxy":       proxyTo(cut).ServeHTTP, // of which only the beginning arrives
	}
	mux := http.NewServeMux()
	for name, handler := range handlers {
		mux.HandleFunc("/"+url.PathEscape(name), handler)
	}
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	defer server.Close()
	s := startService(t)
	c := startClient(t, s, mux)
	p := s.next(t)
	for name := range handlers {
		for _, method := range []string{"POST", "HEAD"} {
			t.Run(method+" "+name, func(t *testing.T) {
				path := "/" + url.PathEscape(name)
				e := event(path)
				e.Method = method
				overTunnel := p.do(t, e)
				overHTTP := responseOverHTTP(t, server, method+" "+path+" HTTP/1.1\r\nHost: host\r\nContent-Length: 0\r\n\r\n")
				switch {
				case overHTTP == nil:
					require.Equal(t, 500, overTunnel.StatusCode)
					require.Equal(t, "the handler failed\n", string(overTunnel.Body))
				case name == "too long": // net/http's server sends the beginning
					require.Equal(t, 500, overTunnel.StatusCode)
				default:
					require.Equal(t, overHTTP.StatusCode, overTunnel.StatusCode)
					if method == "HEAD" { // without a body, the responses may differ in these headers
						delete(overHTTP.Headers, "content-length")
						delete(overTunnel.Headers, "content-length")
						delete(overHTTP.Headers, "content-type")
						delete(overTunnel.Headers, "content-type")
					}
					if name == "not modified" || name == "no content" {
						delete(overHTTP.Headers, "content-length")
					}
					require.Equal(t, overHTTP.Headers, overTunnel.Headers)
					require.Equal(t, string(overHTTP.Body), string(overTunnel.Body))
				}
			})
		}
	}
	require.Contains(t, c.log.String(), "the handler's bug")
	require.Contains(t, c.log.String(), "event_test.go", "the stack is logged")
	require.NotContains(t, c.log.String(), http.ErrAbortHandler.Error())
}

// proxyTo returns a proxy to a server that does not log.
func proxyTo(s *httptest.Server) *httputil.ReverseProxy {
	to, _ := url.Parse(s.URL)
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	return proxy
}

func TestResponsesThatCannotBeSent(t *testing.T) {
	var wrote error
	mux := http.NewServeMux()
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		for range 20 {
			_, wrote = w.Write(make([]byte, 100_000))
		}
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("a", 1<<20)) })
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { runtime.Goexit() }) // like t.FailNow in a test
	mux.Handle("/", echo)
	s := startService(t)
	startClient(t, s, mux)
	p := s.next(t)
	require.Equal(t, 500, p.do(t, event("/large")).StatusCode)
	require.ErrorContains(t, wrote, "larger than a frame")
	require.Equal(t, 500, p.do(t, event("/headers")).StatusCode)
	require.Equal(t, 500, p.do(t, event("/exit")).StatusCode)
	require.Equal(t, "/after: body of /after", string(p.do(t, event("/after")).Body))
}

func TestRoutingIsCarriedBack(t *testing.T) {
	s := startService(t)
	startClient(t, s, echo)
	p := s.next(t)
	channel := "channel-1"
	for _, e := range []*tunnelframe.Request{
		{Method: "POST", URL: "https://host/", ChannelName: &channel, LocalRouting: true},
		{Method: "POST", URL: "https://host/"},
		{Method: "no method", URL: "https://host/", ChannelName: &channel, LocalRouting: true}, // malformed: the handler is not called
	} {
		answer := p.do(t, e)
		require.Equal(t, e.ChannelName, answer.ChannelName)
		require.Equal(t, e.LocalRouting, answer.LocalRouting)
		require.False(t, answer.NotCompleted)
	}
}

func TestURLsAndHosts(t *testing.T) {
	handler := recorder{echo, make(chan received, 1)}
	s := startService(t)
	startClient(t, s, handler)
	p := s.next(t)
	for _, c := range []struct{ url, target, host string }{
		{"https://name.webpubsub.azure.com/eventhandler/a%2Fb?code=x%20y&z", "/eventhandler/a%2Fb?code=x%20y&z", "name.webpubsub.azure.com"},
		{"tunnel:///eventhandler/say", "/eventhandler/say", "host.of.the.header"},
		{"/eventhandler/say?q", "/eventhandler/say?q", "host.of.the.header"},
		{"http://127.0.0.1:8080", "/", "127.0.0.1:8080"},
	} {
		e := event("")
		e.URL, e.Headers["host"] = c.url, []string{"host.of.the.header"}
		require.Equal(t, 200, p.do(t, e).StatusCode)
		got := <-handler.received
		require.Equal(t, c.target, got.RequestURI)
		require.Equal(t, c.host, got.Host)
		require.Empty(t, got.Header["Host"])
		require.Equal(t, fmt.Sprint(len(e.Body)), got.Header.Get("Content-Length"))
	}
}

func TestRemoteAddrIsTheOtherEndOfTheConnection(t *testing.T) {
	addresses := make(chan string, 1)
	s := startService(t)
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String()) // ignores the name
	}}
	startServe(t, func(ctx context.Context, o *tunnel.Options) error {
		return tunnel.Serve(ctx, "Endpoint=http://name.webpubsub.example.com;AccessKey="+testKey, "chat",
			http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { addresses <- r.RemoteAddr }), o)
	}, func(o *tunnel.Options) { o.HTTPClient = &http.Client{Transport: transport} })
	s.next(t).do(t, event("/"))
	require.Equal(t, s.Listener.Addr().String(), <-addresses)
}

func TestMalformedEvents(t *testing.T) {
	s := startService(t)
	c := startClient(t, s, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") }))
	p := s.next(t)
	for name, edit := range map[string]func(*tunnelframe.Request){
		"no method":         func(e *tunnelframe.Request) { e.Method = "" },
		"method of words":   func(e *tunnelframe.Request) { e.Method = "GET /secret" },
		"no URL":            func(e *tunnelframe.Request) { e.URL = "" },
		"not a URL":         func(e *tunnelframe.Request) { e.URL = "http://secret%zz/" },
		"opaque URL":        func(e *tunnelframe.Request) { e.URL = "tunnel:secret" },
		"relative path":     func(e *tunnelframe.Request) { e.URL = "secret" },
		"header's name":     func(e *tunnelframe.Request) { e.Headers["a secret"] = []string{"x"} },
		"header's new line": func(e *tunnelframe.Request) { e.Headers["x"] = []string{"secret\r\nx"} },
	} {
		t.Run(name, func(t *testing.T) {
			e := event("/")
			edit(e)
			answer := p.do(t, e)
			require.Equal(t, 400, answer.StatusCode)
			require.NotContains(t, string(answer.Body)+c.log.String(), "secret")
		})
	}
}
