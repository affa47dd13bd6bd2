package handshake

import (
	"errors"
	"fmt"
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
	_ = ws.Close(websocket.StatusCode(code), reason) // a client that does not answer has gone
	nc.Close()
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
