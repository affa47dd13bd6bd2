package emulator_test

import (
	"encoding/json"
	"net/http"
	"strings"
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
		api.must(204, "POST", "hubs/chat/:closeConnections?api-version="+v)
	}
	api.must(204, "POST", "hubs/chat/:closeConnections")
	for _, v := range []string{"2020-01-01", "latest", ""} {
		r := api.must(400, "POST", "hubs/chat/:closeConnections?api-version="+v)
		require.Equal(t, "BadRequest", r.errorCode())
		require.Contains(t, r.body, `"target":"api-version"`)
	}
}

func TestNamesThatCannotBeAreRefused(t *testing.T) {
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
		"an empty group":                 {"POST", "hubs/h/groups//:closeConnections", 400, "group"},
		"a group that is too long":       {"POST", "hubs/h/groups/" + strings.Repeat("%C3%A9", 1025) + "/:closeConnections", 400, "group"},
		"an empty user":                  {"POST", "hubs/h/users//:closeConnections", 400, "userId"},
		"an empty connection":            {"DELETE", "hubs/h/connections/", 400, "connectionId"},
		"a permission that is none":      {"PUT", "hubs/h/permissions/sendToAll/connections/c", 400, "permission"},
		"an operation that is none":      {"POST", "hubs/h/:explode", 404, ""},
		"a path that goes on":            {"POST", "hubs/h/:send/x", 404, ""},
		"a method that is none":          {"PATCH", "hubs/h/:send", 405, ""},
		"a query that cannot be read":    {"POST", "hubs/h/:closeConnections?reason=%zz", 400, ""},
		"a hub with every character":     {"POST", "hubs/a%60_,.%5B1%5D/:closeConnections", 204, ""},
		"a group of 1024 characters":     {"POST", "hubs/h/groups/" + strings.Repeat("%C3%A9", 1024) + "/:closeConnections", 204, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := api.must(tt.status, tt.method, tt.path)
			if tt.status >= 400 {
				var e errorBody
				require.NoError(t, json.Unmarshal([]byte(r.body), &e), r.body)
				require.Equal(t, tt.target, e.Target)
				require.Equal(t, e.Code, r.header.Get("x-ms-error-code"))
				require.NotNil(t, e.Details)
			}
		})
	}
	r := api.must(400, "HEAD", "hubs/1/users/u")
	require.Empty(t, r.body)
	require.Equal(t, "BadRequest", r.header.Get("x-ms-error-code"))
}

func TestGenerateToken(t *testing.T) {
	srv := emulator.StartT(t, nil)
	api := rest{t, srv}
	token := func(query string) jwt.MapClaims {
		r := api.must(200, "POST", "hubs/Chat/:generateToken?"+query)
		var body struct{ Token string }
		require.NoError(t, json.Unmarshal([]byte(r.body), &body))
		claims := jwt.MapClaims{}
		_, err := jwt.ParseWithClaims(body.Token, claims, func(*jwt.Token) (any, error) { return []byte(srv.AccessKey()), nil })
		require.NoError(t, err)
		require.Equal(t, claims["exp"].(float64)-claims["iat"].(float64), map[bool]float64{true: 300, false: 3600}[strings.Contains(query, "minutes")])
		delete(claims, "exp")
		delete(claims, "iat")
		return claims
	}
	require.Equal(t, jwt.MapClaims{"aud": srv.Endpoint() + "/client/hubs/Chat"}, token(""))
	require.Equal(t, jwt.MapClaims{"aud": srv.Endpoint() + "/clients/mqtt/hubs/Chat", "sub": "u 1",
		"role": []any{"r1", "r2"}, "webpubsub.group": []any{"g1"}},
		token("userId=u%201&role=r1&role=r2&group=g1&minutesToExpire=5&clientType=MQTT"))
	require.Equal(t, srv.Endpoint()+"/clients/socketio/hubs/Chat", token("clientType=SocketIO")["aud"])
	for _, bad := range []string{"minutesToExpire=0", "minutesToExpire=x", "clientType=Telnet", "group=%20"} {
		api.must(400, "POST", "hubs/chat/:generateToken?"+bad)
	}

	r := api.must(200, "POST", "hubs/chat/:generateToken?userId=ann")
	var body struct{ Token string }
	require.NoError(t, json.Unmarshal([]byte(r.body), &body))
	require.Equal(t, 101, upgradeStatus(t, srv.Endpoint()+"/client/hubs/chat?access_token="+body.Token))
}
