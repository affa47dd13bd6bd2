package eventhandler_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/eventhandler"
)

// The recordings are requests, each with the handler's interpretation of it. The requests in testdata/references do not
// come from the emulator; the README there lists their sources. The requests in testdata/emulator come from the
// emulator. The tests check the handler against both without running anything else.
//
//	go test ./eventhandler -run TestRecordings -update              rewrites the .json files
//	go test ./eventhandler -run TestRecordings -record -update      first records the emulator's requests again
var (
	record = flag.Bool("record", false, "record the requests in testdata/emulator again")
	update = flag.Bool("update", false, "rewrite the expected results")
)

const recordings = "testdata/emulator"

// referenceCount is the number of requests in testdata/references. netKey is the key of the requests from .NET's tests.
const (
	referenceCount = 20
	netKey         = "7aab239577fd4f24bc919802fb629f5f"
)

// recorded is the handler's interpretation of a request.
type recorded struct {
	Status  int
	Header  http.Header         // of the response
	Body    string              // of the response
	Event   *eventhandler.Event `json:",omitempty"` // set if the JSON of the request does not include it
	Request any                 `json:",omitempty"`
}

// recordingOptions returns the options of a handler that records the requests of its callbacks.
func recordingOptions(got *recorded) *eventhandler.Options {
	return &eventhandler.Options{
		Hub: "chat", AccessKeys: []string{testKey, netKey}, Logger: slog.New(slog.DiscardHandler),
		OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			got.Request = r
			return &eventhandler.ConnectResponse{UserID: "Ann", SetState: map[string]any{"n": 1}}, nil
		},
		OnConnected: func(_ context.Context, r *eventhandler.ConnectedRequest) error {
			got.Event, got.Request = &r.Event, r
			return nil
		},
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			got.Request = r
			return &eventhandler.UserEventResponse{Message: webpubsub.Text("ok")}, nil
		},
		OnDisconnected: func(_ context.Context, r *eventhandler.DisconnectedRequest) error {
			got.Event, got.Request = &r.Event, r
			return nil
		},
		OnGroupJoined: func(_ context.Context, r *eventhandler.GroupRequest) error {
			got.Event, got.Request = &r.Event, r
			return nil
		},
		OnGroupLeft: func(_ context.Context, r *eventhandler.GroupRequest) error {
			got.Event, got.Request = &r.Event, r
			return nil
		},
	}
}

func TestRecordings(t *testing.T) {
	if *record {
		recordRequests(t)
	}
	files, err := filepath.Glob("testdata/*/*.http")
	require.NoError(t, err)
	require.Len(t, files, 10+referenceCount)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
			require.NoError(t, err)
			var got recorded
			handler, err := eventhandler.New(recordingOptions(&got))
			require.NoError(t, err)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			got.Status, got.Header, got.Body = w.Code, w.Header(), w.Body.String()
			have, err := json.MarshalIndent(got, "", "  ")
			require.NoError(t, err)
			golden := strings.TrimSuffix(file, ".http") + ".json"
			if *update {
				require.NoError(t, os.WriteFile(golden, append(have, '\n'), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(have))
		})
	}
}

// recordRequests runs the life of two clients of the emulator, and writes the requests that the emulator sends.
func recordRequests(t *testing.T) {
	old, err := filepath.Glob(recordings + "/*")
	require.NoError(t, err)
	for _, file := range old {
		require.NoError(t, os.Remove(file))
	}
	require.NoError(t, os.MkdirAll(recordings, 0o700))
	srv := emulator.StartT(t, &emulator.Options{AccessKey: testKey, SecondaryAccessKey: "the secondary key"})
	handler, err := eventhandler.New(recordingOptions(&recorded{}))
	require.NoError(t, err)
	told := make(chan string, 100)
	number := 0 // the clients run in sequence, so the requests have a fixed order
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := httputil.DumpRequest(r, true)
		if err != nil {
			t.Error(err)
		}
		name := r.Header.Get("ce-eventName")
		if name == "" {
			name = "validate"
		}
		kind := "json"
		if r.Header.Get("ce-physicalConnectionId") != "" {
			kind = "mqtt"
		}
		number++
		if err := os.WriteFile(fmt.Sprintf("%s/%02d-%s-%s.http", recordings, number, kind, name), request, 0o600); err != nil {
			t.Error(err)
		}
		handler.ServeHTTP(w, r)
		told <- name
	}))
	defer server.Close()
	require.NoError(t, srv.SetHubSettings("chat", emulator.HubSettings{EventHandlers: []emulator.EventHandler{{
		URLTemplate: server.URL + "/eventhandler/{event}", SystemEvents: []string{"connect", "connected", "disconnected"},
		UserEventPattern: "*"}}}))
	client, err := webpubsub.NewClientFromConnectionString(srv.ConnectionString(), "chat", nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	connect := func(o webpubsub.ClientAccessTokenOptions, query, subprotocol string) *websocket.Conn {
		access, err := client.GetClientAccessToken(ctx, &o)
		require.NoError(t, err)
		ws, _, err := websocket.Dial(ctx, access.URL+query, &websocket.DialOptions{Subprotocols: []string{subprotocol}})
		require.NoError(t, err)
		return ws
	}
	until := func(name string) {
		for {
			select {
			case got := <-told:
				if got == name {
					return
				}
			case <-ctx.Done():
				t.Fatalf("the handler was not notified of %s", name)
			}
		}
	}

	ws := connect(webpubsub.ClientAccessTokenOptions{UserID: "ann", Roles: []string{webpubsub.RoleSendToAnyGroup}}, "&room=lobby",
		"json.webpubsub.azure.v1")
	until("connected")
	for _, frame := range []string{
		`{"type":"event","event":"order","dataType":"json","data":{"item":"tea"},"metadata":{"trace":"t1"}}`,
		`{"type":"event","event":"say","dataType":"text","data":"héllo"}`,
		`{"type":"event","event":"picture","dataType":"binary","data":"AP8="}`,
	} {
		require.NoError(t, ws.Write(ctx, websocket.MessageText, []byte(frame)))
		until(strings.Split(frame, `"`)[7])
	}
	ws.CloseNow()
	until("disconnected")

	ws = connect(webpubsub.ClientAccessTokenOptions{UserID: "ann", Protocol: webpubsub.ClientProtocolMQTT}, "", "mqtt")
	for _, pk := range []packets.Packet{
		&packets.Connect{ProtocolName: "MQTT", ProtocolVersion: 5, CleanStart: true, ClientID: "device", KeepAlive: 60,
			UsernameFlag: true, Username: "ann", PasswordFlag: true, Password: []byte("not a secret"),
			Properties: &packets.Properties{User: []packets.User{{Key: "app", Value: "1.0"}}}},
		&packets.Disconnect{ReasonCode: 4, Properties: &packets.Properties{User: []packets.User{{Key: "why", Value: "bye"}}}},
	} {
		var packet bytes.Buffer
		_, err = pk.WriteTo(&packet)
		require.NoError(t, err)
		require.NoError(t, ws.Write(ctx, websocket.MessageBinary, packet.Bytes()))
		if _, first := pk.(*packets.Connect); first {
			until("connected")
		}
	}
	_, _ = io.Copy(io.Discard, websocket.NetConn(ctx, ws, websocket.MessageBinary))
	until("disconnected")
}
