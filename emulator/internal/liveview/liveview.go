// Package liveview serves a page at / that shows the hubs, their connections and groups, and the traffic as it happens.
//
//   - The page needs no token, so no other web page may read it: see [View.ServeHTTP].
//   - While no page is open, the live view costs one atomic load per traffic event.
//   - If a page is too slow, traffic events are dropped, and the page shows how many.
//   - The live view only reads the state of the kernel.
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

// paths maps the paths of the live view to files.
var paths = map[string]string{
	"/":                   "page/index.html",
	"/liveview/app.js":    "page/app.js",
	"/liveview/icon.svg":  "page/icon.svg",
	"/liveview/style.css": "page/style.css",
	streamPath:            "", // not a file: see stream
}

const (
	streamPath = "/liveview/stream"

	// policy allows the page to load its own files and to connect to its own server. It forbids inserting text as HTML.
	policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

	// Limits of the state that a page shows. Everything beyond them is only counted.
	maxShownHubs        = 50
	maxShownConnections = 200 // per hub
	maxShownGroups      = 200 // per hub
	maxShownMemberships = 20  // per connection

	// maxWaitingTraffic is how many traffic events may wait for a page. Further events are dropped.
	maxWaitingTraffic = 1024
	// maxTrafficBatch is how many traffic events are sent to a page in one message.
	maxTrafficBatch = 256

	// settleTime is the delay between a change and the next state that is sent. It combines bursts of changes.
	settleTime = 100 * time.Millisecond
	// heartbeatInterval is how often the stream sends a comment, which shows that it is alive.
	heartbeatInterval = 15 * time.Second
	// writeTimeout bounds one write to a page.
	writeTimeout = 10 * time.Second
)

// Options are the parts that a View shows.
type Options struct {
	Service  *hub.Service
	Board    *watch.Board
	Endpoint wire.Endpoint
	Secrets  func() []string // returns the texts that no page may show, such as the access keys

	// Tunnels returns the number of tunnel connections of a hub.
	Tunnels func(hub string) int
}

// View is the handler of the live view.
type View struct{ Options }

// New returns a View.
func New(o Options) *View { return &View{o} }

// Serves reports whether a path belongs to the live view.
func Serves(path string) bool { _, ok := paths[path]; return ok }

// ServeHTTP serves the page, its files and its stream. Web pages of other origins must not read them, so ServeHTTP rejects a
// request with 403 if
//
//   - its Host is not one of the server's own names, because a foreign page can make its own name resolve to this machine
//     (DNS rebinding), or
//   - its Origin or Sec-Fetch-Site header shows that another web page sent it.
func (v *View) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if !wire.OwnHost(r) {
		reject(w, r, http.StatusForbidden, "Forbidden", "Host", fmt.Sprintf(
			"the live view is not shown under the host name %.100q: open it at %s", r.Host, v.Endpoint))
		return
	}
	if fault := v.foreignPage(r); fault != "" {
		reject(w, r, http.StatusForbidden, "Forbidden", "Origin", fault)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		reject(w, r, http.StatusMethodNotAllowed, "MethodNotAllowed", "", "this path does not allow the method "+r.Method)
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

func reject(w http.ResponseWriter, r *http.Request, status int, code, target, message string) {
	e := &wire.Error{Status: status, Code: code, Message: message, Target: target}
	e.Write(w, r)
}

// foreignPage returns the reason why a web page may not read the live view, or "". Navigating to the page is always allowed.
func (v *View) foreignPage(r *http.Request) string {
	if origin := r.Header.Get("Origin"); origin != "" && !v.Endpoint.OwnOrigin(r, origin) {
		return "the origin " + text.Shorten(origin, 100) + " may not read the live view"
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case site == "", site == "none", site == "same-origin":
		return ""
	case r.URL.Path == "/" && r.Header.Get("Sec-Fetch-Mode") == "navigate":
		return ""
	}
	return "other web pages may not read the live view"
}

// stream sends server-sent events: the state, initially and after each change, and the traffic.
func (v *View) stream(w http.ResponseWriter, r *http.Request) {
	watcher, stop := v.Board.Watch(maxWaitingTraffic)
	defer stop()
	defer v.Board.Attend()()
	out := http.NewResponseController(w)
	send := func(format string, args ...any) bool {
		out.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && out.Flush() == nil
	}

	changed := v.Board.Next() // before reading the state, so no change is missed
	ok := send("retry: 1000\nevent: state\ndata: %s\n\n", text.JSON(v.state()))
	var settled <-chan time.Time
	heartbeat := time.NewTicker(heartbeatInterval)
	defer heartbeat.Stop()
	for ok {
		select {
		case e := <-watcher.Events:
			redactor := newRedactor(v.Secrets()) // for each batch, because keys may be regenerated
			batch := liveTraffic{Events: []hub.TrafficEvent{redactor.event(e)}}
			for len(batch.Events) < maxTrafficBatch && len(watcher.Events) > 0 { // this goroutine is the only receiver
				batch.Events = append(batch.Events, redactor.event(<-watcher.Events))
			}
			batch.Missed = watcher.Missed()
			ok = send("event: traffic\ndata: %s\n\n", text.JSON(batch))
		case <-changed:
			changed, settled = nil, time.After(settleTime)
		case <-settled:
			changed, settled = v.Board.Next(), nil
			ok = send("event: state\ndata: %s\n\n", text.JSON(v.state()))
		case <-heartbeat.C:
			ok = send(":\n\n")
		case <-v.Service.Life.Closing():
			return
		case <-r.Context().Done():
			return
		}
	}
}

// liveTraffic is a batch of traffic events for the page.
type liveTraffic struct {
	Events []hub.TrafficEvent `json:"events"`
	Missed int64              `json:"missed"` // the total number of events that were dropped because the page was too slow
}

// liveState is the state that the page shows. The counts include everything that the lists omit.
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
	hubs := v.Service.Hubs()
	state := liveState{Endpoint: v.Endpoint.String(), Hubs: []liveHub{}, HubCount: len(hubs)}
	for _, h := range hubs[:min(len(hubs), maxShownHubs)] {
		state.Hubs = append(state.Hubs, v.hub(h))
	}
	return state
}

// hub describes a hub. It locks the hub several times but only briefly, so that a page does not slow down the traffic.
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
		TunnelCount: v.Tunnels(h.Name)}
	redact := newRedactor(v.Secrets()).redact
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
