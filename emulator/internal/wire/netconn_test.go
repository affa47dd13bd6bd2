package wire

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

// deadlines is a connection that accepts all writes, and records their sizes and the write deadlines.
type deadlines struct {
	net.Conn
	written []int
	set     []time.Time
	before  []int // for each write, how many deadlines had been set before it
}

func (d *deadlines) Write(b []byte) (int, error) {
	d.written = append(d.written, len(b))
	d.before = append(d.before, len(d.set))
	return len(b), nil
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

func newDeadlines() (*deadlines, *Conn) {
	d := &deadlines{}
	return d, newConn(d, NewConns(hub.NewLifetime(), nil))
}

func TestEachPartOfAWriteRenewsTheDeadline(t *testing.T) {
	d, c := newDeadlines()
	n, err := c.Write(make([]byte, 3*writePart+1))
	require.NoError(t, err)
	require.Equal(t, 3*writePart+1, n)
	require.Equal(t, []int{writePart, writePart, writePart, 1}, d.written)
	require.Empty(t, d.set, "there must be no limit by default")

	c.LimitWrites(time.Minute)
	require.Len(t, d.set, 1, "the limit must also apply to a write that is in progress")
	_, err = c.Write(make([]byte, 2*writePart))
	require.NoError(t, err)
	require.Len(t, d.set, 3)
	require.Equal(t, []int{2, 3}, d.before[4:], "the time before a write must not count")
	require.True(t, d.set[2].After(d.set[1]) && d.set[1].After(d.set[0]))

	c.finishWrites(time.Second)
	_, err = c.Write(make([]byte, 2*writePart))
	require.NoError(t, err)
	require.Len(t, d.set, 6)
	require.Equal(t, d.set[3], d.set[5], "a later part must not extend the deadline of finishWrites")
	n, err = c.Write(nil)
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestASilentConnectionDiscardsData(t *testing.T) {
	d, c := newDeadlines()
	c.Silence()
	n, err := c.Write([]byte("hello"))
	require.NoError(t, err)
	require.Equal(t, 5, n)
	require.Empty(t, d.written)

	for what, end := range map[string]func(*Conn){
		"Close":    func(c *Conn) { c.Close() },
		"deadline": func(c *Conn) { c.SetReadDeadline(time.Now()) },
	} {
		local, remote := net.Pipe()
		c = newConn(local, NewConns(hub.NewLifetime(), nil))
		c.Silence()
		ended := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 10))
			ended <- err
		}()
		_, err = remote.Write([]byte("hello"))
		require.NoError(t, err, "the data must be discarded")
		require.NoError(t, remote.Close())
		select {
		case err := <-ended:
			require.Fail(t, "a silent connection must not notice that the peer closes it", "%v", err)
		case <-time.After(10 * time.Millisecond):
		}
		end(c)
		require.Error(t, <-ended, what)
	}
}

func TestASilentConnectionKeepsItsReadDeadline(t *testing.T) {
	local, remote := net.Pipe()
	c := newConn(local, NewConns(hub.NewLifetime(), nil))
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Millisecond)))
	c.Silence()
	require.NoError(t, remote.Close())
	_, err := c.Read(make([]byte, 10))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// The close frame of a silent connection is discarded, but the peer's time to respond to it begins. Close would otherwise wait
// for seconds.
func TestASilentConnectionLimitsTheTimeToClose(t *testing.T) {
	local, remote := net.Pipe()
	defer remote.Close()
	c := newConn(local, NewConns(hub.NewLifetime(), nil))
	c.limitClosing(time.Millisecond)
	c.Silence()
	c.StartClosing()
	_, err := c.Write([]byte("close frame"))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the time must be limited")
	}
}
