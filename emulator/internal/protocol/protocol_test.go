package protocol

import (
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	_ "google.golang.org/protobuf/types/known/wrapperspb" // registers StringValue, which a seed uses

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/internal/pb"
)

// unmarshal is like json.Unmarshal, but accepts only valid UTF-8, like clients do.
func unmarshal(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("not UTF-8")
	}
	return json.Unmarshal(data, v)
}

func FuzzJSONFrames(f *testing.F) {
	for _, seed := range []string{`{"type":"ping"}`, `{"type":"joinGroup","group":"g","ackId":1}`, `{"type":"event","event":"e","data":{}}`,
		`{"type":"sendToGroup","group":"g","dataType":"binary","data":"AP8=","metadata":{"k":"v"},"ttlSeconds":1,"noEcho":true}`,
		`{"type":"sendToGroup","group":"g","dataType":"text","data":null}`, `{"type":"sequenceAck","sequenceId":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := JSON{}.Decode(true, data)
		if err != nil || r.Kind != RequestSend {
			return
		}
		// Every message that Decode accepts must encode to a frame that the recipient can decode.
		m := &hub.Message{Payload: r.Payload, Group: r.Group, FromUser: "u"}
		var v map[string]any
		require.NoError(t, unmarshal(JSON{}.Sequenced(m.FrameFor(JSON{}).Data, 7), &v))
		require.Equal(t, r.Group, v["group"])
		require.Equal(t, 7.0, v["sequenceId"])
	})
}

func FuzzProtobufFrames(f *testing.F) {
	for _, seed := range []string{`{"pingMessage":{}}`, `{"joinGroupMessage":{"group":"g","ackId":1}}`, `{"sequenceAckMessage":{"sequenceId":1}}`,
		`{"sendToGroupMessage":{"group":"h","ackId":1,"noEcho":true,"ttlSeconds":1,"metadata":{"k":"v"},"data":{"textData":"x"}}}`,
		`{"sendToGroupMessage":{"group":"h","data":{"protobufData":{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"x"}}}}`,
		`{"eventMessage":{"event":"e","ackId":1,"data":{"jsonData":"1"}}}`} {
		var m pb.UpstreamMessage
		if err := protojson.Unmarshal([]byte(seed), &m); err != nil {
			f.Fatal(err)
		}
		f.Add(marshalProtobuf(&m))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Protobuf{}.Decode(false, data)
		if err != nil || r.Kind != RequestSend {
			return
		}
		// Every message that Decode accepts must encode to a frame that recipients of every protocol can decode.
		m := &hub.Message{Payload: r.Payload, Group: r.Group, FromUser: "u"}
		var down pb.DownstreamMessage
		require.NoError(t, proto.Unmarshal(Protobuf{}.Sequenced(m.FrameFor(Protobuf{}).Data, 1<<40), &down))
		require.Equal(t, r.Group, down.GetDataMessage().GetGroup())
		require.Equal(t, uint64(1<<40), down.GetDataMessage().GetSequenceId())
		var v map[string]any
		require.NoError(t, unmarshal(m.FrameFor(JSON{}).Data, &v))
	})
}

func TestMetadataInHeaders(t *testing.T) {
	for line, want := range map[string]string{"a": "a", " a ": "a", "a,b": "b", "a, b , c ": "c", "a,": "", "": ""} {
		require.Equal(t, map[string]string{"key": want}, MetadataOf(map[string][]string{"X-Webpubsub-Metadata-Key": {"x", line}}), line)
	}
	require.Equal(t, map[string]string{"": "v"}, MetadataOf(map[string][]string{"X-Webpubsub-Metadata-": {"v"}}), "an empty key is checked later")
	require.Nil(t, MetadataOf(map[string][]string{"X-Webpubsub-Meta": {"v"}, "Content-Type": {"text/plain"}}))
}
