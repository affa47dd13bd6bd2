// Package liveview is a page at / that shows the hubs, their connections and groups, and the traffic as it passes. It asks for
// no token, so no other page may read it; see [View.ServeHTTP]. Nobody watching, it costs an atomic load per event; somebody
// watching, what they are too slow for is dropped, and they are told how much that was. It only looks at the kernel.
package liveview

import (
	"cmp"
	"embed"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/emulator/internal/watch"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

//go:embed page
var files embed.FS

// paths are the paths of the live view, and the files that are there.
var paths = map[string]string{
	"/":                   "page/index.html",
	"/liveview/app.js":    "page/app.js",
	"/liveview/icon.svg":  "page/icon.svg",
	"/liveview/style.css": "page/style.css",
	streamPath:            "", // made as it passes
}

const (
	streamPath = "/liveview/stream"

	// policy lets the page load its own files, talk to its own server, and put text into the page as text only.
	policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
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

	// pause is how long the state may change before a page sees it: changes come in bursts.
	pause = 100 * time.Millisecond
	// heartbeatInterval is how often a quiet stream shows that it is alive, writeTimeout how long a page may take
	// to read what it is sent.
	heartbeatInterval = 15 * time.Second
	writeTimeout      = 10 * time.Second
)

// Options are the parts that a View shows.
type Options struct {
	Service  *hub.Service
	Board    *watch.Board
	Endpoint wire.Endpoint
	Secrets  func() []string // that no page may see, such as the access keys

	// Tunnels returns how many connections the tunnel of a hub has.
	Tunnels func(hub string) int
}

// View serves the live view.
type View struct {
	service  *hub.Service
	board    *watch.Board
	endpoint wire.Endpoint
	secrets  func() []string
	tunnels  func(hub string) int
}

// New makes a View.
func New(o Options) *View {
	return &View{service: o.Service, board: o.Board, endpoint: o.Endpoint, secrets: o.Secrets, tunnels: o.Tunnels}
}

// Serves reports whether a path is one of the live view's.
func Serves(path string) bool { _, ok := paths[path]; return ok }

// ServeHTTP answers the page, its files and the stream that feeds it. A web page of another origin must not read
// them, not even after it has made its own name resolve to this machine (DNS rebinding): hence the look at the Host,
// which is then that name, and at what browsers say about who asks.
func (v *View) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if !wire.OwnHost(r) {
		refuse(w, r, http.StatusForbidden, "Forbidden", "Host", fmt.Sprintf(
			"the live view is not shown under the host name %.100q: open it at %s", r.Host, v.endpoint))
		return
	}
	if fault := v.foreignPage(r); fault != "" {
		refuse(w, r, http.StatusForbidden, "Forbidden", "Origin", fault)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		refuse(w, r, http.StatusMethodNotAllowed, "MethodNotAllowed", "", "this path does not take "+r.Method)
		return
	}
	if file := paths[r.URL.Path]; file != "" {
		http.ServeFileFS(w, r, files, file)
		return
	}
	h.Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodGet {
		v.stream(w, r)
	}
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code, target, message string) {
	e := &wire.Error{Status: status, Code: code, Message: message, Target: target}
	e.Write(w, r)
}

// foreignPage returns why a web page may not see the view, or "". A link to the page is allowed from anywhere.
func (v *View) foreignPage(r *http.Request) string {
	if origin := r.Header.Get("Origin"); origin != "" && !v.endpoint.OwnOrigin(r, origin) {
		return "the origin " + text.Shorten(origin, 100) + " may not see the live view"
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case site == "", site == "none", site == "same-origin":
		return ""
	case r.URL.Path == "/" && r.Header.Get("Sec-Fetch-Mode") == "navigate":
		return ""
	}
	return "another web page may not see the live view"
}

// stream sends server-sent events: the state, again when it has changed, and the traffic.
func (v *View) stream(w http.ResponseWriter, r *http.Request) {
	watcher, stop := v.board.Watch(maxWaitingTraffic)
	defer stop()
	defer v.board.Attend()()
	out := http.NewResponseController(w)
	send := func(format string, args ...any) bool {
		out.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && out.Flush() == nil
	}

	changed := v.board.Next() // before looking, so that no change is missed
	ok := send("retry: 1000\nevent: state\ndata: %s\n\n", text.JSON(v.state()))
	var settled <-chan time.Time
	heartbeat := time.NewTicker(heartbeatInterval)
	defer heartbeat.Stop()
	for ok {
		select {
		case e := <-watcher.Events:
			redactor := newRedactor(v.secrets()) // anew, as keys may be regenerated
			batch := liveTraffic{Events: []hub.TrafficEvent{redactor.event(e)}}
			for len(batch.Events) < maxTrafficBatch && len(watcher.Events) > 0 { // nobody else receives
				batch.Events = append(batch.Events, redactor.event(<-watcher.Events))
			}
			batch.Missed = watcher.Missed()
			ok = send("event: traffic\ndata: %s\n\n", text.JSON(batch))
		case <-changed:
			changed, settled = nil, time.After(pause)
		case <-settled:
			changed, settled = v.board.Next(), nil
			ok = send("event: state\ndata: %s\n\n", text.JSON(v.state()))
		case <-heartbeat.C:
			ok = send(":\n\n")
		case <-v.service.Life.Closing():
			return
		case <-r.Context().Done():
			return
		}
	}
}

// liveTraffic is what passed since the page was last told.
type liveTraffic struct {
	Events []hub.TrafficEvent `json:"events"`
	Missed int64              `json:"missed"` // how many events the page was too slow for, in all
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
	TunnelCount     int              `json:"tunnelCount"`
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

func (v *View) state() liveState {
	hubs := v.service.Hubs()
	state := liveState{Endpoint: v.endpoint.String(), Hubs: []liveHub{}, HubCount: len(hubs)}
	for _, h := range hubs[:min(len(hubs), maxShownHubs)] {
		state.Hubs = append(state.Hubs, v.hub(h))
	}
	return state
}

// hub describes a hub. It enters the hub several times, and only briefly: whoever looks must not be in the way.
func (v *View) hub(h *hub.Hub) liveHub {
	connections := h.Connections()
	groups := make([]liveGroup, 0)
	for name, members := range h.Groups() {
		groups = append(groups, liveGroup{name, members})
	}
	slices.SortFunc(groups, func(a, b liveGroup) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(connections, func(a, b *hub.Connection) int {
		return cmp.Or(strings.Compare(a.UserID, b.UserID), strings.Compare(a.ID, b.ID))
	})
	live := liveHub{Name: h.Name, Connections: []liveConnection{}, ConnectionCount: len(connections),
		Groups: groups[:min(len(groups), maxShownGroups)], GroupCount: len(groups), UserCount: h.UserCount(),
		TunnelCount: v.tunnels(h.Name)}
	redact := newRedactor(v.secrets()).redact
	for i := range live.Groups {
		live.Groups[i].Name = redact(live.Groups[i].Name)
	}
	for _, c := range connections[:min(len(connections), maxShownConnections)] {
		shown := c.Inspect()
		groups := []string{}
		for _, g := range shown.Groups[:min(len(shown.Groups), maxShownMemberships)] {
			groups = append(groups, redact(g))
		}
		live.Connections = append(live.Connections, liveConnection{ID: redact(shown.ID), UserID: redact(shown.UserID),
			Subprotocol: shown.Subprotocol, Groups: groups, GroupCount: len(shown.Groups), Recovering: shown.Recovering})
	}
	return live
}
