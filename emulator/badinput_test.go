package emulator_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http/httpguts"

	"github.com/awps-go/webpubsub/emulator"
)

// This file tests misbehaving clients. Each receives a clear response, and does not affect other clients.

func TestASlowReaderIsClosedWithAReasonAndDelaysNobody(t *testing.T) {
	var logged syncBuffer
	srv := emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	slow := dialJSON(t, srv, dialOptions{groups: []string{"g"}})
	fast := dialJSON(t, srv, dialOptions{groups: []string{"g"}})
	big := strings.Repeat("x", maxMessageSize)
	var sent int
	for len(srv.Connections("chat")) == 2 {
		require.Less(t, sent, 1000, "the slow client is not closed")
		rest{t, srv}.text("hubs/chat/groups/g/:send", big)
		sent++
		require.Len(t, fast.object()["data"], maxMessageSize)
	}
	fast.expectNothing(srv)
	ce, frames := slow.closed() // starts to read
	require.Equal(t, websocket.StatusPolicyViolation, ce.Code)
	require.Equal(t, "The outbound message queue is full.", ce.Reason)
	require.Contains(t, frames[len(frames)-1], `"event":"disconnected","message":"The outbound message queue is full."`)
	require.Less(t, len(frames), sent)
	require.Contains(t, logged.String(), "connection="+slow.id+" reason=\"the client is too slow")
	rest{t, srv}.must(404, "HEAD", "hubs/chat/connections/"+slow.id)
}

func TestExpiredMessagesForASlowReaderAreDroppedAndDoNotCount(t *testing.T) {
	srv := emulator.StartT(t, nil)
	slow := dialJSON(t, srv, dialOptions{groups: []string{"room"}})
	slow.ws.SetReadLimit(-1)
	send := func(n int, text string, ttl time.Duration) {
		for range n {
			rest{t, srv}.text(fmt.Sprintf("hubs/chat/:send?messageTtlSeconds=%d", ttl/time.Second), text)
		}
	}
	big := strings.Repeat("x", maxMessageSize)
	send(8, big, 0) // more than the network buffers
	send(8, big, time.Second)
	flood(t, srv, maxQueuedFrames-100, `"dataType":"text","data":"old","ttlSeconds":1`)
	srv.Advance(2 * time.Second)
	send(200, "new", 0)
	send(8, big, 0)
	for range 8 {
		require.Len(t, slow.object()["data"], maxMessageSize)
	}
	for data := slow.object()["data"]; data != "new"; data = slow.object()["data"] {
		require.Len(t, data, maxMessageSize, "only a message already being written may precede")
	}
	for range 199 {
		require.Equal(t, "new", slow.object()["data"])
	}
	for range 8 {
		require.Len(t, slow.object()["data"], maxMessageSize)
	}
	slow.expectNothing(srv)
}

func TestAFrameOverTheLimitClosesAClientOfAnyProtocolAndNobodyElse(t *testing.T) {
	srv := emulator.StartT(t, nil)
	bystander := dialJSON(t, srv, dialOptions{})
	for name, tt := range map[string]struct {
		subprotocols []string
		typ          websocket.MessageType
	}{
		"raw, text":         {nil, websocket.MessageText},
		"raw, binary":       {nil, websocket.MessageBinary},
		"reliable JSON":     {[]string{protocolJSONReliable}, websocket.MessageText},
		"protobuf":          {[]string{protocolProtobuf}, websocket.MessageBinary},
		"reliable protobuf": {[]string{protocolProtobufReliable}, websocket.MessageBinary},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, srv, dialOptions{subprotocols: tt.subprotocols})
			_ = c.ws.Write(t.Context(), tt.typ, make([]byte, maxMessageSize+1)) // may fail: the server stops reading
			ce, _ := c.closed()
			require.Equal(t, websocket.StatusMessageTooBig, ce.Code)
			require.NoError(t, srv.WaitForConnections(soon(t), "chat", 1), "the client is removed, even a reliable one")
		})
	}
	bystander.expectNothing(srv)
}

func TestAClientThatSendsInvalidFramesIsLoggedOnce(t *testing.T) {
	for name, first := range map[string]int{"invalid frames": 1, "a frame over the limit first": maxMessageSize + 1} {
		t.Run(name, func(t *testing.T) {
			logged := new(syncBuffer)
			srv := emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.NewTextHandler(logged, nil))})
			c := handshake(t, srv)
			frames := binary.BigEndian.AppendUint64([]byte{0x81, 0x80 | 127}, uint64(first))
			frames = append(append(frames, 0, 0, 0, 0), bytes.Repeat([]byte("x"), first)...)
			for range 100 {
				frames = append(frames, 0x81, 0x81, 0, 0, 0, 0, 'x')
			}
			_, err := c.Write(append(frames, 0x88, 0x80, 0, 0, 0, 0)) // with a close frame at the end
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, c) // until the server has handled all frames
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(logged.String(), "closing a client that sent an invalid frame"), logged)
		})
	}
}

// Wherever the connection of a client is cut, the beginning of a frame is not a message.
func TestACutInTheMiddleOfAFrame(t *testing.T) {
	for name, header := range map[string]string{"raw": "", "JSON": "Sec-WebSocket-Protocol: " + protocolJSON + "\r\n"} {
		t.Run(name, func(t *testing.T) {
			logged := new(syncBuffer)
			srv := emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.NewTextHandler(logged, nil))})
			application(t, srv, []string{"disconnected"}, func(http.ResponseWriter, *http.Request) {})
			const event = `{"type":"event","event":"e","data":1}`
			frame := append([]byte{0x81, 0x80 | byte(len(event)), 0, 0, 0, 0}, event...)
			for n := 1; n < len(frame); n++ {
				c := handshakeWith(t, srv, header)
				_, err := c.Write(frame[:n])
				require.NoError(t, err)
				require.NoError(t, c.Close())
				require.NoError(t, srv.WaitForEvents(t.Context(), "chat", "disconnected", n))
			}
			for _, e := range srv.Events() {
				require.Equal(t, "disconnected", e.Name)
			}
			require.NotContains(t, logged.String(), "invalid frame")
		})
	}
}

func TestAClientThatNeverReadsIsCutOffWhenTheServerCloses(t *testing.T) {
	srv := emulator.StartT(t, nil)
	stuck := dialJSON(t, srv, dialOptions{})
	for range 12 {
		rest{t, srv}.text("hubs/chat/:send", strings.Repeat("x", maxMessageSize))
	}
	srv.Close()
	require.NotEmpty(t, stuck.id)
}

// handshake opens the WebSocket of a JSON client and returns its TCP connection, for tests of invalid WebSocket traffic.
func handshake(t *testing.T, srv *emulator.Server) net.Conn {
	t.Helper()
	return handshakeWith(t, srv, "Sec-WebSocket-Protocol: "+protocolJSON+"\r\n")
}

// handshakeWith is handshake with another header line, or none.
func handshakeWith(t *testing.T, srv *emulator.Server, header string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", host(srv))
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	target := strings.TrimPrefix(dialOptions{}.httpURL(t, srv), srv.Endpoint())
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", target, host(srv), header)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, 101, resp.StatusCode)
	return c
}

func TestIncompleteRequestsAndFrames(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, srv *emulator.Server){
		"a connection without a request": func(t *testing.T, srv *emulator.Server) {
			c, err := net.Dial("tcp", host(srv))
			require.NoError(t, err)
			t.Cleanup(func() { c.Close() })
		},
		"half a header": func(t *testing.T, srv *emulator.Server) {
			c, err := net.Dial("tcp", host(srv))
			require.NoError(t, err)
			t.Cleanup(func() { c.Close() })
			fmt.Fprint(c, "POST /api/hubs/chat/:send HTTP/1.1\r\nHo")
		},
		"half a body": func(t *testing.T, srv *emulator.Server) {
			c, err := net.Dial("tcp", host(srv))
			require.NoError(t, err)
			t.Cleanup(func() { c.Close() })
			token := sign(t, srv.AccessKey(), jwt.MapClaims{"aud": srv.Endpoint() + "/api/hubs/chat/:send", "exp": srv.Now().Add(time.Minute).Unix()})
			fmt.Fprintf(c, "POST /api/hubs/chat/:send HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhel", host(srv), token)
		},
		"half a frame": func(t *testing.T, srv *emulator.Server) {
			c := handshake(t, srv)
			_, err := c.Write([]byte{0x81, 0xFE, 0x01})
			require.NoError(t, err)
		},
		"a client that sends nothing": func(t *testing.T, srv *emulator.Server) { handshake(t, srv) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // because Close waits for some of them
			srv := emulator.StartT(t, nil)
			bystander := dialJSON(t, srv, dialOptions{user: "bystander"})
			leave(t, srv)
			rest{t, srv}.text("hubs/chat/users/bystander/:send", "still served")
			require.Equal(t, "still served", bystander.object()["data"])
			srv.Close() // does not hang
		})
	}
}

func TestAClientThatLeavesWithoutACloseFrameIsRemoved(t *testing.T) {
	write := func(c *net.TCPConn, b ...byte) error {
		_, err := c.Write(b)
		return err
	}
	for name, leave := range map[string]func(c *net.TCPConn) error{
		"closes the connection":     func(c *net.TCPConn) error { return c.Close() },
		"closes its half":           func(c *net.TCPConn) error { return c.CloseWrite() },
		"resets the connection":     func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
		"sends an unmasked frame":   func(c *net.TCPConn) error { return write(c, 0x81, 0x01, 'x') },
		"sends a reserved opcode":   func(c *net.TCPConn) error { return write(c, 0x83, 0x80, 0, 0, 0, 0) },
		"sends a lone continuation": func(c *net.TCPConn) error { return write(c, 0x80, 0x80, 0, 0, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			srv := emulator.StartT(t, nil)
			bystander := dialJSON(t, srv, dialOptions{})
			c := handshake(t, srv)
			require.NoError(t, leave(c.(*net.TCPConn)))
			require.NoError(t, srv.WaitForConnections(t.Context(), "chat", 1))
			bystander.expectNothing(srv)
		})
	}
}

func TestATruncatedBodyIsNotSent(t *testing.T) {
	srv := emulator.StartT(t, nil)
	c := dialJSON(t, srv, dialOptions{})
	conn, err := net.Dial("tcp", host(srv))
	require.NoError(t, err)
	defer conn.Close()
	token := sign(t, srv.AccessKey(), jwt.MapClaims{"aud": srv.Endpoint() + "/api/hubs/chat/:send", "exp": srv.Now().Add(time.Minute).Unix()})
	fmt.Fprintf(conn, "POST /api/hubs/chat/:send HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhel", host(srv), token)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	_, _ = io.Copy(io.Discard, conn) // until the server closes the connection, or resets it
	c.expectNothing(srv)
}

func TestAFloodOfBadTokensLeavesEveryoneElseServed(t *testing.T) {
	srv := emulator.StartT(t, &emulator.Options{Logger: slog.New(slog.DiscardHandler)})
	c := dialJSON(t, srv, dialOptions{user: "ann"})
	target := srv.Endpoint() + "/client/hubs/chat?access_token=" +
		sign(t, "a wrong key", jwt.MapClaims{"aud": srv.Endpoint() + "/client/hubs/chat", "exp": time.Now().Add(time.Hour).Unix()})
	var flood sync.WaitGroup
	for range 20 {
		flood.Go(func() {
			for range 25 {
				if got := upgradeStatus(t, target); got != http.StatusUnauthorized {
					t.Errorf("a bad token: status %d", got)
				}
			}
		})
	}
	for i := range 50 {
		text := fmt.Sprint(i)
		rest{t, srv}.text("hubs/chat/users/ann/:send", text)
		require.Equal(t, text, c.object()["data"])
	}
	flood.Wait()
	require.Len(t, srv.Connections("chat"), 1)
}

func TestCompressedAndFragmentedMessages(t *testing.T) {
	srv := emulator.StartT(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, dialOptions{}.url(t, srv), &websocket.DialOptions{Subprotocols: []string{protocolJSON},
		CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1})
	require.NoError(t, err)
	defer ws.CloseNow()
	c := &client{t: t, ws: ws}
	c.object()
	w, err := ws.Writer(ctx, websocket.MessageText)
	require.NoError(t, err)
	for _, part := range []string{`{"type":`, `"pi`, `ng"}`} {
		_, err = w.Write([]byte(part))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.Equal(t, `{"type":"pong"}`, c.text())
}

func FuzzRESTPaths(f *testing.F) {
	for _, seed := range []string{"hubs/chat/:send", "hubs/chat/groups/a%2Fb/connections/c", "hubs/chat/users/%20/:send", "health",
		"hubs//groups/%zz", "hubs/chat/permissions/sendToGroup/connections/c?targetName=g", "hubs/chat/groups/g/connections?top=1&continuationToken=x"} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "HEAD"} {
			f.Add(method, seed)
		}
	}
	srv, err := emulator.Start(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { srv.Close() })
	f.Fuzz(func(t *testing.T, method, path string) {
		if !httpguts.ValidHeaderFieldName(method) || method == http.MethodConnect {
			return
		}
		req, err := http.NewRequest(method, srv.Endpoint()+"/api/"+path, strings.NewReader(`{"groups":["g"]}`))
		if err != nil || !strings.HasPrefix(req.URL.Path, "/api/") {
			return
		}
		// net/http sends a raw space of a query, and its server rejects the request line before the emulator sees the request. It
		// then closes the connection, and what it has not read of a long line resets the connection.
		if strings.Contains(req.URL.RequestURI(), " ") {
			return
		}
		// RequestURI is the URL as sent, without the fragment.
		req.Header.Set("Authorization", "Bearer "+sign(t, srv.AccessKey(), jwt.MapClaims{
			"aud": srv.Endpoint() + req.URL.RequestURI(), "exp": time.Now().Add(time.Minute).Unix()}))
		req.Header.Set("Content-Type", "application/json")
		resp, err := restClient.Do(req)
		if err != nil {
			return // a request that net/http does not send
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NotEqual(t, http.StatusUnauthorized, resp.StatusCode, "the token is for the URL as sent")
		require.NotEqual(t, http.StatusInternalServerError, resp.StatusCode, string(body))
		if resp.StatusCode >= 400 && method != http.MethodHead && resp.Header.Get("x-ms-error-code") != "" {
			var e errorBody
			require.True(t, utf8.Valid(body))
			require.NoError(t, json.Unmarshal(body, &e))
			require.NotEmpty(t, e.Message)
		}
	})
}
