package emulator_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

func TestABroadcastIsEncodedOnceForEachProtocol(t *testing.T) {
	s := emulator.StartT(t, nil)
	h := s.openHub("chat")
	sockets := map[codecKind][]*socket{}
	add := func(c codec, r *reliable) {
		sock := &socket{server: s, codec: c, reliable: r}
		sock.connection = connection{id: string(rune('a' + len(h.connections))), hub: h, link: sock}
		h.add(&sock.connection, nil, func() {})
		sockets[c.kind()] = append(sockets[c.kind()], sock)
	}
	for range 3 {
		add(rawCodec{}, nil)
		for _, p := range subprotocols {
			if p.reliable {
				add(p.codec, newReliable())
			} else {
				add(p.codec, nil)
			}
		}
	}
	require.Equal(t, 15, h.send(&message{payload: payload{dataType: dataJSON, data: []byte(`{"a":1}`)}}, &target{}))
	require.Len(t, sockets, 3, "raw, JSON and protobuf")
	for _, alike := range sockets {
		first := alike[0].queue[0]
		for _, sock := range alike {
			require.Len(t, sock.queue, 1)
			require.Same(t, first, sock.queue[0])
		}
	}
	m := &message{payload: payload{dataType: dataText, data: []byte("x")}}
	require.Same(t, m.frameFor(mqtt5), m.frameFor(mqtt5))
}
