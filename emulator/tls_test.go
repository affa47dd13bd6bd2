package emulator_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/wsclient"
)

func TestTLSWithAGeneratedCertificate(t *testing.T) {
	srv := emulator.StartT(t, &emulator.Options{TLS: true})
	require.Regexp(t, "^https://127.0.0.1:", srv.Endpoint())
	client, err := webpubsub.NewClientFromConnectionString(srv.ConnectionString(), "chat",
		&webpubsub.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: srv.HTTPClient()}})
	require.NoError(t, err)
	conn, err := wsclient.Dial(t.Context(), func(ctx context.Context) (string, error) {
		access, err := client.GetClientAccessToken(ctx, nil)
		return access.URL, err
	}, &wsclient.Options{HTTPClient: srv.HTTPClient()})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, client.SendToAll(t.Context(), webpubsub.Text("hi"), nil))
	m, err := conn.Receive(t.Context())
	require.NoError(t, err)
	require.Equal(t, "hi", m.Text())

	other, err := tls.Dial("tcp", strings.TrimPrefix(srv.Endpoint(), "https://"), srv.HTTPClient().Transport.(*http.Transport).TLSClientConfig)
	require.NoError(t, err, "another client trusts the certificate with the configuration of HTTPClient")
	require.NoError(t, other.Close())

	_, err = http.Get(srv.Endpoint() + "/api/health")
	var unknown *tls.CertificateVerificationError
	require.ErrorAs(t, err, &unknown, "other clients do not trust the certificate")

	_, err = emulator.Start(&emulator.Options{TLS: true, TLSConfig: &tls.Config{}})
	require.EqualError(t, err, "emulator: Options.TLS and Options.TLSConfig are both set")
}

func TestTheHTTPClientOfAServerWithoutTLS(t *testing.T) {
	srv := emulator.StartT(t, nil)
	resp, err := srv.HTTPClient().Head(srv.Endpoint() + "/api/health")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
}
