package eventhandler_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/eventhandler"
)

// The service sends the events of one connection in sequence, and those of many connections concurrently. No event may
// be lost or overtake another of its connection, and each response must belong to its event.
func TestManyEventsAtOnce(t *testing.T) {
	const connections, events = 64, 10_000
	var mu sync.Mutex
	received := map[string][]string{}
	url := serve(t, eventhandler.Options{
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			mu.Lock()
			received[r.ConnectionID] = append(received[r.ConnectionID], r.Text())
			mu.Unlock()
			return &eventhandler.UserEventResponse{Message: webpubsub.Text("got " + r.Text() + " of " + r.ConnectionID)}, nil
		},
	})

	transport := &http.Transport{MaxIdleConnsPerHost: connections}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	send := func(connection string, n int) error {
		response, err := client.Do(newEvent(url, "user.message", "text/plain", strconv.Itoa(n),
			with("ce-connectionId", connection), with("ce-id", strconv.Itoa(n)), with("ce-signature", sign(connection, testKey))))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if want := fmt.Sprintf("got %d of %s", n, connection); err == nil && string(body) != want {
			err = fmt.Errorf("event %d of %s: response %d %q", n, connection, response.StatusCode, body)
		}
		return err
	}
	sent := map[string][]string{}
	failed := make(chan error, connections)
	var senders sync.WaitGroup
	for c := range connections {
		connection := fmt.Sprintf("c%d", c)
		var numbers []string
		for n := c; n < events; n += connections {
			numbers = append(numbers, strconv.Itoa(n))
		}
		sent[connection] = numbers
		senders.Go(func() {
			for n := c; n < events; n += connections {
				if err := send(connection, n); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	senders.Wait()
	close(failed)
	require.NoError(t, <-failed)
	require.Equal(t, sent, received)
}
