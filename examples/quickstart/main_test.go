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

func TestQuickstartOnTheEmulatorInProcess(t *testing.T) {
	t.Setenv("WEBPUBSUB_CONNECTION_STRING", "")
	require.NoError(t, run(t.Context()))
}

func TestQuickstartOnAServiceThatAConnectionStringNames(t *testing.T) {
	t.Setenv("WEBPUBSUB_CONNECTION_STRING", emulator.StartT(t, nil).ConnectionString())
	require.NoError(t, run(t.Context()))
	require.NoError(t, run(t.Context()), "and again, on the same hub")
}

func TestQuickstartFailsWhenAMessageGoesWrong(t *testing.T) {
	for name, test := range map[string]struct {
		meddle func(*http.Request) // with the message to bob
		want   string
	}{
		"changed on its way": {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("[1,2,4]")) }, `bob received "[1,2,4]", not "[1,2,3]"`},
		"to those who are not meant": {func(r *http.Request) {
			r.URL.Path = "/api/hubs/quickstart/:send"
			r.Header.Set("Authorization", "Bearer the proxy's")
		}, `received "[1,2,3]", not "fence"`},
	} {
		t.Run(name, func(t *testing.T) {
			service := emulator.StartT(t, &emulator.Options{AcceptBearer: func(token string) bool { return token == "the proxy's" }})
			target, err := url.Parse(service.Endpoint())
			require.NoError(t, err)
			proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Host = r.In.Host
				if strings.Contains(r.Out.URL.Path, "/users/bob-") && strings.HasSuffix(r.Out.URL.Path, "/:send") {
					test.meddle(r.Out)
				}
			}})
			defer proxy.Close()
			t.Setenv("WEBPUBSUB_CONNECTION_STRING", strings.Replace(service.ConnectionString(), service.Endpoint(), proxy.URL, 1))
			require.ErrorContains(t, run(t.Context()), test.want)
		})
	}
}
