package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// clientJob is a job for the process that holds the clients: connect more clients, broadcast, or send to one client.
type clientJob struct {
	URL        string
	Token      string
	Connect    int // clients to connect to URL
	Posts      int // messages to post to URL, one after the other
	Recipients int // clients that each message must reach

	// Ahead posts a message as soon as the one before is answered. Otherwise a message also waits until the one before has
	// arrived.
	Ahead bool
}

type clientResult struct {
	Connected time.Duration // until all clients are connected
	Answered  time.Duration // sum over the posts, until the response
	Arrived   time.Duration // sum over the posts, until all recipients have the message
}

// clientPool is a number of clients that only count the frames they receive, so that mostly the server is measured.
type clientPool struct {
	transport http.Transport
	arrived   atomic.Int64
	want      atomic.Int64
	done      chan error // receives nil when arrived reaches want, or the error of a client
}

// hold is the main function of the process that holds the clients of one broadcaster.
func hold() error {
	c := &clientPool{done: make(chan error, 1)}
	return serveJobs(func(j clientJob) (r clientResult, err error) {
		if err = c.connect(j, &r); err == nil {
			err = c.post(j, &r)
		}
		return r, err
	})
}

// connect connects clients, and returns when each has received its connected message.
func (c *clientPool) connect(j clientJob, r *clientResult) error {
	if j.Connect == 0 {
		return nil
	}
	c.expect(j.Connect)
	start := time.Now()
	err := runLoop(min(32, j.Connect), j.Connect, func(context.Context) error { return c.join(j) })
	if err == nil {
		err = c.wait()
	}
	r.Connected = time.Since(start)
	return err
}

func (c *clientPool) join(j clientJob) error {
	req, err := http.NewRequest(http.MethodGet, j.URL+"?access_token="+j.Token, nil)
	if err != nil {
		return err
	}
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Protocol": {jsonProtocol}}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("connecting a client: status %s", resp.Status)
	}
	go func() { c.signal(c.read(resp.Body)) }()
	return nil
}

// read counts the messages that a server sends. It supports unfragmented messages of less than 64 KiB.
func (c *clientPool) read(from io.Reader) error {
	r := bufio.NewReaderSize(from, 256)
	for {
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		size := int(head[1])
		if size == 126 {
			var long [2]byte
			if _, err := io.ReadFull(r, long[:]); err != nil {
				return err
			}
			size = int(binary.BigEndian.Uint16(long[:]))
		}
		if _, err := r.Discard(size); err != nil {
			return err
		}
		const finalText = 0x81
		if head[0] != finalText || head[1] > 126 {
			return errors.New("a client received a frame that is not a short text message")
		}
		if c.arrived.Add(1) == c.want.Load() {
			c.signal(nil)
		}
	}
}

// expect sets the number of messages that wait waits for.
func (c *clientPool) expect(n int) { c.want.Store(c.arrived.Load() + int64(n)) }

// signal ends a wait. A nil error means that all messages have arrived.
func (c *clientPool) signal(err error) {
	select {
	case c.done <- err:
	default:
	}
}

func (c *clientPool) wait() error {
	select {
	case err := <-c.done:
		return err
	case <-time.After(time.Minute):
		return fmt.Errorf("%d messages are missing", c.want.Load()-c.arrived.Load())
	}
}

func (c *clientPool) post(j clientJob, r *clientResult) error {
	if j.Ahead {
		return c.postAhead(j, r)
	}
	for range j.Posts {
		c.expect(j.Recipients)
		start := time.Now()
		if err := c.postOne(j); err != nil {
			return err
		}
		r.Answered += time.Since(start)
		if err := c.wait(); err != nil {
			return err
		}
		r.Arrived += time.Since(start)
	}
	return nil
}

func (c *clientPool) postAhead(j clientJob, r *clientResult) error {
	c.expect(j.Posts * j.Recipients)
	start := time.Now()
	for range j.Posts {
		if err := c.postOne(j); err != nil {
			return err
		}
	}
	r.Answered = time.Since(start)
	err := c.wait()
	r.Arrived = time.Since(start)
	return err
}

func (c *clientPool) postOne(j clientJob) error {
	req, err := http.NewRequest(http.MethodPost, j.URL, bytes.NewReader(newPayload(smallBody, false).data))
	if err != nil {
		return err
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + j.Token}}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("posting a message: status %s", resp.Status)
	}
	return nil
}
