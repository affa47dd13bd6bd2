package emulator_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestHealthNeedsNoToken(t *testing.T) {
	srv := emulator.StartT(t, nil)
	resp, err := http.Head(srv.Endpoint() + "/api/health?api-version=2024-12-01")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	http.DefaultClient.CloseIdleConnections()
}

func TestAPIVersions(t *testing.T) {
	api := rest{t, emulator.StartT(t, nil)}
	for _, v := range []string{"2021-10-01", "2022-11-01", "2023-07-01", "2024-01-01", "2024-12-01"} {
		r := api.must(204, "POST", "hubs/chat/:closeConnections?api-version="+v)
		require.Equal(t, "2021-10-01, 2022-11-01, 2023-07-01, 2024-01-01, 2024-12-01", r.header.Get("api-supported-versions"))
	}
	api.must(204, "POST", "hubs/chat/:closeConnections")
	for _, v := range []string{"2020-01-01", "latest", "", "2024-12-01,2023-07-01", "2024-12-01&api-version=2024-12-01", "2024-12-01&API-version=2023-07-01"} {
		r := api.must(400, "POST", "hubs/chat/:closeConnections?api-version="+v)
		require.Equal(t, "Error.BadRequest", r.errorCode())
		require.Contains(t, r.body, `"target":"api-version"`)
		require.Empty(t, r.header.Get("api-supported-versions"))
	}
	api.must(400, "HEAD", "health?api-version=2020-01-01")
}

func TestInvalidNamesAreRejected(t *testing.T) {
	api := rest{t, emulator.StartT(t, nil)}
	for name, tt := range map[string]struct {
		method, path string
		status       int
		target       string
	}{
		"a hub that begins with a digit": {"POST", "hubs/1/:closeConnections", 400, "hub"},
		"a hub that is too long":         {"POST", "hubs/" + strings.Repeat("h", 129) + "/:closeConnections", 400, "hub"},
		"a hub with a slash":             {"POST", "hubs/a%2Fb/:closeConnections", 400, "hub"},
		"an empty hub":                   {"POST", "hubs//:closeConnections", 400, "hub"},
		"a blank group":                  {"POST", "hubs/h/groups/%20%E3%80%80/:closeConnections", 400, "group"},
		"a group of a tab":               {"HEAD", "hubs/h/groups/%09", 400, ""},
		"an empty group":                 {"POST", "hubs/h/groups//:closeConnections", 400, "group"},
		"a group that is too long":       {"POST", "hubs/h/groups/" + strings.Repeat("%C3%A9", 1025) + "/:closeConnections", 400, "group"},
		"a group of too many emoji":      {"PUT", "hubs/h/users/u/groups/" + strings.Repeat("%F0%9F%98%80", 513), 400, "group"},
		"an empty user":                  {"POST", "hubs/h/users//:closeConnections", 400, "userId"},
		"a blank user":                   {"PUT", "hubs/h/users/%20%09/groups/g", 400, "userId"},
		"an empty connection":            {"DELETE", "hubs/h/connections/", 400, "connectionId"},
		"a blank connection":             {"DELETE", "hubs/h/connections/%20/groups", 400, "connectionId"},
		"an unknown permission":          {"PUT", "hubs/h/permissions/sendToAll/connections/c?targetName=g", 400, "permission"},
		"a group named ..":               {"POST", "hubs/h/groups/%2E%2E/:send", 400, "Request"},
		"an unknown operation":           {"POST", "hubs/h/:explode", 404, ""},
		"a longer path":                  {"POST", "hubs/h/:send/x", 404, ""},
		"an unsupported method":          {"PATCH", "hubs/h/:send", 405, ""},
		"an invalid query":               {"POST", "hubs/h/:closeConnections?reason=%zz", 400, "Request"},
		"two reasons":                    {"POST", "hubs/h/:closeConnections?reason=a&reason=b", 400, "reason"},
		"a hub with every character":     {"POST", "hubs/a%60_,.%5B1%5D/:closeConnections", 204, ""},
		"a group of 1024 characters":     {"POST", "hubs/h/groups/" + strings.Repeat("%C3%A9", 1024) + "/:closeConnections", 204, ""},
		"a group of 512 emoji":           {"POST", "hubs/h/groups/" + strings.Repeat("%F0%9F%98%80", 512) + "/:closeConnections", 204, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := api.must(tt.status, tt.method, tt.path)
			if tt.status >= 400 && tt.method != "HEAD" {
				var e errorBody
				require.NoError(t, json.Unmarshal([]byte(r.body), &e), r.body)
				require.Equal(t, tt.target, e.Target)
				require.Equal(t, e.Code, r.header.Get("x-ms-error-code"))
			}
		})
	}
	r := api.must(400, "HEAD", "hubs/1/users/u")
	require.Empty(t, r.body)
	require.Equal(t, "Error.BadRequest", r.header.Get("x-ms-error-code"))
	require.Equal(t, "application/problem+json; charset=utf-8", r.header.Get("Content-Type"))
	require.NotEmpty(t, r.header.Get("Content-Length"))
}

// The text is the service's, from MicrosoftDocs/azure-docs#96904.
func TestAnInvalidHubIsRejectedInTheServicesWords(t *testing.T) {
	log, lines := logged()
	api := rest{t, emulator.StartT(t, &emulator.Options{Logger: log})}
	var e struct {
		Message string
		Errors  map[string][]string
	}
	require.NoError(t, json.Unmarshal([]byte(api.must(400, "POST", "hubs/my-hub/:send").body), &e))
	const text = "The field hub must match the regular expression '^[A-Za-z][A-Za-z0-9_`,.[\\]]{0,127}$'."
	require.Equal(t, text, e.Message)
	require.Equal(t, map[string][]string{"hub": {text}}, e.Errors)
	require.Contains(t, lines(), "my-hub", "the log says which hub")
}

// logged returns a logger and a function that returns the logged lines.
func logged() (*slog.Logger, func() string) {
	var mu sync.Mutex
	var lines strings.Builder
	return slog.New(slog.NewTextHandler(lockedWriter{&mu, &lines}, nil)), func() string {
		mu.Lock()
		defer mu.Unlock()
		return lines.String()
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func TestASlashInAPathStaysEncodedAndTheLogSaysSo(t *testing.T) {
	log, lines := logged()
	srv := emulator.StartT(t, &emulator.Options{Logger: log})
	api := rest{t, srv}
	slashed := dialJSON(t, srv, dialOptions{user: "x/y", groups: []string{"a/b"}})
	encoded := dialJSON(t, srv, dialOptions{user: "x%2Fy", groups: []string{"a%2Fb"}})
	for _, path := range []string{"groups/a%2Fb/:send", "groups/a%252Fb/:send", "users/x%2Fy/:send", "users/x%252Fy/:send"} {
		api.text("hubs/chat/"+path, "hello")
		require.Equal(t, "hello", encoded.object()["data"], path)
	}
	api.must(404, "HEAD", "hubs/chat/groups/a%2fb")
	require.Contains(t, lines(), `"the group a%2fb has no members: the service does not decode %2F in paths"`)
	require.Contains(t, lines(), `address the group a/b with the filter \"'a/b' in groups\", or with AddConnectionsToGroups`)
	for path, want := range map[string]string{
		"POST hubs/chat/groups/c%2Fd/:closeConnections":        "the group c%2Fd has no members: the service does not decode %2F in paths",
		"POST hubs/chat/users/c%2Fd/:closeConnections":         "the user c%2Fd has no connections: the service does not decode %2F in paths",
		"DELETE hubs/chat/connections/c%2Fd":                   "there is no connection c%2Fd: the service does not decode %2F in paths",
		"PUT hubs/chat/groups/e%2Ff/connections/" + encoded.id: "the group that was joined is e%2Ff, not e/f: the service does not decode %2F in paths",
	} {
		method, path, _ := strings.Cut(path, " ")
		require.Less(t, api.do(method, path, nil).status, 300)
		require.Contains(t, lines(), want)
	}
	require.NotContains(t, lines(), "a%252F", "a double-encoded slash is deliberate")
	require.NotContains(t, lines(), "the group a%2Fb has no members", "the group has a member")
	slashed.expectNothing(srv)
}

func TestGenerateToken(t *testing.T) {
	log, lines := logged()
	srv := emulator.StartT(t, &emulator.Options{Logger: log, AcceptBearer: func(token string) bool { return token == "from Entra" }})
	api := rest{t, srv}
	entra := []string{"Authorization", "Bearer from Entra"}
	token := func(query string) jwt.MapClaims {
		r := api.do("POST", "hubs/Chat/:generateToken?"+query, nil, entra...)
		require.Equal(t, 200, r.status, r.body)
		require.Empty(t, r.header.Get("Content-Length"), "the body is chunked")
		var body struct{ Token string }
		require.NoError(t, json.Unmarshal([]byte(r.body), &body))
		claims := jwt.MapClaims{}
		_, err := jwt.ParseWithClaims(body.Token, claims, func(*jwt.Token) (any, error) { return []byte(srv.AccessKey()), nil })
		require.NoError(t, err)
		require.Equal(t, claims["exp"].(float64)-claims["iat"].(float64), map[bool]float64{true: 60 * (1<<31 - 1), false: 3600}[strings.Contains(query, "minutes")])
		require.Equal(t, claims["nbf"], claims["iat"])
		require.Equal(t, "https://webpubsub.azure.com", claims["iss"])
		for _, name := range []string{"exp", "iat", "nbf", "iss"} {
			delete(claims, name)
		}
		return claims
	}
	require.Equal(t, jwt.MapClaims{"aud": srv.Endpoint() + "/client/hubs/chat"}, token(""))
	require.Equal(t, srv.Endpoint()+"/client/hubs/chat", token("clientType=DEFAULT")["aud"])
	require.Equal(t, jwt.MapClaims{"aud": srv.Endpoint() + "/clients/mqtt/hubs/chat", "sub": "u 1",
		"role": []any{"r1", "r2"}, "webpubsub.group": []any{"g1"}},
		token("userId=u%201&role=r1&role=r2&group=g1&minutesToExpire=2147483647&clientType=mqtt"))
	for _, bad := range []string{"minutesToExpire=0", "minutesToExpire=x", "minutesToExpire=2147483648", "clientType=Telnet", "clientType=SocketIO",
		"group=g&group=%20", "group=" + strings.Repeat("g", 1025), "userId=a&userId=b"} {
		r := api.do("POST", "hubs/chat/:generateToken?"+bad, nil, entra...)
		require.Equal(t, 400, r.status, bad)
		require.Equal(t, "application/json; charset=utf-8", r.header.Get("Content-Type"))
		require.Contains(t, r.body, `"extensions":{}`)
	}
	r := api.must(401, "POST", "hubs/chat/:generateToken?userId=ann")
	require.Contains(t, r.body, "Microsoft Entra ID only")
	require.Contains(t, lines(), "with an access key, the client signs client access tokens itself")

	r = api.do("POST", "hubs/chat/:generateToken?userId=ann", nil, entra...)
	var body struct{ Token string }
	require.NoError(t, json.Unmarshal([]byte(r.body), &body))
	require.Equal(t, 101, upgradeStatus(t, srv.Endpoint()+"/client/hubs/chat?access_token="+body.Token))
	require.Equal(t, 401, upgradeStatus(t, srv.Endpoint()+"/client/hubs/chat?access_token=from%20Entra"), "clients cannot connect with a token of Microsoft Entra ID")
}

func TestRejectedRequestsCreateNoHub(t *testing.T) {
	srv := emulator.StartT(t, nil)
	api := rest{t, srv}
	require.NoError(t, srv.SetHubSettings("handled", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{SystemEvents: []string{"connect"},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WebHook-Allowed-Origin", "*")
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusForbidden)
			}
		})}}}))
	require.Equal(t, 403, upgradeStatus(t, dialOptions{hub: "handled"}.httpURL(t, srv)))
	require.Equal(t, 401, upgradeStatus(t, srv.Endpoint()+"/client/hubs/nobody"))
	api.text("hubs/sent/:send", "hello")
	api.must(404, "PUT", "hubs/joined/groups/g/connections/c")
	require.Empty(t, srv.Hubs())
}
