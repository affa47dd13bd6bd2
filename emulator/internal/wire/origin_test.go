package wire

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheLocalAddressOfARequestIsAnOwnHost(t *testing.T) {
	for host, own := range map[string]bool{
		"192.0.2.7:8080": true, "192.0.2.7": true, "192.0.2.8:8080": false, "machine.example:8080": false, "": false, "[": false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		addr := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[::ffff:192.0.2.7]:8080"))
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, addr))
		require.Equal(t, own, OwnHost(r), host)
	}
}
