package handshake

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

func TestBrokeProtocol(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		broke bool
	}{
		"a close frame":             {websocket.CloseError{Code: 1001}, false},
		"the end of the connection": {io.EOF, false},
		"half a frame":              {io.ErrUnexpectedEOF, false},
		"a reset":                   {&net.OpError{Op: "read", Err: os.NewSyscallError("read", errors.New("reset"))}, false},
		"a deadline":                {os.ErrDeadlineExceeded, false},
		"closed by the server":      {net.ErrClosed, false},
		"an unknown opcode":         {errors.New("received unknown opcode 3"), true},
	} {
		require.Equal(t, test.broke, BrokeProtocol(fmt.Errorf("failed to get reader: %w", test.err)), name)
	}
}

func TestAPongIsAFrame(t *testing.T) {
	require.Equal(t, []byte{0x8A, 2, 'h', 'i'}, Pong([]byte("hi")))
	require.Equal(t, []byte{0x8A, 0}, Pong(nil))
}
