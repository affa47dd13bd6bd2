package events

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
)

func TestMessagesInResponses(t *testing.T) {
	metadata := func(values ...string) http.Header { return http.Header{"X-Webpubsub-Metadata-Trace": values} }
	with := func(h http.Header, contentType string) http.Header {
		h = h.Clone()
		h.Set("Content-Type", contentType)
		return h
	}
	typed := func(contentType string) http.Header { return http.Header{"Content-Type": {contentType}} }
	trace := func(value string) map[string]string { return map[string]string{"trace": value} }
	for name, test := range map[string]struct {
		answer answer
		want   *hub.Payload
		fault  string
	}{
		"204":                                  {answer{204, http.Header{}, nil}, nil, ""},
		"nothing":                              {answer{200, typed("text/plain"), nil}, nil, ""},
		"text":                                 {answer{200, typed("text/plain"), []byte("a")}, &hub.Payload{Type: hub.DataText, Data: []byte("a")}, ""},
		"text with a parameter":                {answer{201, typed("Text/Plain; charset=UTF-8"), []byte("ü")}, &hub.Payload{Type: hub.DataText, Data: []byte("ü")}, ""},
		"JSON":                                 {answer{299, typed("application/json"), []byte("1")}, &hub.Payload{Type: hub.DataJSON, Data: []byte("1")}, ""},
		"binary":                               {answer{200, typed("application/octet-stream"), []byte{255}}, &hub.Payload{Type: hub.DataBinary, Data: []byte{255}}, ""},
		"protobuf":                             {answer{200, typed("application/x-protobuf"), []byte("\n\x03abc")}, &hub.Payload{Type: hub.DataProtobuf, Data: []byte("\n\x03abc")}, ""},
		"no type":                              {answer{200, http.Header{}, []byte("a")}, &hub.Payload{Type: hub.DataBinary, Data: []byte("a")}, ""},
		"an empty type":                        {answer{200, typed(""), []byte("a")}, &hub.Payload{Type: hub.DataBinary, Data: []byte("a")}, ""},
		"another type":                         {answer{200, typed("text/html"), []byte("a")}, nil, "content type"},
		"a malformed type":                     {answer{200, typed("text"), []byte("a")}, nil, "content type"},
		"metadata alone":                       {answer{200, metadata("x"), nil}, &hub.Payload{Type: hub.DataText, Data: nil, Metadata: trace("x")}, ""},
		"metadata alone, any type":             {answer{200, with(metadata("x"), "a/b"), nil}, &hub.Payload{Type: hub.DataText, Metadata: trace("x")}, ""},
		"metadata alone with 204":              {answer{204, metadata(""), nil}, &hub.Payload{Type: hub.DataText, Metadata: trace("")}, ""},
		"the last line counts":                 {answer{200, metadata("a", "b"), nil}, &hub.Payload{Type: hub.DataText, Metadata: trace("b")}, ""},
		"the part after the last comma counts": {answer{200, metadata("a", "b, c ,\td "), nil}, &hub.Payload{Type: hub.DataText, Metadata: trace("d")}, ""},
		"an empty key":                         {answer{200, http.Header{"X-Webpubsub-Metadata-": {"a"}}, nil}, nil, ""},
		"metadata outside ASCII":               {answer{200, metadata("ü"), nil}, nil, "ASCII"},
		"too long after a comma":               {answer{200, metadata("a," + strings.Repeat("x", 1025)), nil}, nil, "longer than"},
		"long before the last comma":           {answer{200, metadata(strings.Repeat("x", 1025) + ",a"), nil}, &hub.Payload{Type: hub.DataText, Metadata: trace("a")}, ""},
		"400":                                  {answer{400, with(metadata("x"), "text/plain"), []byte("a")}, nil, "400"},
		"302":                                  {answer{302, http.Header{}, nil}, nil, "302"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := userReply(&test.answer)
			if test.fault != "" {
				require.ErrorContains(t, err, test.fault)
				require.Nil(t, got)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestResponsesToConnect(t *testing.T) {
	ok := func(body string) answer { return answer{200, http.Header{}, []byte(body)} }
	for name, test := range map[string]struct {
		answer answer
		want   hub.ConnectReply
		fault  string
	}{
		"204":                                {answer{204, http.Header{}, nil}, hub.ConnectReply{}, ""},
		"null":                               {ok("null"), hub.ConnectReply{}, ""},
		"nulls":                              {ok(`{"userId":null,"groups":null,"roles":null,"subprotocol":null}`), hub.ConnectReply{}, ""},
		"empty":                              {ok(`{"userId":"","groups":[],"roles":[]}`), hub.ConnectReply{UserID: new(""), Groups: []string{}, Roles: []string{}}, ""},
		"values":                             {ok(`{"userId":"a/b","groups":["g"],"roles":["any"],"more":1}`), hub.ConnectReply{UserID: new("a/b"), Groups: []string{"g"}, Roles: []string{"any"}}, ""},
		"any content type":                   {answer{202, http.Header{"Content-Type": {"text/html"}}, []byte(`{"userId":"a"}`)}, hub.ConnectReply{UserID: new("a")}, ""},
		"the application's subprotocol":      {ok(`{"subprotocol":"Mine"}`), hub.ConnectReply{Subprotocol: "Mine"}, ""},
		"the service's, in any case":         {ok(`{"subprotocol":"json.webpubsub.azure.V1"}`), hub.ConnectReply{Subprotocol: "JSON.webpubsub.azure.v1"}, ""},
		"the application's, in another case": {ok(`{"subprotocol":"mine"}`), hub.ConnectReply{}, "does not offer"},
		"a subprotocol not offered":          {ok(`{"subprotocol":"json.reliable.webpubsub.azure.v1"}`), hub.ConnectReply{}, "does not offer"},
		"not JSON":                           {ok("not-json"), hub.ConnectReply{}, "not the expected JSON"},
		"truncated JSON":                     {ok(`{"userId":`), hub.ConnectReply{}, "not the expected JSON"},
		"white space":                        {ok(" "), hub.ConnectReply{}, "not the expected JSON"},
		"a number as a user":                 {ok(`{"userId":1}`), hub.ConnectReply{}, "not the expected JSON"},
		"a group of null":                    {ok(`{"groups":["a",null]}`), hub.ConnectReply{}, "null in its groups"},
		"a group of white space":             {ok(`{"groups":["\t"]}`), hub.ConnectReply{}, "white space"},
		"a role of null":                     {ok(`{"roles":[null]}`), hub.ConnectReply{}, "null in its roles"},
		"a user invalid in a header":         {ok(`{"userId":"a\u0000"}`), hub.ConnectReply{}, "userId"},
		"a user with leading space":          {ok(`{"userId":" a"}`), hub.ConnectReply{}, "userId"},
		"a role that is not UTF-8":           {ok("{\"roles\":[\"\xff\"]}"), hub.ConnectReply{}, "UTF-8"},
		"a user that is not UTF-8":           {ok("{\"userId\":\"\xff\"}"), hub.ConnectReply{}, "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := connectReply(&test.answer, &hub.ConnectRequest{Subprotocols: []string{"JSON.webpubsub.azure.v1", "Mine"}})
			if test.fault != "" {
				require.ErrorContains(t, err, test.fault)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestARejectionCarriesTheResponseOfA4xxOnly(t *testing.T) {
	for _, test := range []struct {
		status int
		whole  bool
	}{{400, true}, {401, true}, {429, true}, {499, true}, {500, false}, {503, false}, {302, false}} {
		a := &answer{test.status, http.Header{"Content-Type": {"text/css"}}, []byte("words")}
		_, err := connectReply(a, &hub.ConnectRequest{})
		var rejection *hub.Rejection
		require.ErrorAs(t, err, &rejection)
		want := &hub.Rejection{Status: test.status, Reason: rejection.Reason}
		if test.whole {
			want.ContentType, want.Body = "text/css", []byte("words")
		}
		require.Equal(t, want, rejection)
	}
}
