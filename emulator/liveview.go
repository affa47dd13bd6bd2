package emulator

import (
	"cmp"
	"embed"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// This file is the live view: a page at / that shows the hubs, their connections and groups, and the traffic as it
// passes. It asks for no token, so no other page may read it; see serveLiveView. Nobody watching, it costs an atomic load
// per event; somebody watching, what they are too slow for is dropped, and they are told how much that was.

//go:embed liveview
var liveViewFiles embed.FS

// liveViewPaths are the paths of the live view, and the files that are there.
var liveViewPaths = map[string]string{
	"/":                   "liveview/index.html",
	"/liveview/app.js":    "liveview/app.js",
	"/liveview/icon.svg":  "liveview/icon.svg",
	"/liveview/style.css": "liveview/style.css",
	liveViewStream:        "", // made as it passes
}

const (
	liveViewStream = "/liveview/stream"

	// liveViewPolicy lets the page load its own files, talk to its own server, and put text into the page as text only.
	liveViewPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

	// What a page is shown at most, of a state that may be large: the rest is counted.
	maxShownHubs        = 50
	maxShownConnections = 200 // of a hub
	maxShownGroups      = 200 // of a hub
	maxShownMemberships = 20  // of a connection

	// maxWaitingTraffic is how many events may wait for a page before they are dropped, maxTrafficBatch how many it
	// gets at once.
	maxWaitingTraffic = 1024
	maxTrafficBatch   = 256

	// liveViewPause is how long the state may change before a page sees it: changes come in bursts.
	liveViewPause = 100 * time.Millisecond
	// liveViewHeartbeat is how often a quiet stream says that it is alive, liveViewPatience how long a page may take
	// to read what it is sent.
	liveViewHeartbeat = 15 * time.Second
	liveViewPatience  = 10 * time.Second
)

// serveLiveView answers the page, its files and the stream that feeds it. A web page of another origin must not read
// them, not even after it has made its own name resolve to this machine (DNS rebinding): hence the look at the Host,
// which is then that name, and at what browsers say about who asks.
func (s *Server) serveLiveView(w http.ResponseWriter, r *http.Request, file string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", liveViewPolicy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if !ownHost(r) {
		writeError(w, r, &restError{http.StatusForbidden, "Forbidden", fmt.Sprintf(
			"the live view is not shown under the host name %.100q: open it at %s", r.Host, s.endpoint), "Host"})
		return
	}
	if fault := s.foreignPage(r); fault != "" {
		writeError(w, r, &restError{http.StatusForbidden, "Forbidden", fault, "Origin"})
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		writeError(w, r, &restError{http.StatusMethodNotAllowed, "MethodNotAllowed", "this path does not take " + r.Method, ""})
		return
	}
	if file != "" {
		http.ServeFileFS(w, r, liveViewFiles, file)
		return
	}
	h.Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodGet {
		s.streamLiveView(w, r)
	}
}

// foreignPage says what is wrong with who asks, or "". To come to the page by a link is well, wherever that is.
func (s *Server) foreignPage(r *http.Request) string {
	if origin := r.Header.Get("Origin"); origin != "" && !s.ownOrigin(r, origin) {
		return "the origin " + shorten(origin, 100) + " may not see the live view"
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case site == "", site == "none", site == "same-origin":
		return ""
	case r.URL.Path == "/" && r.Header.Get("Sec-Fetch-Mode") == "navigate":
		return ""
	}
	return "another web page may not see the live view"
}

// streamLiveView sends server-sent events: the state, again when it has changed, and the traffic.
func (s *Server) streamLiveView(w http.ResponseWriter, r *http.Request) {
	watcher, stop := s.traffic.watch(maxWaitingTraffic)
	defer stop()
	s.notifier.waiting.Add(1)
	defer s.notifier.waiting.Add(-1)
	keys := s.keyReplacer()
	out := http.NewResponseController(w)
	send := func(format string, args ...any) bool {
		out.SetWriteDeadline(time.Now().Add(liveViewPatience))
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && out.Flush() == nil
	}

	changed := s.notifier.changes() // before looking, so that no change is missed
	ok := send("retry: 1000\nevent: state\ndata: %s\n\n", marshalJSON(s.liveState(keys)))
	var settled <-chan time.Time
	heartbeat := time.NewTicker(liveViewHeartbeat)
	defer heartbeat.Stop()
	for ok {
		select {
		case e := <-watcher.events:
			batch := liveTraffic{Events: []trafficEvent{redactEvent(keys, e)}}
			for len(batch.Events) < maxTrafficBatch && len(watcher.events) > 0 { // nobody else receives
				batch.Events = append(batch.Events, redactEvent(keys, <-watcher.events))
			}
			batch.Missed = watcher.missed.Load()
			ok = send("event: traffic\ndata: %s\n\n", marshalJSON(batch))
		case <-changed:
			changed, settled = nil, time.After(liveViewPause)
		case <-settled:
			changed, settled = s.notifier.changes(), nil
			ok = send("event: state\ndata: %s\n\n", marshalJSON(s.liveState(keys)))
		case <-heartbeat.C:
			ok = send(":\n\n")
		case <-s.quit:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// liveTraffic is what passed since the page was last told.
type liveTraffic struct {
	Events []trafficEvent `json:"events"`
	Missed int64          `json:"missed"` // how many events the page was too slow for, in all
}

// liveState is the state as the page shows it. What is left out is counted.
type liveState struct {
	Endpoint string    `json:"endpoint"`
	Hubs     []liveHub `json:"hubs"`
	HubCount int       `json:"hubCount"`
}

type liveHub struct {
	Name            string           `json:"name"`
	Connections     []liveConnection `json:"connections"` // by user, then by id
	ConnectionCount int              `json:"connectionCount"`
	Groups          []liveGroup      `json:"groups"` // by name
	GroupCount      int              `json:"groupCount"`
	UserCount       int              `json:"userCount"`
}

type liveConnection struct {
	ID          string   `json:"id"`
	UserID      string   `json:"userId"`
	Subprotocol string   `json:"subprotocol"`
	Groups      []string `json:"groups"`
	GroupCount  int      `json:"groupCount"`
	Recovering  bool     `json:"recovering"`
}

type liveGroup struct {
	Name    string `json:"name"`
	Members int    `json:"members"`
}

func (s *Server) liveState(keys *strings.Replacer) liveState {
	s.mu.Lock()
	hubs := slices.Collect(maps.Values(s.hubs))
	s.mu.Unlock()
	slices.SortFunc(hubs, func(a, b *hub) int { return strings.Compare(a.name, b.name) })
	state := liveState{Endpoint: s.endpoint, Hubs: []liveHub{}, HubCount: len(hubs)}
	for _, h := range hubs[:min(len(hubs), maxShownHubs)] {
		state.Hubs = append(state.Hubs, h.live(keys))
	}
	return state
}

// live describes a hub. It takes hub.mu several times, and only briefly: whoever looks must not be in the way.
func (h *hub) live(keys *strings.Replacer) liveHub {
	h.mu.RLock()
	connections := slices.Collect(maps.Values(h.connections))
	groups := make([]liveGroup, 0, len(h.groups))
	for name, members := range h.groups {
		groups = append(groups, liveGroup{name, len(members)})
	}
	users := len(h.users)
	h.mu.RUnlock()

	slices.SortFunc(groups, func(a, b liveGroup) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(connections, func(a, b *connection) int {
		return cmp.Or(strings.Compare(a.userID, b.userID), strings.Compare(a.id, b.id))
	})
	live := liveHub{Name: h.name, Connections: []liveConnection{}, ConnectionCount: len(connections),
		Groups: groups[:min(len(groups), maxShownGroups)], GroupCount: len(groups), UserCount: users}
	for i := range live.Groups {
		live.Groups[i].Name = redact(keys, live.Groups[i].Name)
	}
	for _, c := range connections[:min(len(connections), maxShownConnections)] {
		h.mu.RLock()
		shown := c.inspect()
		h.mu.RUnlock()
		groups := []string{}
		for _, g := range shown.Groups[:min(len(shown.Groups), maxShownMemberships)] {
			groups = append(groups, redact(keys, g))
		}
		live.Connections = append(live.Connections, liveConnection{ID: redact(keys, shown.ID), UserID: redact(keys, shown.UserID),
			Subprotocol: shown.Subprotocol, Groups: groups, GroupCount: len(shown.Groups), Recovering: shown.Recovering})
	}
	return live
}

// redacted stands for a key or a token.
const redacted = "REDACTED"

var (
	// tokenPattern is a JSON Web Token, or the beginning of one.
	tokenPattern = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{6,}(\.[A-Za-z0-9_-]*){1,2}`)
	// secretPattern is a value whose name says that it is a secret: in a query, in JSON, in a connection string, or in
	// a header; also percent-encoded, as in the path of a request.
	secretPattern = regexp.MustCompile(`(?i)((?:\b|%[0-9A-F]{2}|\\u[0-9A-F]{4})(?:` +
		`(?:access_token|awps_reconnection_token|reconnectionToken|AccessKey)\\*(?:"|%22)?\s*(?:[:=]|%3[AD])\s*\\*(?:"|%22)?|` +
		`Bearer(?:\s|\+|%20)+))[A-Za-z0-9%._~+/=-]{6,}`)
)

// keyReplacer takes the server's keys out of texts, as they are and as they are in a URL. A key of a few characters
// keeps no secret, and to take it out would leave no text readable.
func (s *Server) keyReplacer() *strings.Replacer {
	var pairs []string
	for _, key := range []string{s.key, s.secondaryKey} {
		if len(key) >= 8 {
			pairs = append(pairs, key, redacted, url.QueryEscape(key), redacted, url.PathEscape(key), redacted)
		}
	}
	return strings.NewReplacer(pairs...)
}

// redact takes keys and tokens out of a text.
func redact(keys *strings.Replacer, text string) string {
	if len(text) < 8 {
		return text
	}
	text = tokenPattern.ReplaceAllLiteralString(keys.Replace(text), redacted)
	return secretPattern.ReplaceAllString(text, "${1}"+redacted)
}

// redactEvent is what a page is shown of an event.
func redactEvent(keys *strings.Replacer, e trafficEvent) trafficEvent {
	e.Text = shorten(redact(keys, e.Text), 2*maxTrafficData)
	e.ConnectionID = redact(keys, e.ConnectionID) // an MQTT client chooses its own
	e.UserID = redact(keys, e.UserID)
	e.Group = redact(keys, e.Group)
	if data := redact(keys, e.Data); len(data) > maxTrafficData {
		e.Data = shorten(data, maxTrafficData) + "\u2026"
	} else {
		e.Data = data
	}
	return e
}
