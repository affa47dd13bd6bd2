package emulator_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

// get sends a GET request with an Authorization header, unless it is "", and returns the status.
func get(t *testing.T, target, authorization string) int {
	t.Helper()
	req, err := http.NewRequest("GET", target, nil)
	require.NoError(t, err)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := restClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

func TestRESTAcceptsOnlyTokensForTheRequestSignedWithTheKey(t *testing.T) {
	srv := emulator.StartT(t, &emulator.Options{AccessKey: "the key", AcceptBearer: func(token string) bool { return token == "from Entra" }})
	target := srv.Endpoint() + "/api/hubs/chat/groups/it's%20%C3%A9/connections?api-version=2024-12-01&top=5"
	now := time.Now().Unix()
	claims := func(aud any, exp any) jwt.MapClaims { return jwt.MapClaims{"aud": aud, "exp": exp} }
	decoded, _ := url.PathUnescape(target)
	none, _ := jwt.NewWithClaims(jwt.SigningMethodNone, claims(target, now+60)).SignedString(jwt.UnsafeAllowNoneSignatureType)
	hs512, _ := jwt.NewWithClaims(jwt.SigningMethodHS512, claims(target, now+60)).SignedString([]byte("the key"))
	for name, tt := range map[string]struct {
		authorization string
		want          int
	}{
		"valid":                           {"Bearer " + sign(t, "the key", claims(target, now+60)), 200},
		"the scheme in lower case":        {"bearer " + sign(t, "the key", claims(target, now+60)), 200},
		"the audience in upper case":      {"Bearer " + sign(t, "the key", claims(strings.ToUpper(target), now+60)), 200},
		"the audience decoded once":       {"Bearer " + sign(t, "the key", claims(decoded, now+60)), 200},
		"one of several audiences":        {"Bearer " + sign(t, "the key", claims([]string{"x", target}, now+60)), 200},
		"expired within the skew":         {"Bearer " + sign(t, "the key", claims(target, now-240)), 200},
		"a token of another authority":    {"Bearer from Entra", 200},
		"expired":                         {"Bearer " + sign(t, "the key", claims(target, now-360)), 401},
		"without expiry":                  {"Bearer " + sign(t, "the key", jwt.MapClaims{"aud": target}), 401},
		"not valid yet":                   {"Bearer " + sign(t, "the key", jwt.MapClaims{"aud": target, "exp": now + 900, "nbf": now + 600}), 401},
		"another key":                     {"Bearer " + sign(t, "another", claims(target, now+60)), 401},
		"no audience":                     {"Bearer " + sign(t, "the key", jwt.MapClaims{"exp": now + 60}), 401},
		"the audience without query":      {"Bearer " + sign(t, "the key", claims(strings.Split(target, "?")[0], now+60)), 200},
		"the audience with another query": {"Bearer " + sign(t, "the key", claims(strings.Split(target, "?")[0]+"?x=y", now+60)), 200},
		"the audience with TLS":           {"Bearer " + sign(t, "the key", claims(strings.Replace(target, "http", "https", 1), now+60)), 200},
		"a longer audience":               {"Bearer " + sign(t, "the key", claims(strings.Split(target, "?")[0]+"s", now+60)), 401},
		"the audience of another path":    {"Bearer " + sign(t, "the key", claims(srv.Endpoint()+"/api/hubs/chat", now+60)), 401},
		"the audience of another host":    {"Bearer " + sign(t, "the key", claims(strings.Replace(target, "127.0.0.1", "localhost", 1), now+60)), 401},
		"with a key id in its header":     {"Bearer " + withHeader(t, "the key", "HS256", claims(target, now+60)), 200},
		"a wrong algorithm in the header": {"Bearer " + withHeader(t, "the key", "HS384", claims(target, now+60)), 401},
		"no signature":                    {"Bearer " + none, 401},
		"another algorithm":               {"Bearer " + hs512, 401},
		"no token at all":                 {"", 401},
		"garbage":                         {"Bearer x.y.z", 401},
		"another scheme":                  {"Basic " + sign(t, "the key", claims(target, now+60)), 401},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.want, get(t, target, tt.authorization)) })
	}
}

// withHeader returns a token that is signed with HS256 and has a key id. The header names algorithm.
func withHeader(t *testing.T, key, algorithm string, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	token.Header["alg"], token.Header["kid"] = algorithm, "1"
	s, err := token.SignedString([]byte(key))
	require.NoError(t, err)
	return s
}

func TestARejectionStatesTheReasonAndPrintsNoToken(t *testing.T) {
	srv := emulator.StartT(t, nil)
	token := sign(t, "another key", jwt.MapClaims{"exp": time.Now().Add(time.Minute).Unix()})
	req, _ := http.NewRequest("POST", srv.Endpoint()+"/api/hubs/chat/:closeConnections", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := restClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var body strings.Builder
	require.NoError(t, resp.Write(&body))
	require.Contains(t, body.String(), "not signed with this resource's access key")
	require.NotContains(t, body.String(), token)
	require.NotContains(t, body.String(), srv.AccessKey())
	require.Equal(t, "Unauthorized", resp.Header.Get("x-ms-error-code"))
}

// A test whose credential is a fake one learns which option it needs, or that the option rejects the token.
func TestARejectionNamesTheOptionForOtherTokens(t *testing.T) {
	for want, accept := range map[string]func(string) bool{
		"the access token is malformed: the emulator's option AcceptBearer accepts tokens other than those of access keys": nil,
		"the access token is malformed, and the emulator's option AcceptBearer rejects it":                                 func(string) bool { return false },
	} {
		srv := emulator.StartT(t, &emulator.Options{AcceptBearer: accept})
		for _, path := range []string{":send", ":generateToken"} {
			req, _ := http.NewRequest("POST", srv.Endpoint()+"/api/hubs/chat/"+path, nil)
			req.Header.Set("Authorization", "Bearer fake")
			resp, err := restClient.Do(req)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			require.NoError(t, err)
			require.Equal(t, 401, resp.StatusCode)
			require.Contains(t, string(body), want)
		}
	}
}

func TestClientsConnectOnlyWithATokenForTheirHub(t *testing.T) {
	srv := emulator.StartT(t, &emulator.Options{AccessKey: "the key"})
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	aud := srv.Endpoint() + "/client/hubs/chat"
	for name, tt := range map[string]struct {
		path   string
		claims jwt.MapClaims
		key    string
		want   int
	}{
		"valid":                           {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute)}, "the key", 101},
		"the hub in the query":            {"/client/?hub=chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute)}, "the key", 101},
		"the hub in the query, no slash":  {"/client?hub=chat", jwt.MapClaims{"aud": srv.Endpoint() + "/client/?hub=chat", "exp": in(time.Minute)}, "the key", 101},
		"the hub in another case":         {"/client/hubs/CHAT", jwt.MapClaims{"aud": strings.ToUpper(aud), "exp": in(time.Minute)}, "the key", 101},
		"roles and groups as one string":  {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute), "role": "r", "webpubsub.group": "g"}, "the key", 101},
		"a token for another hub":         {"/client/hubs/other", jwt.MapClaims{"aud": aud, "exp": in(time.Minute)}, "the key", 401},
		"a token that has just expired":   {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(-4 * time.Minute)}, "the key", 101},
		"an expired token":                {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(-6 * time.Minute)}, "the key", 401},
		"a token that begins soon":        {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Hour), "nbf": in(4 * time.Minute)}, "the key", 101},
		"a token that begins later":       {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Hour), "nbf": in(6 * time.Minute)}, "the key", 401},
		"a user with leading white space": {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute), "sub": " admin"}, "the key", 400},
		"a user with a control character": {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute), "nameidentifier": "a\tb"}, "the key", 400},
		"a user named ..":                 {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute), "sub": ".."}, "the key", 400},
		"a group named .":                 {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute), "webpubsub.group": "."}, "the key", 400},
		"a group of 513 emoji":            {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute), "webpubsub.group": strings.Repeat("😀", 513)}, "the key", 400},
		"a group of 512 emoji":            {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute), "webpubsub.group": strings.Repeat("😀", 512)}, "the key", 101},
		"a token without expiry":          {"/client/hubs/chat", jwt.MapClaims{"aud": aud}, "the key", 401},
		"an audience that ends with /":    {"/client/hubs/chat", jwt.MapClaims{"aud": aud + "/", "exp": in(time.Minute)}, "the key", 401},
		"an audience with a query":        {"/client/hubs/chat", jwt.MapClaims{"aud": aud + "?x=y", "exp": in(time.Minute)}, "the key", 401},
		"an audience with the scheme ws":  {"/client/hubs/chat", jwt.MapClaims{"aud": strings.Replace(aud, "http", "ws", 1), "exp": in(time.Minute)}, "the key", 401},
		"a token of another key":          {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute)}, "another", 401},
		"no token":                        {"/client/hubs/chat", nil, "", 401},
		"an invalid hub":                  {"/client/hubs/1chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute)}, "the key", 400},
		"no hub":                          {"/client/", jwt.MapClaims{"aud": aud, "exp": in(time.Minute)}, "the key", 400},
		"a blank group in the token":      {"/client/hubs/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute), "webpubsub.group": []string{" "}}, "the key", 400},
		"an unknown mode":                 {"/client/hubs/chat?webpubsub_mode=x", jwt.MapClaims{"aud": aud, "exp": in(time.Minute)}, "the key", 400},
		"sendToGroup without a group":     {"/client/hubs/chat?webpubsub_mode=sendToGroup", jwt.MapClaims{"aud": aud, "exp": in(time.Minute)}, "the key", 400},
		"an unknown path":                 {"/client/groups/chat", jwt.MapClaims{"aud": aud, "exp": in(time.Minute)}, "the key", 404},
	} {
		t.Run(name, func(t *testing.T) {
			var token string
			if tt.claims != nil {
				token = sign(t, tt.key, tt.claims)
			}
			sep := "?"
			if strings.Contains(tt.path, "?") {
				sep = "&"
			}
			require.Equal(t, tt.want, upgradeStatus(t, srv.Endpoint()+tt.path+sep+"access_token="+token), "token in the query")
			require.Equal(t, tt.want, upgradeStatus(t, srv.Endpoint()+tt.path+sep+"ACCESS_token="+token), "parameter name in another case")
			require.Equal(t, tt.want, upgradeStatus(t, srv.Endpoint()+tt.path, "Authorization", "Bearer "+token), "token in the header")
		})
	}
	require.Equal(t, 400, get(t, dialOptions{}.httpURL(t, srv), ""), "a request that is not a handshake")
}

// httpURL returns the client URL with the scheme http.
func (o dialOptions) httpURL(t testing.TB, srv *emulator.Server) string {
	return strings.Replace(o.url(t, srv), "ws", "http", 1)
}
