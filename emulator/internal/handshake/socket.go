package handshake

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// maxCloseReason is the maximum length of the reason in a close frame, in bytes.
const maxCloseReason = 123

// CloseSocket sends a close frame, waits for the client's close frame, and closes the connection. Another goroutine may read
// the socket meanwhile. CloseSocket shortens the reason if necessary.
func CloseSocket(ws *websocket.Conn, nc *wire.Conn, code int, reason string) {
	nc.StartClosing()
	reason = text.Shorten(strings.ToValidUTF8(reason, "\uFFFD"), maxCloseReason)
	ws.Close(websocket.StatusCode(code), reason) // an error means that the client is gone
	nc.Close()
}

// Pong returns the WebSocket frame that responds to a ping. It may be written to the connection between two messages.
func Pong(payload []byte) []byte {
	return append([]byte{0x8A, byte(len(payload))}, payload...) // a control frame's payload has at most 125 bytes
}

// Pongs holds the responses to WebSocket pings that wait to be written.
type Pongs [][]byte

// maxPongs is the maximum number of pongs that wait to be written. The oldest are dropped first, as WebSocket allows.
const maxPongs = 16

// Add adds the pong for a ping.
func (p *Pongs) Add(payload []byte) {
	if len(*p) == maxPongs {
		*p = (*p)[1:]
	}
	*p = append(*p, Pong(payload))
}

// Take removes all pongs and returns them in one piece, or nil if there are none.
func (p *Pongs) Take() []byte {
	all := slices.Concat(*p...)
	*p = nil
	return all
}

// BrokeProtocol reports whether reading a socket failed because the client broke the WebSocket protocol, rather than because
// the connection is gone.
func BrokeProtocol(err error) bool {
	_, closed := errors.AsType[websocket.CloseError](err)
	_, network := errors.AsType[net.Error](err)
	return !closed && !network && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) &&
		!errors.Is(err, io.ErrClosedPipe)
}

// LostReason describes, for people, why reading a socket failed.
func LostReason(err error) string {
	if ce, ok := errors.AsType[websocket.CloseError](err); ok {
		return strings.TrimSpace(fmt.Sprintf("the client closed the connection: %d %s", ce.Code, ce.Reason))
	}
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return fmt.Sprintf("the client sent a message of more than %d bytes", hub.MaxMessageSize)
	}
	return "the connection was lost"
}
