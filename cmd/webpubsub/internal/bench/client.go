package bench

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/wsclient"
)

// maxDialing limits concurrent handshakes and closing handshakes, so that a slow service is not overloaded.
const maxDialing = 100

// client is a connected client and its received messages.
type client struct {
	target   int
	conn     *wsclient.Conn
	received chan struct{} // closed when all received messages are counted

	mu       sync.Mutex
	trackers []tracker // one for each sender
}

// lost returns the number of accepted messages that have not arrived.
func (c *client) lost(senders []*sender) (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range senders {
		n += int64(c.trackers[s.index].lost(s.last[c.target], s.failed[c.target]))
	}
	return n
}

// connect opens the clients at the rate. It returns when every client is connected or has failed.
func (r *run) connect(ctx context.Context) {
	dialing, cancel := graceful(ctx)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxDialing)
	start := time.Now()
	for i := range r.Clients {
		if !waitUntil(ctx, start, i, r.ConnectRate) {
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c, err := r.dial(dialing, r.targetOf(i))
			if err != nil {
				r.connectFailed.Add(1)
				r.firstError.set(err)
				return
			}
			r.connected.Add(1)
			mu.Lock()
			defer mu.Unlock()
			r.clients = append(r.clients, c)
		})
	}
	wg.Wait()
}

func (r *run) dial(ctx context.Context, target int) (*client, error) {
	token := &webpubsub.ClientAccessTokenOptions{}
	switch r.Target {
	case Groups:
		token.Groups = []string{r.targetName(target)}
	case Users:
		token.UserID = r.targetName(target)
	}
	provider := func(ctx context.Context) (string, error) {
		access, err := r.Service.GetClientAccessToken(ctx, token)
		return access.URL, err
	}
	begin := time.Now()
	conn, err := wsclient.Dial(ctx, provider, &wsclient.Options{
		Protocol:    r.Protocol,
		OnRecovered: func(wsclient.ConnectedEvent) { r.recovered.Add(1) },
		OnConnected: func(e wsclient.ConnectedEvent) {
			if !e.First && !e.Resumed {
				r.reconnected.Add(1)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	r.connectLatency.record(target, time.Since(begin))
	c := &client{target: target, conn: conn, trackers: make([]tracker, r.Senders), received: make(chan struct{})}
	go r.receive(c)
	return c, nil
}

// receive counts and times the messages of a client until its connection has ended.
func (r *run) receive(c *client) {
	defer close(c.received)
	for {
		message, err := c.conn.Receive(context.Background())
		if err != nil {
			if !errors.Is(err, wsclient.ErrClosed) {
				r.ended.Add(1)
				r.firstError.set(err)
			}
			return
		}
		now := r.since()
		sender, number, sent, ok := r.parse(message.Data)
		if !ok {
			continue // a message of another program on this hub
		}
		r.latency.record(c.target, now-sent)
		c.mu.Lock()
		isNew := c.trackers[sender].record(number)
		c.mu.Unlock()
		if isNew {
			r.delivered.Add(1)
			r.lastArrive.Store(int64(now)) // may be slightly before another client's last value, which does not matter
		}
	}
}

// close closes the clients and waits until all received messages are counted. It may be called again.
func (r *run) close() {
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxDialing)
	for _, c := range r.clients {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c.conn.Close()
			<-c.received
		})
	}
	wg.Wait()
}

// graceful returns a context that ends shortly after ctx. If a handshake were aborted immediately, the service would
// keep the client's connection for a while. If a send were aborted immediately, its outcome would be unknown.
func graceful(ctx context.Context) (context.Context, context.CancelFunc) {
	const grace = 2 * time.Second
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return later, func() { stop(); cancel() }
}

// waitUntil waits until event i of a series with a rate is due. It reports whether ctx is still active.
func waitUntil(ctx context.Context, start time.Time, i, rate int) bool {
	if rate > 0 {
		due := start.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
	}
	return ctx.Err() == nil
}
