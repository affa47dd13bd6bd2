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
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// clientJob is what the process that holds the clients is asked for: to connect some more of them, to broadcast, or to send
// to one of them.
type clientJob struct {
	URL     string
	Token   string
	Connect int // clients to connect, to URL
	Posts   int // messages to post to URL, one after the other
	Reach   int // clients that each message is to reach

	// Ahead sends a message when the one before was answered. Otherwise each waits until the one before has arrived.
	Ahead bool
}

type clientResult struct {
	Connected time.Duration // for all clients
	Answered  time.Duration // for all posts, from each to its answer
	Arrived   time.Duration // for all posts, from each until everyone it was to reach has it
	Error     string
}

// crowd is many clients that do as little as clients can, so that it is the server that is measured: they count the frames
// that come.
type crowd struct {
	transport http.Transport
	arrived   atomic.Int64
	want      atomic.Int64
	all       chan error // something when arrived has reached want, or a client has failed
}

// hold is the process that holds the clients of one broadcaster.
func hold() error {
	c := &crowd{all: make(chan error, 1)}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var j clientJob
		if err := in.Decode(&j); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var r clientResult
		err := c.connect(j, &r)
		if err == nil {
			err = c.post(j, &r)
		}
		if err != nil {
			r.Error = err.Error()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

// connect connects clients, until each has been told that it is.
func (c *crowd) connect(j clientJob, r *clientResult) error {
	if j.Connect == 0 {
		return nil
	}
	c.expect(j.Connect)
	start := time.Now()
	var started atomic.Int64
	err := together(min(32, j.Connect), func(context.Context) error {
		for started.Add(1) <= int64(j.Connect) {
			if err := c.join(j); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = c.wait()
	}
	r.Connected = time.Since(start)
	return err
}

func (c *crowd) join(j clientJob) error {
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
		return fmt.Errorf("a client got %s", resp.Status)
	}
	go func() { c.fail(c.read(resp.Body)) }()
	return nil
}

// read counts the messages that a server sends. They are not longer than 64 KiB, nor in pieces.
func (c *crowd) read(from io.Reader) error {
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
			return errors.New("a client got a frame that is no text")
		}
		if c.arrived.Add(1) == c.want.Load() {
			c.fail(nil)
		}
	}
}

// expect announces so many messages; wait waits for them.
func (c *crowd) expect(n int) { c.want.Store(c.arrived.Load() + int64(n)) }

func (c *crowd) fail(err error) {
	select {
	case c.all <- err:
	default:
	}
}

func (c *crowd) wait() error {
	select {
	case err := <-c.all:
		return err
	case <-time.After(time.Minute):
		return fmt.Errorf("%d messages are missing", c.want.Load()-c.arrived.Load())
	}
}

func (c *crowd) post(j clientJob, r *clientResult) error {
	if j.Ahead {
		return c.postAhead(j, r)
	}
	for range j.Posts {
		c.expect(j.Reach)
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

func (c *crowd) postAhead(j clientJob, r *clientResult) error {
	c.expect(j.Posts * j.Reach)
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

func (c *crowd) postOne(j clientJob) error {
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
		return fmt.Errorf("a post got %s", resp.Status)
	}
	return nil
}
