package emulator_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/awps-go/webpubsub/emulator"
)

// ask sends a request without a body. The header "Host" sets the request's host.
func ask(t testing.TB, method, target string, headers ...string) response {
	t.Helper()
	req, err := http.NewRequest(method, target, nil)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		} else {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	resp, err := restClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") == "text/event-stream" || resp.StatusCode == http.StatusSwitchingProtocols {
		return response{resp.StatusCode, resp.Header, ""} // the body does not end
	}
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return response{resp.StatusCode, resp.Header, string(b)}
}

// The JSON of the live view's stream.
type (
	trafficEvent struct {
		Time         time.Time
		Kind         string
		Hub          string
		ConnectionID string
		UserID       string
		Group        string
		Text         string
		Status       int
		Milliseconds float64 `json:"durationMs"`
		Data         string
	}
	liveTraffic struct {
		Events []trafficEvent
		Missed int64
	}
	liveState struct {
		Endpoint string
		Hubs     []liveHub
		HubCount int
	}
	liveHub struct {
		Name            string
		Connections     []liveConnection
		ConnectionCount int
		Groups          []liveGroup
		GroupCount      int
		UserCount       int
		TunnelCount     int
	}
	liveConnection struct {
		ID          string
		UserID      string
		Subprotocol string
		Groups      []string
		GroupCount  int
		Recovering  bool
	}
	liveGroup struct {
		Name    string
		Members int
	}
)

// livePolicy allows the page to load its own files and to connect to its own server. Script cannot insert HTML.
const livePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// page is a client of the live view's stream.
type page struct {
	t      testing.TB
	body   io.Closer
	events *bufio.Scanner
	state  liveState
	seen   []trafficEvent
	missed int64
}

// openPage opens the stream and reads the first state.
func openPage(t testing.TB, srv *emulator.Server) *page {
	t.Helper()
	req, err := http.NewRequest("GET", srv.Endpoint()+"/liveview/stream", nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req.WithContext(ctx))
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	p := &page{t: t, body: resp.Body, events: bufio.NewScanner(resp.Body)}
	p.events.Buffer(nil, 64<<20)
	require.True(t, p.next())
	require.Equal(t, srv.Endpoint(), p.state.Endpoint)
	return p
}

// next reads one event of the stream. It reports whether there was one.
func (p *page) next() bool {
	p.t.Helper()
	event := ""
	for p.events.Scan() {
		line := p.events.Text()
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			event = name
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		switch event {
		case "state":
			p.state = liveState{}
			require.NoError(p.t, json.Unmarshal([]byte(data), &p.state), data)
		case "traffic":
			var t liveTraffic
			require.NoError(p.t, json.Unmarshal([]byte(data), &t), data)
			p.seen = append(p.seen, t.Events...)
			p.missed = t.Missed
		default:
			p.t.Fatalf("the stream has an unknown event %q: %s", event, data)
		}
		return true
	}
	return false
}

// until reads until cond is true.
func (p *page) until(what string, cond func() bool) {
	p.t.Helper()
	for !cond() {
		if !p.next() {
			p.t.Fatalf("the stream ended (%v) before %s: the state was %+v, the traffic %+v", p.events.Err(), what, p.state, p.seen)
		}
	}
}

// waitForTraffic reads until an event of the traffic contains a text, and returns the event.
func (p *page) waitForTraffic(text string) trafficEvent {
	p.t.Helper()
	var found trafficEvent
	p.until(fmt.Sprintf("the traffic contained %q", text), func() bool {
		for _, e := range p.seen {
			if strings.Contains(e.Text+"\n"+e.Data, text) {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

func TestLiveViewServesItsFilesUnderAStrictPolicy(t *testing.T) {
	srv := emulator.StartT(t, nil)
	for path, contentType := range map[string]string{
		"/": "text/html; charset=utf-8", "/liveview/app.js": "text/javascript; charset=utf-8",
		"/liveview/style.css": "text/css; charset=utf-8", "/liveview/icon.svg": "image/svg+xml",
	} {
		r := ask(t, "GET", srv.Endpoint()+path)
		require.Equal(t, http.StatusOK, r.status, path)
		require.Equal(t, contentType, r.header.Get("Content-Type"))
		require.Equal(t, livePolicy, r.header.Get("Content-Security-Policy"))
		require.Equal(t, "nosniff", r.header.Get("X-Content-Type-Options"))
		require.Equal(t, "no-store", r.header.Get("Cache-Control"))
		require.Equal(t, "same-origin", r.header.Get("Cross-Origin-Resource-Policy"))
		require.NotContains(t, strings.ReplaceAll(r.body, "http://www.w3.org/2000/svg", ""), "://", "%s refers to no other site", path)
		require.NotRegexp(t, `(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b| on\w+=| style=`, r.body, path)

		require.Equal(t, http.StatusOK, ask(t, "HEAD", srv.Endpoint()+path).status)
		r = ask(t, "POST", srv.Endpoint()+path)
		require.Equal(t, http.StatusMethodNotAllowed, r.status)
		require.Equal(t, "GET, HEAD", r.header.Get("Allow"))
	}
	for _, path := range []string{"/liveview", "/liveview/", "/liveview/index.html", "/liveview/../server.go", "/index.html"} {
		require.Equal(t, http.StatusNotFound, ask(t, "GET", srv.Endpoint()+path).status, path)
	}
}

func TestOnlyItsOwnPageMayReadTheLiveView(t *testing.T) {
	srv := emulator.StartT(t, nil)
	_, port, err := net.SplitHostPort(host(srv))
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		headers []string
		page    int // the status of /
		stream  int // the status of the script and the stream
	}{
		"a program":                             {nil, 200, 200},
		"the page":                              {[]string{"Sec-Fetch-Site", "same-origin"}, 200, 200},
		"the page, with its origin":             {[]string{"Origin", srv.Endpoint()}, 200, 200},
		"a typed address":                       {[]string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}, 200, 200},
		"localhost":                             {[]string{"Host", "localhost:" + port}, 200, 200},
		"Localhost, behind a port mapping":      {[]string{"Host", "LocalHost:1"}, 200, 200},
		"another loopback address":              {[]string{"Host", "127.0.0.2:" + port}, 200, 200},
		"IPv6 loopback":                         {[]string{"Host", "[::1]:" + port}, 200, 200},
		"no port":                               {[]string{"Host", "127.0.0.1"}, 200, 200},
		"a link on another site":                {[]string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200, 403},
		"a foreign page":                        {[]string{"Origin", "https://evil.example"}, 403, 403},
		"a sandboxed page":                      {[]string{"Origin", "null"}, 403, 403},
		"a foreign page that hides its origin":  {[]string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403, 403},
		"another page of this machine":          {[]string{"Origin", "http://localhost:3000", "Sec-Fetch-Site", "same-site"}, 403, 403},
		"another page that hides its origin":    {[]string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "no-cors"}, 403, 403},
		"this port under another scheme":        {[]string{"Origin", "https://" + host(srv)}, 403, 403},
		"another name for this host":            {[]string{"Host", "evil.example:" + port}, 403, 403},
		"another name for this host, as origin": {[]string{"Host", "evil.example:" + port, "Origin", "http://evil.example:" + port}, 403, 403},
		"a subdomain of localhost":              {[]string{"Host", "evil.localhost"}, 403, 403},
		"a name like localhost":                 {[]string{"Host", "localhost.evil.example"}, 403, 403},
		"a name like this address":              {[]string{"Host", "127.0.0.1.evil.example"}, 403, 403},
		"another address":                       {[]string{"Host", "192.0.2.1:" + port}, 403, 403},
		"a host with a user":                    {[]string{"Host", "localhost@evil.example"}, 403, 403},
	} {
		t.Run(name, func(t *testing.T) {
			for path, want := range map[string]int{"/": tt.page, "/liveview/app.js": tt.stream, "/liveview/stream": tt.stream} {
				r := ask(t, "GET", srv.Endpoint()+path, tt.headers...)
				require.Equal(t, want, r.status, "%s: %s", path, r.body)
				require.Empty(t, r.header.Get("Access-Control-Allow-Origin"), path)
				if want == 403 {
					require.Equal(t, "Forbidden", r.errorCode())
				}
			}
		})
	}
}

func TestLiveViewShowsTheStateAsItChanges(t *testing.T) {
	srv := emulator.StartT(t, nil)
	p := openPage(t, srv)
	require.Empty(t, p.state.Hubs)

	ann := dialReliable(t, srv, dialOptions{user: "ann", groups: []string{"a", "b"}, roles: []string{"webpubsub.joinLeaveGroup"}})
	dial(t, srv, dialOptions{hub: "Other"})
	want := []liveHub{
		{Name: "Other", ConnectionCount: 1, Groups: []liveGroup{},
			Connections: []liveConnection{{ID: srv.Connections("other")[0].ID, Groups: []string{}}}},
		{Name: "chat", ConnectionCount: 1, GroupCount: 2, UserCount: 1, Groups: []liveGroup{{"a", 1}, {"b", 1}},
			Connections: []liveConnection{{ID: ann.id, UserID: "ann", Subprotocol: protocolJSONReliable, GroupCount: 2,
				Groups: []string{"a", "b"}}}},
	}
	is := func() bool { return fmt.Sprintf("%+v", p.state.Hubs) == fmt.Sprintf("%+v", want) }
	p.until("both clients appeared", is)

	ann.write(`{"type":"leaveGroup","group":"b"}`)
	want[1].GroupCount, want[1].Groups = 1, []liveGroup{{"a", 1}}
	want[1].Connections[0].GroupCount, want[1].Connections[0].Groups = 1, []string{"a"}
	p.until("ann left b", is)
	require.True(t, srv.DropConnection("chat", ann.id))
	want[1].Connections[0].Recovering = true
	p.until("ann was cut off", is)
	srv.Advance(time.Minute)
	want[1] = liveHub{Name: "chat", Connections: []liveConnection{}, Groups: []liveGroup{}}
	p.until("ann was removed", is)
}

func TestLiveViewShowsTheTraffic(t *testing.T) {
	srv := emulator.StartT(t, nil)
	p := openPage(t, srv)
	c := dialJSON(t, srv, dialOptions{user: "ann", roles: []string{"webpubsub.joinLeaveGroup"}})
	e := p.waitForTraffic("connected " + protocolJSON)
	require.Equal(t, trafficEvent{Time: e.Time, Kind: "connection", Hub: "chat", ConnectionID: c.id, UserID: "ann", Text: e.Text}, e)
	c.ask(`{"type":"joinGroup","group":"g","ackId":1}`)
	require.Equal(t, "group", p.waitForTraffic("joined g").Kind)

	rest{t, srv}.text("hubs/chat/groups/g/:send", `<img src=x onerror=alert(1)>`)
	e = p.waitForTraffic("SendToGroup: 1 recipient")
	require.Equal(t, []any{"message", "g", `<img src=x onerror=alert(1)>`}, []any{e.Kind, e.Group, e.Data})
	e = p.waitForTraffic("POST /api/hubs/chat/groups/g/:send")
	require.Equal(t, []any{"rest", 202, true}, []any{e.Kind, e.Status, e.Milliseconds > 0})
	require.Equal(t, 404, ask(t, "GET", srv.Endpoint()+"/api/nothing").status)
	require.Equal(t, 404, p.waitForTraffic("GET /api/nothing").Status)

	c.write(`{"type":"sendToGroup","group":"g","data":"x"}`)
	require.Equal(t, "message", p.waitForTraffic("sendToGroup failed: Forbidden").Kind)
	c.write(`{"type":"event","event":"hello","data":1}`)
	require.Equal(t, "event", p.waitForTraffic("user event hello").Kind)
	require.Equal(t, 401, upgradeStatus(t, srv.Endpoint()+"/client/hubs/chat"))
	require.Equal(t, 401, p.waitForTraffic("rejected: ").Status)
	rest{t, srv}.must(204, "DELETE", "hubs/chat/connections/"+c.id+"?reason=bye")
	require.Equal(t, c.id, p.waitForTraffic("disconnected: Application server closed the connection. Reason: bye").ConnectionID)
}

func TestLiveViewShowsNoKeyAndNoToken(t *testing.T) {
	srv := emulator.StartT(t, &emulator.Options{AccessKey: "primary+key/with=signs", SecondaryAccessKey: "the secondary key"})
	p := openPage(t, srv)
	access, err := url.Parse(dialOptions{user: "ann"}.url(t, srv))
	require.NoError(t, err)
	token := access.Query().Get("access_token")
	header, claims, _ := strings.Cut(token, ".")
	for name, tt := range map[string]struct{ data, want string }{
		"a client's URL":           {access.String(), strings.Replace(access.String(), token, "REDACTED", 1)},
		"a token":                  {`{"token":"` + token + `"}`, `{"token":"REDACTED"}`},
		"the beginning of a token": {header + "." + claims[:10], "REDACTED"},
		"an access token by name":  {"?access_token=opaque-value&x=1", "?access_token=REDACTED&x=1"},
		"JSON":                     {`{"reconnectionToken": "ABCDEFGHIJ", "x": 1}`, `{"reconnectionToken": "REDACTED", "x": 1}`},
		"JSON in JSON":             {`{"x":"{\"access_token\":\"ABCDEFGHIJ\"}"}`, `{"x":"{\"access_token\":\"REDACTED\"}"}`},
		"encoded names of secrets": {"?reason=AccessKey%3Dabcdefghijkl%3B", "?reason=AccessKey%3DREDACTED%3B"},
		"fully encoded": {"?reason=http%3A%2F%2Fh%3Faccess_token%3Dopaquevalue&a=%22reconnectionToken%22%3A%22ABCDEFGHIJKL%22",
			"?reason=http%3A%2F%2Fh%3Faccess_token%3DREDACTED&a=%22reconnectionToken%22%3A%22REDACTED%22"},
		"escaped":           {`x\u0026access_token=opaquevalue`, `x\u0026access_token=REDACTED`},
		"an encoded header": {"?reason=Bearer+abcdefghijkl&a=Bearer%20abcdefghijkl", "?reason=Bearer+REDACTED&a=Bearer%20REDACTED"},
		"a header":          {"Authorization: Bearer abc.def_ghi", "Authorization: Bearer REDACTED"},
		"a connection string": {"Endpoint=http://x;AccessKey=abcdefgh+/==;Version=1.0;",
			"Endpoint=http://x;AccessKey=REDACTED;Version=1.0;"},
		"the connection string":  {srv.ConnectionString(), "Endpoint=" + srv.Endpoint() + ";AccessKey=REDACTED;Version=1.0;"},
		"the key":                {"it is primary+key/with=signs!", "it is REDACTED!"},
		"the key in a query":     {"k=primary%2Bkey%2Fwith%3Dsigns", "k=REDACTED"},
		"the secondary key":      {"it is the secondary key!", "it is REDACTED!"},
		"a text without secrets": {`{"tokens":"short","key":"value","eyJ":"a.b.c"}`, `{"tokens":"short","key":"value","eyJ":"a.b.c"}`},
		"a truncated token":      {strings.Repeat(".", 490) + " " + token, strings.Repeat(".", 490) + " " + "REDACTED"},
		"a long text":            {strings.Repeat("x", 600), strings.Repeat("x", 512) + "…"},
		"a key beyond the limit": {strings.Repeat("x", 500) + " the secondary key",
			strings.Repeat("x", 500) + " " + "REDACTED"},
	} {
		t.Run(name, func(t *testing.T) {
			p.seen = nil
			rest{t, srv}.text("hubs/chat/:send", tt.data)
			require.Equal(t, tt.want, p.waitForTraffic("SendToAll").Data)
		})
	}

	// Other places that may contain a secret.
	p.seen = nil
	c := dialJSON(t, srv, dialOptions{user: token, groups: []string{token}, roles: []string{"webpubsub.joinLeaveGroup"}})
	c.ask(`{"type":"joinGroup","group":"the secondary key","ackId":1}`)
	require.Equal(t, "REDACTED", p.waitForTraffic("joined REDACTED").UserID)
	ask(t, "GET", srv.Endpoint()+"/api/hubs/chat/:send?access_token="+token)
	p.waitForTraffic("GET /api/hubs/chat/:send?access_token=REDACTED")
	rest{t, srv}.text("hubs/chat/groups/the%20secondary%20key/:send", "x")
	p.waitForTraffic("/api/hubs/chat/groups/REDACTED/:send")
	p.until("the group appeared", func() bool { return len(p.state.Hubs) == 1 && p.state.Hubs[0].GroupCount == 2 })
	for _, secret := range []string{token, claims, srv.AccessKey(), "the secondary key"} {
		require.NotContains(t, fmt.Sprintf("%+v %+v", p.state, p.seen), secret)
	}
}

func TestAnOpenPageDoesNotKeepTheServerFromClosing(t *testing.T) {
	srv := emulator.StartT(t, nil)
	p := openPage(t, srv)
	require.NoError(t, srv.Close())
	for p.next() {
	}
	require.NoError(t, p.events.Err(), "the stream ends without an error")
}

func TestForeignPagesMayNotReadResponsesOrConnect(t *testing.T) {
	srv := emulator.StartT(t, nil)
	for name, tt := range map[string]struct {
		host, origin string
		allowed      bool
	}{
		"a page of localhost":                {"", "http://localhost:3000", true},
		"a page of an IPv4 loopback":         {"", "http://127.1.2.3:8000", true},
		"a page of the IPv6 loopback":        {"", "https://[::1]", true},
		"a page of another site":             {"", "https://evil.example", false},
		"a page of a name like this address": {"", "http://127.0.0.1.evil.example", false},
		"a page without an origin":           {"", "null", false},
		"a page of the request's host":       {"evil.example:80", "http://evil.example:80", false},
	} {
		t.Run(name, func(t *testing.T) {
			host := cmp.Or(tt.host, host(srv))
			want := map[bool]string{true: tt.origin}[tt.allowed]
			for _, path := range []string{"/api/health", "/api/hubs/chat/:send", "/api/nothing"} { // 200, 405, 404
				r := ask(t, "HEAD", srv.Endpoint()+path, "Origin", tt.origin, "Host", host)
				require.Equal(t, want, r.header.Get("Access-Control-Allow-Origin"), path)
				require.Empty(t, r.header.Get("Access-Control-Allow-Credentials"), path)
			}
			target := strings.Replace(dialOptions{}.url(t, srv), "ws:", "http:", 1)
			status := 403
			if tt.allowed {
				status = 101
			}
			require.Equal(t, status, ask(t, "GET", target, "Origin", tt.origin, "Host", host, "Connection", "Upgrade",
				"Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==").status)
		})
	}
}
