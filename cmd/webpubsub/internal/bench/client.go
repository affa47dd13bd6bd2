package bench

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/wsclient"
)

// maxDialing bounds the handshakes and goodbyes under way at once, so that a slow service is not buried under them.
const maxDialing = 100

// client is a connected client, with what it has received.
type client struct {
	target   int
	conn     *wsclient.Conn
	trackers []tracker // one for each sender; only receive touches them while the client is connected
	received chan struct{}
}

// connect opens the clients at the rate. It returns when each is connected or has failed.
func (r *run) connect(ctx context.Context) {
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
			c, err := r.dial(ctx, r.targetOf(i))
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

// receive counts and times what a client receives, until the client has ended.
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
			continue // of somebody else on this hub
		}
		r.latency.record(c.target, now-sent)
		if c.trackers[sender].record(number) {
			r.delivered.Add(1)
			r.lastArrive.Store(int64(now)) // a little earlier than another client's by chance, which nobody will see
		}
	}
}

// close closes the clients and waits until all that they have received is counted. It may be called again.
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

// waitUntil waits until event i of a series with a rate is due. It reports whether ctx is still there.
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
