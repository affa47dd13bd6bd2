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

// A clientFrame holds the fields of a client's frame that fastHub uses.
type clientFrame struct {
	Event string
	AckID uint64
	Data  string
}

// serveHub is the main function of fastHub's process. It prints the hub's URL and runs until its standard input ends.
func serveHub() error {
	server := httptest.NewServer(http.HandlerFunc(fastHub))
	if err := json.NewEncoder(os.Stdout).Encode(strings.Replace(server.URL, "http", "ws", 1) + clientPath() + "?access_token=t"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// fastHub does the least that a client needs, so that mostly the client is measured. It acknowledges every request. The data
// of the event "flood" is a number, and fastHub answers the event with that many messages. It does not support recovery.
func fastHub(w http.ResponseWriter, r *http.Request) {
	h := &hijacker{ResponseWriter: w}
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		Subprotocols: []string{wsclient.JSONReliable.String(), wsclient.JSONPlain.String()}})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ctx := context.Background()
	response := []byte(`{"type":"system","event":"connected","connectionId":"c","reconnectionToken":"r"}`)
	for sequence := uint64(0); ; {
		if response != nil && ws.Write(ctx, websocket.MessageText, response) != nil {
			return
		}
		response = nil
		_, data, err := ws.Read(ctx)
		if err != nil {
			return
		}
		var f clientFrame
		if json.Unmarshal(data, &f) != nil {
			continue // ignore frames of another form
		}
		if f.Event == "flood" {
			n, _ := strconv.Atoi(f.Data)
			if sequence, err = flood(h.conn, sequence, n); err != nil {
				return
			}
		} else if f.AckID > 0 {
			response = fmt.Appendf(nil, `{"type":"ack","ackId":%d,"success":true}`, f.AckID)
		}
	}
}

// A hijacker keeps the connection that the WebSocket library takes over, so that the hub can send many frames in one write.
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

// flood writes n messages of 100 bytes and returns the last sequence id.
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
