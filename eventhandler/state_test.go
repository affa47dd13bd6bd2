package eventhandler_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/eventhandler"
)

// decodeState returns the JSON of the state that a response sets, or "" if it sets none.
func decodeState(t *testing.T, a answer) string {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(a.header.Get("ce-connectionState"))
	require.NoError(t, err)
	return string(data)
}

func TestStateIsKeptAndChangedByName(t *testing.T) {
	// In the JavaScript middleware's encoding:
	// Buffer.from(JSON.stringify({calledTime:1,user:{name:"ü"},gone:true})).toString("base64")
	const javaScript = "eyJjYWxsZWRUaW1lIjoxLCJ1c2VyIjp7Im5hbWUiOiLDvCJ9LCJnb25lIjp0cnVlfQ=="
	var sent eventhandler.State
	url := serve(t, eventhandler.Options{
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			sent = r.State
			var times int
			if _, err := r.State.Get("calledTime", &times); err != nil {
				return nil, err
			}
			return &eventhandler.UserEventResponse{
				Message:  webpubsub.Text("ok"),
				SetState: map[string]any{"calledTime": times + 1, "gone": nil, "new": json.RawMessage("null")},
			}, nil
		},
	})
	first := do(t, newEvent(url, "user.message", "text/plain", "hi", with("ce-connectionState", javaScript)))
	require.JSONEq(t, `{"calledTime":2,"user":{"name":"ü"},"new":null}`, decodeState(t, first))
	require.Equal(t, "1", string(sent["calledTime"]), "a request's state is a snapshot from when the event was sent")

	second := do(t, newEvent(url, "user.message", "text/plain", "hi",
		with("ce-connectionState", first.header.Get("ce-connectionState"))))
	require.JSONEq(t, `{"calledTime":3,"user":{"name":"ü"},"new":null}`, decodeState(t, second))
}

func TestStateGet(t *testing.T) {
	state := eventhandler.State{"n": json.RawMessage("3"), "who": json.RawMessage(`{"name":"ann"}`)}
	n := 7
	ok, err := state.Get("absent", &n)
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, 7, n)

	ok, err = state.Get("n", &n)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 3, n)

	var who struct{ Name string }
	_, err = state.Get("who", &who)
	require.NoError(t, err)
	require.Equal(t, "ann", who.Name)

	_, err = state.Get("who", &n)
	require.ErrorContains(t, err, `state "who"`)
}

func TestAnAnswerThatSetsNothingHasNoState(t *testing.T) {
	url := serve(t, eventhandler.Options{
		OnUserEvent: func(context.Context, *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			return &eventhandler.UserEventResponse{Message: webpubsub.Text("x")}, nil
		},
	})
	answer := do(t, newEvent(url, "user.message", "text/plain", "hi", with("ce-connectionState", "eyJuIjozfQ==")))
	require.NotContains(t, answer.header, "Ce-Connectionstate")
}

// The state may be any text. A text that is not base64 of a JSON object has no values, and is kept unchanged.
func TestStatesOfAnyForm(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString
	for name, test := range map[string]struct {
		text string
		want eventhandler.State
	}{
		"none":                        {"", eventhandler.State{}},
		"text":                        {"step-2", eventhandler.State{}},
		"text with a tab":             {"a\tb", eventhandler.State{}},
		"JSON, not in base64":         {`{"n":1}`, eventhandler.State{}},
		"base64 of text":              {encoded([]byte("step 2")), eventhandler.State{}},
		"base64 of a list":            {encoded([]byte("[1]")), eventhandler.State{}},
		"base64 of null":              {encoded([]byte("null")), eventhandler.State{}},
		"base64 of broken UTF-8":      {encoded([]byte("{\"\xff\":1}")), eventhandler.State{}},
		"base64 of an object":         {encoded([]byte(`{"n":1}`)), eventhandler.State{"n": []byte("1")}},
		"base64 without padding":      {"eyJuIjoxfQ", eventhandler.State{"n": []byte("1")}},
		"base64 for URLs, as in Node": {"eyJxIjoiPz8_Pj4-In0", eventhandler.State{"q": []byte(`"???>>>"`)}},
		"values that Go cannot hold":  {encoded([]byte(`{"f":1e400}`)), eventhandler.State{"f": []byte("1e400")}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []eventhandler.Event
			url := serve(t, eventhandler.Options{
				OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
					got = append(got, r.Event)
					return nil, nil
				},
				OnDisconnected: func(_ context.Context, r *eventhandler.DisconnectedRequest) error {
					got = append(got, r.Event)
					return nil
				},
			})
			for _, event := range []string{"user.message", "sys.disconnected"} {
				answer := do(t, newEvent(url, event, "application/json", "{}", with("ce-connectionState", test.text)))
				require.Equal(t, 204, answer.status, answer.body)
				require.NotContains(t, answer.header, "Ce-Connectionstate", "the state stays")
			}
			require.Len(t, got, 2)
			for _, event := range got {
				require.Equal(t, test.text, event.RawState)
				require.Equal(t, test.want, event.State)
			}
		})
	}
}

// Values of the .NET middleware are base64 of their bytes, which is how encoding/json encodes []byte.
func TestAStateSharedWithDotNet(t *testing.T) {
	var count []byte
	url := serve(t, eventhandler.Options{
		OnUserEvent: func(_ context.Context, r *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			if _, err := r.State.Get("counter", &count); err != nil {
				return nil, err
			}
			return &eventhandler.UserEventResponse{SetState: map[string]any{"counter": []byte("3")}}, nil
		},
	})
	answer := do(t, newEvent(url, "user.message", "text/plain", "hi", with("ce-connectionState", "eyJjb3VudGVyIjoiTWc9PSJ9")))
	require.Equal(t, "2", string(count))
	require.Equal(t, `{"counter":"Mw=="}`, decodeState(t, answer))
}
