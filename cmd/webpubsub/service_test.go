package main

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/cmd/internal/programtest"
	"github.com/awps-go/webpubsub/emulator"
)

func TestHelpAndVersion(t *testing.T) {
	require.Contains(t, succeed(t, nil, "--help"), "WEBPUBSUB_CONNECTION_STRING")
	require.Contains(t, succeed(t, nil, "connect", "--help"), "--to-group GROUP")
	require.Equal(t, succeed(t, nil, "send", "all", "--help"), succeed(t, nil, "help", "send", "all"))
	require.Equal(t, succeed(t, nil, "--help"), succeed(t, nil, "help"))
	require.Regexp(t, `^webpubsub version \S+\n$`, succeed(t, nil, "--version"))
	require.Contains(t, succeed(t, nil, "completion", "bash"), "__start_webpubsub")
	require.Equal(t, "sendToGroup\njoinLeaveGroup\n:4\n", completions(t, "permission", "grant", ""))
	require.Equal(t, "json-reliable\njson\nprotobuf-reliable\nprotobuf\n:4\n", completions(t, "connect", "--protocol", ""))
}

// completions returns the program's output for the shell's completion script.
func completions(t *testing.T, args ...string) string {
	t.Helper()
	p := programtest.Start(t, append([]string{"__complete"}, args...))
	code, stdout := p.Result(t)
	require.Equal(t, exitOK, code)
	return stdout
}

func TestWithoutACommandItPrintsHelpAndWasCalledWrongly(t *testing.T) {
	for _, args := range [][]string{nil, {"send"}, {"group"}, {"connection"}, {"user"}, {"permission"}, {"completion"}} {
		p := programtest.Start(t, args)
		code, stdout := p.Result(t)
		require.Equal(t, exitUsage, code)
		require.Empty(t, stdout)
		require.Contains(t, p.Stderr.String(), "Available Commands:")
	}
}

func TestAWrongCallIsOneLineAndTwo(t *testing.T) {
	env := []string{"WEBPUBSUB_CONNECTION_STRING=Endpoint=http://127.0.0.1:1;AccessKey=secret-key;", "WEBPUBSUB_HUB=chat"}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"sned"}, `unknown command "webpubsub sned" (see webpubsub --help)`},
		{[]string{"send", "everybody", "hi"}, `unknown command "webpubsub send everybody" (see webpubsub send --help)`},
		{[]string{"help", "sned"}, `unknown command "webpubsub sned" (see webpubsub help --help)`},
		{[]string{"help", "send", "everybody"}, `unknown command "webpubsub send everybody" (see webpubsub help --help)`},
		{[]string{"completion", "csh"}, `unknown command "webpubsub completion csh" (see webpubsub completion --help)`},
		{[]string{"send", "all", "hi", "ho"}, `unexpected argument "ho"`},
		{[]string{"send", "group"}, "the argument GROUP is missing"},
		{[]string{"send", "all", "--loud", "hi"}, "unknown flag: --loud (see webpubsub send all --help)"},
		{[]string{"send", "user", "bob", "--exclude", "x", "hi"}, "unknown flag: --exclude"},
		{[]string{"send", "all", "--json", "--binary", "hi"}, "json binary"},
		{[]string{"send", "all", "--json", `{"a":`}, "the message is not JSON: unexpected EOF"},
		{[]string{"send", "all", "--json", `1 2`}, "the message is not JSON: unexpected data after the first value"},
		{[]string{"send", "all", "--file", "nowhere", "hi"}, "the message and --file cannot be used together"},
		{[]string{"send", "all", "--file", "nowhere"}, "--file: open nowhere: "},
		{[]string{"send", "all", "--metadata", "x", "hi"}, `--metadata: "x" must be KEY=VALUE`},
		{[]string{"send", "all", "--ttl", "301s", "hi"}, "SendToAll: invalid argument"},
		{[]string{"send", "all", "\xff"}, "use --binary to send it unchanged"},
		{[]string{"group", "add-connection", "room"}, "the argument CONNECTION is missing"},
		{[]string{"group", "add-connections"}, "the argument GROUP... is missing"},
		{[]string{"permission", "grant", "fly", "id", "room"}, `PERMISSION must be sendToGroup or joinLeaveGroup, not "fly" (see webpubsub permission grant --help)`},
		{[]string{"permission", "revoke", "webpubsub.sendToGroup", "id", "room"}, `PERMISSION must be sendToGroup or joinLeaveGroup, not "webpubsub.sendToGroup"`},
		{[]string{"permission", "check", "", "id", "room"}, `PERMISSION must be sendToGroup or joinLeaveGroup, not ""`},
		{[]string{"token", "--role", "sendToGroup"}, `--role: "sendToGroup" must begin with webpubsub.`},
		{[]string{"token", "--protocol", "smtp"}, "--protocol must be default, mqtt or socketio"},
		{[]string{"token", "--expires-in", "1s"}, "GetClientAccessToken: invalid argument"},
		{[]string{"request", "GET", "https://example.com/"}, "invalid argument"},
		{[]string{"request", "POST", "/api/hubs/chat/:generateToken"}, "use webpubsub token to create a token"},
		{[]string{"connect", "--protocol", "smtp"}, "--protocol must be json-reliable, json, protobuf-reliable or protobuf"},
		{[]string{"connect", "--input", "xml"}, "--input must be text or json"},
		{[]string{"connect", "--count", "-1"}, "--count must be at least 0"},
		{[]string{"connect", "--to-group", "a", "--event", "b"}, "to-group event"},
		{[]string{"connect", "--to-group", ""}, "--to-group is empty"},
		{[]string{"connect", "--negotiate", "localhost/negotiate?code=secret-key"}, "--negotiate must be a URL such as http://localhost:8080/negotiate"},
		{[]string{"group", "add-connections", "room", "--filter="}, "--filter is empty"},
		{[]string{"--hub", "", "token"}, "--hub is empty"},
		{[]string{"request", "POST", "/api/hubs/chat/:generateToke%6E"}, "use webpubsub token to create a token"},
		{[]string{"connect", "--negotiate", "http://127.0.0.1:1", "--user", "a"}, "negotiate user"},
		{[]string{"listen"}, "the event handler is missing: use --to URL (see webpubsub listen --help)"},
		{[]string{"listen", "--to", "localhost:8080"}, "--to must be a URL such as http://localhost:8080/eventhandler/"},
		{[]string{"listen", "--to", "http://me:secret-key@localhost/"}, "--to must not have a user name or a password"},
		{[]string{"listen", "--to", "http://localhost/eventhandler/{event}"}, "--to must not have a placeholder: without a path, the path of the URL template is kept"},
		{[]string{"listen", "--to", "http://localhost/", "--timeout", "0s"}, "--timeout must be positive"},
		{[]string{"listen", "--to", "http://localhost/#a"}, "--to must not have a fragment"},
		{[]string{"listen", "--to", "http://localhost/", "--hub", "1"}, "invalid argument hub"},
		{[]string{"listen", "--to", "http://localhost/", "--endpoint", "http://example.com"}, "invalid argument endpoint"},
		{[]string{"bench", "--clients", "1001"}, "--clients 1001 is more than --max-connections 1000: use --max-connections 1001 to allow it"},
		{[]string{"bench", "--clients", "0"}, "--clients must be from 1 to 1048576, not 0"},
		{[]string{"bench", "--size", "63"}, "--size must be from 64 to 1048576, not 63"},
		{[]string{"bench", "--duration", "0s"}, "--duration must be positive"},
		{[]string{"bench", "--target", "nobody"}, `--target must be groups, users or all, not "nobody"`},
		{[]string{"emulator", "--addr", "nowhere"}, "--addr: address nowhere: missing port in address"},
		{[]string{"emulator", "--addr", "127.0.0.1:0", "--access-key", "a;b"}, "Options.AccessKey must not contain semicolons"},
		{[]string{"emulator", "--addr", "127.0.0.1:65536"}, "Options.Addr: "},
		{[]string{"emulator", "--hub", "hubs.json"}, "--hub is not a flag of the emulator"},
		{[]string{"emulator", "--endpoint", "http://127.0.0.1:1"}, "--endpoint is not a flag of the emulator"},
		{[]string{"emulator", "--log-level", "loud"}, `invalid argument "loud" for "--log-level"`},
		{[]string{"--log-level", "loud", "health"}, `invalid argument "loud" for "--log-level"`},
		{[]string{"--hub", "1", "send", "all", "hi"}, "invalid argument hub"},
		{[]string{"--endpoint", "https://example.com", "--connection-string-file", "x", "token"}, "--endpoint and --connection-string-file cannot be used together"},
		{[]string{"--endpoint", "https://example.com", "--connection-string-file", "x", "health"}, "--endpoint and --connection-string-file cannot be used together"},
		{[]string{"--connection-string-file", os.DevNull, "token"}, "--connection-string-file: " + os.DevNull + " is empty"},
		{[]string{"--retries", "-1", "health"}, "--retries must be at least 0"},
		{[]string{"--connection-string-file", "nowhere", "token"}, "--connection-string-file: open nowhere: "},
	} {
		line := fail(t, exitUsage, env, test.args...)
		require.Contains(t, line, test.want, "%q", test.args)
		require.NotContains(t, line, "secret-key")
	}
}

func TestTheServiceAndTheHubMustBeNamed(t *testing.T) {
	require.Contains(t, fail(t, exitUsage, nil, "token"), "the hub is missing: use --hub NAME, or set WEBPUBSUB_HUB")
	require.Contains(t, fail(t, exitUsage, nil, "token", "--hub", "chat"), "the service is missing: set WEBPUBSUB_CONNECTION_STRING")
	require.Contains(t, fail(t, exitUsage, []string{"WEBPUBSUB_CONNECTION_STRING=AccessKey=abcdefgh"}, "token", "--hub", "chat"), "Endpoint is missing")
	for _, args := range [][]string{{"token"}, {"health"}, {"listen", "--to", "http://localhost"}} {
		require.Contains(t, fail(t, exitUsage, []string{"WEBPUBSUB_CONNECTION_STRING=Endpoint=https://example.com;AuthType=azure;Version=1.0;", "WEBPUBSUB_HUB=" + hub}, args...),
			"AccessKey is missing in the connection string; for Microsoft Entra ID, use --endpoint URL (see webpubsub "+args[0])
	}
}

func TestAConnectionStringOnTheCommandLineIsRefused(t *testing.T) {
	const secret = "Endpoint=http://127.0.0.1:1;AccessKey=abcdefghijkl;Version=1.0;"
	for _, args := range [][]string{
		{"token", "--connection-string", secret}, {"token", "--connection-string=" + secret}, {"token", "--connection-string", "whatever"},
		{"token", "--connection-string=whatever"}, {"token", "--endpoint", secret}, {"token", "-c" + secret}, {"token", secret},
		{"--connection-string", secret, "token"}, {"token", "--connectionstring=" + secret},
		{"token", "Endpoint = http://127.0.0.1:1; AccessKey = abcdefghijkl"},
	} {
		line := fail(t, exitUsage, nil, args...)
		require.NotContains(t, line, "abcdefghijkl", "%q", args)
		require.Contains(t, line, "other users of this machine can see a connection string on the command line: "+
			"set WEBPUBSUB_CONNECTION_STRING, or use --connection-string-file FILE", "%q", args)
	}
}

// A user may pass the URL of a client as an argument.
func TestErrorsDoNotRepeatSecretsOfTheCommandLine(t *testing.T) {
	for _, secret := range []string{
		"wss://example.com/client/hubs/chat?access_token=the-secret-token", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.the-secret-token",
		"https://me:the-secret-token@example.com/",
	} {
		for _, args := range [][]string{{"connect", secret}, {secret}, {"token", "--expires-in", secret}, {"token", "--role", secret}, {"send", "all", "--file", secret}} {
			line := fail(t, exitUsage, []string{"WEBPUBSUB_CONNECTION_STRING=Endpoint=http://127.0.0.1:1;AccessKey=abcdefgh;", "WEBPUBSUB_HUB=" + hub}, args...)
			require.NotContains(t, line, "the-secret-token", "%q", args)
		}
	}
}

func TestFlagsWinOverTheEnvironment(t *testing.T) {
	server := emulator.StartT(t, nil)
	file := writeFile(t, "\ufeff"+server.ConnectionString()+"\r\n")
	env := []string{"WEBPUBSUB_CONNECTION_STRING=nothing", "WEBPUBSUB_HUB=other"}
	url := succeed(t, env, "token", "--connection-string-file", file, "--hub", hub)
	require.True(t, strings.HasPrefix(url, strings.Replace(server.Endpoint(), "http", "ws", 1)+"/client/hubs/chat?access_token="), url)
}

// TestEntra authenticates with a managed identity to an emulator with TLS. The test serves the identity's endpoint.
func TestEntra(t *testing.T) {
	other := httptest.NewTLSServer(nil) // with a certificate for 127.0.0.1
	defer other.Close()
	identity := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"the-entra-token","expires_on":"%d","resource":%q,"token_type":"Bearer"}`,
			time.Now().Add(time.Hour).Unix(), r.URL.Query().Get("resource"))
	}))
	defer identity.Close()
	asked := make(chan string, 10)
	server := emulator.StartT(t, &emulator.Options{TLSConfig: other.TLS, AcceptBearer: func(token string) bool {
		asked <- token
		return true
	}})
	certificate := filepath.Join(t.TempDir(), "cert.pem")
	require.NoError(t, os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificate().Raw}), 0o600))
	env := []string{
		"WEBPUBSUB_HUB=" + hub, "SSL_CERT_FILE=" + certificate, "WEBPUBSUB_CONNECTION_STRING=is ignored",
		"IDENTITY_ENDPOINT=" + identity.URL, "IDENTITY_HEADER=header", "AZURE_TOKEN_CREDENTIALS=ManagedIdentityCredential",
	}
	require.Empty(t, succeed(t, env, "send", "all", "--endpoint", server.Endpoint(), "hi"))
	require.Equal(t, "the-entra-token", <-asked)
	require.Equal(t, 1, server.RequestCount("SendToAll"))

	p := programtest.Start(t, []string{"listen", "--to", "http://localhost", "--endpoint", server.Endpoint()}, env...)
	require.NoError(t, server.WaitForTunnels(deadline(t), hub, 1), "%s", p.Stderr)
	require.Equal(t, "the-entra-token", <-asked)
	p.Interrupt(t)
	code, _ := p.Result(t)
	require.Equal(t, exitOK, code, "%s", p.Stderr)

	line := fail(t, exitUsage, env, "send", "all", "--endpoint", "http://127.0.0.1:1", "hi")
	require.Contains(t, line, "invalid argument endpoint")
}

func TestWhatTheServiceRefusesIsOneLineAndOne(t *testing.T) {
	server := emulator.StartT(t, nil)
	wrongKey := []string{"WEBPUBSUB_CONNECTION_STRING=Endpoint=" + server.Endpoint() + ";AccessKey=the-wrong-key;", "WEBPUBSUB_HUB=" + hub}
	line := fail(t, exitFailed, wrongKey, "send", "all", "hi")
	require.Regexp(t, `^webpubsub: SendToAll: 401 Unauthorized: .*\(client request id \S+\)\n$`, line)
	require.NotContains(t, line, "the-wrong-key")

	line = fail(t, exitFailed, on(server), "group", "add-connection", "room", "nobody")
	require.Regexp(t, `^webpubsub: AddConnectionToGroup: 404 Not Found: [A-Za-z.]+: .*\(client request id \S+\)\n$`, line)

	require.NoError(t, server.InjectFault(emulator.Fault{Operation: "SendToAll", Status: 429}))
	line = fail(t, exitFailed, on(server), "send", "all", "hi", "--retries", "0")
	require.Regexp(t, `^webpubsub: SendToAll: 429 Too Many Requests: `, line)

	server.Close()
	line = fail(t, exitFailed, on(server), "health", "--retries", "0")
	require.Regexp(t, `^webpubsub: GetServiceStatus: .*refused`, line)
}

// net/http logs the beginning of a body that must not be there. The body may contain a token.
func TestAResponseThatViolatesHTTPIsNotLogged(t *testing.T) {
	violating := rawServer(t, "HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nsecret-key")
	env := []string{"WEBPUBSUB_CONNECTION_STRING=Endpoint=" + violating.URL + ";AccessKey=abcdefgh;", "WEBPUBSUB_HUB=" + hub}
	for range 10 { // the log record is a matter of chance
		line := fail(t, exitFailed, env, "connection", "exist", "x", "--retries", "0")
		require.NotContains(t, line, "secret-key")
	}
}

func TestAThrottledRequestIsRetried(t *testing.T) {
	tries := make(chan struct{}, 10)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tries <- struct{}{}
		if len(tries) < 3 {
			w.Header().Set("Retry-After-Ms", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer service.Close()
	env := []string{"WEBPUBSUB_CONNECTION_STRING=Endpoint=" + service.URL + ";AccessKey=key;", "WEBPUBSUB_HUB=" + hub}
	require.Empty(t, succeed(t, env, "send", "all", "hi"))
	require.Len(t, tries, 3)
}

func TestRetriesAreAsManyAsAsked(t *testing.T) {
	tries := make(chan struct{}, 10)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tries <- struct{}{}
		w.Header().Set("Retry-After-Ms", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer service.Close()
	env := []string{"WEBPUBSUB_CONNECTION_STRING=Endpoint=" + service.URL + ";AccessKey=key;", "WEBPUBSUB_HUB=" + hub}
	require.Regexp(t, `^webpubsub: SendToAll: 429 Too Many Requests `, fail(t, exitFailed, env, "send", "all", "hi", "--retries", "1"))
	require.Len(t, tries, 2)
}

func TestTheDebugLogShowsTheTrafficWithoutSecrets(t *testing.T) {
	server := emulator.StartT(t, nil)
	p := programtest.Start(t, []string{"send", "all", "hello there", "--log-level", "debug"}, on(server)...)
	code, stdout := p.Result(t)
	require.Equal(t, exitOK, code)
	require.Empty(t, stdout)
	log := p.Stderr.String()
	require.Contains(t, log, "operation=SendToAll")
	require.Contains(t, log, "status=202")
	require.Contains(t, log, `requestBody="hello there"`)
	require.Contains(t, log, "Authorization=REDACTED")
	require.NotContains(t, log, server.AccessKey())
	require.NotContains(t, log, "eyJ")
}

func TestJSONOutputIsOneValue(t *testing.T) {
	server := emulator.StartT(t, nil)
	var access struct{ Token, BaseURL, URL string }
	require.NoError(t, json.Unmarshal([]byte(succeed(t, on(server), "token", "--user", "alice", "--json")), &access))
	require.Equal(t, access.BaseURL+"?access_token="+access.Token, access.URL)
	require.JSONEq(t, `{"healthy":true}`, succeed(t, on(server)[:1], "health", "--json"))
	require.Equal(t, "healthy\n", succeed(t, on(server)[:1], "health"))
	require.Equal(t, "healthy\n", succeed(t, nil, "health", "--endpoint", server.Endpoint()), "no credentials are needed")
	require.JSONEq(t, `[]`, succeed(t, on(server), "group", "list-connections", "nobody", "--json"))
}
