package handshake

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckWebSocket(t *testing.T) {
	for name, tt := range map[string]struct {
		method  string
		headers []string // names and values in turn, in place of the usual ones
		valid   bool
	}{
		"the usual handshake":            {"GET", nil, true},
		"Connection with several values": {"GET", []string{"Connection", "keep-alive, Upgrade"}, true},
		"Connection with several lines":  {"GET", []string{"Connection", "keep-alive", "Connection", "upgrade"}, true},
		"Connection without Upgrade":     {"GET", []string{"Connection", "keep-alive"}, false},
		"Connection with another token":  {"GET", []string{"Connection", "no-upgrade"}, false},
		"two keys":                       {"GET", []string{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}, false},
		"Upgrade in upper case":          {"GET", []string{"Upgrade", "WEBSOCKET"}, true},
		"another Upgrade":                {"GET", []string{"Upgrade", "h2c"}, false},
		"another version":                {"GET", []string{"Sec-WebSocket-Version", "8"}, false},
		"a short key":                    {"GET", []string{"Sec-WebSocket-Key", "c2hvcnQ="}, false},
		"a key that is not base64":       {"GET", []string{"Sec-WebSocket-Key", "?"}, false},
		"another method":                 {"POST", nil, false},
	} {
		r := httptest.NewRequest(tt.method, "/client/hubs/h", nil)
		headers := map[string][]string{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-WebSocket-Version": {"13"},
			"Sec-WebSocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		for i := 0; i < len(tt.headers); i += 2 {
			headers[tt.headers[i]] = nil
		}
		for i := 0; i < len(tt.headers); i += 2 {
			headers[tt.headers[i]] = append(headers[tt.headers[i]], tt.headers[i+1])
		}
		for key, values := range headers {
			for _, v := range values {
				r.Header.Add(key, v)
			}
		}
		require.Equal(t, tt.valid, CheckWebSocket(r) == nil, name)
	}
}
