package wsclient

import (
	"context"
	"io"
	"net"
	"sync"

	"github.com/coder/websocket"
)

// hasCloseCodes reports whether the WebSocket library returns the code of the service's close frame.
const hasCloseCodes = false

// closeAbruptly is the close code in place of a connection that just breaks. A browser refuses all codes except 1000 and
// those from 3000 to 4999. Only 1000 ends the session.
const closeAbruptly websocket.StatusCode = 4000

// dialWebSocket makes a WebSocket connection with the browser's API. That API cannot add headers, report the status of
// a failed handshake, or close a connection without a close frame.
func dialWebSocket(ctx context.Context, target string, o *Options) (socket, func(), error) {
	type result struct {
		ws  *websocket.Conn
		err error
	}
	dialed := make(chan result, 1)
	go func() { // without ctx, because the library does not close a connection that opens after ctx has ended
		ws, _, err := websocket.Dial(context.Background(), target, &websocket.DialOptions{Subprotocols: []string{o.Protocol.String()}})
		dialed <- result{ws, err}
	}()
	select {
	case r := <-dialed:
		if r.err != nil {
			return nil, nil, redactError(withoutURL(r.err), target)
		}
		ws := &browserSocket{Conn: r.ws, cut: make(chan struct{})}
		return ws, sync.OnceFunc(func() {
			close(ws.cut)
			go r.ws.Close(closeAbruptly, "")
		}), nil
	case <-ctx.Done():
		go func() {
			if r := <-dialed; r.err == nil {
				r.ws.Close(closeAbruptly, "")
			}
		}()
		return nil, nil, ctx.Err()
	}
}

// browserSocket stops its reader and Close at once when the link cuts it. The browser would wait for the service's close
// frame, and one that does not time out would wait forever.
type browserSocket struct {
	*websocket.Conn
	cut chan struct{}
}

func (s *browserSocket) Reader(ctx context.Context) (websocket.MessageType, io.Reader, error) {
	type result struct {
		typ websocket.MessageType
		r   io.Reader
		err error
	}
	read := make(chan result, 1)
	go func() {
		typ, r, err := s.Conn.Reader(ctx)
		read <- result{typ, r, err}
	}()
	select {
	case got := <-read:
		return got.typ, got.r, got.err
	case <-s.cut:
		return 0, nil, net.ErrClosed
	}
}

func (s *browserSocket) Close(code websocket.StatusCode, reason string) error {
	closed := make(chan error, 1)
	go func() { closed <- s.Conn.Close(code, reason) }()
	select {
	case err := <-closed:
		return err
	case <-s.cut:
		return net.ErrClosed
	}
}
