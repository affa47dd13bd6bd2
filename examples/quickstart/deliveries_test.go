package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/stretchr/testify/require"
)

// proxyToken authenticates requests that the proxy sends to another path.
const proxyToken = "the proxy's"

// rewrite describes how the proxy changes a request on its way to the service.
type rewrite struct {
	path   string // the new path, unless empty
	body   string // the new body, unless empty
	status int    // if it is not 0, the proxy responds with this status and does not forward the request
}

// useProxy sets WEBPUBSUB_CONNECTION_STRING to a service behind a proxy. The proxy changes send requests to paths that
// contain path.
func useProxy(t *testing.T, path string, change func(*rewrite)) {
	t.Helper()
	service := emulator.StartT(t, &emulator.Options{AcceptBearer: func(token string) bool { return token == proxyToken }})
	target, err := url.Parse(service.Endpoint())
	require.NoError(t, err)
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var changed rewrite
		if strings.Contains(r.URL.Path, path) && strings.HasSuffix(r.URL.Path, ":send") {
			change(&changed)
		}
		if changed.status != 0 {
			w.WriteHeader(changed.status)
			return
		}
		if changed.path != "" {
			r.URL.Path = changed.path
			r.Header.Set("Authorization", "Bearer "+proxyToken)
		}
		if changed.body != "" {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(changed.body)), int64(len(changed.body))
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	t.Setenv("WEBPUBSUB_CONNECTION_STRING", strings.Replace(service.ConnectionString(), service.Endpoint(), proxy.URL, 1))
}

func TestDeliveriesFailWhenAMessageIsChangedOnItsWay(t *testing.T) {
	useProxy(t, "/users/bob-", func(r *rewrite) { r.body = "[1,2,4]" })
	require.ErrorContains(t, run(t.Context()), `bob received "[1,2,4]", not "[1,2,3]"`)
}

func TestDeliveriesFailWhenAMessageReachesThoseWhoAreNotMeant(t *testing.T) {
	useProxy(t, "/users/bob-", func(r *rewrite) { r.path = "/api/hubs/quickstart/:send" })
	require.ErrorContains(t, run(t.Context()), `received "[1,2,3]", not "fence"`)
}
