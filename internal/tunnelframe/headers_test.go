package tunnelframe

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzHeadersDecodeAsEncodingJSONDecodesThem(f *testing.F) {
	for _, text := range []string{`{}`, ` { "a" : [ "b" , "c" ] , "d":[] } `, `{"a":["1"],"a":["2"]}`, `{"a":["\u0062"]}`, `{"a":null,"b":[null]}`,
		`null`, `{"a":"b"}`, `{"a":[1]}`, "{\"ce-userId\":[\"\u00c4nn\"]}", "{\"a\":[\"\xff\"]}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want map[string][]string
		wantErr := json.Unmarshal(text, &want)
		var got headers
		err := json.Unmarshal(text, &got)
		require.Equal(t, wantErr == nil, err == nil)
		if err == nil {
			require.Equal(t, want, map[string][]string(got))
		}
	})
}

func TestTheUsualHeadersNeedNoEncodingJSON(t *testing.T) {
	parsed, ok := parseHeaders(`{"ce-id":["1"], "ce-signature":["sha256=a","sha256=b"],"empty":[]}`)
	require.True(t, ok)
	require.Equal(t, map[string][]string{"ce-id": {"1"}, "ce-signature": {"sha256=a", "sha256=b"}, "empty": {}}, parsed)
	for _, other := range []string{``, `{`, `{"a":["b"]`, `{"a":["b"`, `{"a":["b"]} x`, `{"a":"b"}`, `{"a":["b""c"]}`} {
		_, ok := parseHeaders(other)
		require.False(t, ok, other)
	}
}
