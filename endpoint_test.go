package webpubsub

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/require"
)

// neighbours are URLs that resemble those of the service at http://HOST/webpubsub but do not belong to the service.
// PORT is another port of the same host.
var neighbours = map[string]string{
	"another path":                           "http://HOST/other-api/x",
	"the root":                               "http://HOST/",
	"a path that begins like the service's":  "http://HOST/webpubsub-other/x",
	"a path in other case":                   "http://HOST/WebPubSub/x",
	"a path with an escape for a letter":     "http://HOST/%77ebpubsub/x",
	"dot segments":                           "http://HOST/webpubsub/../other-api/x",
	"dot segments at the end":                "http://HOST/webpubsub/..",
	"encoded dot segments":                   "http://HOST/webpubsub/%2e%2e/other-api/x",
	"half encoded dot segments":              "http://HOST/webpubsub/.%2E/other-api/x",
	"dot segments encoded twice":             "http://HOST/webpubsub/%252e%252e/other-api/x",
	"dot segments behind an encoded slash":   "http://HOST/webpubsub/x%2f..%2f..%2fother-api/x",
	"dot segments behind a backslash":        `http://HOST/webpubsub/..\other-api/x`,
	"dot segments and encoded backslashes":   "http://HOST/webpubsub/..%5cother-api/x",
	"dot segments with parameters":           "http://HOST/webpubsub/..;a=b/other-api/x",
	"dot segments with encoded parameters":   "http://HOST/webpubsub/..%3Ba/other-api/x",
	"another port":                           "http://127.0.0.1:PORT/webpubsub/x",
	"another scheme":                         "https://HOST/webpubsub/x",
	"no scheme":                              "//127.0.0.1:PORT/webpubsub/x",
	"user info":                              "http://user@HOST/webpubsub/x",
	"user info that is the service":          "http://HOST@127.0.0.1:PORT/webpubsub/x",
	"another name of the host":               "http://localhost:PORT/webpubsub/x",
	"a host that ends in a dot":              "http://127.0.0.1.:PORT/webpubsub/x",
	"upper case, another port":               "HTTP://127.0.0.1:PORT/webpubsub/x",
	"upper case, another path":               "HTTP://HOST/OTHER-API/x",
	"an opaque URL":                          "http:webpubsub/x",
	"a script":                               "javascript:x",
	"a slash too many before the other path": "http://HOST//other-api/x",
}

// TestNothingLeaksToANeighbour uses each neighbour as the target of a redirect, of a next-page link and of a caller's
// request. It checks that no neighbour receives a request.
func TestNothingLeaksToANeighbour(t *testing.T) {
	var mu sync.Mutex
	var leaked []string
	location := ""
	collect := func(req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		mu.Lock()
		defer mu.Unlock()
		leaked = append(leaked, fmt.Sprintf("%s %s%s, Authorization %q, body %q", req.Method, req.Host, req.RequestURI, req.Header.Get("Authorization"), body))
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { collect(req) }))
	defer elsewhere.Close()
	// The service itself has two URLs. A request to any other URL is a leak.
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.RequestURI {
		case "/webpubsub/api/hubs/chat/:send?api-version=2024-12-01":
			w.Header()["Location"] = []string{location}
			w.WriteHeader(http.StatusTemporaryRedirect)
		case "/webpubsub/api/hubs/chat/groups/g/connections?api-version=2024-12-01":
			_ = json.NewEncoder(w).Encode(map[string]any{"value": []any{}, "nextLink": location})
		default:
			collect(req)
		}
	}))
	defer host.Close()
	for kind, options := range map[string]*ClientOptions{
		"a service with a path":        {},
		"a proxy with a path":          {ReverseProxyEndpoint: host.URL + "/webpubsub"},
		"an http.Client of the caller": {ClientOptions: azcore.ClientOptions{Transport: host.Client()}},
	} {
		endpoint := host.URL + "/webpubsub"
		if options.ReverseProxyEndpoint != "" {
			endpoint = "https://name.webpubsub.azure.com"
		}
		options.InsecureAllowCredentialWithHTTP = true
		options.Retry.MaxRetries = -1
		client, err := NewClient(endpoint, "chat", staticToken("the-token-of-entra"), options)
		require.NoError(t, err)
		for name, neighbour := range neighbours {
			t.Run(kind+"/"+name, func(t *testing.T) {
				location = strings.ReplaceAll(neighbour, "HOST", strings.TrimPrefix(host.URL, "http://"))
				location = strings.ReplaceAll(location, "PORT", elsewhere.URL[strings.LastIndexByte(elsewhere.URL, ':')+1:])
				require.ErrorContains(t, client.SendToAll(t.Context(), Text("for the service only"), nil), "307")
				for _, err := range client.ConnectionsInGroup(t.Context(), "g", nil) {
					require.ErrorContains(t, err, "next page is not followed")
				}
				u, err := url.Parse(location)
				if err != nil {
					return // a caller cannot send a request to it
				}
				_, err = client.SendRequest(t.Context(), &http.Request{Method: "POST", URL: u, Body: io.NopCloser(strings.NewReader("body"))})
				require.ErrorIs(t, err, ErrInvalidArgument)
			})
		}
	}
	require.Empty(t, leaked)
}

func TestWhatBelongsToTheServiceIsReached(t *testing.T) {
	e, err := newEndpoint("test", "https://name.webpubsub.azure.com", "http://proxy.example:80/apim/")
	require.NoError(t, err)
	for text, want := range map[string]string{
		"/api/x?a=b":                                  "/api/x?a=b",
		"https://name.webpubsub.azure.com":            "/",
		"HTTPS://NAME.webpubsub.azure.com:443/api/x":  "/api/x",
		"https://name.webpubsub.azure.com?a=b":        "/?a=b",
		"http://PROXY.example/apim/api/x":             "/api/x",
		"http://proxy.example:80/apim":                "/",
		"/api/hubs/h/groups/a%2Fb/connections":        "/api/hubs/h/groups/a%2Fb/connections",
		"/api/hubs/h/groups/.../connections":          "/api/hubs/h/groups/.../connections",
		"/api/hubs/h/groups/..a%252Fb/connections?%2": "/api/hubs/h/groups/..a%252Fb/connections?%2",
		"//":                               "",
		"http://proxy.example/apimx":       "",
		"http://proxy.example/":            "",
		"https://proxy.example/apim/api/x": "",
		"https://name.webpubsub.azure.com:8443/api/x": "",
	} {
		u, err := url.Parse(text)
		require.NoError(t, err)
		target, ok := e.within(u)
		require.Equal(t, want != "", ok, text)
		if ok {
			require.Equal(t, want, target, text)
		}
	}
}

// FuzzWithin checks that a URL that belongs to the service stays below the service's path, however often a server in
// between decodes it.
func FuzzWithin(f *testing.F) {
	for _, u := range neighbours {
		f.Add(strings.NewReplacer("HOST", "host", "PORT", "1").Replace(u))
	}
	e, err := newEndpoint("test", "http://host/webpubsub", "")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.Parse(text)
		if err != nil {
			return
		}
		target, ok := e.within(u)
		if !ok {
			return
		}
		sent, err := url.Parse(e.target + target)
		require.NoError(t, err)
		require.Equal(t, "host", sent.Host)
		path := sent.EscapedPath()
		for range 4 {
			resolved := (&url.URL{Scheme: "http", Host: "host", Path: path}).JoinPath().Path
			require.True(t, resolved == "/webpubsub" || strings.HasPrefix(resolved, "/webpubsub/"), "%q becomes %q", text, resolved)
			if path, err = url.PathUnescape(path); err != nil {
				return
			}
		}
	})
}
