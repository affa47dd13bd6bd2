package emulator

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// HubSettings say who is told of a hub's events. Its JSON form is that of a settings file.
type HubSettings struct {
	// EventHandlers are asked in order: the first that takes an event gets it, and no other.
	EventHandlers []EventHandler `json:"eventHandlers"`
}

// EventHandler is an application that is told of events: the connect, connected and disconnected of clients and what
// they send. Each event is an HTTP request, as the service makes it: CloudEvents in binary mode, with a signature of
// the connection's id under both access keys, after the handler has been asked whether it takes requests of this
// server (OPTIONS with WebHook-Request-Origin).
//
// What the answer to a request means is the service's: a 2xx to connect accepts the client, anything else refuses its
// handshake with that status; the body of a 2xx to a user event goes to the client that sent it. An answer of 408 or
// 5xx, and none at all, is asked for again 1, 3 and 5 seconds later by the server's clock (see Server.Advance).
type EventHandler struct {
	// URLTemplate is where events are posted, such as "http://localhost:3000/eventhandler/{event}". {hub} and {event}
	// stand for the names of the hub and the event; the question whether the handler takes requests is the event
	// validate. It may be left out if Handler is set, and is "http://localhost/eventhandler/{event}" then.
	URLTemplate string `json:"urlTemplate"`

	// Handler, if set, is called in place of sending the request over the network. It has a goroutine of its own for
	// each request, so that it may end as any handler may, by a panic or a t.Fatal too: the event has no answer then.
	// A handler that goes on when its request's context has ended is waited for no longer, by Close neither; what it
	// still does is the application's own.
	Handler http.Handler `json:"-"`

	// SystemEvents are which of connect, connected and disconnected the handler takes, in any case.
	SystemEvents []string `json:"systemEvents"`

	// UserEventPattern says which events of clients the handler takes: "*" for all, or names separated by commas, in
	// any case. What clients without a subprotocol send is the event message. Empty means none.
	UserEventPattern string `json:"userEventPattern"`
}

const (
	eventConnect      = "connect"
	eventConnected    = "connected"
	eventDisconnected = "disconnected"
	eventValidate     = "validate"
)

const inProcessTemplate = "http://localhost/eventhandler/{event}"

// eventHandler is a checked EventHandler of a hub.
type eventHandler struct {
	hub      string
	template string
	client   *http.Client
	system   []string // lower case
	users    []string // lower case
	allUsers bool

	mu        sync.Mutex // guards validated, and is held while the handler is asked
	validated bool
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// newEventHandler checks one handler's settings. over is the client for those on the network, log that of those in
// process.
func newEventHandler(hub string, e EventHandler, over *http.Client, log *slog.Logger) (*eventHandler, error) {
	h := &eventHandler{hub: hub, template: e.URLTemplate, client: over}
	if e.Handler != nil {
		h.client = newEventClient(inProcess{e.Handler, log})
		if h.template == "" {
			h.template = inProcessTemplate
		}
	}
	for _, name := range placeholder.FindAllString(h.template, -1) {
		if name != "{hub}" && name != "{event}" {
			return nil, fmt.Errorf("URLTemplate has the placeholder %s; there are {hub} and {event}", name)
		}
	}
	u, err := url.Parse(h.url(eventValidate))
	switch {
	case h.template == "":
		return nil, errors.New("URLTemplate is empty, and there is no Handler")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("URLTemplate is not an http or https URL")
	}
	for _, name := range e.SystemEvents {
		name = strings.ToLower(name)
		if name != eventConnect && name != eventConnected && name != eventDisconnected {
			return nil, fmt.Errorf("SystemEvents has %.40q; there are connect, connected and disconnected", name)
		}
		h.system = append(h.system, name)
	}
	if strings.TrimSpace(e.UserEventPattern) != "" {
		for name := range strings.SplitSeq(e.UserEventPattern, ",") {
			switch name = strings.TrimSpace(name); {
			case name == "*":
				h.allUsers = true
			case eventPattern.MatchString(name):
				h.users = append(h.users, strings.ToLower(name))
			default:
				return nil, fmt.Errorf("UserEventPattern has %.40q, which is neither * nor the name of an event", name)
			}
		}
	}
	if len(h.system) == 0 && len(h.users) == 0 && !h.allUsers {
		return nil, errors.New("the handler takes no event: SystemEvents and UserEventPattern are empty")
	}
	return h, nil
}

// url is where an event is sent.
func (h *eventHandler) url(event string) string {
	return strings.NewReplacer("{hub}", url.PathEscape(h.hub), "{event}", url.PathEscape(event)).Replace(h.template)
}

// hubEventHandlers are the handlers of every hub.
type hubEventHandlers struct {
	mu   sync.RWMutex               // guards hubs
	hubs map[string][]*eventHandler // by lower-case name
}

// find returns the handler that gets an event, or nil.
func (h *hubEventHandlers) find(hub string, takes func(*eventHandler) bool) *eventHandler {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if i := slices.IndexFunc(h.hubs[strings.ToLower(hub)], takes); i >= 0 {
		return h.hubs[strings.ToLower(hub)][i]
	}
	return nil
}

func (h *hubEventHandlers) listens(hub string) bool {
	return h.find(hub, func(*eventHandler) bool { return true }) != nil
}

func takesSystem(event string) func(*eventHandler) bool {
	return func(h *eventHandler) bool { return slices.Contains(h.system, event) }
}

func takesUser(event string) func(*eventHandler) bool {
	event = strings.ToLower(event)
	return func(h *eventHandler) bool { return h.allUsers || slices.Contains(h.users, event) }
}

// SetHubSettings says who is told of a hub's events from now on, in place of what was said before, by Options.Hubs or
// here. It is for handlers that need to know the server, as its access key, before they can be made. Empty settings
// mean that nobody is told. Clients that connected while nobody was told stay unheard. The error names the handler that
// is wrong, and why; nothing is changed then.
func (s *Server) SetHubSettings(hub string, settings HubSettings) error {
	if !hubPattern.MatchString(hub) {
		return fmt.Errorf("emulator: the hub %.140q has no valid name", hub)
	}
	handlers := make([]*eventHandler, len(settings.EventHandlers))
	for i, e := range settings.EventHandlers {
		var err error
		if handlers[i], err = newEventHandler(hub, e, s.upstream.client, s.log); err != nil {
			return fmt.Errorf("emulator: hub %s: EventHandlers[%d]: %w", hub, i, err)
		}
	}
	s.upstream.mu.Lock()
	defer s.upstream.mu.Unlock()
	s.upstream.hubs[strings.ToLower(hub)] = handlers
	return nil
}
