package token

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

const testKey = "the key"

func newAuthority(accept func(string) bool) *Authority {
	return New(Options{Key: testKey, SecondaryKey: "the other key", Endpoint: wire.Endpoint{Scheme: "http", Host: "127.0.0.1:1234"},
		Now: time.Now, AcceptBearer: accept})
}

func TestAudiencesOfRequests(t *testing.T) {
	a := newAuthority(nil)
	for _, tt := range []struct {
		aud, host, path string
		valid           bool
	}{
		{"http://host/a", "host", "/a", true},
		{"http://host/a", "host:80", "/a", true},
		{"https://host:443/a?b", "host", "/a", true},
		{"http://host:443/a", "host", "/a", false},
		{"http://host/a", "host:81", "/a", false},
		{"http://127.0.0.1:1234/a", "host", "/a", true}, // behind a proxy: the server's own address
		{"HTTP://HOST/A%20B", "host", "/a%20b", true},

		{"https://host/a", "host", "/a", true}, // a proxy may terminate TLS
		{"ws://host/a", "host", "/a", true},
		{"WSS://host/a", "host", "/a", true},
		{"ftp://host/a", "host", "/a", false},
		{"host/a", "host", "/a", false},
		{"", "host", "/", false},

		{"http://host/a?x=1", "host", "/a", true},
		{"http://host/a?", "host", "/a", true},
		{"http://host/a/", "host", "/a", true},
		{"http://host/a/child?x", "host", "/a", true},
		{"http://host/ab", "host", "/a", false},
		{"http://host/a#b", "host", "/a", false},
		{"http://host/", "host", "/a", false},
		{"http://host", "host", "/a", false},
		{"http://host/b", "host", "/a", false},

		{"http://host/a b", "host", "/a%20b", true},
		{"http://host/a'b", "host", "/a%27b", true},
		{"http://host/a%27b", "host", "/a'b", true},
		{"http%3A%2F%2Fhost%2Fa%2520b%3Fx", "host", "/a%20b", true}, // the whole URL is encoded again
		{"http://host/a%2fb", "host", "/a%2Fb", true},
		{"http://host/a/b", "host", "/a%2Fb", false}, // the service does not decode %2F
		{"http://host/a%252Fb", "host", "/a%252Fb", true},
		{"http://host/a%2Fb", "host", "/a%252Fb", true},
		{"http://host/h[1]/a%2Fb", "host", "/h%5B1%5D/a%252Fb", true},
		{"http://host/h[1]/a%2Fb", "host", "/h%5B1%5D/a%2Fb", true},
		{"http://host/h%5B1%5D/a%2Fb", "host", "/h%5B1%5D/a%2Fb", true},
		{"http://host/h[1]/a?b/c", "host", "/h%5B1%5D/a%3Fb/c", true},
		{"host", "host", "/%zz", false},
	} {
		require.Equal(t, tt.valid, a.isFor(tt.aud, tt.host, tt.path), "%s for %s%s", tt.aud, tt.host, tt.path)
	}
}

func sign(t *testing.T, key string, claims jwt.MapClaims) string {
	t.Helper()
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(key))
	require.NoError(t, err)
	return s
}

func TestRequestsAndClientsHaveFiveMinutesOfClockSkew(t *testing.T) {
	a := newAuthority(nil)
	now := time.Now()
	for name, tt := range map[string]struct {
		nbf, exp time.Duration
		valid    bool
	}{
		"exact":                 {0, time.Hour, true},
		"valid in 4 minutes":    {4 * time.Minute, time.Hour, true},
		"valid in 6 minutes":    {6 * time.Minute, time.Hour, false},
		"expired 4 minutes ago": {-time.Hour, -4 * time.Minute, true},
		"expired 6 minutes ago": {-time.Hour, -6 * time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			token := sign(t, testKey, jwt.MapClaims{"aud": []string{"http://example.com/api/hubs/h/:send", "http://example.com/client/hubs/h"},
				"nbf": now.Add(tt.nbf).Unix(), "exp": now.Add(tt.exp).Unix()})
			r := httptest.NewRequest("POST", "/api/hubs/h/:send?x", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			require.Equal(t, tt.valid, a.AuthorizeRequest(r) == nil)
			_, err := a.AuthorizeClient(httptest.NewRequest("GET", "/client/hubs/h?access_token="+token, nil), wire.ClientPath, "h")
			require.Equal(t, tt.valid, err == nil)
		})
	}
}

func TestTheUserAndRolesOfAClientsToken(t *testing.T) {
	const longRole = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
	a := newAuthority(nil)
	for name, tt := range map[string]struct {
		claims jwt.MapClaims
		user   string
		roles  []string
	}{
		"nothing":                   {jwt.MapClaims{}, "", nil},
		"a subject":                 {jwt.MapClaims{"sub": "ann", "nameidentifier": "bob"}, "ann", nil},
		"a name id":                 {jwt.MapClaims{"nameid": "bob", "nameidentifier": "carl", "NameID": "dan"}, "bob", nil},
		"a subject and a name id":   {jwt.MapClaims{"nameid": []string{"bob", "carl"}, "sub": "ann"}, "ann", nil},
		"several name ids":          {jwt.MapClaims{"nameid": []string{"bob", "carl"}}, "bob", nil},
		"a name id of another type": {jwt.MapClaims{"nameid": 1}, "", nil},
		"a name identifier":         {jwt.MapClaims{"nameidentifier": "bob"}, "bob", nil},
		"one role":                  {jwt.MapClaims{"role": "a"}, "", []string{"a"}},
		"roles":                     {jwt.MapClaims{"role": []string{"a", "b"}}, "", []string{"a", "b"}},
		"one role by its long name": {jwt.MapClaims{longRole: "a"}, "", []string{"a"}},
		"claims in other case":      {jwt.MapClaims{"sub": "ann", "Sub": "bob", "SUB": 1, "role": "a", "Role": "b", "ROLE": true, "NameIdentifier": "bob", "WebPubSub.Group": ".", "Aud": 1, "Exp": "soon", "Iss": 1}, "ann", []string{"a"}},
		"only in other case":        {jwt.MapClaims{"Sub": "bob", "Role": "b", strings.ToUpper(longRole): "b", "NAMEIDENTIFIER": "bob"}, "", nil},
		"roles by both names":       {jwt.MapClaims{"role": "a", longRole: []string{"b", "c"}}, "", []string{"a", "b", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			tt.claims["aud"], tt.claims["exp"] = "HTTP://Example.com/Client/hubs/h", time.Now().Add(time.Minute).Unix()
			r := httptest.NewRequest("GET", "/client/hubs/h?ACCESS_Token="+sign(t, testKey, tt.claims), nil)
			c, err := a.AuthorizeClient(r, wire.ClientPath, "H")
			require.NoError(t, err)
			require.Equal(t, tt.user, c.User())
			require.Equal(t, tt.roles, c.AllRoles())
		})
	}
	for name, claims := range map[string]jwt.MapClaims{"two subjects": {"sub": []string{"a", "b"}}, "a role that is a number": {"role": 1}} {
		claims["aud"], claims["exp"] = "http://example.com/client/hubs/h", time.Now().Add(time.Minute).Unix()
		_, err := a.AuthorizeClient(httptest.NewRequest("GET", "/client/hubs/h?access_token="+sign(t, testKey, claims), nil), wire.ClientPath, "h")
		require.Error(t, err, name)
	}
}

func TestClaimsForTheApplicationAreComplete(t *testing.T) {
	const longUser = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"
	const longRole = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
	claims := jwt.MapClaims{"role": []string{"a", "b"}, "id": json.Number("9007199254740993"), "price": json.Number("1.50"), "admin": true, "sub": "ann", "Sub": "bob", "nameid": "carl",
		"tags": []any{"a", json.Number("1234567890123456789")}, "tenant": map[string]any{"id": 1}, "nothing": nil}
	r := httptest.NewRequest("GET", "/client/hubs/h?access_token="+sign(t, testKey, claims), nil)
	require.Equal(t, map[string][]string{"id": {"9007199254740993"}, "price": {"1.50"}, "admin": {"true"}, "sub": {"ann"}, "Sub": {"bob"}, "nameid": {"carl"},
		"tags": {"a", "1234567890123456789"}, "tenant": {`{"id":1}`}, "nothing": {"null"}, "role": {"a", "b"},
		longUser: {"ann"}, longRole: {"a", "b"}}, ShowClaims(r), "the user and the roles are repeated under their long names")
	claims = jwt.MapClaims{"nameid": "bob", longRole: "a", "role": "b"}
	r = httptest.NewRequest("GET", "/client/hubs/h?access_token="+sign(t, testKey, claims), nil)
	require.Equal(t, map[string][]string{"nameid": {"bob"}, longUser: {"bob"}, longRole: {"a"}, "role": {"b"}}, ShowClaims(r))
}

func TestTheTokenInTheQueryTakesPrecedence(t *testing.T) {
	a := newAuthority(nil)
	claims := jwt.MapClaims{"aud": "http://example.com/client/hubs/h", "exp": time.Now().Add(time.Minute).Unix()}
	good, bad := sign(t, testKey, claims), sign(t, "another key", claims)
	for query, valid := range map[string]bool{"access_token=" + good: true, "access_token=": false, "": false, "Access_TOKEN=" + good: true} {
		r := httptest.NewRequest("GET", "/client/hubs/h?"+query, nil)
		r.Header.Set("Authorization", "Bearer "+bad)
		_, err := a.AuthorizeClient(r, wire.ClientPath, "h")
		require.Equal(t, valid, err == nil, query)
	}
}

func TestGenerateTokenRequiresATokenOfEntra(t *testing.T) {
	a := newAuthority(func(token string) bool { return token == "entra" })
	request := func(authorization string) *http.Request {
		r := httptest.NewRequest("POST", "/api/hubs/h/:generateToken", nil)
		r.Header.Set("Authorization", authorization)
		return r
	}
	byKey := sign(t, testKey, jwt.MapClaims{"aud": "http://example.com/api/hubs/h/:generateToken", "exp": time.Now().Add(time.Minute).Unix()})
	require.NoError(t, a.AuthorizeRequest(request("Bearer "+byKey)))
	require.ErrorContains(t, a.AuthorizeEntra(request("Bearer "+byKey)), "the client signs client access tokens itself")
	require.NoError(t, a.AuthorizeEntra(request("Bearer entra")))
	require.NoError(t, a.AuthorizeRequest(request("Bearer entra")))
	require.Error(t, a.AuthorizeEntra(request("Bearer other")))
	require.Error(t, a.AuthorizeEntra(request("")))
}

func TestTokensIssuedForClients(t *testing.T) {
	now := time.Now()
	a := newAuthority(nil)
	s, err := a.ForClient("/client/hubs/h", "", nil, nil, 1<<31-1)
	require.NoError(t, err)
	claims := jwt.MapClaims{}
	token, _, err := jwt.NewParser().ParseUnverified(s, claims)
	require.NoError(t, err)
	require.NotEmpty(t, token.Header["kid"])
	require.NotContains(t, s, testKey)
	require.Equal(t, "https://webpubsub.azure.com", claims["iss"])
	require.Equal(t, "http://127.0.0.1:1234/client/hubs/h", claims["aud"])
	require.Equal(t, claims["iat"], claims["nbf"])
	require.InDelta(t, float64(now.Unix())+60*(1<<31-1), claims["exp"], 60)
	require.Len(t, claims, 5, "absent values must not become claims")

	r := httptest.NewRequest("GET", "/client/hubs/H?access_token="+s, nil)
	r.Host = strings.TrimPrefix(a.Endpoint.String(), "http://")
	_, err = a.AuthorizeClient(r, wire.ClientPath, "H")
	require.NoError(t, err)
}
