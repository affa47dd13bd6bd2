package soak

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
	"github.com/awps-go/webpubsub/internal/pb"
	"github.com/awps-go/webpubsub/tunnel"
	"github.com/awps-go/webpubsub/wsclient"
)

// The secrets that must not appear in any output. Each begins with letters, which no escaping changes. Most also have + and /,
// like real keys, because these characters change in a URL.
const (
	markedKey        = "MarkedPrimaryKey+/0123456789abcdef="
	markedSecondary  = "MarkedSecondaryKey+/0123456789abcdef="
	markedWrong      = "MarkedWrongKey+/0123456789abcdef="
	markedEntra      = "MarkedEntraToken.0123456789-abcdef_x"
	markedWrongEntra = "MarkedWrongKey.0123456789-abcdef_x"
	markedPassword   = "MarkedPassword0123456789"
	markedFunction   = "MarkedFunctionKey+/0123456789abcdef="
)

// marks are the letters of the secrets in lower case, and their base64 at each of the three alignments.
var marks = func() (all []string) {
	for _, word := range []string{"MarkedPrimaryKey", "MarkedSecondaryKey", "MarkedWrongKey", "MarkedEntraToken", "MarkedPassword", "MarkedFunctionKey"} {
		all = append(all, strings.ToLower(word))
		for shift := range 3 {
			encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(" ", shift) + word))
			all = append(all, strings.ToLower(encoded[4:len(encoded)-4]))
		}
	}
	return all
}()

// tokenPattern matches any JSON Web Token.
var tokenPattern = regexp.MustCompile(`eyJ[\w-]{8,}`)

// outputs collects all output, by source.
type outputs struct {
	mu      sync.Mutex
	all     map[string]*bytes.Buffer
	secrets map[string]bool // secrets that are made while the test runs
}

func (o *outputs) Write(source string, text []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all[source] == nil {
		o.all[source] = &bytes.Buffer{}
	}
	o.all[source].Write(append(text, '\n'))
}

type writerFunc func([]byte)

func (w writerFunc) Write(b []byte) (int, error) { w(b); return len(b), nil }

func (o *outputs) writer(who string) io.Writer { return writerFunc(func(b []byte) { o.Write(who, b) }) }

// logger returns a logger that writes records of all levels as text and as JSON.
func (o *outputs) logger(who string) *slog.Logger {
	all := &slog.HandlerOptions{Level: slog.Level(-100), AddSource: true}
	return slog.New(slog.NewMultiHandler(slog.NewTextHandler(o.writer(who), all), slog.NewJSONHandler(o.writer(who+", JSON"), all)))
}

// value prints a value with every verb, logs it, and marshals it.
func (o *outputs) value(who string, v any) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		o.Write(who, fmt.Appendf(nil, verb, v))
	}
	o.logger(who).Info("a value", "value", v)
	switch v.(type) {
	case webpubsub.ClientAccessToken, *webpubsub.ClientAccessToken: // its JSON has the token, for the client
	default:
		data, _ := json.Marshal(v)
		o.Write(who, data)
	}
}

// error prints an error and every error that it wraps.
func (o *outputs) error(who string, err error) {
	if err == nil {
		return
	}
	o.value(who, err)
	if response := (*azcore.ResponseError)(nil); errors.As(err, &response) && response.RawResponse != nil {
		dump, _ := httputil.DumpResponse(response.RawResponse, true)
		o.Write(who+", its response", dump)
		if request := response.RawResponse.Request; request != nil {
			o.Write(who+", its request", fmt.Append(nil, request.Header))
		}
	}
	switch wrapped := err.(type) { //nolint:errorlint // the loop itself unwraps: each error is printed once
	case interface{ Unwrap() error }:
		o.error(who, wrapped.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range wrapped.Unwrap() {
			o.error(who, err)
		}
	}
}

// secret adds a secret that check looks for. It ignores a JSON Web Token, because check looks for any token.
func (o *outputs) secret(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if text != "" && !strings.HasPrefix(text, "eyJ") {
		o.secrets[text] = true
	}
}

// check looks for secrets in all outputs.
func (o *outputs) check(t *testing.T, wanted ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	total := 0
	for who, out := range o.all {
		text := out.String()
		total += len(text)
		found := func(at, length int, what string) {
			if at >= 0 {
				t.Errorf("the output of %s contains %s: ...%s...", who, what, text[max(0, at-100):at+length])
			}
		}
		lower := strings.ToLower(text)
		for _, mark := range marks {
			found(strings.Index(lower, mark), len(mark), "a secret")
		}
		if at := tokenPattern.FindStringIndex(text); at != nil {
			found(at[0], at[1]-at[0], "a token")
		}
		for secret := range o.secrets {
			found(strings.Index(text, secret), len(secret), "a secret made by the test")
		}
	}
	for _, who := range wanted {
		require.Contains(t, o.all, who, "this source has output")
	}
	figures(t, "searched %d KiB of output from %d sources for %d secrets and any token", total>>10, len(o.all), 6+len(o.secrets))
}

func (o *outputs) azcore(event azlog.Event, text string) {
	o.Write("azcore's log", []byte(string(event)+" "+text))
}

// newOutputs also collects the output of azcore's log and of the default loggers.
func newOutputs(t *testing.T) *outputs {
	o := &outputs{all: map[string]*bytes.Buffer{}, secrets: map[string]bool{}}
	azlog.SetListener(o.azcore)
	standard, flags := slog.Default(), log.Flags()
	slog.SetDefault(o.logger("the default log"))
	t.Cleanup(func() {
		azlog.SetListener(nil)
		slog.SetDefault(standard)
		log.SetFlags(flags)
		log.SetOutput(standardError{})
	})
	return o
}

type standardError struct{}

func (standardError) Write(b []byte) (int, error) { return fmt.Print(string(b)) }

type entra string

func (e entra) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if e == "" {
		return azcore.AccessToken{}, errors.New("no token")
	}
	return azcore.AccessToken{Token: string(e), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// recorder is a transport that records the hosts it connects to, the bytes it writes, and the credentials.
type recorder struct {
	*http.Transport
	outputs *outputs

	mu      sync.Mutex
	hosts   map[string]bool
	written bytes.Buffer // to connections without TLS
}

func newRecorder(t *testing.T, o *outputs, config *tls.Config) *recorder {
	r := &recorder{outputs: o, hosts: map[string]bool{}}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		r.mu.Lock()
		r.hosts[address] = true
		r.mu.Unlock()
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	r.Transport = &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: false, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &recordedConn{conn, r}, nil
	}}
	t.Cleanup(r.CloseIdleConnections)
	return r
}

type recordedConn struct {
	net.Conn
	recorder *recorder
}

func (c *recordedConn) Write(b []byte) (int, error) {
	c.recorder.mu.Lock()
	c.recorder.written.Write(b)
	c.recorder.mu.Unlock()
	return c.Conn.Write(b)
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, token, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok && token != "" {
		r.outputs.secret(token)
	}
	return r.Transport.RoundTrip(req)
}

func (r *recorder) connectedTo() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	hosts := []string{}
	for host := range r.hosts {
		hosts = append(hosts, host)
	}
	return hosts
}

// TestNoSecretLeavesTheProcess takes every known error path with every log enabled and with marked secrets, and searches all
// output for the secrets.
func TestNoSecretLeavesTheProcess(t *testing.T) {
	t.Run("with the emulator and the event handler", secretsWithTheEmulator)
	t.Run("with a service that echoes credentials", secretsWithAHostileService)
	t.Run("with a tunnel to a hostile service", secretsOfATunnel)
	t.Run("in errors that errors wrap", secretsInWrappedErrors)
	t.Run("in arguments", secretsInArguments)
	t.Run("in options", secretsInOptions)
	t.Run("Entra tokens go over TLS only", entraTokensGoOverTLSOnly)
}

// callers returns service clients with every kind of credential, valid and invalid.
func callers(t *testing.T, o *outputs, endpoint string, transport http.RoundTripper, includeBody bool) map[string]*webpubsub.ServiceClient {
	options := &webpubsub.ClientOptions{Logger: o.logger("the client's log")}
	options.Transport = &http.Client{Transport: transport}
	options.Logging.IncludeBody = includeBody
	options.Retry = policy.RetryOptions{MaxRetries: 2, RetryDelay: time.Millisecond, MaxRetryDelay: 2 * time.Millisecond}
	all := map[string]*webpubsub.ServiceClient{}
	for name, key := range map[string]string{"key": markedKey, "secondary key": markedSecondary, "wrong key": markedWrong} {
		client, err := webpubsub.NewClientFromConnectionString("Endpoint="+endpoint+";AccessKey="+key, "soak", options)
		require.NoError(t, err)
		all[name] = client
	}
	var err error
	all["credential"], err = webpubsub.NewClientWithKeyCredential(endpoint, "soak", azcore.NewKeyCredential(markedKey), options)
	require.NoError(t, err)
	if strings.HasPrefix(endpoint, "https:") {
		for name, token := range map[string]entra{"Entra": markedEntra, "wrong Entra": markedWrongEntra, "no Entra": ""} {
			all[name], err = webpubsub.NewClient(endpoint, "soak", token, options)
			require.NoError(t, err)
		}
	}
	for _, client := range all {
		o.value("a client", client)
		o.value("a client", struct{ Client *webpubsub.ServiceClient }{client})
		o.Write("a client", fmt.Appendf(nil, "%v %+v %#v", *client, *client, *client))
	}
	return all
}

// callAll calls every operation and prints every error and result.
func callAll(o *outputs, client *webpubsub.ServiceClient, before func()) {
	ctx, cancel := waitContext()
	defer cancel()
	ended, end := context.WithCancel(context.Background())
	end()
	call := func(do func(context.Context) error) {
		before()
		o.error("an error", do(webpubsub.WithLogger(ctx, o.logger("the call's log"))))
		o.error("an error", do(ctx))
		o.error("an error of a cancelled call", do(ended))
	}
	for _, operation := range operations {
		call(func(ctx context.Context) error { return operation.call(ctx, client, "a message") })
	}
	call(func(ctx context.Context) error {
		access, err := client.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: "soak", Roles: []string{"webpubsub.sendToGroup"}})
		if err == nil {
			o.secret(access.Token)
			o.value("an access token", access)
			o.value("an access token", &access)
			o.Write("an access token", fmt.Appendf(nil, "%v %+v %#v", []any{access}, struct{ Access any }{access}, map[string]any{"a": access}))
		}
		return err
	})
	for _, target := range []string{
		"/api/hubs/soak/:send?access_token=" + url.QueryEscape(markedPassword), "/api/nothing?access_token=" + markedPassword,
		"https://elsewhere.example/api?access_token=" + markedPassword, "http://127.0.0.1:1/api/hubs/soak/:send",
		"https://user:" + markedPassword + "@127.0.0.1/api/hubs",
	} {
		call(func(ctx context.Context) error {
			req, err := http.NewRequest(http.MethodPost, target, strings.NewReader("hello"))
			if err != nil {
				return err
			}
			req.Header.Set("Ocp-Apim-Subscription-Key", markedPassword)
			req.Header.Set("Cookie", "session="+markedPassword)
			_, err = client.SendRequest(ctx, req)
			return err
		})
	}
}

func secretsWithTheEmulator(t *testing.T) {
	o := newOutputs(t)
	certificate := httptest.NewTLSServer(http.NotFoundHandler())
	defer certificate.Close()
	trusting := certificate.Client().Transport.(*http.Transport).TLSClientConfig
	for _, config := range []*tls.Config{nil, {Certificates: certificate.TLS.Certificates}} {
		srv := emulator.StartT(t, &emulator.Options{AccessKey: markedKey, SecondaryAccessKey: markedSecondary, Logger: o.logger("the emulator's log"),
			AcceptBearer: func(token string) bool { return token == markedEntra }, TLSConfig: config})
		o.value("the emulator", srv)
		startFailingHandlers(t, o, srv)
		stopWatching := watchLiveView(t, o, srv, trusting)

		r := newRecorder(t, o, trusting.Clone())
		for _, client := range callers(t, o, srv.Endpoint(), r, true) {
			faults := []emulator.Fault{{}, {Status: 429, RetryAfter: time.Second}, {Status: 500, Times: 3}, {Cut: emulator.CutBeforeEffect, Times: 3},
				{Cut: emulator.CutAfterEffect}, {Status: 403}, {Status: 409}, {Status: 413}}
			n := 0
			callAll(o, client, func() {
				if fault := faults[n%len(faults)]; fault != (emulator.Fault{}) {
					require.NoError(t, srv.InjectFault(fault))
				}
				n++
			})
			srv.ClearFaults()
		}
		connectClients(t, o, srv, trusting)
		stopWatching()
		for _, request := range srv.Requests() {
			o.Write("a recorded request", request.Body)
			request.Body = nil // its base64 would look like a token
			o.value("a recorded request", request)
		}
		for _, event := range srv.Events() {
			o.Write("a recorded event", append(event.Body, event.AnswerBody...))
			event.Body, event.AnswerBody = nil, nil
			o.value("a recorded event", event)
		}
		require.Equal(t, []string{strings.TrimPrefix(strings.TrimPrefix(srv.Endpoint(), "https://"), "http://")}, r.connectedTo(),
			"a client connects only to its service")
		if config == nil {
			written := r.written.String()
			require.Contains(t, written, "Authorization: Bearer eyJ")
			for _, key := range []string{"MarkedPrimaryKey", "MarkedSecondaryKey", "MarkedWrongKey"} {
				require.NotContains(t, written, key, "no key is ever sent")
			}
		}
		srv.Close()
		o.value("the emulator", srv)
	}
	o.check(t, "azcore's log", "the client's log", "the call's log", "the emulator's log", "the event handler's log", "an error",
		"an event", "an answer to a client", "the live view", "an access token", "a recorded request", "a recorded event")
}

// startFailingHandlers registers event handlers that fail in every way, and records the events and answers.
func startFailingHandlers(t *testing.T, o *outputs, srv *emulator.Server) {
	handler, err := eventhandler.New(&eventhandler.Options{
		Hub: "soak", AccessKeys: []string{markedKey}, KeyCredentials: []*azcore.KeyCredential{azcore.NewKeyCredential(markedSecondary)},
		ConnectionStrings: []string{srv.ConnectionString()}, Logger: o.logger("the event handler's log"),
		OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			o.value("a connect request", r)
			switch r.UserID {
			case "rejected":
				return nil, eventhandler.Reject(http.StatusForbidden, "not you")
			case "failed":
				return nil, errors.New("failed")
			case "panic":
				panic("at the connect event")
			}
			return nil, nil
		},
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			return nil, fmt.Errorf("failed at %s", r.EventName)
		},
	})
	require.NoError(t, err)
	o.value("an event handler", handler)
	o.value("an event handler", *handler)
	other, err := eventhandler.New(&eventhandler.Options{Hub: "soak", AccessKeys: []string{markedWrong}, Logger: o.logger("the event handler's log")})
	require.NoError(t, err)
	record := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			dump, _ := httputil.DumpRequest(r, true)
			o.Write("an event", dump)
			answer := httptest.NewRecorder()
			h.ServeHTTP(answer, r)
			o.Write("an answer to an event", fmt.Appendf(nil, "%v %s", answer.Header(), answer.Body))
			maps.Copy(w.Header(), answer.Header())
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes())
		})
	}
	nobody := httptest.NewServer(nil)
	nobody.Close()
	for hub, handlers := range map[string][]emulator.EventHandler{
		"soak": {{Handler: record(handler), SystemEvents: []string{"connect", "connected", "disconnected"}, UserEventPattern: "*"}},
		// This handler rejects the signatures of the events.
		"other": {{Handler: record(other), SystemEvents: []string{"connect"}}},
		// This handler does not exist. Its URL has the key of an Azure Function, as in production.
		"away": {{URLTemplate: nobody.URL + "/{event}?code=" + url.QueryEscape(markedFunction), SystemEvents: []string{"connect"}}},
	} {
		require.NoError(t, srv.SetHubSettings(hub, emulator.HubSettings{EventHandlers: handlers}))
	}
}

// connectClients connects clients with valid and invalid credentials, and records the responses.
func connectClients(t *testing.T, o *outputs, srv *emulator.Server, trusting *tls.Config) {
	transport := &http.Transport{TLSClientConfig: trusting.Clone()}
	defer transport.CloseIdleConnections()
	over := &http.Client{Transport: transport}
	dial := func(hub, user, key string, protocols []string, edit func(*url.URL, http.Header)) *websocket.Conn {
		ctx, cancel := waitContext()
		defer cancel()
		issuer := newClient(t, "Endpoint="+srv.Endpoint()+";AccessKey="+key, hub, nil)
		access, err := issuer.GetClientAccessToken(ctx, &webpubsub.ClientAccessTokenOptions{UserID: user, Groups: []string{"soak"},
			ExpiresIn: 1000 * time.Hour}) // because the emulator's clock runs fast
		require.NoError(t, err)
		o.secret(access.Token)
		u, err := url.Parse(access.URL)
		require.NoError(t, err)
		header := http.Header{}
		if edit != nil {
			edit(u, header)
		}
		ws, resp, err := websocket.Dial(ctx, u.String(), &websocket.DialOptions{HTTPClient: over, HTTPHeader: header, Subprotocols: protocols})
		if err != nil {
			if resp != nil {
				body, _ := io.ReadAll(resp.Body)
				o.Write("an answer to a client", fmt.Appendf(nil, "%s %v %s", resp.Status, resp.Header, body))
			}
			return nil
		}
		return ws
	}
	inHeader := func(u *url.URL, header http.Header) {
		header.Set("Authorization", "Bearer "+u.Query().Get("access_token"))
		u.RawQuery = ""
	}
	otherHub := func(u *url.URL, _ http.Header) { u.Path = "/client/hubs/another" }
	bad := func(u *url.URL, _ http.Header) { u.RawQuery = "access_token=" + url.QueryEscape(markedPassword) }
	recovering := func(u *url.URL, _ http.Header) {
		u.RawQuery += "&awps_connection_id=nobody&awps_reconnection_token=" + markedPassword
	}
	foreign := func(_ *url.URL, header http.Header) { header.Set("Origin", "https://elsewhere.example") }
	defer runClockFast(srv)()
	for _, attempt := range []struct {
		hub, user, key string
		edit           func(*url.URL, http.Header)
	}{
		{"soak", "user", markedKey, nil}, {"soak", "user", markedSecondary, inHeader}, {"soak", "user", markedWrong, nil},
		{"soak", "user", markedWrong, inHeader}, {"soak", "user", markedKey, otherHub}, {"soak", "user", markedKey, bad},
		{"soak", "user", markedKey, recovering}, {"soak", "user", markedKey, foreign},
		{"soak", "rejected", markedKey, nil}, {"soak", "failed", markedKey, nil}, {"soak", "panic", markedKey, nil},
		{"other", "user", markedKey, nil}, {"away", "user", markedKey, nil},
	} {
		for _, protocol := range []string{wsclient.JSONPlain.String(), wsclient.JSONReliable.String(), wsclient.ProtobufPlain.String()} {
			ws := dial(attempt.hub, attempt.user, attempt.key, []string{protocol}, attempt.edit)
			if ws == nil {
				continue
			}
			ctx, cancel := waitContext()
			_, data, err := ws.Read(ctx)
			if err == nil {
				var connected struct{ ReconnectionToken string }
				if json.Unmarshal(data, &connected) == nil && connected.ReconnectionToken != "" {
					o.secret(connected.ReconnectionToken)
				}
				sendFailingEvent(ctx, ws)
				_ = ws.Write(ctx, websocket.MessageText, []byte(`{"type":"nonsense"}`))
				for err == nil {
					var data []byte
					_, data, err = ws.Read(ctx)
					o.Write("an answer to a client", data)
				}
			}
			cancel()
			ws.CloseNow()
		}
	}
}

// sendFailingEvent sends an event for which the event handler returns an error.
func sendFailingEvent(ctx context.Context, ws *websocket.Conn) {
	typ, event := websocket.MessageText, []byte(`{"type":"event","event":"fails","dataType":"text","data":"x"}`)
	if ws.Subprotocol() == wsclient.ProtobufPlain.String() {
		typ = websocket.MessageBinary
		event, _ = proto.Marshal(&pb.UpstreamMessage{Message: &pb.UpstreamMessage_EventMessage{EventMessage: &pb.EventMessage{
			Event: "fails", Data: &pb.MessageData{Data: &pb.MessageData_TextData{TextData: "x"}}}}})
	}
	_ = ws.Write(ctx, typ, event)
}

// runClockFast advances the emulator's clock by a second every millisecond until the returned function is called. Otherwise the
// test would wait for the seconds before the emulator retries a failed event.
func runClockFast(srv *emulator.Server) (end func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				srv.Advance(time.Second)
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// watchLiveView records the live view until the returned function is called.
func watchLiveView(t *testing.T, o *outputs, srv *emulator.Server, trusting *tls.Config) (end func()) {
	transport := &http.Transport{TLSClientConfig: trusting.Clone()}
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.Endpoint()+"/liveview/stream", nil)
	require.NoError(t, err)
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	var watching sync.WaitGroup
	watching.Go(func() {
		defer resp.Body.Close()
		_, _ = io.Copy(o.writer("the live view"), resp.Body)
	})
	return func() {
		cancel()
		watching.Wait()
		transport.CloseIdleConnections()
	}
}

// secretsWithAHostileService uses a service that echoes the request's credentials and redirects the client to other hosts. A
// proxy in front of a service could do the same.
func secretsWithAHostileService(t *testing.T) {
	o := newOutputs(t)
	listen := func(on bool) {
		azlog.SetListener(nil)
		if on {
			azlog.SetListener(o.azcore)
		}
	}
	const kinds = 17
	var n, round atomic.Int64
	reached := func(w http.ResponseWriter, r *http.Request) {
		dump, _ := httputil.DumpRequest(r, true)
		t.Errorf("a request reached another host: %s", dump)
	}
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(reached))
	defer elsewhere.Close()
	inClear := httptest.NewServer(http.HandlerFunc(reached))
	defer inClear.Close()
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		kind := n.Add(1) % kinds
		h := w.Header()
		h.Set("Set-Cookie", "session="+token)
		h.Set("X-Echo", r.Header.Get("Authorization"))
		h.Set("x-ms-error-code", "Bad")
		if round.Load()%2 == 1 { // azcore would log this header, but is not listening in odd rounds
			h.Set("WWW-Authenticate", `Bearer realm="`+token+`"`)
		}
		echo := fmt.Sprintf(`{"code":"Bad","message":"Authorization: Bearer %[1]s at https://x/?access_token=%[1]s&a=b","details":[{"code":"%[1]s"}]}`, token)
		switch kind {
		case 0, 1, 2, 3, 4, 5, 6:
			w.WriteHeader([]int{400, 401, 403, 404, 409, 413, 429}[kind])
			_, _ = io.WriteString(w, echo)
		case 7:
			h.Set("Content-Type", "text/html")
			w.WriteHeader(502)
			_, _ = io.WriteString(w, "<html>"+echo+"</html>")
		case 8, 9, 10: // a redirect to another host
			h.Set("Location", []string{elsewhere.URL, inClear.URL, "//user:" + url.QueryEscape(token) + "@" + elsewhere.Listener.Addr().String()}[kind-8]+r.RequestURI)
			w.WriteHeader([]int{307, 308, 302}[kind-8])
		case 11: // a redirect within the service, with the token in the URL
			h.Set("Location", r.URL.Path+"?access_token="+token)
			w.WriteHeader(307)
		case 12:
			_, _ = io.WriteString(w, `{"value":[],"nextLink":"`+elsewhere.URL+`/api?access_token=`+token+`"}`)
		case 13:
			_, _ = io.WriteString(w, `{"value":[],"nextLink":"`+"https://"+r.Host+`/api/next?access_token=`+token+`"}`)
		case 14:
			_, _ = io.WriteString(w, `{"value": "`+token+`" and no JSON`)
		case 15:
			if r.Method != http.MethodHead {
				cut(w, "HTTP/1.1 400 Bad\r\nContent-Length: 10000\r\n\r\n"+echo)
			}
		case 16:
			cut(w, "HTTP/1.1 nonsense\r\n")
		}
	}))
	service.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	defer service.Close()
	r := newRecorder(t, o, service.Client().Transport.(*http.Transport).TLSClientConfig.Clone())
	rounds := 2
	if *duration >= time.Minute {
		rounds = kinds // each operation receives each kind of response
	}
	for i := range rounds {
		round.Store(int64(i))
		// Without azcore's IncludeBody, with which an application requests the bodies in its log, whatever they contain.
		listen(i%2 == 0)
		for _, client := range callers(t, o, service.URL, r, false) {
			callAll(o, client, func() { n.Add(int64(i)) })
		}
	}
	require.Equal(t, []string{service.Listener.Addr().String()}, r.connectedTo(), "a client connects only to its service")
	o.check(t, "azcore's log", "the client's log", "an error", "an error, its response")
}

// secretsOfATunnel serves a tunnel whose service repeats the token, and redirects to other hosts.
func secretsOfATunnel(t *testing.T) {
	o := newOutputs(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a request reached another host: %s", r.URL)
	}))
	defer elsewhere.Close()
	var respond func(w http.ResponseWriter, r *http.Request, token string)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		respond(w, r, r.URL.Query().Get("access_token"))
	}))
	service.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	defer service.Close()
	transport := &http.Transport{DisableKeepAlives: true}
	options := &tunnel.Options{Logger: o.logger("the tunnel's log"), HTTPClient: &http.Client{Transport: transport},
		Reconnect: tunnel.ReconnectOptions{MinDelay: time.Millisecond, MaxDelay: time.Millisecond}}
	o.value("a tunnel's options", options)
	for _, final := range []func(w http.ResponseWriter, r *http.Request, token string){
		func(w http.ResponseWriter, _ *http.Request, token string) {
			http.Error(w, strings.Repeat("x", 1000)+token+"\x1b[31m", http.StatusUnauthorized)
		},
		func(w http.ResponseWriter, _ *http.Request, token string) {
			http.Error(w, `{"error":"https://host/?access_token=`+token+`"}`, http.StatusForbidden)
		},
		func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, elsewhere.URL+"/?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
		},
	} {
		attempts := 0
		respond = func(w http.ResponseWriter, r *http.Request, token string) {
			o.secret(token)
			switch attempts++; attempts {
			case 1:
				cut(w, "HTTP/1.1 "+token+"\x1b\r\n\r\n")
			case 2:
				cut(w, token+"\r\n\r\n")
			case 3:
				http.Error(w, token, http.StatusServiceUnavailable)
			case 4:
				cut(w, "HTTP/1.1 101 Switching Protocols\r\n"+token+"\r\n\r\n")
			default:
				final(w, r, token)
			}
		}
		ctx, cancel := waitContext()
		err := tunnel.Serve(ctx, "Endpoint="+service.URL+";AccessKey="+markedKey, "soak", http.NotFoundHandler(), options)
		cancel()
		require.Error(t, err)
		require.NotContains(t, err.Error(), "\x1b")
		o.error("an error of a tunnel", err)
	}
	credential := failingCredential("POST https://login/?client_secret=" + markedPassword + " \x1b[31mfailed")
	err := tunnel.ServeWithCredential(context.Background(), service.URL, "soak", credential, http.NotFoundHandler(),
		&tunnel.Options{InsecureAllowCredentialWithHTTP: true, Logger: o.logger("the tunnel's log")})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "\x1b")
	o.error("an error of a tunnel", err)
	o.check(t, "the tunnel's log", "an error of a tunnel", "a tunnel's options")
}

// failingCredential is a credential that fails permanently, and its error.
type failingCredential string

func (e failingCredential) Error() string { return string(e) }
func (e failingCredential) NonRetriable() {}

func (e failingCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, e
}

// secretsInWrappedErrors uses errors of the credential and of the network whose texts have secrets.
func secretsInWrappedErrors(t *testing.T) {
	o := newOutputs(t)
	cause := errors.New(`invalid proxy address "user:` + markedPassword + `%zz@proxy:1": no`)
	transport := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return nil, cause }}
	for name, transport := range map[string]*http.Client{
		"the proxy": {Transport: transport},
		"a header": {Transport: roundTripFunc(func(*http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("malformed %q: %w", "Authorization: Bearer "+markedEntra, cause)
		})},
	} {
		options := &webpubsub.ClientOptions{Logger: o.logger("the client's log")}
		options.Transport, options.Retry.MaxRetries = transport, -1
		client, err := webpubsub.NewClientFromConnectionString("Endpoint=http://127.0.0.1:1;AccessKey="+markedKey, "soak", options)
		require.NoError(t, err)
		err = client.SendToAll(t.Context(), webpubsub.Text("x"), nil)
		require.ErrorIs(t, err, cause, name)
		o.error("an error", err)
	}
	options := &webpubsub.ClientOptions{Logger: o.logger("the client's log")}
	client, err := webpubsub.NewClient("https://127.0.0.1:1", "soak", failingCredential("client_secret="+markedPassword), options)
	require.NoError(t, err)
	o.error("an error", client.SendToAll(t.Context(), webpubsub.Text("x"), nil))
	o.check(t, "an error", "the client's log")
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// secretsInOptions prints the options that hold secrets.
func secretsInOptions(t *testing.T) {
	o := newOutputs(t)
	connectionString := "Endpoint=https://name.webpubsub.azure.com;AccessKey=" + markedKey
	handlers := emulator.EventHandler{URLTemplate: "https://host/{event}?code=" + url.QueryEscape(markedFunction)}
	settings := emulator.HubSettings{EventHandlers: []emulator.EventHandler{handlers}}
	for _, options := range []any{
		emulator.Options{AccessKey: markedKey, SecondaryAccessKey: markedSecondary, Hubs: map[string]emulator.HubSettings{"soak": settings}},
		eventhandler.Options{AccessKeys: []string{markedKey}, ConnectionStrings: []string{connectionString}},
		eventhandler.MQTTConnect{Username: "user", Password: markedPassword},
		eventhandler.ConnectRequest{MQTT: &eventhandler.MQTTConnect{Password: markedPassword}},
		wsclient.Options{Header: http.Header{"Authorization": {"Bearer " + markedEntra}, "X-Api-Key": {markedPassword}}},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			o.Write("options", fmt.Appendf(nil, verb+" "+verb, options, struct{ Options any }{options}))
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		o.Write("options", fmt.Appendf(nil, verb+" "+verb, &handlers, settings))
	}
	o.logger("options").Info("options", "options", emulator.Options{AccessKey: markedKey})
	o.check(t, "options")
}

func secretsInArguments(t *testing.T) {
	o := newOutputs(t)
	good := "Endpoint=https://name.webpubsub.azure.com;AccessKey=" + markedKey + ";Version=1.0;"
	parsed, err := webpubsub.ParseConnectionString(good)
	require.NoError(t, err)
	o.value("a connection string", parsed)
	o.value("a connection string", &parsed)
	o.value("a connection string", map[string]any{"parsed": parsed})
	for _, text := range []string{
		"", markedKey, "AccessKey=" + markedKey, good + markedPassword, good + "AccessKey=" + markedKey, good + "Port=" + markedPassword,
		"Endpoint=" + markedKey + ";AccessKey=" + markedKey, "Endpoint=https://user:" + markedPassword + "@host;AccessKey=" + markedKey,
		"Endpoint=https://host?access_token=" + markedPassword + ";AccessKey=" + markedKey, "Endpoint=https://%zz" + markedPassword + ";AccessKey=" + markedKey,
		"Endpoint=https://host:" + markedPassword + ";AccessKey=" + markedKey, "Endpoint=https://host;AccessKey=" + markedKey + ";=" + markedPassword,
	} {
		_, err := webpubsub.ParseConnectionString(text)
		require.ErrorIs(t, err, webpubsub.ErrInvalidArgument)
		o.error("an error of an argument", err)
		_, err = webpubsub.NewClientFromConnectionString(text, "soak", nil)
		require.ErrorIs(t, err, webpubsub.ErrInvalidArgument)
		o.error("an error of an argument", err)
		_, err = eventhandler.New(&eventhandler.Options{Hub: "soak", ConnectionStrings: []string{text}})
		require.ErrorIs(t, err, webpubsub.ErrInvalidArgument)
		o.error("an error of an argument", err)
	}
	for _, endpoint := range []string{"https://user:" + markedPassword + "@host", "https://host/?code=" + markedPassword, "https://host/#" + markedPassword, "\x00" + markedPassword} {
		_, err := webpubsub.NewClientWithKeyCredential(endpoint, "soak", azcore.NewKeyCredential(markedKey), nil)
		o.error("an error of an argument", err)
		_, err = webpubsub.NewClient(endpoint, "soak", entra(markedEntra), nil)
		o.error("an error of an argument", err)
		_, err = webpubsub.NewClientFromConnectionString(good, "soak", &webpubsub.ClientOptions{ReverseProxyEndpoint: endpoint})
		require.ErrorIs(t, err, webpubsub.ErrInvalidArgument)
		o.error("an error of an argument", err)
		_, err = emulator.Start(&emulator.Options{AccessKey: markedKey, Hubs: map[string]emulator.HubSettings{"soak": {EventHandlers: []emulator.EventHandler{
			{URLTemplate: endpoint + "{nothing}", SystemEvents: []string{"connect"}}}}}})
		require.Error(t, err)
		o.error("an error of an argument", err)
	}
	for _, options := range []eventhandler.Options{
		{Hub: "soak", AccessKeys: []string{markedKey}, DangerouslyDisableSignatureVerification: true},
		{Hub: "soak", AccessKeys: []string{markedKey, ""}}, {AccessKeys: []string{markedKey}},
		{Hub: "soak", AccessKeys: []string{markedKey}, AllowedOrigins: []string{"https://" + markedPassword}},
	} {
		_, err := eventhandler.New(&options)
		require.ErrorIs(t, err, webpubsub.ErrInvalidArgument)
		o.error("an error of an argument", err)
	}
	for _, options := range []emulator.Options{{AccessKey: markedKey + ";"}, {AccessKey: markedKey, SecondaryAccessKey: markedSecondary + ";"}, {AccessKey: markedKey, Addr: "nowhere"}} {
		_, err := emulator.Start(&options)
		require.Error(t, err)
		o.error("an error of an argument", err)
	}
	o.check(t, "an error of an argument", "a connection string")
}

func entraTokensGoOverTLSOnly(t *testing.T) {
	o := newOutputs(t)
	inClear := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("received a request without TLS: %s", r.URL)
	}))
	defer inClear.Close()
	r := newRecorder(t, o, nil)
	options := &webpubsub.ClientOptions{}
	options.Transport = &http.Client{Transport: r}
	for _, endpoint := range []string{inClear.URL, strings.ToUpper(inClear.URL), "HTTP://" + inClear.Listener.Addr().String()} {
		_, err := webpubsub.NewClient(endpoint, "soak", entra(markedEntra), options)
		require.ErrorIs(t, err, webpubsub.ErrInvalidArgument, endpoint)
		o.error("an error", err)
	}
	proxied := *options
	proxied.ReverseProxyEndpoint = inClear.URL
	_, err := webpubsub.NewClient("https://name.webpubsub.azure.com", "soak", entra(markedEntra), &proxied)
	require.ErrorIs(t, err, webpubsub.ErrInvalidArgument, "a proxy without TLS")
	o.error("an error", err)

	// If a policy of the application removes TLS from a request, the token is not sent.
	stripped := *options
	stripped.PerCallPolicies = []policy.Policy{policyFunc(func(req *policy.Request) (*http.Response, error) {
		req.Raw().URL.Scheme, req.Raw().URL.Host = "http", inClear.Listener.Addr().String()
		return req.Next()
	})}
	client, err := webpubsub.NewClient("https://name.webpubsub.azure.com", "soak", entra(markedEntra), &stripped)
	require.NoError(t, err)
	ctx, cancel := waitContext()
	defer cancel()
	err = client.SendToAll(ctx, webpubsub.Text("hello"), nil)
	require.Error(t, err)
	o.error("an error", err)
	require.Empty(t, r.connectedTo(), "connections")
	require.Empty(t, r.written.String(), "bytes sent")
	o.check(t, "an error")
}
