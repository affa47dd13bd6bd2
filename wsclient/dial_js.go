package wsclient

import (
	"context"

	"github.com/coder/websocket"
)

// dialWebSocket makes a WebSocket connection with the browser's API. That API cannot add headers, report the status of
// a failed handshake, or close a connection without a close frame.
func dialWebSocket(ctx context.Context, target string, o *Options) (*websocket.Conn, func(), error) {
	ws, _, err := websocket.Dial(ctx, target, &websocket.DialOptions{Subprotocols: []string{o.Protocol.String()}})
	if err != nil {
		return nil, nil, redactError(withoutURL(err), target)
	}
	return ws, func() { go ws.CloseNow() }, nil
}
