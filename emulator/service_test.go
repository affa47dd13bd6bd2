package emulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

// exchange is a recorded exchange with the real service, from testdata/service.
type exchange struct {
	ID        string
	Operation string
	Date      string
	Preview   bool
	After     string // the exchange of the previous page of a list
	Needs     []struct {
		ID, User      string
		Groups, Roles []string
	}
	Request struct {
		Method, Path, Query, ContentType, Body string
		BodyBase64                             []byte
	}
	Response struct {
		Status  int
		Headers map[string]string
		Body    json.RawMessage
	}
}

// recorded returns the exchanges that are not from preview versions.
func recorded(t *testing.T) (all []exchange) {
	t.Helper()
	data, err := os.ReadFile("testdata/service/exchanges.json")
	require.NoError(t, err)
	var each []exchange
	require.NoError(t, json.Unmarshal(data, &each))
	require.Len(t, each, 76)
	for _, e := range each {
		if !e.Preview {
			all = append(all, e)
		}
	}
	return all
}

// currentErrors reports whether error bodies had their current form at the time of the recording.
func (e *exchange) currentErrors() bool { return e.Date >= "2024-05" }

// sendsHSTS reports whether the service sent Strict-Transport-Security at the time of the recording.
func (e *exchange) sendsHSTS() bool { return e.Date >= "2024-10-29" }

func (e *exchange) isList() bool { return e.Operation == "list a group" }

// replay is a server in the state of a recording.
type replay struct {
	srv    *emulator.Server
	client *http.Client
	ids    map[string]string // connection ids: recorded to actual
	seen   map[string]bool   // members on earlier pages
	next   string            // the link to the next page
}

func newReplay(t *testing.T, e *exchange) *replay {
	t.Helper()
	certServer := httptest.NewTLSServer(nil) // for its certificate, because the recordings used TLS
	t.Cleanup(certServer.Close)
	r := &replay{client: certServer.Client(), ids: map[string]string{}, seen: map[string]bool{}}
	t.Cleanup(r.client.CloseIdleConnections)
	r.srv = emulator.StartT(t, &emulator.Options{TLSConfig: certServer.TLS, AcceptBearer: func(token string) bool { return token == "entra" }})
	for _, c := range e.Needs {
		o := dialOptions{hub: strings.Split(e.Request.Path, "/")[3], user: c.User, groups: c.Groups, roles: c.Roles}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		ws, _, err := websocket.Dial(ctx, "wss"+strings.TrimPrefix(o.httpURL(t, r.srv), "https"),
			&websocket.DialOptions{HTTPClient: r.client, Subprotocols: []string{protocolJSON}})
		require.NoError(t, err)
		t.Cleanup(func() { ws.CloseNow() })
		hello := (&client{t: t, ws: ws}).object()
		r.ids[c.ID] = hello["connectionId"].(string)
	}
	return r
}

// localize replaces the host and the connection ids of a recording with those of the replay's server.
func (r *replay) localize(s string) string {
	for recorded, id := range r.ids {
		s = strings.ReplaceAll(s, recorded, id)
	}
	s = strings.ReplaceAll(s, "https://SERVICE", r.srv.Endpoint())
	return strings.ReplaceAll(s, url.QueryEscape("https://SERVICE"), url.QueryEscape(r.srv.Endpoint()))
}

// ask sends the request of an exchange.
func (r *replay) ask(t *testing.T, e *exchange) *http.Response {
	t.Helper()
	target := r.srv.Endpoint() + r.localize(e.Request.Path) + "?" + r.localize(e.Request.Query)
	if e.After != "" {
		target = r.next
	}
	body := e.Request.BodyBase64
	if e.Request.Body != "" {
		body = []byte(r.localize(e.Request.Body))
	}
	req, err := http.NewRequestWithContext(t.Context(), e.Request.Method, target, bytes.NewReader(body))
	require.NoError(t, err)
	if e.Request.ContentType != "" {
		req.Header.Set("Content-Type", e.Request.ContentType)
	}
	switch e.Operation {
	case "service status": // recorded without credentials
	case "client token":
		req.Header.Set("Authorization", "Bearer entra")
	default:
		req.Header.Set("Authorization", "Bearer "+sign(t, r.srv.AccessKey(), jwt.MapClaims{"aud": target, "exp": time.Now().Add(time.Minute).Unix()}))
	}
	resp, err := r.client.Do(req)
	require.NoError(t, err)
	return resp
}

func TestRecordedResponsesOfTheService(t *testing.T) {
	replays := map[string]*replay{}
	for _, e := range recorded(t) {
		r := replays[e.After]
		if e.After == "" {
			r = newReplay(t, &e)
		}
		replays[e.ID] = r
		t.Run(e.ID, func(t *testing.T) {
			resp := r.ask(t, &e)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
			require.Equal(t, e.Response.Status, resp.StatusCode, "%s", body)
			e.compareHeaders(t, resp)
			switch want := r.localize(string(e.Response.Body)); {
			case e.isList():
				require.Equal(t, strconv.Itoa(len(body)), resp.Header.Get("Content-Length"))
				r.compareList(t, &e, body)
			case e.Operation == "client token" && e.Response.Status == 200:
				require.Regexp(t, `^\{"token":"ey[\w-]+\.[\w-]+\.[\w-]+"\}$`, string(body))
			case e.currentErrors():
				require.Equal(t, want, string(body), "the body is identical")
			default:
				require.Equal(t, want == "", len(body) == 0, "%s", body)
			}
		})
	}
}

func (e *exchange) compareHeaders(t *testing.T, resp *http.Response) {
	t.Helper()
	for _, name := range []string{"Content-Type", "x-ms-error-code", "api-supported-versions", "Content-Length", "Strict-Transport-Security",
		"Transfer-Encoding"} {
		want, got := e.Response.Headers[name], resp.Header.Get(name)
		switch name {
		case "Transfer-Encoding": // net/http removes it from the header
			got = strings.Join(resp.TransferEncoding, ",")
		case "Strict-Transport-Security":
			if !e.sendsHSTS() {
				continue
			}
		case "Content-Length":
			if e.isList() || !e.currentErrors() && e.Response.Status >= 400 {
				continue // ids differ in length, fields in name
			}
		case "api-supported-versions":
			if e.Date < "2022" { // not sent then
				continue
			}
			if want != "" && strings.Count(want, ",") < 4 { // fewer versions then
				require.Contains(t, got, want)
				continue
			}
		}
		require.Equal(t, want, got, name)
	}
	for name := range resp.Header {
		require.Contains(t, []string{"Date", "Content-Type", "Content-Length", "Strict-Transport-Security", "Api-Supported-Versions", "X-Ms-Error-Code"},
			name, "the service does not send this header")
	}
}

// linkToken matches the continuation token in a nextLink.
var linkToken = regexp.MustCompile(`continuationToken=([^&"]*)`)

// compareList compares a page of a list: the number of members, that none was on an earlier page, and the nextLink. It does not
// compare which members are on a page, because that depends on their ids, which differ from the recording.
func (r *replay) compareList(t *testing.T, e *exchange, body []byte) {
	t.Helper()
	type page struct {
		Value []struct {
			ConnectionID string
			UserID       *string
		}
		NextLink string
	}
	var want, got page
	require.NoError(t, json.Unmarshal(e.Response.Body, &want))
	require.NoError(t, json.Unmarshal(body, &got))
	if !strings.Contains(e.Request.Query, "continuationToken=https") { // how many ids sort after this text depends on the ids
		require.Len(t, got.Value, len(want.Value))
	}
	users := map[string]*string{}
	for _, c := range e.Needs {
		users[r.ids[c.ID]] = nil
		if c.User != "" {
			users[r.ids[c.ID]] = &c.User
		}
	}
	rest := string(body)
	for i, m := range got.Value {
		require.Contains(t, users, m.ConnectionID)
		require.Equal(t, users[m.ConnectionID], m.UserID)
		require.False(t, r.seen[m.ConnectionID])
		r.seen[m.ConnectionID] = true
		user, err := json.Marshal(m.UserID)
		require.NoError(t, err)
		prefix := `{"connectionId":"` + m.ConnectionID + `","userId":` + string(user) + `}`
		if i == 0 {
			prefix = `{"value":[` + prefix
		} else {
			prefix = "," + prefix
		}
		require.True(t, strings.HasPrefix(rest, prefix), "%s does not begin with %s", rest, prefix)
		rest = strings.TrimPrefix(rest, prefix)
	}
	r.next = got.NextLink
	if want.NextLink == "" {
		if len(got.Value) > 0 {
			require.Equal(t, "]}", rest, "the last page has no nextLink")
		}
		return
	}
	require.Equal(t, "continuationToken="+want.Value[0].ConnectionID, linkToken.FindString(want.NextLink), "the service's token is the first id on the page")
	recordedLink := linkToken.ReplaceAllString(r.localize(want.NextLink), "continuationToken="+url.QueryEscape(got.Value[0].ConnectionID))
	require.Equal(t, `],"nextLink":"`+recordedLink+`"}`, rest)
}
