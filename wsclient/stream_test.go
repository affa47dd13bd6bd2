package wsclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// openStream opens a stream, and accepts it on the service's side.
func openStream(t *testing.T, conn *Conn, p *peer, o *StreamOptions) *StreamWriter {
	t.Helper()
	var w *StreamWriter
	opened := make(chan error)
	go func() {
		var err error
		w, err = conn.OpenGroupStream(context.Background(), "room", o)
		opened <- err
	}()
	f := p.expect("sendToGroup")
	require.NotNil(t, f.Stream)
	require.Zero(t, f.AckID)
	require.Nil(t, f.Data)
	p.streamAck(f.Stream.StreamID, 1)
	require.NoError(t, <-opened)
	return w
}

// withID replaces $ in a frame with the ID of a stream.
func withID(frame, id string) string { return strings.ReplaceAll(frame, "$", id) }

func (p *peer) streamAck(id string, expected int) {
	p.t.Helper()
	p.send(fmt.Sprintf(`{"type":"streamAck","streamId":%q,"expectedSequenceId":%d}`, id, expected))
}

// closeStream calls end in the background.
func closeStream(end func() error) chan error {
	closed := make(chan error, 1)
	go func() { closed <- end() }()
	return closed
}

func TestStream(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		w := openStream(t, conn, p, &StreamOptions{DataType: DataText})
		for i, text := range []string{"one", "two"} {
			n, err := io.WriteString(w, text)
			require.NoError(t, err)
			require.Equal(t, 3, n)
			require.JSONEq(t, fmt.Sprintf(`{"type":"streamData","streamId":%q,"streamSequenceId":%d,"dataType":"text","data":%q}`, w.ID(), i+1, text),
				string(p.expect("streamData").raw))
		}
		closed := closeStream(w.Close)
		require.JSONEq(t, withID(`{"type":"streamEnd","streamId":"$"}`, w.ID()), string(p.expect("streamEnd").raw))
		p.streamAck(w.ID(), 3)
		p.send(withID(`{"type":"streamClosed","streamId":"$"}`, w.ID()))
		require.NoError(t, <-closed)
		require.NoError(t, w.Close())
		_, err := w.Write(nil)
		require.ErrorIs(t, err, io.ErrClosedPipe)
		require.Empty(t, conn.streams.list())
	})
}

func TestStreamEndsWithAnError(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		w := openStream(t, conn, p, nil)
		closed := closeStream(func() error { return w.CloseWithError(&StreamError{Message: "out of ideas", UserErrorCode: "E1"}) })
		require.JSONEq(t, withID(`{"type":"streamEnd","streamId":"$","error":{"message":"out of ideas","userErrorCode":"E1"}}`, w.ID()),
			string(p.expect("streamEnd").raw))
		p.send(withID(`{"type":"streamClosed","streamId":"$"}`, w.ID()))
		require.NoError(t, <-closed)

		w = openStream(t, conn, p, nil)
		p.send(withID(`{"type":"streamClosed","streamId":"$","error":{"name":"IdleTimeout","message":"too long"}}`, w.ID()))
		<-w.closed
		_, err := w.Write([]byte("a"))
		var se *StreamError
		require.ErrorAs(t, err, &se)
		require.Equal(t, "IdleTimeout", se.Name)
		require.ErrorAs(t, w.Close(), &se)

		opened := make(chan error)
		go func() { _, err := conn.OpenGroupStream(context.Background(), "room", nil); opened <- err }()
		id := p.expect("sendToGroup").Stream.StreamID
		p.send(withID(`{"type":"streamClosed","streamId":"$","error":{"name":"Forbidden","message":"no"}}`, id))
		require.ErrorIs(t, <-opened, ErrForbidden)
	})
}

func TestStreamOverARecovery(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		w := openStream(t, conn, p, nil)
		for range 3 {
			_, err := w.Write([]byte("a"))
			require.NoError(t, err)
			p.expect("streamData")
		}
		p.streamAck(w.ID(), 2)
		synctest.Wait()
		p.cut()
		<-p.ended
		synctest.Wait()
		_, err := w.Write([]byte("b")) // is sent after the recovery
		require.NoError(t, err)
		p = s.next()
		p.send(`{"type":"pong"}`)
		for _, number := range []uint64{2, 3, 4} {
			require.Equal(t, number, p.expect("streamData").Fragment)
		}
		p.send(withID(`{"type":"streamNack","streamId":"$","name":"InvalidSequenceId","expectedSequenceId":3}`, w.ID()))
		for _, number := range []uint64{3, 4} {
			require.Equal(t, number, p.expect("streamData").Fragment)
		}
		start := time.Now()
		p.send(withID(`{"type":"streamNack","streamId":"$","name":"TransientError","expectedSequenceId":4}`, w.ID()))
		require.EqualValues(t, 4, p.expect("streamData").Fragment)
		require.Equal(t, streamRetryDelay, time.Since(start))
	})
}

func TestStreamOnANewConnection(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		w := openStream(t, conn, p, nil)
		closed := closeStream(w.Close)
		p.expect("streamEnd")
		p.close(1008, "")
		var ce *CloseError
		require.ErrorAs(t, <-closed, &ce)
		require.Equal(t, 1008, ce.Code)
	})
}

func TestStreamBackPressure(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		w := openStream(t, conn, p, nil)
		written := make(chan error, 1)
		go func() {
			for range streamWindow + 1 {
				if _, err := w.Write([]byte("a")); err != nil {
					written <- err
					return
				}
			}
			written <- nil
		}()
		for range streamWindow {
			p.expect("streamData")
		}
		synctest.Wait()
		require.Empty(t, written, "the writer waits")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorIs(t, w.Send(ctx, Text("a")), context.DeadlineExceeded)
		p.streamAck(w.ID(), 2)
		require.NoError(t, <-written)

		go func() { _, err := w.Write(make([]byte, 2_000_000)); written <- err }()
		p.streamAck(w.ID(), streamWindow+2)
		synctest.Wait()
		require.Len(t, p.frames, 3, "the fragment that waited, and as many as fit into 1 MiB")
		size := 0
		for number := streamWindow + 2; size < 2_000_000; number++ {
			for {
				f := p.expect("streamData")
				if f.Fragment < uint64(number) {
					continue
				}
				size += (len(f.Data) - 2) * 3 / 4
				break
			}
			p.streamAck(w.ID(), number+1)
		}
		require.NoError(t, <-written)
	})
}

func TestStreamKeepAlive(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{KeepAlive: KeepAliveOptions{Interval: time.Hour}})
		w := openStream(t, conn, p, &StreamOptions{IdleTimeout: 30 * time.Second})
		start := time.Now()
		for i := range 3 {
			require.JSONEq(t, withID(`{"type":"streamData","streamId":"$"}`, w.ID()), string(p.expect("streamData").raw))
			require.Equal(t, time.Duration(i+1)*10*time.Second, time.Since(start))
		}
	})
}

func TestStreamIsReceived(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		p.send(`{"type":"message","from":"group","group":"room","dataType":"text","data":"a","sequenceId":1,`+
			`"stream":{"streamId":"7","streamSequenceId":1}}`,
			`{"type":"message","from":"group","group":"room","sequenceId":2,"stream":{"streamId":"7","streamSequenceId":2,`+
				`"error":{"name":"UserError","message":"out of ideas","userErrorCode":"E1"}}}`)
		m := receive(t, conn)
		require.Equal(t, StreamFragment{StreamID: "7", Number: 1}, *m.Stream)
		require.Equal(t, "a", m.Text())
		m = receive(t, conn)
		require.True(t, m.Stream.End)
		require.Equal(t, StreamError{"UserError", "out of ideas", "E1"}, *m.Stream.Err)
	})
	h := startHub(t)
	_, err := h.dial(t, &Options{Protocol: ProtobufReliable}).OpenGroupStream(testContext(t), "room", nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// TestStreamOpensDuringARecovery checks that a stream that is opened while a recovery completes uses the new link, and that
// its request is sent once.
func TestStreamOpensDuringARecovery(t *testing.T) {
	for _, early := range []bool{true, false} {
		t.Run(fmt.Sprintf("registered before the recovery %v", early), func(t *testing.T) {
			bubble(t, func(t *testing.T, s *service) {
				conn, p := s.connect(Options{})
				w := conn.newStream("room", StreamOptions{DataType: DataText}, 1)
				if early {
					conn.streams.add(w)
				}
				p.cut()
				p = s.next()
				p.send(`{"type":"pong"}`)
				synctest.Wait()
				if !early {
					conn.streams.add(w)
				}
				require.NoError(t, w.open())
				l, _ := conn.current()
				w.resume(l) // as if the recovery had completed only now
				p.streamAck(p.expect("sendToGroup").Stream.StreamID, 1)
				<-w.opened
				_, err := w.Write([]byte("a"))
				require.NoError(t, err)
				require.EqualValues(t, 1, p.expect("streamData").Fragment)
			})
		})
	}
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		w := conn.newStream("room", StreamOptions{DataType: DataText}, 1)
		p.close(websocket.StatusPolicyViolation, "")
		s.next().sendConnected("c2")
		synctest.Wait()
		conn.streams.add(w)
		require.ErrorAs(t, w.open(), new(*CloseError))
	})
}

// TestStreamEndOverARecovery checks the end of a stream whose confirmation is lost: the service no longer knows the stream.
func TestStreamEndOverARecovery(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		w := openStream(t, conn, p, nil)
		closed := closeStream(w.Close)
		p.expect("streamEnd")
		p.cut()
		p = s.next()
		p.send(`{"type":"pong"}`)
		p.expect("streamEnd")
		p.send(withID(`{"type":"streamClosed","streamId":"$","error":{"name":"StreamNotFound","message":"no"}}`, w.ID()))
		err := <-closed
		require.ErrorAs(t, err, new(*StreamError))
		require.ErrorIs(t, err, ErrOutcomeUnknown)

		w = openStream(t, conn, p, nil)
		closed = closeStream(w.Close)
		p.expect("streamEnd")
		p.send(withID(`{"type":"streamClosed","streamId":"$","error":{"name":"StreamNotFound","message":"no"}}`, w.ID()))
		require.NotErrorIs(t, <-closed, ErrOutcomeUnknown)
	})
}

// TestStreamErrorsFitIntoAFrame checks that a long error text does not end the connection.
func TestStreamErrorsFitIntoAFrame(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		w := openStream(t, conn, p, nil)
		long := "a" + strings.Repeat("é", 1<<20)
		closeStream(func() error { return w.CloseWithError(&StreamError{Message: long, UserErrorCode: long}) })
		f := p.expect("streamEnd")
		require.Less(t, len(f.raw), maxFrame)
		require.True(t, strings.HasPrefix(long, f.Error.Message))
		require.Len(t, f.Error.Message, maxStreamError-1, "a character is not split")
		p.send(withID(`{"type":"streamClosed","streamId":"$"}`, w.ID()))
	})
}

// TestStreamThatTheServiceForgot checks that a stream fails if the service asks again for fragments that it acknowledged, because
// the StreamWriter no longer has them.
func TestStreamThatTheServiceForgot(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		w := openStream(t, conn, p, nil)
		for range 3 {
			_, err := w.Write([]byte("a"))
			require.NoError(t, err)
		}
		p.streamAck(w.ID(), 3)
		p.send(withID(`{"type":"streamNack","streamId":"$","name":"InvalidSequenceId","expectedSequenceId":1}`, w.ID()))
		<-w.closed
		_, err := w.Write([]byte("a"))
		var se *StreamError
		require.ErrorAs(t, err, &se)
		require.Equal(t, "InvalidSequenceId", se.Name)
	})
}

// TestStreamThatTheServiceEnds checks that a stream fails if the service closes it, without an error, before the sender ends it.
func TestStreamThatTheServiceEnds(t *testing.T) {
	const closed = `{"type":"streamClosed","streamId":"$"}`
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		opened := make(chan error, 1)
		go func() { _, err := conn.OpenGroupStream(context.Background(), "room", nil); opened <- err }()
		p.send(withID(closed, p.expect("sendToGroup").Stream.StreamID))
		var se *StreamError
		require.ErrorAs(t, <-opened, &se)
		require.Equal(t, "StreamNotFound", se.Name)

		w := openStream(t, conn, p, nil)
		_, err := w.Write([]byte("a"))
		require.NoError(t, err)
		p.send(withID(closed, w.ID()))
		<-w.closed
		_, err = w.Write([]byte("b"))
		require.ErrorAs(t, err, &se)
		require.ErrorAs(t, w.Close(), &se, "the service did not confirm the first fragment")
	})
}

// TestStreamMessagesWithoutData checks that a message at the end of a stream has no data if the service sends null.
func TestStreamMessagesWithoutData(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		for i, data := range []string{`"dataType":null,"data":null`, `"dataType":"text","data":null`, `"data":null`, `"group":"room"`} {
			p.send(fmt.Sprintf(`{"type":"message","from":"group","group":"room",%s,"sequenceId":%d,
				"stream":{"streamId":"1","streamSequenceId":2,"endOfStream":true,"error":null}}`, data, i+1))
			m := receive(t, conn)
			require.Equal(t, Payload{}, m.Payload, data)
			require.Equal(t, &StreamFragment{StreamID: "1", Number: 2, End: true}, m.Stream)
		}
		p.send(`{"type":"message","from":"group","group":"room","dataType":"json","data":null,"stream":{"streamId":"1","streamSequenceId":3}}`)
		require.Equal(t, Payload{DataType: DataJSON, Data: []byte("null")}, receive(t, conn).Payload)
	})
}

// TestStreamWithAWrongAcknowledgement checks that a stream fails if the service acknowledges a fragment that was not sent.
func TestStreamWithAWrongAcknowledgement(t *testing.T) {
	bubble(t, func(t *testing.T, s *service) {
		conn, p := s.connect(Options{})
		for _, frame := range []string{`{"type":"streamAck","streamId":"$","expectedSequenceId":3}`,
			`{"type":"streamNack","streamId":"$","name":"InvalidSequenceId","expectedSequenceId":3}`} {
			w := openStream(t, conn, p, nil)
			_, err := w.Write([]byte("a"))
			require.NoError(t, err)
			p.expect("streamData")
			p.send(withID(frame, w.ID()))
			<-w.closed
			require.Equal(t, "ProtocolViolation", p.expect("streamEnd").Error.UserErrorCode)
			_, err = w.Write([]byte("b"))
			var se *StreamError
			require.ErrorAs(t, err, &se)
			require.Equal(t, "ProtocolViolation", se.Name)
		}
	})
}
