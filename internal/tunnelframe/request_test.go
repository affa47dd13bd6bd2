package tunnelframe

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const usualRequest = `{"AckId":7,"LocalRouting":true,"ChannelName":"c","HttpMethod":"POST","Url":"http://h/a?b","Headers":{"ce-id":["1"]},"TracingId":"t","Type":1}`

func FuzzRequestsDecodeAsEncodingJSONDecodesThem(f *testing.F) {
	for _, text := range []string{usualRequest, `{}`, `{"AckId":01}`, `{"AckId":-1}`, `{"AckId":1.5}`, `{"AckId":1e3}`, `{"AckId":9223372036854775808}`,
		` { "AckId" : 1 , "ChannelName" : null , "TracingId" : null } `, `{"TracingId":12,"LocalRouting":false}`, `{"TracingId":{}}`,
		`{"Headers":null}`, `{"Headers":{}}`, `{"Headers":{},"Headers":{"a":["b"]}}`, `{"ackid":1}`, `{"Url":"\u0041"}`, `{"Url":"\""}`, `{"Url":"\\"}`, `{"Url":"\ud800"}`, `{"Headers":{"a\"":["\u0026","\\"]},"TracingId":"\t"}`, "{\"Url\":\"\t\"}", `{"Url":null}`,
		`{"LocalRouting":truefalse}`, `{"AckId":1,}`, `{,}`, `{"AckId":1}x`, `{"AckId":}`, `{"Body":"x"}`, `{"LocalRouting":"true"}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var got Request
		if !utf8.ValidString(text) || !parseRequest(text, &got) {
			return
		}
		var want requestText
		require.NoError(t, json.Unmarshal([]byte(text), &want))
		want.Request.Headers = want.Headers
		require.Equal(t, want.Request, got)
	})
}

func TestTheUsualRequestNeedsNoEncodingJSON(t *testing.T) {
	for text, want := range map[string]bool{
		usualRequest: true, `{"AckId":1,"ChannelName":null,"TracingId":5}`: true,
		`{"AckId":1,"AckId":2}`: false, `{"ackId":1}`: false, `{"Url":"\u0041"}`: true, `{"Url":"\u00"}`: false, `{"Url":"\"}`: false, `{"AckId":1`: false,
	} {
		require.Equal(t, want, parseRequest(text, &Request{}), text)
	}
}
