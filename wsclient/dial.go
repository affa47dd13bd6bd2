//go:build !js

package wsclient

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/internal/redact"
)

// hasCloseCodes reports whether the WebSocket library returns the code of the service's close frame.
const hasCloseCodes = true

// dialWebSocket makes a WebSocket connection. The returned function closes the socket immediately, without a close
// frame.
func dialWebSocket(ctx context.Context, target string, o *Options) (socket, func(), error) {
	client := *o.HTTPClient
	socket := &socketKeeper{next: client.Transport}
	if socket.next == nil {
		socket.next = http.DefaultTransport
	}
	client.Transport = socket
	if client.CheckRedirect == nil {
		// Browsers do not follow redirects of a handshake either. The other URL would receive the headers and, as the
		// Referer, the tokens.
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	ws, resp, err := websocket.Dial(ctx, target, &websocket.DialOptions{
		HTTPClient:   &client,
		HTTPHeader:   o.Header,
		Subprotocols: []string{o.Protocol.String()},
	})
	if err == nil {
		return fragmentWriter{ws}, func() { socket.body.Close() }, nil
	}
	if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, nil, &HandshakeError{StatusCode: resp.StatusCode, Body: readBody(resp, target),
			retryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	}
	return nil, nil, redactError(withoutURL(err), target)
}

// socketKeeper keeps the socket of a handshake. Closing the socket is the only way to stop the WebSocket library's
// Close while it waits for the peer.
type socketKeeper struct {
	next http.RoundTripper
	body io.Closer
}

func (k *socketKeeper) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := k.next.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		if body, ok := resp.Body.(io.ReadWriteCloser); ok {
			resp.Body = socketBody{body}
		}
		k.body = resp.Body
	}
	return resp, err
}

// socketBody is the socket of a WebSocket connection. At its end, Read returns io.ErrUnexpectedEOF, because the WebSocket
// library takes io.EOF within a frame for the end of the message, and would return the beginning as a whole message.
type socketBody struct{ io.ReadWriteCloser }

func (b socketBody) Read(p []byte) (int, error) {
	n, err := b.ReadWriteCloser.Read(p)
	if err == io.EOF { //nolint:errorlint // a Reader returns io.EOF itself
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// fragmentSize is the maximum size of a WebSocket frame that this package sends.
const fragmentSize = 64 << 10

// fragmentWriter writes large messages in fragments. The WebSocket library responds to a ping between two fragments. Behind a
// large frame on a slow network, the response would time out after 5 seconds, which ends the connection.
type fragmentWriter struct{ *websocket.Conn }

func (f fragmentWriter) Write(ctx context.Context, typ websocket.MessageType, p []byte) error {
	if len(p) <= fragmentSize {
		return f.Conn.Write(ctx, typ, p)
	}
	w, err := f.Writer(ctx, typ)
	if err != nil {
		return err
	}
	for fragment := range slices.Chunk(p, fragmentSize) {
		if _, err := w.Write(fragment); err != nil {
			return err
		}
	}
	return w.Close()
}

// retryAfter returns the delay in a Retry-After header: a number of seconds, or a date. It returns 0 for anything else.
func retryAfter(header string) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(header); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}

// readBody returns the beginning of the response body of a failed handshake, redacted and on one line.
func readBody(resp *http.Response, target string) string {
	if resp.Body == nil {
		return ""
	}
	const maxBody = 1 << 10 // the WebSocket library keeps no more
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return redact.Line(redact.Excerpt(data, maxBody, secrets(target)...), maxBody)
}
