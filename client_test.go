package webpubsub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	testEndpoint = "https://contoso.webpubsub.azure.com"
	testKey      = "SECRETKEYabcdefghijklmnopq0123456789+/A="
)

// newTestClient returns a client for the hub "chat" that signs with testKey.
func newTestClient(t *testing.T, endpoint string, change func(*ClientOptions)) *ServiceClient {
	t.Helper()
	options := &ClientOptions{}
	options.Retry.RetryDelay = 1 // 1 ns: azcore mistakes no delay for an overflow, and waits MaxRetryDelay
	if change != nil {
		change(options)
	}
	client, err := NewClientFromConnectionString("Endpoint="+endpoint+";AccessKey="+testKey+";Version=1.0;", "chat", options)
	require.NoError(t, err)
	return client
}

// newRecordingClient returns a client that passes its requests to the function instead of the network.
func newRecordingClient(t *testing.T, transport transportFunc) *ServiceClient {
	t.Helper()
	return newTestClient(t, testEndpoint, func(o *ClientOptions) { o.Transport = transport })
}

func TestBadArgumentsAreRefusedBeforeAnythingIsSent(t *testing.T) {
	client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
		t.Errorf("%s %s was sent", req.Method, req.URL)
		return nil, io.EOF
	})
	entra, err := NewClient(testEndpoint, "chat", staticToken("token"), &ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: transportFunc(func(*http.Request) (*http.Response, error) {
			t.Error("a request was sent")
			return nil, io.EOF
		})}})
	require.NoError(t, err)
	ctx := context.Background()
	var nilContext context.Context
	hello := Text("hello")
	long := strings.Repeat("😀", 512) + "a" // 1,025 UTF-16 units
	token := func(o ClientAccessTokenOptions) error {
		_, err := client.GetClientAccessToken(ctx, &o)
		return err
	}
	list := func(group string, o ListConnectionsInGroupOptions) error {
		_, err := client.NewListConnectionsInGroupPager(group, &o).NextPage(ctx)
		return err
	}
	do := func(method, url string) error {
		req, err := http.NewRequest(method, url, nil)
		require.NoError(t, err)
		_, err = client.SendRequest(ctx, req)
		return err
	}
	second := func(_ any, err error) error { return err }
	header := func(h http.Header) error {
		_, err := client.SendRequest(ctx, &http.Request{URL: &url.URL{Path: "/api/health"}, Header: h})
		return err
	}
	metadata := func(key, value string) *SendToAllOptions {
		return &SendToAllOptions{Metadata: map[string]string{key: value}}
	}

	for _, test := range []struct {
		name     string
		argument string
		err      error
	}{
		{"an empty connection id", "connectionID", client.SendToConnection(ctx, "", hello, nil)},
		{"a connection id of one dot", "connectionID", second(client.ConnectionExists(ctx, ".", nil))},
		{"a connection id of two dots", "connectionID", client.CloseConnection(ctx, "..", nil)},
		{"a connection id that is not UTF-8", "connectionID", client.RemoveConnectionFromAllGroups(ctx, "\xff", nil)},
		{"an empty user id", "userID", client.SendToUser(ctx, "", hello, nil)},
		{"a user id of two dots", "userID", client.SendToUser(ctx, "..", hello, nil)},
		{"an empty user id for UserExists", "userID", second(client.UserExists(ctx, "", nil))},
		{"an empty user id to close", "userID", client.CloseUserConnections(ctx, "", nil)},
		{"an empty user id to remove", "userID", client.RemoveUserFromAllGroups(ctx, "", nil)},
		{"an empty group", "group", client.SendToGroup(ctx, "", hello, nil)},
		{"a group of white space", "group", client.SendToGroup(ctx, " \t\u00a0", hello, nil)},
		{"a group of two dots", "group", client.SendToGroup(ctx, "..", hello, nil)},
		{"a group of 1025 UTF-16 units", "group", client.SendToGroup(ctx, long, hello, nil)},
		{"a group before a user id", "group", client.AddUserToGroup(ctx, "", "user1", nil)},
		{"a user id after a group", "userID", client.RemoveUserFromGroup(ctx, "room", "", nil)},
		{"a connection id after a group", "connectionID", client.AddConnectionToGroup(ctx, "room", "", nil)},
		{"a group before a connection id", "group", client.RemoveConnectionFromGroup(ctx, "", "id", nil)},
		{"an empty group for GroupExists", "group", second(client.GroupExists(ctx, "", nil))},
		{"an empty group to close", "group", client.CloseGroupConnections(ctx, "", nil)},
		{"no groups", "groups", client.AddConnectionsToGroups(ctx, nil, "", nil)},
		{"an empty group among groups", "groups[1]", client.RemoveConnectionsFromGroups(ctx, []string{"a", ""}, "", nil)},
		{"a bulk filter with a line break", "filter", client.AddConnectionsToGroups(ctx, []string{"a"}, "userId eq\n'a'", nil)},
		{"a filter with a control character", "options.Filter", client.SendToAll(ctx, hello, &SendToAllOptions{Filter: "userId eq 'a\x07'"})},
		{"a filter that is not UTF-8", "options.Filter", client.SendToUser(ctx, "u", hello, &SendToUserOptions{Filter: "\xff"})},
		{"a filter with an error from FormatFilter", "options.Filter", client.SendToGroup(ctx, "g", hello, &SendToGroupOptions{Filter: FormatFilter("userId eq %v", 1.5)})},
		{"an empty excluded id", "options.Excluded[1]", client.SendToAll(ctx, hello, &SendToAllOptions{Excluded: []string{"a", ""}})},
		{"an excluded id to close that is empty", "options.Excluded[0]", client.CloseAllConnections(ctx, &CloseAllConnectionsOptions{Excluded: []string{""}})},
		{"a reason that is not UTF-8", "options.Reason", client.CloseConnection(ctx, "id", &CloseConnectionOptions{Reason: "\xff"})},
		{"a TTL under zero", "options.MessageTTL", client.SendToAll(ctx, hello, &SendToAllOptions{MessageTTL: -time.Second})},
		{"a TTL over 300 s", "options.MessageTTL", client.SendToUser(ctx, "u", hello, &SendToUserOptions{MessageTTL: 301 * time.Second})},
		{"a TTL of a second and a half", "options.MessageTTL", client.SendToConnection(ctx, "id", hello, &SendToConnectionOptions{MessageTTL: 1500 * time.Millisecond})},
		{"a metadata key with a space", "options.Metadata[", client.SendToAll(ctx, hello, metadata("a b", "c"))},
		{"an empty metadata key", "options.Metadata[", client.SendToAll(ctx, hello, metadata("", "c"))},
		{"a metadata key of 257 bytes", "options.Metadata[", client.SendToAll(ctx, hello, metadata(strings.Repeat("a", 257), "c"))},
		{"a metadata value with a line break", "options.Metadata[", client.SendToAll(ctx, hello, metadata("a", "b\r\nAuthorization: c"))},
		{"a metadata value that is not ASCII", "options.Metadata[", client.SendToAll(ctx, hello, metadata("a", "é"))},
		{"a metadata value with a space at its end", "options.Metadata[", client.SendToAll(ctx, hello, metadata("a", "b "))},
		{"a metadata value with a comma", "options.Metadata[", client.SendToAll(ctx, hello, metadata("a", "b,c"))},
		{"a metadata value of 1025 bytes", "options.Metadata[", client.SendToAll(ctx, hello, metadata("a", strings.Repeat("b", 1025)))},
		{"metadata keys that differ in case", "options.Metadata[", client.SendToAll(ctx, hello, &SendToAllOptions{Metadata: map[string]string{"a": "1", "A": "2"}})},
		{"the zero message", "message", client.SendToAll(ctx, Message{}, nil)},
		{"JSON that cannot be encoded", "message", client.SendToAll(ctx, JSON(math.Inf(1)), nil)},
		{"JSON that is not UTF-8", "message", client.SendToAll(ctx, JSON(json.RawMessage("\"\xff\"")), nil)},
		{"JSON of a channel", "message", client.SendToGroup(ctx, "g", JSON(make(chan int)), nil)},
		{"text that is not UTF-8", "message", client.SendToUser(ctx, "u", Text("a\xffb"), nil)},
		{"a stream that is a nil pointer", "message", client.SendToAll(ctx, BinaryStream((*strings.Reader)(nil)), nil)},
		{"a nil context for a token", "ctx", second(client.GetClientAccessToken(nilContext, nil))},
		{"a nil stream", "message", client.SendToConnection(ctx, "id", BinaryStream(nil), nil)},
		{"an unknown permission", "permission", client.GrantPermission(ctx, "fly", "id", nil)},
		{"no permission", "permission", second(client.HasPermission(ctx, "", "id", nil))},
		{"a permission for no connection", "connectionID", client.RevokePermission(ctx, PermissionSendToGroup, "", nil)},
		{"a grant without a target", "options.TargetName", client.GrantPermission(ctx, PermissionSendToGroup, "id", nil)},
		{"a revocation without a target", "options.TargetName", client.RevokePermission(ctx, PermissionJoinLeaveGroup, "id", &RevokePermissionOptions{})},
		{"HasPermission without a target", "options.TargetName", second(client.HasPermission(ctx, PermissionSendToGroup, "id", nil))},
		{"a permission's target of white space", "options.TargetName", client.GrantPermission(ctx, PermissionSendToGroup, "id", &GrantPermissionOptions{TargetName: " "})},
		{"a page size of 201", "options.MaxPageSize", list("room", ListConnectionsInGroupOptions{MaxPageSize: 201})},
		{"a page size under zero", "options.MaxPageSize", list("room", ListConnectionsInGroupOptions{MaxPageSize: -1})},
		{"a top under zero", "options.Top", list("room", ListConnectionsInGroupOptions{Top: -1})},
		{"a listing of an empty group", "group", list("", ListConnectionsInGroupOptions{})},
		{"a lifetime under a minute", "options.ExpiresIn", token(ClientAccessTokenOptions{ExpiresIn: 59 * time.Second})},
		{"a lifetime under zero", "options.ExpiresIn", token(ClientAccessTokenOptions{ExpiresIn: -time.Hour})},
		{"a token's empty role", "options.Roles[0]", token(ClientAccessTokenOptions{Roles: []string{""}})},
		{"a token's role for an empty group", "options.Roles[0]", token(ClientAccessTokenOptions{Roles: []string{RoleSendToGroup("")}})},
		{"a token's role for no pattern", "options.Roles[1]", token(ClientAccessTokenOptions{Roles: []string{RoleSendToGroup("v1."), RoleJoinLeaveGroups("")}})},
		{"a token's role in other case", "options.Roles[0]", token(ClientAccessTokenOptions{Roles: []string{"webpubsub.SendToGroup.a"}})},
		{"a token's role without its prefix", "options.Roles[0]", token(ClientAccessTokenOptions{Roles: []string{"sendToGroup.a"}})},
		{"a token's role of a misspelt prefix", "options.Roles[0]", token(ClientAccessTokenOptions{Roles: []string{"webpubsb.joinLeaveGroup"}})},
		{"a token's role that the service does not have", "options.Roles[0]", token(ClientAccessTokenOptions{Roles: []string{"webpubsub.owner"}})},
		{"a token's role for a group of two dots", "options.Roles[0]", token(ClientAccessTokenOptions{Roles: []string{RoleJoinLeaveGroup("..")}})},
		{"a token's empty group", "options.Groups[1]", token(ClientAccessTokenOptions{Groups: []string{"a", ""}})},
		{"a token's user that is not UTF-8", "options.UserID", token(ClientAccessTokenOptions{UserID: "\xff"})},
		{"a token's unknown protocol", "options.Protocol", token(ClientAccessTokenOptions{Protocol: "AMQP"})},
		{"a token's own alg", "options.JWTHeaders", token(ClientAccessTokenOptions{JWTHeaders: map[string]any{"alg": "none"}})},
		{"a token's headers that cannot be encoded", "options.JWTHeaders", token(ClientAccessTokenOptions{JWTHeaders: map[string]any{"kid": make(chan int)}})},
		{"headers for a token that the service makes", "options.JWTHeaders", second(entra.GetClientAccessToken(ctx, &ClientAccessTokenOptions{JWTHeaders: map[string]any{"kid": "a"}}))},
		{"90 seconds for a token that the service makes", "options.ExpiresIn", second(entra.GetClientAccessToken(ctx, &ClientAccessTokenOptions{ExpiresIn: 90 * time.Second}))},
		{"no request", "req", second(client.SendRequest(ctx, nil))},
		{"a request without a URL", "req", second(client.SendRequest(ctx, &http.Request{}))},
		{"a request with a method of two words", "req", second(client.SendRequest(ctx, &http.Request{Method: "GE T", URL: &url.URL{Path: "/api/health"}}))},
		{"a request with a stream of more than 16 MiB", "req", second(client.SendRequest(ctx, httptest.NewRequest("POST", "/api/x", io.LimitReader(zeros{}, maxStreamCopy+1))))},
		{"a request to another host", "req", do("GET", "https://evil.example/api/health")},
		{"a request to a host that begins like the service", "req", do("GET", testEndpoint+".evil.example/api/health")},
		{"a request to another scheme", "req", do("GET", "http://contoso.webpubsub.azure.com/api/health")},
		{"a request with a user", "req", do("GET", "https://u:p@contoso.webpubsub.azure.com/api/health")},
		{"a request to a path with dots", "req", do("GET", "/api/hubs/%2e%2e/health")},
		{"a request with a header name of two words", "req", header(http.Header{"X Name": {"a"}})},
		{"a request with a header without a name", "req", header(http.Header{"": {"a"}})},
		{"a request with a header of two lines", "req", header(http.Header{"X-Name": {"a", "b\r\nAuthorization: c"}})},
		{"a request with a space in its query", "req", second(client.SendRequest(ctx, &http.Request{URL: &url.URL{Path: "/api", RawQuery: "a b"}}))},
		{"a request to a path without a slash", "req", do("GET", "api/health")},
		{"a nil context", "ctx", client.SendToAll(nilContext, hello, nil)},
		{"a nil context to log", "ctx", client.SendToAll(WithLogger(nilContext, nil), hello, nil)},
		{"a zero client", "client", new(ServiceClient).SendToAll(ctx, hello, nil)},
		{"a nil client", "client", (*ServiceClient)(nil).SendToUser(ctx, "u", hello, nil)},
		{"a zero client's token", "client", second(new(ServiceClient).GetClientAccessToken(ctx, nil))},
		{"a zero client's request", "client", second(new(ServiceClient).SendRequest(ctx, httptest.NewRequest("GET", "/", nil)))},
		{"a zero client's listing", "client", second(new(ServiceClient).NewListConnectionsInGroupPager("g", nil).NextPage(ctx))},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.ErrorIs(t, test.err, ErrInvalidArgument)
			require.ErrorContains(t, test.err, "invalid argument "+test.argument)
			require.NotContains(t, test.err.Error(), "\n")
		})
	}
}

func TestTheCauseOfABadMessageIsKept(t *testing.T) {
	client := newRecordingClient(t, nil)
	err := client.SendToAll(context.Background(), JSON(math.NaN()), nil)
	var cause *json.UnsupportedValueError
	require.ErrorAs(t, err, &cause)
}

func TestConstructorsRefuse(t *testing.T) {
	credential := azcore.NewKeyCredential(testKey)
	none := func(_ *ServiceClient, err error) error { return err }
	key := func(endpoint, hub string, o *ClientOptions) error {
		return none(NewClientWithKeyCredential(endpoint, hub, credential, o))
	}
	for _, test := range []struct {
		name  string
		err   error
		words string
	}{
		{"an empty endpoint", key("", "chat", nil), "invalid argument endpoint: is empty"},
		{"an endpoint without a scheme", key("contoso.webpubsub.azure.com", "chat", nil), "endpoint: must begin with https"},
		{"an endpoint without a scheme but a port", key("contoso:8080", "chat", nil), "endpoint: must begin with https"},
		{"an endpoint of another scheme", key("ws://contoso", "chat", nil), "endpoint: must begin with https"},
		{"an endpoint without a host", key("https://", "chat", nil), "endpoint: has no host"},
		{"an endpoint of a port alone", key("https://:80", "chat", nil), "endpoint: has no host"},
		{"an endpoint with a query", key("https://contoso?a=b", "chat", nil), "endpoint: must not have a query"},
		{"an endpoint with an empty query", key("https://contoso?", "chat", nil), "endpoint: must not have a query"},
		{"an endpoint with a fragment", key("https://contoso#", "chat", nil), "endpoint: must not have a fragment"},
		{"an endpoint with a password", key("https://user:SECRETKEY@contoso", "chat", nil), "endpoint: must not contain a user"},
		{"an endpoint with a wrong port", key("https://contoso:65536", "chat", nil), "endpoint: must have a port"},
		{"an endpoint with port 0", key("https://contoso:0", "chat", nil), "endpoint: must have a port"},
		{"an endpoint with a port of letters", key("https://contoso:SECRETKEY", "chat", nil), "endpoint: is not a URL"},
		{"an endpoint with a host that is not ASCII", key("https://bücher.example", "chat", nil), "endpoint: has a host that is not ASCII"},
		{"an endpoint with a zone", key("http://[fe80::1%25eth0]", "chat", nil), "endpoint: must not have a percent escape or an IPv6 zone in its host"},
		{"an empty hub", key(testEndpoint, "", nil), "hub: is empty"},
		{"a hub that begins with a digit", key(testEndpoint, "1a", nil), "hub: must be"},
		{"a hub with a slash", key(testEndpoint, "a/b", nil), "hub: must be"},
		{"a hub with a line break", key(testEndpoint, "a\n", nil), "hub: must be"},
		{"a hub of 129 characters", key(testEndpoint, strings.Repeat("a", 129), nil), "hub: must be"},
		{"a proxy without a scheme", key(testEndpoint, "chat", &ClientOptions{ReverseProxyEndpoint: "proxy"}), "options.ReverseProxyEndpoint: must begin"},
		{"a proxy with a query", key(testEndpoint, "chat", &ClientOptions{ReverseProxyEndpoint: "https://proxy?key=SECRETKEY"}), "options.ReverseProxyEndpoint: must not have a query"},
		{"an endpoint with dots in its path", key("https://contoso/a/%2E%2E/b", "chat", nil), "endpoint: must not have . or .. in its path"},
		{"an application id with a line break", key(testEndpoint, "chat", &ClientOptions{ClientOptions: azcore.ClientOptions{Telemetry: policy.TelemetryOptions{ApplicationID: "a\nb"}}}), "options.Telemetry.ApplicationID"},
		{"an invalid API version", key(testEndpoint, "chat", &ClientOptions{ClientOptions: azcore.ClientOptions{APIVersion: "a&b"}}), "options.APIVersion"},
		{"a nil key credential", none(NewClientWithKeyCredential(testEndpoint, "chat", nil, nil)), "credential: is nil"},
		{"a zero key credential", none(NewClientWithKeyCredential(testEndpoint, "chat", &azcore.KeyCredential{}, nil)), "credential: is nil"},
		{"an empty key", none(NewClientWithKeyCredential(testEndpoint, "chat", azcore.NewKeyCredential(""), nil)), "credential: holds an empty key"},
		{"a nil token credential", none(NewClient(testEndpoint, "chat", nil, nil)), "credential: is nil"},
		{"a token credential that is a nil pointer", none(NewClient(testEndpoint, "chat", (*panickingCredential)(nil), nil)), "credential: is nil"},
		{"a token credential that is a nil function", none(NewClient(testEndpoint, "chat", credentialFunc(nil), nil)), "credential: is nil"},
		{"a token credential over http", none(NewClient("http://contoso", "chat", staticToken("t"), nil)), "endpoint: must be https"},
		{"a token credential over an http proxy", none(NewClient(testEndpoint, "chat", staticToken("t"), &ClientOptions{ReverseProxyEndpoint: "http://proxy"})), "must be https"},
		{"an unknown cloud", none(NewClient(testEndpoint, "chat", staticToken("t"), &ClientOptions{ClientOptions: azcore.ClientOptions{Cloud: cloud.AzureGovernment}})), "options.Cloud"},
		{"an empty connection string", none(NewClientFromConnectionString("", "chat", nil)), "connectionString: is empty"},
		{"a connection string without an endpoint", none(NewClientFromConnectionString("AccessKey=SECRETKEY", "chat", nil)), "connectionString: Endpoint is missing"},
		{"a connection string without a key", none(NewClientFromConnectionString("Endpoint=https://contoso;", "chat", nil)), "connectionString: AccessKey is missing; to authenticate with Microsoft Entra ID, call NewClient"},
		{"a connection string with an empty key", none(NewClientFromConnectionString("Endpoint=https://contoso;AccessKey=", "chat", nil)), "connectionString: AccessKey is empty"},
		{"a key instead of a connection string", none(NewClientFromConnectionString("SECRETKEY", "chat", nil)), "connectionString: part 1 is not name=value"},
		{"a connection string with a path as port", none(NewClientFromConnectionString("Endpoint=https://contoso;AccessKey=SECRETKEY;Port=1/a", "chat", nil)), "connectionString: Port"},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.ErrorIs(t, test.err, ErrInvalidArgument)
			require.ErrorContains(t, test.err, test.words)
			require.NotContains(t, test.err.Error(), "SECRETKEY")
		})
	}
}

type panickingCredential struct{ name string }

func (c *panickingCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: c.name}, nil
}

func TestNothingPrintsASecret(t *testing.T) {
	client := newTestClient(t, testEndpoint, nil)
	access, err := client.GetClientAccessToken(context.Background(), nil)
	require.NoError(t, err)
	parsed, err := ParseConnectionString("Endpoint=" + testEndpoint + ";AccessKey=" + testKey)
	require.NoError(t, err)
	require.Equal(t, testKey, parsed.AccessKey)
	for _, value := range []any{client, access, &access, parsed, &parsed} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			text := fmt.Sprintf(verb, value)
			require.NotContains(t, text, "SECRETKEY", "%T printed by %s", value, verb)
			require.NotContains(t, text, access.Token, "%T printed by %s", value, verb)
		}
	}
	encoded, err := json.Marshal(parsed)
	require.NoError(t, err)
	require.NotContains(t, string(encoded), "SECRETKEY")
	require.Equal(t, "webpubsub.ServiceClient(https://contoso.webpubsub.azure.com, hub chat)", client.String())
}

func TestKeyCredentialUpdateCountsAtOnce(t *testing.T) {
	var token string
	credential := azcore.NewKeyCredential("first")
	client, err := NewClientWithKeyCredential(testEndpoint, "chat", credential, &ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: transportFunc(func(req *http.Request) (*http.Response, error) {
			token = bearer(t, req)
			for name, values := range req.Header {
				require.NotContains(t, strings.Join(values, " "), "first", "header %s", name)
				require.NotContains(t, strings.Join(values, " "), "second", "header %s", name)
			}
			return respond(req, http.StatusAccepted, ""), nil
		})}})
	require.NoError(t, err)
	signedWith := func(token, key string) bool {
		_, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return []byte(key), nil })
		return err == nil
	}
	for _, key := range []string{"first", "second"} {
		credential.Update(key)
		require.NoError(t, client.SendToAll(context.Background(), Text("hello"), nil))
		require.True(t, signedWith(token, key), "a request is signed with the %s key", key)
		access, err := client.GetClientAccessToken(context.Background(), nil)
		require.NoError(t, err)
		require.True(t, signedWith(access.Token, key), "a client token is signed with the %s key", key)
	}
}

func TestTokenScopeFollowsTheCloud(t *testing.T) {
	custom := cloud.Configuration{
		ActiveDirectoryAuthorityHost: "https://login.contoso.example/",
		Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{ServiceName: {Audience: "https://webpubsub.contoso.example/"}},
	}
	for name, test := range map[string]struct {
		cloud cloud.Configuration
		scope string
	}{
		"no cloud": {cloud.Configuration{}, "https://webpubsub.azure.com/.default"},
		"public":   {cloud.AzurePublic, "https://webpubsub.azure.com/.default"},
		"China":    {cloud.AzureChina, "https://webpubsub.azure.cn/.default"},
		"custom":   {custom, "https://webpubsub.contoso.example/.default"},
	} {
		t.Run(name, func(t *testing.T) {
			var scopes []string
			credential := credentialFunc(func(o policy.TokenRequestOptions) { scopes = o.Scopes })
			client, err := NewClient(testEndpoint, "chat", credential, &ClientOptions{ClientOptions: azcore.ClientOptions{
				Cloud:     test.cloud,
				Transport: transportFunc(func(req *http.Request) (*http.Response, error) { return respond(req, 202, ""), nil }),
			}})
			require.NoError(t, err)
			require.NoError(t, client.SendToAll(context.Background(), Text("hello"), nil))
			require.Equal(t, []string{test.scope}, scopes)
		})
	}
}

type credentialFunc func(policy.TokenRequestOptions)

func (f credentialFunc) GetToken(_ context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	f(options)
	return azcore.AccessToken{Token: "token", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestEntraOverRealTLS(t *testing.T) {
	var targets, tokens []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		targets = append(targets, req.Method+" "+req.URL.RequestURI())
		tokens = append(tokens, req.Header.Get("Authorization"))
		if strings.HasSuffix(req.URL.Path, ":generateToken") {
			_, _ = io.WriteString(w, `{"token":"made-by-the-service"}`)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	client, err := NewClient(server.URL, "chat", staticToken("entra"), &ClientOptions{ClientOptions: azcore.ClientOptions{Transport: server.Client()}})
	require.NoError(t, err)

	require.NoError(t, client.SendToAll(context.Background(), Text("hello"), nil))
	access, err := client.GetClientAccessToken(context.Background(), &ClientAccessTokenOptions{UserID: "a b", Roles: []string{"r1", RoleSendToGroup("a b")},
		Groups: []string{"g&1"}, ExpiresIn: 2 * time.Hour, Protocol: ClientProtocolMQTT})
	require.NoError(t, err)

	base := "wss" + strings.TrimPrefix(server.URL, "https") + "/clients/mqtt/hubs/chat"
	require.Equal(t, ClientAccessToken{Token: "made-by-the-service", BaseURL: base, URL: base + "?access_token=made-by-the-service"}, access)
	require.Equal(t, []string{
		"POST /api/hubs/chat/:send?api-version=2024-12-01",
		"POST /api/hubs/chat/:generateToken?api-version=2024-12-01&userId=a%20b&role=r1&role=webpubsub.sendToGroup.a%20b&group=g%261&minutesToExpire=120&clientType=MQTT",
	}, targets)
	require.Equal(t, []string{"Bearer entra", "Bearer entra"}, tokens)
}

func TestEntraOverHTTPOnlyWhenAllowed(t *testing.T) {
	var token string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { token = req.Header.Get("Authorization") }))
	defer server.Close()
	client, err := NewClient(server.URL, "chat", staticToken("entra"), &ClientOptions{ClientOptions: azcore.ClientOptions{InsecureAllowCredentialWithHTTP: true}})
	require.NoError(t, err)
	require.NoError(t, client.SendToAll(context.Background(), Text("hello"), nil))
	require.Equal(t, "Bearer entra", token)
}

func TestAPIVersionOverride(t *testing.T) {
	var targets []string
	client := newTestClient(t, testEndpoint, func(o *ClientOptions) {
		o.APIVersion = "2023-07-01"
		o.Transport = transportFunc(func(req *http.Request) (*http.Response, error) {
			targets = append(targets, req.URL.RequestURI())
			return respond(req, 200, ""), nil
		})
	})
	require.NoError(t, client.GetServiceStatus(context.Background(), nil))
	require.Equal(t, []string{"/api/health?api-version=2023-07-01"}, targets)
}

func TestSendRequest(t *testing.T) {
	type sent struct{ method, target, contentType, accept, own, body string }
	var got []sent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		assert.Len(t, req.Header.Values("Authorization"), 1)
		got = append(got, sent{req.Method, req.URL.RequestURI(), req.Header.Get("Content-Type"), req.Header.Get("Accept"), req.Header.Get("X-Own"), string(body)})
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	}))
	defer server.Close()
	client := newTestClient(t, server.URL, nil)

	for _, target := range []string{server.URL, server.URL + "?a=b"} {
		req, err := http.NewRequest("GET", target, nil)
		require.NoError(t, err)
		_, err = client.SendRequest(context.Background(), req)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"/?api-version=2024-12-01", "/?api-version=2024-12-01&a=b"}, []string{got[0].target, got[1].target})
	got = nil
	for _, target := range []string{"/api/new%2Fthing?a=b%20c", server.URL + "/api/new%2Fthing?a=b%20c"} {
		req, err := http.NewRequest("PATCH", target, strings.NewReader("body"))
		require.NoError(t, err)
		req.Header["content-type"] = []string{"text/x-own"} // not the canonical case
		req.Header.Set("X-Own", "1")
		req.Header.Set("Accept", "text/plain")
		req.Header.Set("Authorization", "Basic mine")
		req.Header["authorization"] = []string{"Basic mine"} // not the canonical case
		resp, err := client.SendRequest(context.Background(), req)
		require.NoError(t, err, "no status is an error")
		require.Equal(t, http.StatusTeapot, resp.StatusCode)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "short and stout", string(body))
		require.Equal(t, "Basic mine", req.Header.Get("Authorization"), "the caller's request is not modified")
	}
	for _, target := range []string{"/api/health?api-version=2021-10-01", "/api/health?API-Version=2021-10-01"} {
		req, err := http.NewRequest("GET", target, nil)
		require.NoError(t, err)
		_, err = client.SendRequest(context.Background(), req)
		require.NoError(t, err)
	}

	patch := sent{"PATCH", "/api/new%2Fthing?api-version=2024-12-01&a=b%20c", "text/x-own", "text/plain", "1", "body"}
	require.Equal(t, []sent{patch, patch, {"GET", "/api/health?api-version=2021-10-01", "", "application/json", "", ""},
		{"GET", "/api/health?API-Version=2021-10-01", "", "application/json", "", ""}}, got)
}

// A RawQuery that was not written by net/url may have characters that are not allowed in a request line.
func TestSendRequestWithAnInvalidQuery(t *testing.T) {
	var targets []string
	client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
		targets = append(targets, req.URL.RequestURI())
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
	})
	send := func(query string) error {
		_, err := client.SendRequest(context.Background(), &http.Request{URL: &url.URL{Path: "/api/health", RawQuery: query}})
		return err
	}
	for _, query := range []string{"a=\r\nX-Own: 1", "a=\x7f", "a=b c"} {
		err := send(query)
		require.ErrorIs(t, err, ErrInvalidArgument)
		require.ErrorContains(t, err, "control character")
	}
	require.Empty(t, targets)
	require.NoError(t, send("a=1#fragment"))
	require.Equal(t, []string{"/api/health?api-version=2024-12-01&a=1"}, targets)
}

func TestReverseProxyGetsTheRequestAndTheServiceTheAudience(t *testing.T) {
	var target string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		target = req.URL.RequestURI()
		claims := jwt.MapClaims{}
		_, _, err := jwt.NewParser().ParseUnverified(bearer(t, req), claims)
		assert.NoError(t, err)
		assert.Equal(t, testEndpoint+"/api/hubs/chat/groups/a%20b/connections?api-version=2024-12-01&continuationToken=next", claims["aud"])
		_, _ = io.WriteString(w, `{"value":[]}`)
	}))
	defer proxy.Close()
	client := newTestClient(t, testEndpoint, func(o *ClientOptions) { o.ReverseProxyEndpoint = proxy.URL + "/apim/" })
	_, err := client.NewListConnectionsInGroupPager("a b", &ListConnectionsInGroupOptions{ContinuationToken: "next"}).NextPage(context.Background())
	require.NoError(t, err)
	require.Equal(t, "/apim/api/hubs/chat/groups/a%20b/connections?api-version=2024-12-01&continuationToken=next", target)
}

func TestAProxyMayBeAPathOfTheServicesOwnHost(t *testing.T) {
	var target string
	client := newTestClient(t, testEndpoint, func(o *ClientOptions) {
		o.ReverseProxyEndpoint = testEndpoint + "/proxy"
		o.Transport = transportFunc(func(req *http.Request) (*http.Response, error) {
			target = req.URL.String()
			return respond(req, 200, ""), nil
		})
	})
	for _, from := range []string{"/api/health", testEndpoint + "/api/health", testEndpoint + "/proxy/api/health"} {
		req, err := http.NewRequest("GET", from, nil)
		require.NoError(t, err)
		_, err = client.SendRequest(context.Background(), req)
		require.NoError(t, err)
		require.Equal(t, testEndpoint+"/proxy/api/health?api-version=2024-12-01", target, "from %s", from)
	}
}

func TestATransportThatIsANilPointerIsIgnored(t *testing.T) {
	client := newTestClient(t, testEndpoint, func(o *ClientOptions) { o.Transport = (*http.Client)(nil) })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, client.SendToAll(ctx, Text("hello"), nil), context.Canceled)
	_, err := client.GetClientAccessToken(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestAResponseWithoutATokenIsAnError(t *testing.T) {
	for _, body := range []string{"", "{}", "null", `{"token":""}`} {
		client, err := NewClient(testEndpoint, "chat", staticToken("token"), &ClientOptions{ClientOptions: azcore.ClientOptions{
			Transport: transportFunc(func(req *http.Request) (*http.Response, error) { return respond(req, 200, body), nil }),
		}})
		require.NoError(t, err)
		_, err = client.GetClientAccessToken(context.Background(), nil)
		require.ErrorContains(t, err, "has no token", "body %q", body)
	}
}

func TestPaging(t *testing.T) {
	pages := []struct{ link, want string }{
		{testEndpoint + "/api/hubs/chat/groups/room/connections?api-version=2024-12-01&continuationToken=p1", "p1"},
		{"/api/hubs/chat/groups/room/connections?continuationToken=p%262", "p&2"},
		{testEndpoint + "/api/hubs/chat/groups/room/connections?continuationToken=p;3", "p;3"},
		{"", ""},
	}
	var targets []string
	client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
		n := len(targets)
		targets = append(targets, req.URL.RequestURI())
		body, err := json.Marshal(map[string]any{"value": []GroupMember{{ConnectionID: fmt.Sprint(n), UserID: "u"}}, "nextLink": pages[n].link})
		return respond(req, 200, string(body)), err
	})
	pager := client.NewListConnectionsInGroupPager("room", &ListConnectionsInGroupOptions{MaxPageSize: 1, Top: 9})
	for i := 0; pager.More(); i++ {
		page, err := pager.NextPage(context.Background())
		require.NoError(t, err)
		require.Equal(t, []GroupMember{{ConnectionID: fmt.Sprint(i), UserID: "u"}}, page.Members)
		require.Equal(t, pages[i].want, page.ContinuationToken)
	}
	require.Equal(t, []string{
		"/api/hubs/chat/groups/room/connections?api-version=2024-12-01&maxpagesize=1&top=9",
		"/api/hubs/chat/groups/room/connections?api-version=2024-12-01&continuationToken=p1",
		"/api/hubs/chat/groups/room/connections?api-version=2024-12-01&continuationToken=p%262",
		"/api/hubs/chat/groups/room/connections?api-version=2024-12-01&continuationToken=p;3",
	}, targets)

	targets = nil
	for _, err := range client.ConnectionsInGroup(context.Background(), "room", nil) {
		require.NoError(t, err)
		break
	}
	require.Len(t, targets, 1, "leaving the loop stops the requests")
}

func TestALinkToAnotherHostIsNotFollowed(t *testing.T) {
	for name, link := range map[string]string{
		"another host":   "https://evil.example/api/hubs/chat/groups/room/connections",
		"another scheme": "http://contoso.webpubsub.azure.com/api/hubs/chat/groups/room/connections",
		"another port":   testEndpoint + ":8443/api/hubs/chat/groups/room/connections",
		"no scheme":      "//evil.example/api",
		"user info":      "https://contoso.webpubsub.azure.com@evil.example/api",
		"not a URL":      "https://%zz",
	} {
		t.Run(name, func(t *testing.T) {
			sent := 0
			client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
				sent++
				body, err := json.Marshal(map[string]any{"value": []GroupMember{{ConnectionID: "c"}}, "nextLink": link})
				return respond(req, 200, string(body)), err
			})
			var members int
			var last error
			for _, err := range client.ConnectionsInGroup(context.Background(), "room", nil) {
				if last = err; err == nil {
					members++
				}
			}
			require.Equal(t, 1, members)
			require.ErrorContains(t, last, "another host")
			require.Equal(t, 1, sent)
		})
	}
}

// FuzzPath checks that a server decodes the path to the expected segments, whatever the names are.
func FuzzPath(f *testing.F) {
	for _, name := range []string{"a", "a/b", "..", "%2e%2e", "a?b#c", "é 日本🎉", "\x00", "a\\b", ";x=1", "+", ":send"} {
		f.Add(name, name)
	}
	f.Fuzz(func(t *testing.T, group, id string) {
		var got *url.URL
		client := newRecordingClient(t, func(req *http.Request) (*http.Response, error) {
			got = req.URL
			return respond(req, 200, ""), nil
		})
		err := client.AddConnectionToGroup(context.Background(), group, id, nil)
		if errors.Is(err, ErrInvalidArgument) {
			require.Nil(t, got)
			return
		}
		require.NoError(t, err)
		require.True(t, utf8.ValidString(group+id))
		// Parse the request line like a server.
		parsed, err := url.ParseRequestURI(got.RequestURI())
		require.NoError(t, err)
		segments := strings.Split(parsed.EscapedPath(), "/")
		for i, segment := range segments {
			segments[i], err = url.PathUnescape(segment)
			require.NoError(t, err)
		}
		require.Equal(t, []string{"", "api", "hubs", "chat", "groups", group, "connections", id}, segments)
		require.Equal(t, "api-version=2024-12-01", parsed.RawQuery)
	})
}

func FuzzConnectionString(f *testing.F) {
	f.Add("Endpoint=https://contoso.webpubsub.azure.com;AccessKey=SECRET;Version=1.0;")
	f.Add("endpoint=http://[::1]:80/a;accesskey=a=b;port=1")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := ParseConnectionString(text)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalidArgument)
			return
		}
		require.NotEmpty(t, parsed.AccessKey)
		u, err := url.Parse(parsed.Endpoint)
		require.NoError(t, err)
		require.Contains(t, []string{"http", "https"}, u.Scheme)
		require.NotEmpty(t, u.Hostname())
		again, err := ParseConnectionString("Endpoint=" + parsed.Endpoint + ";AccessKey=" + parsed.AccessKey)
		require.NoError(t, err)
		require.Equal(t, parsed, again)
	})
}

func TestTheRootCompilesNothingThatItDoesNotUse(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	for _, other := range []string{"websocket", "mqtt", "google.golang.org/protobuf", "azidentity", "testify"} {
		require.NotContains(t, string(out), other)
	}
	for dependency := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(dependency, moduleName+"/") {
			require.Contains(t, dependency, "/internal/")
		}
	}
}
