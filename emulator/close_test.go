package emulator_test

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestCloseDoesNotWaitForConnectionsWithoutARequest(t *testing.T) {
	srv, err := emulator.Start(nil)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", host(srv))
	require.NoError(t, err)
	defer conn.Close()
	ask(t, "HEAD", srv.Endpoint()+"/api/health") // by now the server has accepted the connection
	require.NoError(t, srv.Close())
	_, err = conn.Read(make([]byte, 1)) // net/http alone would have waited longer
	require.Error(t, err)
}

func TestInvalidOptions(t *testing.T) {
	for name, options := range map[string]emulator.Options{
		"a key with a semicolon":           {AccessKey: "a;b"},
		"a key with a line break":          {AccessKey: "a\nb"},
		"a secondary key of blanks":        {SecondaryAccessKey: "  "},
		"a hub twice, in different case":   {Hubs: map[string]emulator.HubSettings{"chat": {}, "CHAT": {}}},
		"a TLS config without certificate": {TLSConfig: &tls.Config{}},
	} {
		t.Run(name, func(t *testing.T) {
			srv, err := emulator.Start(&options)
			if err == nil {
				srv.Close()
			}
			require.ErrorContains(t, err, "emulator: Options.")
		})
	}
}
