package tunnelframe_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

// recordedFrames returns frames that the official package encoded, by name.
func recordedFrames(t testing.TB) map[string][]byte {
	t.Helper()
	data, err := os.ReadFile("testdata/frames.json")
	require.NoError(t, err)
	var file struct {
		Frames []struct {
			Name, Frame string
			Then        struct {
				Repeat string
				Times  int
			}
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	frames := map[string][]byte{}
	for _, f := range file.Frames {
		frame, err := hex.DecodeString(f.Frame + strings.Repeat(f.Then.Repeat, f.Then.Times))
		require.NoError(t, err)
		frames[f.Name] = frame
	}
	return frames
}

// messages returns the messages of the recorded frames, by name.
func messages() map[string]tunnelframe.Message {
	channel, empty := "channel-1", ""
	none := map[string][]string{}
	allBytes := make([]byte, 256)
	for i := range allBytes {
		allBytes[i] = byte(i)
	}
	request := func(ackID int64, method, url string, body []byte) *tunnelframe.Request {
		return &tunnelframe.Request{AckID: ackID, LocalRouting: true, ChannelName: &empty, Method: method, URL: url, Headers: none, Body: body}
	}
	return map[string]tunnelframe.Message{
		"request": &tunnelframe.Request{
			AckID: 7, ChannelName: &channel, Method: "POST", URL: "https://host/eventhandler/say?code=a%20b",
			Headers: map[string][]string{"ce-signature": {"sha256=aa", "sha256=bb"}, "ce-userId": {"Zoë <&>"}, "content-type": {"text/plain; charset=utf-8"}},
			Body:    []byte("hello"),
		},
		"request without a body":         request(1, "DELETE", "https://host/api/hubs/chat/groups/g/connections/c?api-version=2023-07-01", nil),
		"request, empty body":            request(0, "POST", "https://host/", []byte{}),
		"request, body of 256 bytes":     request(2, "POST", "https://host/", allBytes),
		"request, body of 70000 bytes a": request(3, "POST", "https://host/", bytes.Repeat([]byte("a"), 70000)),
		"request, short":                 request(4, "GET", "/", nil),
		"response": &tunnelframe.Response{AckID: 7, StatusCode: 200, ChannelName: &channel,
			Headers: map[string][]string{"content-type": {"text/plain"}}, Body: []byte("hi")},
		"response without a body": &tunnelframe.Response{AckID: 1<<31 - 1, LocalRouting: true, StatusCode: 204, ChannelName: &empty, Headers: none},
		"response, a part": &tunnelframe.Response{AckID: 3, LocalRouting: true, StatusCode: 200, ChannelName: &empty, NotCompleted: true,
			Headers: none, Body: []byte(`{"a":`)},
		"response of the client to a request": &tunnelframe.Response{AckID: 7, StatusCode: 200, ChannelName: &channel,
			Headers: map[string][]string{"content-type": {"text/plain"}, "x-two": {"a", "b"}}, Body: []byte("answer")},
		"service status":      &tunnelframe.Status{Message: "healthy"},
		"reconnect":           &tunnelframe.Reconnect{TargetID: "instance-2", Endpoint: "https://host.example.com/", Message: "upgrade"},
		"close":               &tunnelframe.Close{Message: "bye"},
		"rebalance":           &tunnelframe.Rebalance{TargetID: "instance-3", Endpoint: "https://host.example.com/", Message: "scale"},
		"connected":           &tunnelframe.Connected{ConnectionID: "conn-1", UserID: "user-1", ReconnectionToken: "token-1"},
		"connected, id alone": &tunnelframe.Connected{ConnectionID: "c"},
	}
}

func TestFramesOfTheOfficialPackage(t *testing.T) {
	frames, messages := recordedFrames(t), messages()
	require.Len(t, frames, len(messages))
	for name, frame := range frames {
		t.Run(name, func(t *testing.T) {
			decoded, err := tunnelframe.Decode(frame, tunnelframe.MaxSize)
			require.NoError(t, err)
			require.Equal(t, messages[name], decoded)
			encoded, err := tunnelframe.Encode(messages[name], tunnelframe.MaxSize)
			require.NoError(t, err)
			require.Equal(t, string(frame), string(encoded))
		})
	}
}

// TestFramesOfTheService decodes frames that the service encoded. They are in a test of the official package:
// github.com/Azure/azure-webpubsub, sdk/server-proxies/tests/TunnelMessageProtocol.test.ts.
func TestFramesOfTheService(t *testing.T) {
	channel := "a"
	headers := map[string][]string{"a": {"b"}}
	for encoded, want := range map[string]tunnelframe.Message{
		"WQAAAJMK2VR7IlR5cGUiOjEwLCJDb25uZWN0aW9uSWQiOiJhIiwiVXNlcklkIjoiYiIsIlJlY29ubmVjdGlvblRva2VuIjoiYyIsIlRyYWNpbmdJZCI6bnVsbH3A": &tunnelframe.Connected{
			ConnectionID: "a", UserID: "b", ReconnectionToken: "c"},
		"WgAAAJMK2VV7IlR5cGUiOjEwLCJDb25uZWN0aW9uSWQiOiJhIiwiVXNlcklkIjpudWxsLCJSZWNvbm5lY3Rpb25Ub2tlbiI6ImIiLCJUcmFjaW5nSWQiOm51bGx9wA==": &tunnelframe.Connected{
			ConnectionID: "a", ReconnectionToken: "b"},
		"WgAAAJMK2VV7IlR5cGUiOjEwLCJDb25uZWN0aW9uSWQiOiJhIiwiVXNlcklkIjoiYiIsIlJlY29ubmVjdGlvblRva2VuIjpudWxsLCJUcmFjaW5nSWQiOm51bGx9wA==": &tunnelframe.Connected{
			ConnectionID: "a", UserID: "b"},
		"TAAAAJMI2Ud7IlR5cGUiOjgsIlRhcmdldElkIjoiYSIsIkVuZHBvaW50IjoiYiIsIk1lc3NhZ2UiOiJjIiwiVHJhY2luZ0lkIjpudWxsfcA=": &tunnelframe.Rebalance{TargetID: "a", Endpoint: "b", Message: "c"},
		"TAAAAJMG2Ud7IlR5cGUiOjYsIlRhcmdldElkIjoiYSIsIkVuZHBvaW50IjoiYiIsIk1lc3NhZ2UiOiJjIiwiVHJhY2luZ0lkIjpudWxsfcA=": &tunnelframe.Reconnect{TargetID: "a", Endpoint: "b", Message: "c"},
		"LgAAAJMF2Sl7IlR5cGUiOjUsIk1lc3NhZ2UiOiJhIiwiVHJhY2luZ0lkIjpudWxsfcA=":                                         &tunnelframe.Status{Message: "a"},
		"LgAAAJMH2Sl7IlR5cGUiOjcsIk1lc3NhZ2UiOiJhIiwiVHJhY2luZ0lkIjpudWxsfcA=":                                         &tunnelframe.Close{Message: "a"},
		"igAAAJMB2X97IlR5cGUiOjEsIkFja0lkIjoxLCJIdHRwTWV0aG9kIjoiSEVBRCIsIlVybCI6ImEiLCJIZWFkZXJzIjp7ImEiOlsiYiJdfSwiTG9jYWxSb3V0aW5nIjp0cnVlLCJDaGFubmVsTmFtZSI6ImEiLCJUcmFjaW5nSWQiOm51bGx9xAVIZWxsbw==": &tunnelframe.Request{
			AckID: 1, LocalRouting: true, ChannelName: &channel, Method: "HEAD", URL: "a", Headers: headers, TracingID: json.RawMessage("null"), Body: []byte("Hello")},
		"kgAAAJMC2Yd7IlR5cGUiOjIsIkFja0lkIjoxLCJTdGF0dXNDb2RlIjoyMDAsIkhlYWRlcnMiOnsiYSI6WyJiIl19LCJMb2NhbFJvdXRpbmciOnRydWUsIkNoYW5uZWxOYW1lIjoiYSIsIk5vdENvbXBsZXRlZCI6ZmFsc2UsIlRyYWNpbmdJZCI6bnVsbH3EBUhlbGxv": &tunnelframe.Response{
			AckID: 1, LocalRouting: true, StatusCode: 200, ChannelName: &channel, Headers: headers, Body: []byte("Hello")},
	} {
		frame, err := base64.StdEncoding.DecodeString(encoded)
		require.NoError(t, err)
		decoded, err := tunnelframe.Decode(frame, tunnelframe.MaxSize)
		require.NoError(t, err)
		require.Equal(t, want, decoded)
	}
}

// frame returns a frame with the given array and the correct length.
func frame(array string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(array))), array...)
}

const closeText = "\xae" + `{"Message":""}`

func TestFramesOfOtherWritersOfMessagePack(t *testing.T) {
	text := closeText[1:]
	for name, array := range map[string]string{
		"shortest forms":     "\x93\x07" + closeText + "\xc0",
		"array 16":           "\xdc\x00\x03\x07" + closeText + "\xc0",
		"array 32":           "\xdd\x00\x00\x00\x03\x07" + closeText + "\xc0",
		"array without body": "\x92\x07" + closeText,
		"uint 8":             "\x93\xcc\x07" + closeText + "\xc0",
		"uint 16":            "\x93\xcd\x00\x07" + closeText + "\xc0",
		"uint 32":            "\x93\xce\x00\x00\x00\x07" + closeText + "\xc0",
		"str 8":              "\x93\x07\xd9\x0e" + text + "\xc0",
		"str 16":             "\x93\x07\xda\x00\x0e" + text + "\xc0",
		"str 32":             "\x93\x07\xdb\x00\x00\x00\x0e" + text + "\xc0",
		"bin 8":              "\x93\x07" + closeText + "\xc4\x00",
		"bin 16":             "\x93\x07" + closeText + "\xc5\x00\x00",
		"bin 32":             "\x93\x07" + closeText + "\xc6\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			m, err := tunnelframe.Decode(frame(array), tunnelframe.MaxSize)
			require.NoError(t, err)
			require.Equal(t, &tunnelframe.Close{}, m)
		})
	}
}

func TestMalformedFrames(t *testing.T) {
	good := frame("\x93\x07" + closeText + "\xc0")
	withLength := func(n uint32) []byte {
		return append(binary.LittleEndian.AppendUint32(nil, n), good[4:]...)
	}
	size := uint32(len(good) - 4)
	const limit = 100
	for name, c := range map[string]struct {
		frame []byte
		want  string
	}{
		"nothing":                          {nil, "ends within its length"},
		"half a length":                    {[]byte{1, 0, 0}, "ends within its length"},
		"length of more than there is":     {withLength(size + 1), "declares 19 bytes but has 18"},
		"length of less than there is":     {withLength(size - 1), "declares 17 bytes, and 1 more follow"},
		"length of zero":                   {withLength(0), "declares 0 bytes, and 18 more follow"},
		"negative length":                  {withLength(1<<32 - 1), tunnelframe.ErrTooLarge.Error()},
		"length over the limit":            {withLength(limit - 3), tunnelframe.ErrTooLarge.Error()},
		"frame over the limit":             {make([]byte, limit+1), tunnelframe.ErrTooLarge.Error()},
		"an empty array text":              {frame(""), "ends within the array"},
		"a map":                            {frame("\x83\x07" + closeText + "\xc0"), "is not a MessagePack array (it begins with 0x83)"},
		"an array of none":                 {frame("\x90"), "has 0 elements"},
		"an array of one":                  {frame("\x91\x07"), "has 1 elements"},
		"an array of four":                 {frame("\x94\x07" + closeText + "\xc0\xc0"), "has 4 elements"},
		"an array of four billion":         {frame("\xdd\xff\xff\xff\xff"), "has 4294967295 elements"},
		"no type":                          {frame("\x93"), "ends within the type"},
		"a negative type":                  {frame("\x93\xff" + closeText + "\xc0"), "the type is not a MessagePack number"},
		"a type of 64 bits":                {frame("\x93\xcf\x00\x00\x00\x00\x00\x00\x00\x07" + closeText + "\xc0"), "the type is not a MessagePack number"},
		"an array as type":                 {frame("\x93\x93\x93\x93"), "the type is not a MessagePack number"},
		"no text":                          {frame("\x93\x07"), "ends within the text"},
		"nil as text":                      {frame("\x93\x07\xc0\xc0"), "the text is not a MessagePack string"},
		"a text that ends early":           {frame("\x93\x07\xdb\xff\xff\xff\xff{}"), "ends within the text"},
		"a text whose length is cut":       {frame("\x93\x07\xda\x00"), "ends within the text"},
		"a text that is not UTF-8":         {frame("\x93\x07\xa2{\xff\xc0"), "not valid UTF-8"},
		"an empty text":                    {frame("\x93\x07\xa0\xc0"), "not a JSON object"},
		"null":                             {frame("\x93\x07\xa4null\xc0"), "not a JSON object"},
		"a JSON array":                     {frame("\x93\x07\xa2[]\xc0"), "not a JSON object"},
		"broken JSON":                      {frame("\x93\x07\xa2{s\xc0"), "not valid JSON"},
		"text as AckId":                    {frame("\x93\x01\xb2" + `{"AckId":"secret"}` + "\xc0"), "AckId has the wrong type"},
		"headers with one text":            {frame("\x93\x01\xb8" + `{"Headers":{"secret":1}}` + "\xc0"), "Headers has the wrong type"},
		"no body":                          {frame("\x93\x07" + closeText), "ends within the body"},
		"a body that ends early":           {frame("\x93\x07" + closeText + "\xc4\x01"), "ends within the body"},
		"a body that is text":              {frame("\x93\x07" + closeText + "\xa0"), "the body is neither"},
		"a body of arrays within arrays":   {frame("\x93\x07" + closeText + strings.Repeat("\x91", 60)), "the body is neither"},
		"a body that is an extension type": {frame("\x93\x07" + closeText + "\xd4\x01\x01"), "the body is neither"},
		"bytes after the array":            {frame("\x93\x07" + closeText + "\xc0\xc0"), "1 bytes follow the array"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tunnelframe.Decode(c.frame, limit)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestUnknownTypes(t *testing.T) {
	for _, frameType := range []tunnelframe.Type{0, 3, 127, 128, 255, 256, 65536} {
		encoded, err := tunnelframe.Encode(&tunnelframe.Unknown{FrameType: frameType, Text: "not even JSON", Body: []byte("b")}, tunnelframe.MaxSize)
		require.NoError(t, err)
		m, err := tunnelframe.Decode(encoded, tunnelframe.MaxSize)
		require.NoError(t, err)
		require.Equal(t, &tunnelframe.Unknown{FrameType: frameType, Text: "not even JSON", Body: []byte("b")}, m)
	}
}

func TestLimits(t *testing.T) {
	empty, err := tunnelframe.Encode(&tunnelframe.Response{Body: make([]byte, 1<<17)}, tunnelframe.MaxSize)
	require.NoError(t, err)
	body := make([]byte, tunnelframe.MaxSize-(len(empty)-1<<17)+1)
	largest, err := tunnelframe.Encode(&tunnelframe.Response{Body: body[1:]}, tunnelframe.MaxSize)
	require.NoError(t, err)
	require.Len(t, largest, tunnelframe.MaxSize)
	_, err = tunnelframe.Decode(largest, tunnelframe.MaxSize)
	require.NoError(t, err)
	_, err = tunnelframe.Decode(largest, tunnelframe.MaxSize-1)
	require.ErrorIs(t, err, tunnelframe.ErrTooLarge)
	_, err = tunnelframe.Encode(&tunnelframe.Response{Body: body}, tunnelframe.MaxSize)
	require.ErrorIs(t, err, tunnelframe.ErrTooLarge)
}

func TestMembersThatTheServiceMayOmit(t *testing.T) {
	text := `{"AckId":9007199254740993,"ChannelName":null,"Headers":null,"TracingId":18446744073709551615,"New":[{}]}`
	m, err := tunnelframe.Decode(frame("\x93\x01\xd9"+string(rune(len(text)))+text+"\xc0"), tunnelframe.MaxSize)
	require.NoError(t, err)
	request := m.(*tunnelframe.Request)
	require.Equal(t, &tunnelframe.Request{AckID: 1<<53 + 1, TracingID: json.RawMessage("18446744073709551615")}, request)
	answer, err := tunnelframe.Encode(request.Answer(204, nil, nil), tunnelframe.MaxSize)
	require.NoError(t, err)
	require.Contains(t, string(answer), `{"AckId":9007199254740993,"LocalRouting":false,"StatusCode":204,"ChannelName":null,"NotCompleted":false,"Headers":{},"Type":2}`)
}

func FuzzDecode(f *testing.F) {
	for _, frame := range recordedFrames(f) {
		f.Add(frame)
	}
	f.Add(frame("\x93\x07" + closeText + strings.Repeat("\x91", 60)))
	const limit = 1 << 17
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := tunnelframe.Decode(data, limit)
		if err != nil {
			return
		}
		// A decoded message can be encoded and decoded again, without a change.
		encoded, err := tunnelframe.Encode(m, 16*limit) // escapes make JSON longer
		require.NoError(t, err)
		again, err := tunnelframe.Decode(encoded, 16*limit)
		require.NoError(t, err)
		twice, err := tunnelframe.Encode(again, 16*limit)
		require.NoError(t, err)
		require.Equal(t, encoded, twice)
	})
}
