package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/wsclient"
)

// A clientFrame is what a client sends to the fastHub.
type clientFrame struct {
	Event string
	AckID uint64
	Data  string
}

// serveHub is the process of a fastHub. It prints the hub's URL and lives until its standard input ends.
func serveHub() error {
	server := httptest.NewServer(http.HandlerFunc(fastHub))
	if err := json.NewEncoder(os.Stdout).Encode(strings.Replace(server.URL, "http", "ws", 1) + clientPath() + "?access_token=t"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// fastHub does the least that a client needs, so that the client is measured and not the hub. It acknowledges every request,
// and answers the event "flood" with as many messages as the event's data says. It accepts no recovery.
func fastHub(w http.ResponseWriter, r *http.Request) {
	h := &hijacker{ResponseWriter: w}
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols: []string{wsclient.JSONReliable.String(), wsclient.JSONPlain.String()}})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ctx := context.Background()
	answer := []byte(`{"type":"system","event":"connected","connectionId":"c","reconnectionToken":"r"}`)
	for sequence := uint64(0); ; {
		if answer != nil && ws.Write(ctx, websocket.MessageText, answer) != nil {
			return
		}
		answer = nil
		_, data, err := ws.Read(ctx)
		if err != nil {
			return
		}
		var f clientFrame
		if json.Unmarshal(data, &f) != nil {
			continue // an acknowledgement of a sequence id has no data that matters here
		}
		if f.Event == "flood" {
			n, _ := strconv.Atoi(f.Data)
			if sequence, err = flood(h.conn, sequence, n); err != nil {
				return
			}
		} else if f.AckID > 0 {
			answer = fmt.Appendf(nil, `{"type":"ack","ackId":%d,"success":true}`, f.AckID)
		}
	}
}

// A hijacker keeps the connection that the WebSocket library takes over. The hub writes many frames to it in one write.
type hijacker struct {
	http.ResponseWriter

	conn net.Conn
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	taker, ok := h.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.ErrUnsupported
	}
	c, rw, err := taker.Hijack()
	h.conn = c
	return c, rw, err
}

// flood writes messages of 100 bytes, and returns the last sequence id.
func flood(to io.Writer, sequence uint64, n int) (uint64, error) {
	w := bufio.NewWriterSize(to, 64<<10)
	data := bytes.Repeat([]byte("a"), smallBody)
	var frame []byte
	for range n {
		sequence++
		frame = append(frame[:0], `{"sequenceId":`...)
		frame = strconv.AppendUint(frame, sequence, 10)
		frame = append(frame, `,"type":"message","from":"group","group":"room","fromUserId":"user1","dataType":"text","data":"`...)
		frame = append(append(frame, data...), `"}`...)
		const finalText, twoBytes = 0x81, 126 // the frame's length is between 126 and 65,535
		head := binary.BigEndian.AppendUint16([]byte{finalText, twoBytes}, uint16(len(frame)))
		if _, err := w.Write(append(head, frame...)); err != nil {
			return sequence, err
		}
	}
	return sequence, w.Flush()
}
