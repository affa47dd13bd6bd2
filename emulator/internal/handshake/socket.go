package handshake

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// maxCloseReason is what fits into a close frame, in bytes.
const maxCloseReason = 123

// CloseSocket sends a close frame, waits for the answer, which somebody else may read, and closes the connection.
func CloseSocket(ws *websocket.Conn, nc *wire.Conn, code int, reason string) {
	nc.StartClosing()
	reason = text.Shorten(strings.ToValidUTF8(reason, "\uFFFD"), maxCloseReason)
	ws.Close(websocket.StatusCode(code), reason) // a client that does not answer has gone
	nc.Close()
}

// Pong is the WebSocket frame that answers a ping. It may be written to the connection between two messages.
func Pong(payload []byte) []byte {
	return append([]byte{0x8A, byte(len(payload))}, payload...) // a control frame has 125 bytes at most
}

// BrokeProtocol reports whether a socket could not be read any more because the client's frames are not those of a
// WebSocket, rather than because the connection is gone.
func BrokeProtocol(err error) bool {
	_, closed := errors.AsType[websocket.CloseError](err)
	_, network := errors.AsType[net.Error](err)
	return !closed && !network && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) &&
		!errors.Is(err, io.ErrClosedPipe)
}

// LostReason returns why a socket could not be read any more.
func LostReason(err error) string {
	if ce, ok := errors.AsType[websocket.CloseError](err); ok {
		return strings.TrimSpace(fmt.Sprintf("the client closed the connection: %d %s", ce.Code, ce.Reason))
	}
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return fmt.Sprintf("the client sent a message of more than %d bytes", hub.MaxMessageSize)
	}
	return "the connection was lost"
}
