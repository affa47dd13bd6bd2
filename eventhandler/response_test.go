package eventhandler_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub"
	"github.com/awps-go/webpubsub/eventhandler"
)

// answerOf returns the response to an event, and the log, for the given return value of the callback.
func answerOf(t *testing.T, event, body string, connect *eventhandler.ConnectResponse, user *eventhandler.UserEventResponse,
	edits ...func(*http.Request),
) (answer, string) {
	t.Helper()
	var log bytes.Buffer
	url := serve(t, eventhandler.Options{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		OnConnect: func(context.Context, *eventhandler.ConnectRequest) (*eventhandler.ConnectResponse, error) {
			return connect, nil
		},
		OnUserEvent: func(context.Context, *eventhandler.UserEventRequest) (*eventhandler.UserEventResponse, error) {
			return user, nil
		},
	})
	a := do(t, newEvent(url, event, "application/json", body, edits...))
	return a, log.String()
}

// A nil list keeps the token's values, a list replaces them, and an empty list of roles removes all roles.
func TestAConnectResponseCanBeAbsentOrEmpty(t *testing.T) {
	for name, test := range map[string]struct {
		response eventhandler.ConnectResponse
		want     string
	}{
		"all absent":       {eventhandler.ConnectResponse{}, ""},
		"no roles":         {eventhandler.ConnectResponse{Roles: []string{}}, `{"roles":[]}`},
		"no groups":        {eventhandler.ConnectResponse{Groups: []string{}}, `{"groups":[]}`},
		"no user":          {eventhandler.ConnectResponse{NoUser: true}, `{"userId":""}`},
		"none of anything": {eventhandler.ConnectResponse{NoUser: true, Roles: []string{}, Groups: []string{}}, `{"userId":"","groups":[],"roles":[]}`},
		"lists":            {eventhandler.ConnectResponse{Roles: []string{"webpubsub.sendToGroup"}, Groups: []string{"g"}}, `{"groups":["g"],"roles":["webpubsub.sendToGroup"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			a, log := answerOf(t, "sys.connect", "{}", &test.response, nil)
			require.Equal(t, test.want, a.body)
			require.Equal(t, test.want == "", a.status == http.StatusNoContent)
			require.Empty(t, log)
		})
	}
}

// Names that would arrive as other names, or that the service rejects or ignores, are a fault: the service does not
// retry the event, the log names the field, and the response does not contain the error's text.
func TestNamesThatAreRefusedInAConnectResponse(t *testing.T) {
	type response = eventhandler.ConnectResponse
	roles := func(role string) response { return response{Roles: []string{"webpubsub.sendToGroup", role}} }
	groups := func(group string) response { return response{Groups: []string{"ok", group}} }
	for name, test := range map[string]struct {
		response response
		log      string
	}{
		"a user with a space before it":     {response{UserID: " admin"}, "ConnectResponse.UserID"},
		"a user with a space behind it":     {response{UserID: "admin "}, "ConnectResponse.UserID"},
		"a user that is a space":            {response{UserID: " "}, "ConnectResponse.UserID"},
		"a user with a tab":                 {response{UserID: "a\tb"}, "control character"},
		"a user with a line break":          {response{UserID: "a\r\nce-userId: b"}, "control character"},
		"a user with DEL":                   {response{UserID: "a\x7f"}, "control character"},
		"a user with a C1 control":          {response{UserID: "a\u0085"}, "control character"},
		"a user that is not UTF-8":          {response{UserID: "\xff"}, "not valid UTF-8"},
		"a user that is a dot segment":      {response{UserID: ".."}, "dot segment"},
		"a user and none":                   {response{UserID: "a", NoUser: true}, "NoUser and UserID cannot both be set"},
		"a group without a name":            {groups(""), "ConnectResponse.Groups[1] is empty"},
		"a group of white space":            {groups(" \u00a0"), "Groups[1] is only white space"},
		"a group with a space before it":    {groups(" a"), "Groups[1] begins or ends with a space"},
		"a group with a tab":                {groups("a\tb"), "Groups[1] contains a control character"},
		"a group that is a dot segment":     {groups("."), "Groups[1] is a dot segment"},
		"a group that is not UTF-8":         {groups("\xff"), "Groups[1] is not valid UTF-8"},
		"a group that is too long":          {groups(strings.Repeat("x", 1025)), "Groups[1] is longer"},
		"a group too long in UTF-16":        {groups(strings.Repeat("🚀", 513)), "Groups[1] is longer"},
		"an empty role":                     {roles(""), "is empty"},
		"a role in other case":              {roles("webpubsub.sendtogroup"), "is not a role of the service"},
		"a role in capitals":                {roles("WebPubSub.sendToGroup"), "is not a role of the service"},
		"a role with a letter too many":     {roles("webpubsub.sendToGroupss.a"), "is not a role of the service"},
		"a role for no group":               {roles("webpubsub.sendToGroup."), "names a group that is empty"},
		"a role for a group too long":       {roles("webpubsub.joinLeaveGroup." + strings.Repeat("x", 1025)), "names a group that is longer"},
		"a role for groups without pattern": {roles("webpubsub.sendToGroups"), "is not a role of the service"},
		"a role with an empty pattern":      {roles("webpubsub.joinLeaveGroups."), "empty pattern"},
		"a role with six asterisks":         {roles("webpubsub.sendToGroups.a*b*c*d*e**"), "more than 5 asterisks"},
		"a subprotocol that is not offered": {response{Subprotocol: "z"}, "ConnectResponse.Subprotocol"},
		"both forms of a state":             {response{SetState: map[string]any{"n": 1}, SetRawState: new("x")}, "SetRawState and SetState cannot both be set"},
		"a raw state with a line break":     {response{SetRawState: new("a\nb")}, "ConnectResponse.SetRawState must be printable ASCII"},
		"a raw state outside ASCII":         {response{SetRawState: new("ü")}, "ConnectResponse.SetRawState must be printable ASCII"},
		"a raw state with a space":          {response{SetRawState: new(" a")}, "ConnectResponse.SetRawState must be printable ASCII"},
		"a raw state that is too large":     {response{SetRawState: new(strings.Repeat("x", 32<<10+1))}, "ConnectResponse.SetRawState is longer"},
		"a state that is too large":         {response{SetState: map[string]any{"x": strings.Repeat("x", 32<<10)}}, "ConnectResponse.SetState makes a state of"},
	} {
		t.Run(name, func(t *testing.T) {
			a, log := answerOf(t, "sys.connect", `{"subprotocols":["a"]}`, &test.response, nil)
			require.Equal(t, http.StatusUnprocessableEntity, a.status)
			require.Equal(t, "the event handler failed\n", a.body)
			require.Empty(t, a.header.Values("ce-connectionState"))
			require.Contains(t, log, test.log)
			require.Contains(t, log, "the service does not retry it")
		})
	}
}

func TestNamesThatAreRightInAConnectResponse(t *testing.T) {
	a, log := answerOf(t, "sys.connect", "{}", &eventhandler.ConnectResponse{
		UserID: "Zoë  a/b%2F..", Groups: []string{"a b", "a/b", "..a", "a/.b", "\u00a0a", strings.Repeat("🚀", 512)},
		Roles: []string{webpubsub.RoleSendToAnyGroup, webpubsub.RoleJoinLeaveAnyGroup, webpubsub.RoleSendToGroup("a.b"),
			webpubsub.RoleJoinLeaveGroup("*"), webpubsub.RoleSendToGroups(`a*b*c*d**\*\*`), webpubsub.RoleJoinLeaveGroups("?")},
	}, nil)
	require.Equal(t, http.StatusOK, a.status)
	require.Empty(t, log)

	a, log = answerOf(t, "sys.connect", "{}", &eventhandler.ConnectResponse{Roles: []string{"reader"}}, nil)
	require.Equal(t, `{"roles":["reader"]}`, a.body)
	require.Contains(t, log, `level=WARN msg="the service ignores the role \"reader\""`)
}

// The application can send to every user and group that its event handler sets.
func TestNamesThatTheHandlerSetsAreThoseOfTheClient(t *testing.T) {
	client, err := webpubsub.NewClientFromConnectionString("Endpoint="+newServer(t, http.NotFoundHandler())+";AccessKey=k", "chat", nil)
	require.NoError(t, err)
	for _, name := range []string{"a b", "a/b", "a%2Fb", "...", ".hidden", "a/.b", "/", "*", "é日本😀", "a\u00a0b", "a\u200db",
		".", "..", "../a", "a/..", "a/./b", `a\..\b`, " a", "a ", "\ta", "\u00a0a", "a\u3000", "\u2003", "a\x7f", "a\u0085b", "a\xff"} {
		a, _ := answerOf(t, "sys.connect", "{}", &eventhandler.ConnectResponse{UserID: name}, nil)
		_, err := client.UserExists(t.Context(), name, nil)
		require.Equal(t, errors.Is(err, webpubsub.ErrInvalidArgument), a.status == http.StatusUnprocessableEntity, "user %q", name)
		a, _ = answerOf(t, "sys.connect", "{}", &eventhandler.ConnectResponse{Groups: []string{name}}, nil)
		_, err = client.GroupExists(t.Context(), name, nil)
		require.Equal(t, errors.Is(err, webpubsub.ErrInvalidArgument), a.status == http.StatusUnprocessableEntity, "group %q", name)
	}
}

func TestARawStateReplacesTheWhole(t *testing.T) {
	before := with("ce-connectionState", base64.StdEncoding.EncodeToString([]byte(`{"n":1}`)))
	for _, want := range []string{"step-3", "", strings.Repeat("x", 32<<10), `{"a": 1}`} {
		t.Run(want[:min(len(want), 10)], func(t *testing.T) {
			a, _ := answerOf(t, "sys.connect", "{}", &eventhandler.ConnectResponse{SetRawState: &want}, nil, before)
			require.Equal(t, []string{want}, a.header.Values("ce-connectionState"))
			a, _ = answerOf(t, "user.message", "1", nil, &eventhandler.UserEventResponse{SetRawState: &want}, before)
			require.Equal(t, []string{want}, a.header.Values("ce-connectionState"))
			require.Equal(t, http.StatusNoContent, a.status)
		})
	}
}

// The service would send a response without a body but with metadata to the client, as an empty text.
func TestMetadataWithoutAMessageIsNotSent(t *testing.T) {
	metadata := map[string]string{"trace": "1"}
	a, log := answerOf(t, "user.message", "1", nil, &eventhandler.UserEventResponse{Metadata: metadata})
	require.Equal(t, http.StatusNoContent, a.status)
	require.Empty(t, a.header.Values("X-WebPubSub-Metadata-trace"))
	require.Contains(t, log, `level=WARN msg="UserEventResponse.Metadata is not sent without a Message"`)

	a, log = answerOf(t, "user.message", "1", nil, &eventhandler.UserEventResponse{Message: webpubsub.Text(""), Metadata: metadata})
	require.Equal(t, http.StatusOK, a.status)
	require.Equal(t, "1", a.header.Get("X-WebPubSub-Metadata-trace"))
	require.Empty(t, log)
}

func TestTheWarningsAboutAResponseAreOneRecord(t *testing.T) {
	_, log := answerOf(t, "sys.connect", "{}", &eventhandler.ConnectResponse{
		Roles: []string{"reader", "writer"}, SetState: map[string]any{"n": 1},
	}, nil, with("ce-connectionState", "step-2"))
	require.Equal(t, 1, strings.Count(log, "\n"), log)
	for _, warning := range []string{"SetState replaces a state", `\"reader\"`, `\"writer\"`} {
		require.Contains(t, log, warning)
	}
}

func TestSetStateReplacesAStateOfAnotherForm(t *testing.T) {
	a, log := answerOf(t, "user.message", "1", nil, &eventhandler.UserEventResponse{SetState: map[string]any{"n": 1}},
		with("ce-connectionState", "step-2"))
	require.Equal(t, `{"n":1}`, decodeState(t, a))
	require.Contains(t, log, "level=WARN")
	require.Contains(t, log, "UserEventResponse.SetState replaces a state that is not base64 of a JSON object")

	_, log = answerOf(t, "user.message", "1", nil, &eventhandler.UserEventResponse{SetState: map[string]any{"n": 1}})
	require.Empty(t, log, "without a state there is nothing to replace")
}

func TestMQTTUserPropertiesOfAnAnswer(t *testing.T) {
	response := &eventhandler.UserEventResponse{MQTTUserProperties: []eventhandler.MQTTUserProperty{
		{Name: "trace", Value: "t, 1"}, {Name: "Trace", Value: "t2"}}}
	a, _ := answerOf(t, "user.order", "1", nil, response, mqtt)
	require.Equal(t, []string{"t, 1", "t2"}, a.header.Values("mqtt-trace"))
	a, _ = answerOf(t, "user.order", "1", nil, response)
	require.Empty(t, a.header.Values("mqtt-trace"), "other clients have no user properties")
	for fault, property := range map[string]eventhandler.MQTTUserProperty{
		"Name is not an HTTP token":     {Name: "a b", Value: "x"},
		"Value must be printable ASCII": {Name: "a", Value: "x\ny"},
	} {
		a, log := answerOf(t, "user.order", "1", nil,
			&eventhandler.UserEventResponse{MQTTUserProperties: []eventhandler.MQTTUserProperty{property}}, mqtt)
		require.Equal(t, http.StatusUnprocessableEntity, a.status)
		require.Contains(t, log, "MQTTUserProperties[0]."+fault)
	}
}
