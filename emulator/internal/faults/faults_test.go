package faults

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

func TestTheFirstMatchingFaultOccursTimesTimes(t *testing.T) {
	l := NewList(hub.NewService(slog.New(slog.DiscardHandler), &hub.Clock{}, nil))
	l.Inject(Fault{Operation: "SendToAll", Times: 2, Status: 500})
	l.Inject(Fault{Times: 1, Status: 501})
	l.Inject(Fault{Operation: Connect, Times: 1, Status: 502})
	for _, next := range []struct {
		operation string
		status    int
	}{{"SendToAll", 500}, {"UserExists", 501}, {"SendToAll", 500}, {"SendToAll", 0}, {Connect, 502}, {Connect, 0}} {
		require.Equal(t, next.status, l.Next(next.operation).Status, next.operation)
	}
	l.Inject(Fault{Times: 1, Status: 500})
	l.Clear()
	require.Zero(t, l.Next("SendToAll"))
}

// changes is an observer that receives a value for each change.
type changes chan struct{}

func (c changes) Changed()               { c <- struct{}{} }
func (changes) Watched() bool            { return false }
func (changes) Traffic(hub.TrafficEvent) {}

func TestADelayEndsByTheClockOrWhenTheServerCloses(t *testing.T) {
	delayed := make(changes, 1)
	service := hub.NewService(slog.New(slog.DiscardHandler), &hub.Clock{}, delayed)
	l := NewList(service)
	answered := make(chan string)
	delay := func() {
		w := httptest.NewRecorder()
		err := l.Apply(Fault{Delay: time.Hour, Status: 503, RetryAfter: 1500 * time.Millisecond}, w)
		answered <- fmt.Sprintf("%d, Retry-After %s", err.Status, w.Header().Get("Retry-After"))
	}
	go delay()
	<-delayed
	require.Equal(t, 1, service.Delayed())
	service.Clock.Advance(59 * time.Minute)
	require.Equal(t, 1, service.Delayed())
	require.Empty(t, answered)
	service.Clock.Advance(time.Minute)
	require.Equal(t, "503, Retry-After 2", <-answered, "Retry-After must be in whole seconds, rounded up")
	require.Zero(t, service.Delayed())
	go delay()
	<-delayed
	service.Life.BeginClose()
	require.Equal(t, "503, Retry-After 2", <-answered)
}
