package liveview

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/watch"
)

// noApplication is an application that receives no events.
type noApplication struct{ hub.Application }

func (noApplication) Listens(string) bool { return false }

// noLink is a link that ignores everything.
type noLink struct{}

func (noLink) Deliver(*hub.Message) {}
func (noLink) Close(string)         {}
func (noLink) Drop() func() bool    { return nil }
func (noLink) Away() bool           { return false }

func newView() *View {
	clock := &hub.Clock{}
	board := watch.NewBoard(clock)
	service := hub.NewService(slog.New(slog.DiscardHandler), clock, board)
	service.Application = noApplication{}
	return New(Options{Service: service, Board: board, Secrets: func() []string { return nil },
		Tunnels: func(hub string) int { return len(hub) }})
}

func TestEveryEmbeddedFileIsServed(t *testing.T) {
	files, err := fs.Glob(files, "page/*")
	require.NoError(t, err)
	require.Len(t, files, len(paths)-1)
}

func TestNothingIsWatchedAfterThePageIsClosed(t *testing.T) {
	v := newView()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v.stream(httptest.NewRecorder(), httptest.NewRequest("GET", streamPath, nil).WithContext(ctx))
	require.False(t, v.Board.Watched())
}

func TestASlowPageDelaysNothingAndShowsWhatItMissed(t *testing.T) {
	v := newView()
	server := httptest.NewServer(http.HandlerFunc(v.stream))
	defer server.Close()
	resp, err := http.Get(server.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	events := bufio.NewScanner(resp.Body)
	events.Buffer(nil, 64<<20)
	require.True(t, events.Scan())
	const published = 20_000 // more than the network and the view buffer
	for range published {    // hangs if a page can block the traffic
		v.Board.Traffic(hub.TrafficEvent{Kind: "message", Text: "flood", Data: strings.Repeat("x", maxShownData)})
	}
	var seen, missed int64
	for seen+missed < published {
		require.True(t, events.Scan(), "%d seen, %d missed", seen, missed)
		if data, ok := strings.CutPrefix(events.Text(), "data: {\"events\""); ok {
			var traffic liveTraffic
			require.NoError(t, json.Unmarshal([]byte("{\"events\""+data), &traffic))
			seen, missed = seen+int64(len(traffic.Events)), traffic.Missed
		}
		if seen > 0 && seen+missed < published {
			v.Board.Traffic(hub.TrafficEvent{Kind: "message", Text: "one more, so that the stream sends the number of missed events"})
		}
	}
	require.Greater(t, missed, int64(100))
}

func TestLiveViewShowsPartOfALargeStateAndCountsTheRest(t *testing.T) {
	v := newView()
	const connections, groups = maxShownConnections + 7, maxShownGroups + 5
	h := v.Service.Hub("big")
	for i := range connections {
		var in []string
		if i == 0 {
			for g := range groups {
				in = append(in, fmt.Sprintf("group %03d", g))
			}
		}
		h.Add(&hub.Connection{ID: fmt.Sprintf("c%04d", i), Hub: h, UserID: fmt.Sprintf("user %04d", i), Link: noLink{}}, in, func() {})
	}
	for i := range maxShownHubs {
		h := v.Service.Hub(fmt.Sprintf("hub%02d", i))
		h.Add(&hub.Connection{ID: "c", Hub: h, Link: noLink{}}, nil, func() {})
	}
	state := v.state()
	require.Equal(t, maxShownHubs+1, state.HubCount)
	require.Len(t, state.Hubs, maxShownHubs)
	big := state.Hubs[0]
	require.Equal(t, []int{connections, connections, groups}, []int{big.ConnectionCount, big.UserCount, big.GroupCount})
	require.Len(t, big.Connections, maxShownConnections)
	require.Len(t, big.Groups, maxShownGroups)
	require.Equal(t, "c0000", big.Connections[0].ID)
	require.Equal(t, len("big"), big.TunnelCount)
	require.Len(t, big.Connections[0].Groups, maxShownMemberships)
	require.Equal(t, groups, big.Connections[0].GroupCount)
}
