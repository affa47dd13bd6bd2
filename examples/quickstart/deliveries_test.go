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

// proxyToken is what a proxy that sends a request elsewhere authenticates with.
const proxyToken = "the proxy's"

// request is what a proxy does to a request on its way to the service.
type request struct {
	path   string // empty leaves it
	body   string // empty leaves it
	answer int    // if it is not 0, the request ends here, with this status
}

// meddle lets the quickstart run on a service behind a proxy that changes the sends to paths that contain path.
func meddle(t *testing.T, path string, change func(*request)) {
	t.Helper()
	service := emulator.StartT(t, &emulator.Options{AcceptBearer: func(token string) bool { return token == proxyToken }})
	target, err := url.Parse(service.Endpoint())
	require.NoError(t, err)
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var meddled request
		if strings.Contains(r.URL.Path, path) && strings.HasSuffix(r.URL.Path, ":send") {
			change(&meddled)
		}
		if meddled.answer != 0 {
			w.WriteHeader(meddled.answer)
			return
		}
		if meddled.path != "" {
			r.URL.Path = meddled.path
			r.Header.Set("Authorization", "Bearer "+proxyToken)
		}
		if meddled.body != "" {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(meddled.body)), int64(len(meddled.body))
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	t.Setenv("WEBPUBSUB_CONNECTION_STRING", strings.Replace(service.ConnectionString(), service.Endpoint(), proxy.URL, 1))
}

func TestDeliveriesFailWhenAMessageIsChangedOnItsWay(t *testing.T) {
	meddle(t, "/users/bob-", func(r *request) { r.body = "[1,2,4]" })
	require.ErrorContains(t, run(t.Context()), `bob received "[1,2,4]", not "[1,2,3]"`)
}

func TestDeliveriesFailWhenAMessageReachesThoseWhoAreNotMeant(t *testing.T) {
	meddle(t, "/users/bob-", func(r *request) { r.path = "/api/hubs/quickstart/:send" })
	require.ErrorContains(t, run(t.Context()), `received "[1,2,3]", not "fence"`)
}
