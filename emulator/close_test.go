package emulator_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestCloseDoesNotWaitForConnectionsWithoutARequest(t *testing.T) {
	srv, err := emulator.Start(nil)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", host(srv))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, waitFor(srv, func() bool {
		srv.mu.Lock()
		defer srv.mu.Unlock()
		return len(srv.unused) == 1
	}))
	require.NoError(t, srv.Close())
	_, err = conn.Read(make([]byte, 1)) // cut before net/http would have
	require.Error(t, err)
	require.Empty(t, srv.unused)
}

// waitFor waits for something that the notifier does not tell of.
func waitFor(_ *emulator.Server, done func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for ticker := time.NewTicker(time.Millisecond); !done(); {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func TestAConnectionIsDroppedBeforeItsHandshakeIsThrough(t *testing.T) {
	s := &socket{}
	s.drop()
	local, remote := net.Pipe()
	defer remote.Close()
	s.open(&websocket.Conn{}, &netConn{Conn: local})
	_, err := remote.Write([]byte{0})
	require.Error(t, err, "the connection is open")
}

func TestOptionsThatAreWrong(t *testing.T) {
	for name, options := range map[string]emulator.Options{
		"a key with a semicolon":           {AccessKey: "a;b"},
		"a key with a line break":          {AccessKey: "a\nb"},
		"a second key of blanks":           {SecondaryAccessKey: "  "},
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

func TestARevokedGroupFreesItsPlaceUnlessAPatternAllowsIt(t *testing.T) {
	p, err := newPermissions([]string{"webpubsub.sendToGroups.x*"})
	require.NoError(t, err)
	require.NoError(t, p.grant(permissionSendToGroup, "g"))
	require.NoError(t, p.revoke(permissionSendToGroup, "g"))
	require.NoError(t, p.revoke(permissionSendToGroup, "x1"))
	require.False(t, p.allows(permissionSendToGroup, "g"))
	require.False(t, p.allows(permissionSendToGroup, "x1"))
	require.Equal(t, map[string]bool{"x1": false}, p[permissionSendToGroup].groups)
}
