package wsclient

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestBadURLs(t *testing.T) {
	for name, url := range map[string]string{
		"http://host/client/hubs/chat must begin with ws:// or wss://": "http://host/client/hubs/chat?access_token=" + secretToken,
		"is empty":                 "",
		"ws:///client has no host": "ws:///client?access_token=" + secretToken,
		"ws://host/client has no access_token in its query":           "ws://host/client?other=" + secretToken,
		"cannot be parsed: invalid character \" \" in host name":      "ws://ho st/?access_token=" + secretToken,
		"cannot be parsed: invalid port \":x\" after host":            "ws://host:x?access_token=" + secretToken,
		"cannot be parsed: net/url: invalid control character in URL": "ws://host/\x00?access_token=" + secretToken,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Dial(testContext(t), StaticURL(url), &Options{RetryInitial: true})
			require.ErrorIs(t, err, ErrInvalidArgument)
			require.EqualError(t, err, "wsclient: Dial: url "+name)
			require.NotContains(t, err.Error(), secretToken)
		})
	}
}

// TestErrorsShowNoToken checks everything that a failed Dial and a failed recovery return or log.
func TestErrorsShowNoToken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close()) // connections to the address are refused
	logged := new(syncBuffer)
	logger := slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	_, err = Dial(testContext(t), StaticURL("ws://"+address+"/client/hubs/chat?access_token="+secretToken), &Options{Logger: logger})
	require.ErrorContains(t, err, "wsclient: connecting to ws://"+address+"/client/hubs/chat: ")
	for e := err; e != nil; e = errors.Unwrap(e) {
		require.NotContains(t, e.Error(), secretToken)
	}

	bubble(t, func(t *testing.T, s *service) {
		s.setHandshakeStatus(func(*http.Request) int { return http.StatusUnauthorized })
		_, err := Dial(context.Background(), StaticURL(serviceURL), s.options(Options{Logger: logger, RetryInitial: true}))
		require.EqualError(t, err, `wsclient: the handshake failed: 401 Unauthorized: no: REDACTED\u0001`)
		s.setHandshakeStatus(nil)
		conn, p := s.connect(Options{Logger: logger})
		s.setHandshakeStatus(func(*http.Request) int { return http.StatusBadGateway })
		p.cut()
		time.Sleep(2 * time.Minute)
		conn.Close()
	})
	require.Contains(t, logged.String(), "an attempt to recover failed")
	require.Contains(t, logged.String(), "an attempt to connect failed")
	require.NotContains(t, logged.String(), secretToken)
	require.NotContains(t, logged.String(), "token-c1")
}

// syncBuffer is a strings.Builder for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Builder.Write(p)
}

func TestRecoveryURLKeepsOtherParameters(t *testing.T) {
	u, err := parseClientURL("wss://proxy/client/hubs/chat?tenant=5&code=a;b&Access_Token="+secretToken+"&awps_connection_id=old", true)
	require.NoError(t, err)
	require.Equal(t, "wss://proxy/client/hubs/chat?tenant=5&code=a;b&awps_connection_id=c1&awps_reconnection_token=a%2Bb",
		recoveryURL(u, "c1", "a+b"))
}

func TestDialFails(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		dial := func(provider URLProvider, o Options) chan dialed { return s.dial(context.Background(), provider, o) }
		start := time.Now()
		dialed := dial(freshURL, Options{})
		s.next() // never sends the connected frame
		err := (<-dialed).err
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, attemptTimeout, time.Since(start))

		sentinel := errors.New("no credentials")
		require.ErrorIs(t, (<-dial(func(context.Context) (string, error) { return "", sentinel }, Options{})).err, sentinel)

		dialed = dial(freshURL, Options{})
		p := s.next()
		p.send(`{"type":"system","event":"disconnected","message":"go away"}`)
		p.close(1008, "policy")
		err = (<-dialed).err
		var ce *CloseError
		require.ErrorAs(t, err, &ce)
		require.EqualError(t, err, "wsclient: the connection ended with code 1008: policy: go away")

		for frame, want := range map[string]string{
			`{`: "a frame that is not valid JSON, or has a field of the wrong type",
			`{"type":"system","event":"connected","userId":null}`: "a connected frame without a connectionId",
		} {
			dialed = dial(freshURL, Options{})
			s.next().send(frame)
			err = (<-dialed).err
			require.ErrorAs(t, err, &ce)
			require.EqualError(t, err, "wsclient: the connection ended with code 1007: the service sent "+want)
		}

		attempts := 0
		s.setHandshakeStatus(func(*http.Request) int {
			if attempts++; attempts < 4 {
				return 503
			}
			return 0
		})
		dialed = dial(freshURL, Options{RetryInitial: true, Reconnect: ReconnectOptions{MaxAttempts: 3}})
		var he *HandshakeError
		require.ErrorAs(t, (<-dialed).err, &he)
		require.Equal(t, 3, attempts)
		s.setHandshakeStatus(func(*http.Request) int { return 503 })
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		_, err = Dial(ctx, freshURL, s.options(Options{RetryInitial: true}))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorAs(t, err, &he)
		attempts = 2
		s.setHandshakeStatus(func(*http.Request) int {
			if attempts++; attempts < 4 {
				return 503
			}
			return 0
		})
		dialed = dial(freshURL, Options{RetryInitial: true, Reconnect: ReconnectOptions{Disabled: true}})
		p = s.next()
		p.send(`{"type":"system","event":"connected","userId":null,"connectionId":"c1"}`)
		require.NoError(t, (<-dialed).err)
		p.close(1000, "")
	})
}

func TestAnonymousAndAuthorization(t *testing.T) {
	for _, o := range []Options{{Anonymous: true}, {Header: http.Header{"Authorization": {"Bearer x"}}}} {
		bubble(t, func(t *testing.T, s *service) {
			_, p := s.connectTo(StaticURL("ws://service.test/client/hubs/chat"), o)
			require.Equal(t, o.Header.Get("Authorization"), p.request.Header.Get("Authorization"))
		})
	}
}

func TestNegotiate(t *testing.T) {
	answer, status := "", 200
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	defer server.Close()
	ask := func() (string, error) {
		return Negotiate(server.URL+"/negotiate?secret=key", server.Client())(testContext(t))
	}
	answer = `{"token":"t","baseUrl":"wss://b","url":"wss://b?access_token=t"}`
	url, err := ask()
	require.NoError(t, err)
	require.Equal(t, "wss://b?access_token=t", url)
	answer = `{"token":"secret"`
	_, err = ask()
	require.EqualError(t, err, "negotiate at "+server.URL+"/negotiate: the response is not a JSON object with a url")
	answer = `{"token":"secret"}`
	_, err = ask()
	require.EqualError(t, err, "negotiate at "+server.URL+"/negotiate: the response has no url")
	status = 403
	_, err = ask()
	require.EqualError(t, err, "negotiate at "+server.URL+"/negotiate: the server responded with 403 Forbidden")
	server.Close()
	_, err = ask()
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
}

func TestBadArguments(t *testing.T) {
	_, err := Dial(testContext(t), nil, nil)
	require.EqualError(t, err, "wsclient: Dial: provider is nil")
	for want, o := range map[string]Options{
		"options.Protocol is unknown":                            {Protocol: 4},
		"options.Buffer.Messages is negative":                    {Buffer: BufferOptions{Messages: -1}},
		"options.KeepAlive.Timeout must be longer than Interval": {KeepAlive: KeepAliveOptions{Interval: 5, Timeout: 5}},
		"options.Reconnect.MaxDelay is less than MinDelay":       {Reconnect: ReconnectOptions{MinDelay: 5, MaxDelay: 4}},
	} {
		_, err := Dial(testContext(t), freshURL, &o)
		require.ErrorIs(t, err, ErrInvalidArgument)
		require.EqualError(t, err, "wsclient: Dial: "+want)
	}
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		ctx := context.Background()
		sendTo := func(group string, p Payload, o SendToGroupOptions) func() error {
			return func() error { return conn.SendToGroup(ctx, group, p, &o) }
		}
		event := func(name string) func() error {
			return func() error { return conn.SendEvent(ctx, name, Text("a"), nil) }
		}
		long := strings.Repeat("a", maxGroupName)
		for _, test := range []struct {
			want string
			call func() error
		}{
			{"SendToGroup: group is empty", sendTo("", Text("a"), SendToGroupOptions{})},
			{"JoinGroup: group is only white space", func() error { return conn.JoinGroup(ctx, " \t") }},
			{"LeaveGroup: group is longer than 1024 UTF-16 units", func() error { return conn.LeaveGroup(ctx, long+"a") }},
			{"LeaveGroup: group is longer than 1024 UTF-16 units", func() error { return conn.LeaveGroup(ctx, strings.Repeat("😀", 513)) }},
			{"JoinGroup: group is not valid UTF-8", func() error { return conn.JoinGroup(ctx, "\xff") }},
			{"OpenGroupStream: group is empty", func() error { _, err := conn.OpenGroupStream(ctx, "", nil); return err }},
			{"OpenGroupStream: options.DataType must be DataBinary or DataText", func() error {
				_, err := conn.OpenGroupStream(ctx, "room", &StreamOptions{DataType: DataJSON})
				return err
			}},
			{"SendEvent: event is empty", event("")},
			{"SendEvent: event must be a letter, then up to 127 letters, digits, and any of _ . -", event("1a")},
			{"SendEvent: event must be a letter, then up to 127 letters, digits, and any of _ . -", event("a\n")},
			{"SendEvent: event must be a letter, then up to 127 letters, digits, and any of _ . -", event(long[:129])},
			{"SendEvent: event must be a letter, then up to 127 letters, digits, and any of _ . -", event("\u212Aelvin")}, // not a K
			{"SendEvent: event must be a letter, then up to 127 letters, digits, and any of _ . -", event("me\u017F\u017Fage")},
			{"OpenGroupStream: options.IdleTimeout is longer than 1193h2m47.295s", func() error {
				_, err := conn.OpenGroupStream(ctx, "room", &StreamOptions{IdleTimeout: 1 << 32 * time.Millisecond})
				return err
			}},
			{"Invoke: event is empty", func() error { _, err := conn.Invoke(ctx, "", Text("a"), nil); return err }},
			{"SendToGroup: payload is the zero Payload; make one with Text, JSON, Binary or Protobuf", sendTo("g", Payload{}, SendToGroupOptions{})},
			{"SendToGroup: payload is text that is not valid UTF-8; send it with Binary", sendTo("g", Text("\xff"), SendToGroupOptions{})},
			{"SendToGroup: payload does not encode as JSON: json: unsupported value: NaN", sendTo("g", JSON(math.NaN()), SendToGroupOptions{})},
			{"SendToGroup: payload is the JSON null, which the service does not accept", sendTo("g", JSON(nil), SendToGroupOptions{})},
			{"SendToGroup: payload is not valid JSON", sendTo("g", Payload{DataType: DataJSON, Data: []byte("{")}, SendToGroupOptions{})},
			{`SendToGroup: payload has the unknown data type "xml"`, sendTo("g", Payload{DataType: "xml"}, SendToGroupOptions{})},
			{"SendToGroup: payload is protobuf, which the protocol json.reliable.webpubsub.azure.v1 cannot send",
				sendTo("g", Protobuf(wrapperspb.String("a")), SendToGroupOptions{})},
			{"SendToGroup: payload needs a frame of 1398178 bytes; the service accepts at most 1048576",
				sendTo("g", Binary(make([]byte, 1<<20)), SendToGroupOptions{})},
			{"SendToGroup: options.TTL is negative", sendTo("g", Text("a"), SendToGroupOptions{TTL: -1})},
			{"SendToGroup: options.TTL is longer than 5m0s", sendTo("g", Text("a"), SendToGroupOptions{TTL: 301 * time.Second})},
			{"SendToGroup: options.TTL must be a whole number of seconds", sendTo("g", Text("a"), SendToGroupOptions{TTL: 1500 * time.Millisecond})},
		} {
			err := test.call()
			require.ErrorIs(t, err, ErrInvalidArgument, test.want)
			require.EqualError(t, err, "wsclient: "+test.want)
		}
		for want, metadata := range map[string]map[string]string{
			`options.Metadata[""] has a key that is not an HTTP token`:               {"": "v"},
			`options.Metadata["a b"] has a key that is not an HTTP token`:            {"a b": "v"},
			`options.Metadata["k"] is not ASCII`:                                     {"k": "é"},
			`options.Metadata["k"] is longer than 1024 bytes`:                        {"k": strings.Repeat("v", 1025)},
			`options.Metadata is larger than 8192 bytes in total`:                    {"a": long, "b": long, "c": long, "d": long, "e": long, "f": long, "g": long, "h": long},
			`options.Metadata["` + long[:256] + `"] has a key longer than 256 bytes`: {long[:257]: "v"},
		} {
			err := sendTo("g", Text("a"), SendToGroupOptions{Metadata: metadata})()
			require.ErrorIs(t, err, ErrInvalidArgument)
			require.EqualError(t, err, "wsclient: SendToGroup: "+want)
		}
		require.Empty(t, p.frames, "nothing was written")
		require.NoError(t, sendTo("g", Text("a"), SendToGroupOptions{NoAck: true, // the rules of HTTP headers do not apply
			Metadata: map[string]string{"Trace": "a, b", "trace": " "}})())
	})
}

// TestErrorsHaveOneLine checks that text of the service, of the event handler, or of another client cannot add lines to a log or
// control a terminal.
func TestErrorsHaveOneLine(t *testing.T) {
	const text = "a\n\x1b[2J\u202eb"
	for _, err := range []error{
		&AckError{Name: text, Message: text},
		&InvokeError{Name: text, Message: text},
		&StreamError{Name: text, Message: text},
		&CloseError{Code: 1000, Reason: text, Message: text + text},
	} {
		require.NotContains(t, err.Error(), "\n")
		require.NotContains(t, err.Error(), "\x1b")
		require.NotContains(t, err.Error(), "\u202e")
		require.Contains(t, err.Error(), `a \u001b[2J\u202eb`)
	}
	require.EqualError(t, &HandshakeError{StatusCode: 499, Body: "no"}, "wsclient: the handshake failed: 499: no")
	require.EqualError(t, &AckError{}, "wsclient: the service reported an error without a name")
	require.EqualError(t, &AckError{Message: "no"}, "wsclient: the service reported an error without a name: no")
	require.EqualError(t, &AckError{Name: "Forbidden"}, "wsclient: Forbidden")
	require.Less(t, len((&StreamError{Name: "UserError", Message: strings.Repeat("a", 1<<20)}).Error()), 2*maxErrorText)
}

// TestCloseErrorText checks the punctuation, because the service's texts end with a period.
func TestCloseErrorText(t *testing.T) {
	full := "The reliable message buffer is full."
	for text, err := range map[string]*CloseError{
		"with code 1008: " + full: {Code: 1008, Reason: full, Message: full},
		"with code 1008: The reliable message buffer is full: the application receives too slowly": {Code: 1008, Reason: full, err: ErrSlowConsumer},
		"with code 1008: Bye: " + full: {Code: 1008, Reason: "Bye.", Message: full},
		": EOF":                        {Code: 1006, err: io.EOF},
	} {
		if !strings.HasPrefix(text, ":") {
			text = " " + text
		}
		require.EqualError(t, err, "wsclient: the connection ended"+text)
	}
}

func TestALogRecordHasNoEmptyError(t *testing.T) {
	logged := new(syncBuffer)
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{Logger: slog.New(slog.NewTextHandler(logged, nil)), OnServerClose: func(string) bool { return false }})
		p.close(1000, "bye")
		<-conn.Done()
	})
	require.Contains(t, logged.String(), `msg="the connection ended" connection=c1 code=1000 reason=bye`)
	require.NotContains(t, logged.String(), "nil")
}
