package eventhandler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/eventhandler"
)

// mqtt turns an event into an event of an MQTT client.
func mqtt(r *http.Request) {
	r.Header.Set("ce-subprotocol", "mqtt")
	r.Header.Set("ce-physicalConnectionId", "p1")
	r.Header.Set("ce-sessionId", "s1")
}

func TestMQTTConnectRequest(t *testing.T) {
	var got *eventhandler.ConnectRequest
	url := serve(t, eventhandler.Options{
		OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			got = r
			return &eventhandler.ConnectResponse{
				UserID: "u", MQTTUserProperties: []eventhandler.MQTTUserProperty{{Name: "a", Value: "b"}},
			}, nil
		},
	})
	answer := do(t, newEvent(url, "sys.connect", "application/json", `{"subprotocols":["mqtt"],"mqtt":{"protocolVersion":5,
		"username":"ann","password":"cHf/","userProperties":[{"name":"x","value":"1"},{"name":"x","value":"2"}]}}`, mqtt))
	require.Equal(t, http.StatusOK, answer.status)
	require.JSONEq(t, `{"userId":"u","mqtt":{"userProperties":[{"name":"a","value":"b"}]}}`, answer.body)
	require.True(t, got.IsMQTT())
	require.Equal(t, "p1", got.PhysicalConnectionID)
	require.Equal(t, "s1", got.SessionID)
	require.Equal(t, &eventhandler.MQTTConnect{
		ProtocolVersion: 5, Username: "ann", Password: "pw\xff",
		UserProperties: []eventhandler.MQTTUserProperty{{Name: "x", Value: "1"}, {Name: "x", Value: "2"}},
	}, got.MQTT)
}

func TestMQTTConnectRequestWithNulls(t *testing.T) {
	var got *eventhandler.ConnectRequest
	url := serve(t, eventhandler.Options{
		OnConnect: func(_ context.Context, r *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			got = r
			return nil, nil
		},
	})
	answer := do(t, newEvent(url, "sys.connect", "application/json",
		`{"mqtt":{"protocolVersion":4,"username":null,"password":null,"userProperties":null}}`, mqtt, with("ce-sessionId", "")))
	require.Equal(t, http.StatusNoContent, answer.status)
	require.Equal(t, &eventhandler.MQTTConnect{ProtocolVersion: 4}, got.MQTT)
	require.Empty(t, got.SessionID)
}

func TestMQTTRejections(t *testing.T) {
	for name, test := range map[string]struct {
		version int
		reject  eventhandler.RejectError
		status  int
		body    string
	}{
		// The codes for 400, 401 and 500 are the choice of the JavaScript middleware.
		"3.1.1, 400":             {4, eventhandler.RejectError{Status: 400, Reason: "no"}, 400, `{"mqtt":{"code":4,"reason":"no"}}`},
		"3.1.1, 401":             {4, eventhandler.RejectError{Status: 401}, 401, `{"mqtt":{"code":5}}`},
		"3.1.1, 500":             {4, eventhandler.RejectError{Status: 500}, 500, `{"mqtt":{"code":3}}`},
		"3.1.1, 403":             {4, eventhandler.RejectError{Status: 403}, 403, `{"mqtt":{"code":5}}`},
		"5.0, 400":               {5, eventhandler.RejectError{Status: 400}, 400, `{"mqtt":{"code":134}}`},
		"5.0, 401":               {5, eventhandler.RejectError{Status: 401}, 401, `{"mqtt":{"code":135}}`},
		"5.0, 500":               {5, eventhandler.RejectError{Status: 500}, 500, `{"mqtt":{"code":128}}`},
		"5.0, 403":               {5, eventhandler.RejectError{Status: 403}, 403, `{"mqtt":{"code":135}}`},
		"5.0, 429":               {5, eventhandler.RejectError{Status: 429}, 429, `{"mqtt":{"code":159}}`},
		"5.0, 503":               {5, eventhandler.RejectError{Status: 503}, 503, `{"mqtt":{"code":136}}`},
		"5.0, code and status":   {5, eventhandler.RejectError{Status: 400, MQTTCode: 0x8A}, 400, `{"mqtt":{"code":138}}`},
		"5.0, code alone":        {5, eventhandler.RejectError{MQTTCode: 0x97, Reason: "full"}, 429, `{"mqtt":{"code":151,"reason":"full"}}`},
		"3.1.1, code alone":      {4, eventhandler.RejectError{MQTTCode: 2}, 400, `{"mqtt":{"code":2}}`},
		"5.0, a code not listed": {5, eventhandler.RejectError{MQTTCode: 0xF0}, 500, `{"mqtt":{"code":240}}`},
		"5.0, user properties": {5, eventhandler.RejectError{
			Status: 401, MQTTUserProperties: []eventhandler.MQTTUserProperty{{Name: "a", Value: "b"}},
		}, 401, `{"mqtt":{"code":135,"userProperties":[{"name":"a","value":"b"}]}}`},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, eventhandler.Options{
				OnConnect: func(context.Context, *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
					return nil, &test.reject
				},
			})
			body := fmt.Sprintf(`{"mqtt":{"protocolVersion":%d}}`, test.version)
			answer := do(t, newEvent(url, "sys.connect", "application/json", body, mqtt))
			require.Equal(t, test.status, answer.status)
			require.JSONEq(t, test.body, answer.body)
		})
	}
}

func TestMQTTDisconnectedRequest(t *testing.T) {
	var got *eventhandler.DisconnectedRequest
	url := serve(t, eventhandler.Options{
		OnDisconnected: func(_ context.Context, r *eventhandler.DisconnectedRequest) error { got = r; return nil },
	})
	for body, want := range map[string]*eventhandler.MQTTDisconnect{
		`{"mqtt":{"initiatedByClient":true,"disconnectPacket":{"code":4,"userProperties":[{"name":"a","value":"b"}]}}}`: {
			InitiatedByClient: true, DisconnectPacket: &eventhandler.MQTTDisconnectPacket{
				Code: 4, UserProperties: []eventhandler.MQTTUserProperty{{Name: "a", Value: "b"}},
			},
		},
		`{"mqtt":{"initiatedByClient":false,"disconnectPacket":null}}`: {},
		`{}`: nil,
	} {
		require.Equal(t, http.StatusNoContent, do(t, newEvent(url, "sys.disconnected", "application/json", body, mqtt)).status)
		require.Equal(t, want, got.MQTT)
	}
}

// Whatever fails in the connect event of an MQTT client, the response has a code for the CONNACK packet and does not
// contain the text of an error.
func TestEachFailingMQTTConnectHasACode(t *testing.T) {
	connect := func(result *eventhandler.ConnectResponse, err error) eventhandler.Options {
		return eventhandler.Options{
			OnConnect: func(context.Context, *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
				return result, err
			},
		}
	}
	failing := connect(nil, errors.New("secret"))
	panicking := eventhandler.Options{
		OnConnect: func(context.Context, *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			panic("secret")
		},
	}
	for name, test := range map[string]struct {
		options       eventhandler.Options
		edit          func(*http.Request)
		more          string // in the CONNECT packet
		status        int
		old, new      byte
		reasonIsFixed bool
	}{
		"an error":                 {options: failing, status: 500, old: 3, new: 0x88, reasonIsFixed: true},
		"a panic":                  {options: panicking, status: 500, old: 3, new: 0x88, reasonIsFixed: true},
		"a fault":                  {options: connect(&eventhandler.ConnectResponse{Subprotocol: "secret"}, nil), status: 422, old: 3, new: 0x83, reasonIsFixed: true},
		"a wrong rejection":        {options: connect(nil, eventhandler.Reject(200, "secret")), status: 422, old: 3, new: 0x83, reasonIsFixed: true},
		"a nil rejection":          {options: connect(nil, (*eventhandler.RejectError)(nil)), status: 422, old: 3, new: 0x83, reasonIsFixed: true},
		"a forged signature":       {options: failing, edit: with("ce-signature", sign("c1", "other")), status: 401, old: 5, new: 0x87},
		"another hub":              {options: failing, edit: with("ce-hub", "other"), status: 404, old: 3, new: 0x83},
		"another origin":           {options: eventhandler.Options{AllowedOrigins: []string{"other"}}, status: 403, old: 5, new: 0x87},
		"a wrong content type":     {options: failing, edit: with("Content-Type", "text/plain"), status: 415, old: 3, new: 0x83},
		"a password not in base64": {options: failing, more: `,"password":"not a secret"`, status: 400, old: 3, new: 0x83},
		"a body that is too large": {options: eventhandler.Options{MaxBodyBytes: 10}, status: 413, new: 0x83},
	} {
		for version, code := range map[int]byte{4: test.old, 5: test.new} {
			if code == 0 {
				continue // the version is unknown if the body was not read
			}
			t.Run(fmt.Sprintf("%s, version %d", name, version), func(t *testing.T) {
				edits := []func(*http.Request){mqtt, with("ce-sessionId", "")}
				if test.edit != nil {
					edits = append(edits, test.edit)
				}
				body := fmt.Sprintf(`{"mqtt":{"protocolVersion":%d%s},"subprotocols":["mqtt"]}`, version, test.more)
				answer := do(t, newEvent(serve(t, test.options), "sys.connect", "application/json", body, edits...))
				require.Equal(t, test.status, answer.status)
				require.Equal(t, "application/json; charset=utf-8", answer.header.Get("Content-Type"))
				require.NotContains(t, answer.body, "secret")
				var got struct {
					MQTT struct {
						Code   byte
						Reason string
					}
				}
				require.NoError(t, json.Unmarshal([]byte(answer.body), &got))
				require.Equal(t, code, got.MQTT.Code)
				require.NotEmpty(t, got.MQTT.Reason)
				if test.reasonIsFixed {
					require.Equal(t, "the event handler failed", got.MQTT.Reason)
				}
			})
		}
	}
}

// MQTT clients choose the content type of an event, or send none. The bytes stay unchanged.
func TestTheContentTypeOfAnMQTTEvent(t *testing.T) {
	for sent, want := range map[string]string{
		"":                                  "application/octet-stream",
		"image/png":                         "image/png",
		"text/plain; charset=iso-8859-1":    "text/plain",
		"Application/Vnd.Own+JSON; v=\"1\"": "application/vnd.own+json",
		"text/plain; charset":               "text/plain",
		"my type":                           "my type",
		"application/json":                  "application/json", // of data that is not JSON
	} {
		t.Run(sent, func(t *testing.T) {
			var got *eventhandler.UserEventRequest
			url := serve(t, eventhandler.Options{
				OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
					got = r
					return nil, nil
				},
			})
			answer := do(t, newEvent(url, "user.hello", sent, "gr\xfc\xdfe", mqtt, with("Content-Type", sent),
				lines("mqtt-trace", "t1", "t2")))
			require.Equal(t, http.StatusNoContent, answer.status, answer.body)
			require.Equal(t, []string{want, "gr\xfc\xdfe"}, []string{got.ContentType, got.Text()})
			require.Equal(t, sent, got.Header.Get("Content-Type"))
			require.Equal(t, []string{"t1", "t2"}, got.Header.Values("mqtt-trace"), "user properties")
		})
	}
}
