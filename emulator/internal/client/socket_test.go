package client

import (
	"math"
	"net"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

func TestAConnectionIsDroppedBeforeItsHandshakeIsComplete(t *testing.T) {
	s := &socket{}
	s.Drop()
	local, remote := net.Pipe()
	defer remote.Close()
	s.setSocket(&websocket.Conn{}, &wire.Conn{Conn: local})
	_, err := remote.Write([]byte{0})
	require.Error(t, err, "the network connection must be closed")
}

func TestTheLastThousandAckIDsAreRemembered(t *testing.T) {
	var r recentIDs
	require.False(t, r.has(0))
	for id := range uint64(maxRemembered) {
		r.add(id)
		r.add(id)
	}
	r.add(math.MaxUint64)
	require.False(t, r.has(0))
	require.True(t, r.has(1))
	require.True(t, r.has(math.MaxUint64))
	for id := range uint64(5 * maxRemembered) {
		r.add(id)
	}
	require.Len(t, r.set, maxRemembered)
	require.False(t, r.has(4*maxRemembered-1))
	require.True(t, r.has(4*maxRemembered))
}

func TestConnectionIDs(t *testing.T) {
	id := newConnectionID()
	require.Regexp(t, `^[A-Za-z0-9_-]{31}$`, id)
	require.NotEqual(t, id, newConnectionID())
}
