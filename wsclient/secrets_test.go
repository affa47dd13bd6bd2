package wsclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// safeLog is a log of all levels.
type safeLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *safeLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *safeLog) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.Level(-100)}))
}

// requireSafe requires that neither an error nor an error that it wraps contains a secret or a control character, however it is
// printed.
func requireSafe(t *testing.T, err error, secrets ...string) {
	t.Helper()
	require.Error(t, err)
	texts := []string{fmt.Sprintf("%#v", err)}
	for all := []error{err}; len(all) > 0; all = all[1:] {
		texts = append(texts, all[0].Error(), fmt.Sprintf("%+v", all[0]))
		switch wrapped := all[0].(type) { //nolint:errorlint // the loop itself unwraps
		case interface{ Unwrap() error }:
			if e := wrapped.Unwrap(); e != nil {
				all = append(all, e)
			}
		case interface{ Unwrap() []error }:
			all = append(all, wrapped.Unwrap()...)
		}
	}
	for _, text := range texts {
		for _, secret := range secrets {
			require.NotContains(t, text, secret)
		}
		require.True(t, utf8.ValidString(text), "%q", text)
		require.Negative(t, strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", text)
	}
}

// A handshake's URL has a token, and its headers may have credentials. They must not follow a redirect, and net/http would send
// the URL as the Referer.
func TestARedirectOfAHandshakeIsNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a request reached another host: %s %v", r.URL, r.Header)
	}))
	defer elsewhere.Close()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
	}))
	defer service.Close()
	_, err := Dial(t.Context(), StaticURL("ws"+strings.TrimPrefix(service.URL, "http")+"/client/hubs/chat?access_token=MarkedToken"),
		&Options{Header: http.Header{"X-Api-Key": {"MarkedKey"}}})
	handshake, ok := errors.AsType[*HandshakeError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, http.StatusTemporaryRedirect, handshake.StatusCode)
	requireSafe(t, err, "MarkedToken", "MarkedKey")
}

func TestACheckRedirectOfTheCallerDecidesAboutRedirects(t *testing.T) {
	h := startHub(t)
	target, err := h.url("user")(t.Context())
	require.NoError(t, err)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target, http.StatusTemporaryRedirect)
	}))
	defer service.Close()
	conn, err := Dial(t.Context(), StaticURL("ws"+strings.TrimPrefix(service.URL, "http")+"?access_token=x"),
		&Options{HTTPClient: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}})
	require.NoError(t, err)
	conn.Close()
}

// The URL of an Azure Function has its key in the query.
func TestNegotiateDoesNotTellOthersItsURL(t *testing.T) {
	const secret = "MarkedFunctionKey"
	referers := make(chan []string, 10)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		referers <- r.Header["Referer"]
		fmt.Fprint(w, `{"url":"ws://127.0.0.1:1/client/hubs/chat?access_token=x"}`)
	}))
	defer elsewhere.Close()
	var location string
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusFound)
	}))
	defer app.Close()
	provider := Negotiate(app.URL+"/negotiate?code="+secret, nil)

	location = elsewhere.URL
	_, err := provider(t.Context())
	require.NoError(t, err)
	require.Empty(t, <-referers)

	location = "http://%zz/" + secret // repeated in the error
	_, err = provider(t.Context())
	requireSafe(t, err, secret)

	location = "/again"
	_, err = provider(t.Context())
	require.ErrorContains(t, err, "stopped after 10 redirects")
	requireSafe(t, err, secret)
}

// Errors of the network may contain parts of the response or of the proxy's URL.
func TestErrorsOfAFailedConnectionAreSafe(t *testing.T) {
	const secret = "MarkedToken+/="
	target := "ws://service.test/client/hubs/chat?access_token=" + url.QueryEscape(secret)
	responses := []string{
		"HTTP/1.1 " + secret + "\x1b[31m\r\n\r\n",
		secret + "\x1b[31m\xff\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\n" + secret + "\x1b\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: " + secret + "\x1b\r\n\r\n",
		"HTTP/1.1 400 Bad\r\nContent-Length: 1000\r\n\r\nshort " + secret + "\x1b[31m\xff",
		"HTTP/1.1 400 Bad\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 1020) + secret + strings.Repeat("y", 98000),
		"HTTP/1.1 307 No\r\nLocation: http://%zz/" + secret + "\r\nContent-Length: 0\r\n\r\n",
	}
	for i, response := range responses {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer listener.Close()
			var serving sync.WaitGroup
			serving.Go(func() {
				for {
					c, err := listener.Accept()
					if err != nil {
						return
					}
					_, _ = c.Read(make([]byte, 4096))
					_, _ = c.Write([]byte(response))
					c.Close()
				}
			})
			defer serving.Wait()
			defer listener.Close()
			transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", listener.Addr().String())
			}}
			defer transport.CloseIdleConnections()
			var log safeLog
			_, err = Dial(t.Context(), StaticURL(target), &Options{HTTPClient: &http.Client{Transport: transport,
				CheckRedirect: func(*http.Request, []*http.Request) error { return nil }},
				Logger: log.logger(), RetryInitial: true, Reconnect: ReconnectOptions{MaxAttempts: 2, MinDelay: 1}})
			requireSafe(t, err, secret, url.QueryEscape(secret), "MarkedTok")
			require.NotContains(t, log.String(), "MarkedTok")
		})
	}
}

func TestErrorsOfAProviderAreSafe(t *testing.T) {
	for _, text := range []string{
		"GET http://user:MarkedPassword@host/: \x1b[31mno\xff",
		`invalid proxy address "http://user:Marked Password@host:3128": parse "http://user:Marked Password@host:3128": net/url: invalid userinfo`,
		`invalid proxy address "user:MarkedPassword%zz@host:3128": parse "user:MarkedPassword%zz@host:3128": first path segment in URL cannot contain colon`,
		"no: wss://host/?access_token=MarkedToken",
	} {
		var log safeLog
		_, err := Dial(t.Context(), func(context.Context) (string, error) { return "", errors.New(text) }, &Options{Logger: log.logger()})
		requireSafe(t, err, "Marked")
		require.NotContains(t, log.String(), "Marked")
	}
	for _, target := range []string{
		"ws://user:MarkedPassword@127.0.0.1:1/?access_token=MarkedToken", "http://127.0.0.1:1/?access_token=MarkedToken",
		"ws://%zzMarkedHost/?access_token=MarkedToken", "ws://user:Marked Password@host?access_token=MarkedToken",
		"ws://127.0.0.1:MarkedPort/?access_token=MarkedToken", "ws://name.invalid/?access_token=MarkedToken",
		"wss://127.0.0.1:1/?access_token=MarkedToken\x7f", "ws://127.0.0.1:1/?ACCESS_TOKEN=MarkedToken",
	} {
		var log safeLog
		_, err := Dial(t.Context(), StaticURL(target), &Options{Logger: log.logger()})
		requireSafe(t, err, "MarkedPassword", "MarkedToken", "Marked Password")
		require.NotContains(t, log.String(), "MarkedToken")
	}
}

// The service, or a proxy, may repeat the tokens of the URL in any of its texts.
func TestTextsOfTheServiceAreSafe(t *testing.T) {
	s := newService(t)
	var log safeLog
	reasons := make(chan string, 1)
	disconnected := make(chan *CloseError, 1)
	conn, p := s.connect(Options{Logger: log.logger(),
		OnServerClose:  func(reason string) bool { reasons <- reason; return false },
		OnDisconnected: func(e DisconnectedEvent) { disconnected <- e.Err }})
	failed := make(chan error, 1)
	go func() { failed <- conn.JoinGroup(t.Context(), "group") }()
	f := p.expect("joinGroup")
	p.send(fmt.Sprintf(`{"type":"ack","ackId":%d,"success":false,"error":{"name":"Bad\u001b[31m","message":"no \u001b]0;x\u0007 access_token=%s \u202e"}}`,
		f.AckID, secretToken))
	err := <-failed
	requireSafe(t, err, secretToken)
	ack, ok := errors.AsType[*AckError](err)
	require.True(t, ok)
	require.Contains(t, ack.Message, "\x1b]0;", "the field is as the service sent it")

	p.send(fmt.Sprintf(`{"type":"system","event":"disconnected","message":"bye \u001b[31m %s token-c1"}`, secretToken))
	p.close(websocket.StatusNormalClosure, "bye \x1b[31m"+secretToken+" token-c1")
	require.Equal(t, "bye \x1b[31m REDACTED REDACTED", <-reasons)
	<-conn.Done()
	requireSafe(t, conn.Err(), secretToken, "token-c1")
	requireSafe(t, <-disconnected, secretToken, "token-c1")
	require.NotContains(t, log.String(), secretToken)
	require.NotContains(t, log.String(), "token-c1")

	for _, err := range []error{&InvokeError{Name: "\x1b", Message: "\x1b\xff access_token=MarkedToken"}, &StreamError{Name: "\x1b", Message: "\x9b"},
		&CloseError{Reason: "\x1b", Message: "\x1b", Code: 1000}} {
		requireSafe(t, fmt.Errorf("%s", err.Error()), "MarkedToken")
	}
}

// The token of a recovery's URL is another one.
func TestErrorsOfARecoveryAreSafe(t *testing.T) {
	s := newService(t)
	var log safeLog
	conn, p := s.connect(Options{Logger: log.logger(), Reconnect: ReconnectOptions{Disabled: true}})
	s.setHandshakeStatus(func(r *http.Request) int { return http.StatusNotFound })
	p.cut()
	<-conn.Done()
	requireSafe(t, conn.Err(), secretToken, "token-c1")
	require.Contains(t, log.String(), "could not be recovered")
	require.NotContains(t, log.String(), secretToken)
	require.NotContains(t, log.String(), "token-c1")
}
