package client

import (
	"math"
	"net"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

func TestAConnectionIsDroppedBeforeItsHandshakeIsThrough(t *testing.T) {
	s := &socket{}
	s.Drop()
	local, remote := net.Pipe()
	defer remote.Close()
	s.open(&websocket.Conn{}, &wire.Conn{Conn: local})
	_, err := remote.Write([]byte{0})
	require.Error(t, err, "the connection is open")
}

func TestIDSet(t *testing.T) {
	var s idSet
	for _, id := range []uint64{5, 6, 7, 9, 8, 3, 4, 0, math.MaxUint64, 10} {
		require.True(t, s.add(id), id)
		require.False(t, s.add(id), id)
	}
	for id := range uint64(12) {
		require.Equal(t, id == 1 || id == 2 || id == 11, s.add(id), id)
	}
	var top idSet
	for _, id := range []uint64{math.MaxUint64, math.MaxUint64 - 1, math.MaxUint64 - 2} {
		require.True(t, top.add(id), id)
	}
	for _, id := range []uint64{math.MaxUint64, math.MaxUint64 - 1, math.MaxUint64 - 2} {
		require.False(t, top.add(id), id)
	}
	var run idSet
	for id := range uint64(100_000) {
		run.add(id)
	}
	require.Empty(t, run.others, "ids in a row take no room")
}
