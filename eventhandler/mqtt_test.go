package eventhandler_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/eventhandler"
)

// mqtt makes an event one of an MQTT client.
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
		// The codes for 400, 401 and 500 are those of the JavaScript middleware.
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
