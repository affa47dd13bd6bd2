package hub

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// counting is an encoder that counts the messages it encodes.
type counting struct {
	encoding Encoding
	encoded  *int
}

func (c counting) Encoding() Encoding { return c.encoding }
func (c counting) Encode(m *Message) *Frame {
	*c.encoded++
	return &Frame{Data: append([]byte{byte(c.encoding)}, m.Data...)}
}

func TestAMessageIsEncodedOnceForEachEncoding(t *testing.T) {
	var encoded int
	m := &Message{Payload: Payload{Type: DataText, Data: []byte("x")}}
	first := m.FrameFor(counting{0, &encoded})
	require.Same(t, first, m.FrameFor(counting{0, &encoded}))
	other := m.FrameFor(counting{MaxEncodings - 1, &encoded})
	require.NotEqual(t, first.Data, other.Data)
	require.Same(t, other, m.FrameFor(counting{MaxEncodings - 1, &encoded}))
	require.Equal(t, 2, encoded)
}
