package emulator_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
	"github.com/awps-go/webpubsub/emulator/internal/mqttpacket"
)

// eventRequest is a request that a handler received.
type eventRequest struct {
	header http.Header
	body   []byte
}

// mqttHandler sets an event handler that does not use package eventhandler. It returns the events that the handler receives. answer,
// if set, writes the response.
func mqttHandler(t *testing.T, srv *emulator.Server, answer http.HandlerFunc) <-chan eventRequest {
	t.Helper()
	requests := make(chan eventRequest, 1000)
	listen(t, srv, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		if r.Method != http.MethodPost {
			return
		}
		body, _ := io.ReadAll(r.Body)
		requests <- eventRequest{r.Header, body}
		w.Header()["Content-Type"] = nil
		if answer != nil {
			answer(w, r)
		}
	}), overHTTP)
	return requests
}

// sameEvent compares a request with a reference. ids holds the ids of the connection and the session; sameEvent adds missing ids.
func sameEvent(t *testing.T, file string, got eventRequest, ids map[string]string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "mqtt", file))
	require.NoError(t, err)
	want, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(data)))
	require.NoError(t, err)
	body, err := io.ReadAll(want.Body)
	require.NoError(t, err)
	for name, values := range want.Header {
		if name == "Content-Length" {
			continue
		}
		have := got.header[name]
		if len(values) == 1 && values[0] == "*" {
			require.Len(t, have, 1, "%s: %s", file, name)
			continue
		}
		for i, value := range values {
			for _, kind := range []string{"{physical}", "{session}"} {
				if !strings.Contains(value, kind) {
					continue
				}
				if ids[kind] == "" && value == kind {
					ids[kind] = got.header.Get(name)
					require.NotEmpty(t, ids[kind], "%s: %s", file, name)
				}
				if ids[kind] == "" { // the header with the id alone may not have been compared yet
					ids[kind] = got.header.Get("ce-physicalConnectionId")
				}
				values[i] = strings.ReplaceAll(value, kind, ids[kind])
			}
		}
		require.Equal(t, values, have, "%s: %s", file, name)
	}
	for name := range got.header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "ce-") || strings.HasPrefix(lower, "mqtt-") || strings.HasPrefix(lower, "x-webpubsub-") {
			require.Contains(t, want.Header, name, file)
		}
	}
	if !strings.HasPrefix(want.Header.Get("Content-Type"), "application/json") {
		require.Equal(t, body, got.body, file)
		return
	}
	var wantMembers, gotMembers map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(body, &wantMembers))
	require.NoError(t, json.Unmarshal(got.body, &gotMembers))
	for name, value := range wantMembers {
		require.JSONEq(t, string(value), string(gotMembers[name]), "%s: %s", file, name)
	}
}

// readAnswers returns the PUBLISH packets of testdata/mqtt/answers.txt by name.
func readAnswers(t *testing.T) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/mqtt/answers.txt")
	require.NoError(t, err)
	all := make(map[string][]byte)
	for line := range strings.Lines(string(text)) {
		digits, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[name], err = hex.DecodeString(digits)
		require.NoError(t, err)
	}
	return all
}

// reference starts a server with the keys that signed the references.
func reference(t *testing.T) *emulator.Server {
	return emulator.StartT(t, &emulator.Options{AccessKey: "the access key", SecondaryAccessKey: "the secondary key"})
}

func TestMQTTEventsAreTheServicesByteForByte(t *testing.T) {
	srv := reference(t)
	requests := mqttHandler(t, srv, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("ce-eventName") {
		case "hello":
			w.Header().Set("Content-Type", "text/plain")
			w.Header()["mqtt-answer"] = []string{"yes", "no"}
			io.WriteString(w, "the answer")
		case "picture":
			w.Header().Set("Content-Type", "application/vnd.own+json")
			w.WriteHeader(http.StatusTeapot)
			io.WriteString(w, `{"no":1}`)
		}
	})
	answers := readAnswers(t)
	ids := map[string]string{}

	connect := connectPacket("client1")
	connect.Connect.Username, connect.Connect.Password = new("alice"), []byte("pässwörd")
	connect.Properties.User = []mqttpacket.UserProperty{{Key: "a", Value: "b"}, {Key: "a", Value: "c"}}
	c, _ := dialWire(t, srv, mqtt5, dialOptions{user: "ann"}, connect)
	sameEvent(t, "01-connect-5.http", soonFrom(t, requests), ids)
	sameEvent(t, "02-connected.http", soonFrom(t, requests), ids)

	hello := publishPacket("$webpubsub/server/events/hello", 1, "gr\xfc\xdfe")
	hello.Properties = mqttpacket.Properties{ContentType: "text/plain; charset=iso-8859-1", CorrelationData: []byte("7"),
		ResponseTopic: "elsewhere", User: []mqttpacket.UserProperty{{Key: "trace", Value: "t1"}, {Key: "Trace", Value: "t2"}}}
	c.send(hello)
	sameEvent(t, "03-hello.http", soonFrom(t, requests), ids)
	first, second := c.read(), c.read()
	if first.Type == mqttpacket.Puback {
		first, second = second, first
	}
	require.Equal(t, hex.EncodeToString(answers["hello"]), hex.EncodeToString(mqttpacket.Encode(first)))
	require.Equal(t, mqttpacket.Packet{Type: mqttpacket.Puback, Version: 5, PacketID: 9}, *second)
	c.acknowledge(first.PacketID)

	picture := publishPacket("$webpubsub/server/events/picture", 0, "\x89PNG")
	picture.Properties.ContentType = "image/png"
	c.send(picture)
	sameEvent(t, "04-picture.http", soonFrom(t, requests), ids)
	require.Equal(t, hex.EncodeToString(answers["picture"]), hex.EncodeToString(mqttpacket.Encode(c.read())))

	disconnect := packetOf(mqttpacket.Disconnect)
	disconnect.Code, disconnect.Properties.User = 4, []mqttpacket.UserProperty{{Key: "why", Value: "bye"}}
	c.send(disconnect)
	sameEvent(t, "05-disconnected-by-the-client.http", soonFrom(t, requests), ids)
}

func TestEventsOfMQTT311AreTheServicesByteForByte(t *testing.T) {
	srv := reference(t)
	requests := mqttHandler(t, srv, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	ids := map[string]string{}
	c, _ := dialWire(t, srv, mqtt311, dialOptions{}, connectPacket("client1"))
	sameEvent(t, "11-connect-3.1.1.http", soonFrom(t, requests), ids)
	sameEvent(t, "12-connected.http", soonFrom(t, requests), ids)
	c.send(publishPacket("$webpubsub/server/events/hello", 0, "\x00\x01"))
	sameEvent(t, "13-hello.http", soonFrom(t, requests), ids)
	require.Equal(t, hex.EncodeToString(readAnswers(t)["hello of 3.1.1, answered with 204"]), hex.EncodeToString(mqttpacket.Encode(c.read())))
	rest{t, srv}.must(204, "DELETE", "hubs/chat/connections/client1")
	got := soonFrom(t, requests)
	var body map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(got.body, &body))
	body["reason"] = []byte(`"the application has closed the connection"`) // the tests of internal/hub check the real reason
	got.body, _ = json.Marshal(body)
	sameEvent(t, "14-disconnected-by-the-service.http", got, ids)
}

// soonFrom receives from c. It fails the test if nothing comes in time.
func soonFrom[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-soon(t).Done():
		require.Fail(t, "nothing came")
	}
	return v
}
