package events

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

	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// Handler is an application that receives events. The fields are documented at the emulator's public type.
type Handler struct {
	URLTemplate      string
	Handler          http.Handler
	SystemEvents     []string
	UserEventPattern string
}

const (
	eventConnect      = "connect"
	eventConnected    = "connected"
	eventDisconnected = "disconnected"
	eventValidate     = "validate"
)

const inProcessTemplate = "http://localhost/eventhandler/{event}"

// The URL template of a handler behind the tunnel begins with tunnelPrefix. Event URLs sent through the tunnel begin with
// tunnelURL instead. The handler ignores the scheme and the host; the official package uses the same host for its requests.
const (
	tunnelPrefix = "tunnel:///"
	tunnelURL    = "https://host/"
)

// handler is a validated Handler of a hub.
type handler struct {
	hub      string
	template string
	client   *http.Client
	system   []string // lower case
	users    []string // lower case
	allUsers bool
	trusted  bool // events are sent without validation

	mu          sync.Mutex             // guards validations
	validations map[string]*validation // by origin
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// newHandler checks one handler's settings. client calls a handler on the network; log receives the panics of one in process.
func newHandler(hub string, e Handler, client *http.Client, log *slog.Logger) (*handler, error) {
	h := &handler{hub: strings.ToLower(hub), template: e.URLTemplate, client: client, validations: make(map[string]*validation)}
	if e.Handler != nil {
		h.client = newEventClient(inProcess{e.Handler, log})
		if h.template == "" {
			h.template = inProcessTemplate
		}
	} else if path, ok := strings.CutPrefix(h.template, tunnelPrefix); ok {
		h.template, h.trusted = tunnelURL+path, true
	}
	if err := h.checkTemplate(); err != nil {
		return nil, err
	}
	if err := h.selectEvents(e.SystemEvents, e.UserEventPattern); err != nil {
		return nil, err
	}
	return h, nil
}

// checkTemplate checks the URL template.
func (h *handler) checkTemplate() error {
	for _, name := range placeholder.FindAllString(h.template, -1) {
		if !strings.EqualFold(name, hubPlaceholder) && !strings.EqualFold(name, eventPlaceholder) {
			return fmt.Errorf("URLTemplate has the unknown placeholder %.80s; the placeholders are {hub} and {event}", name)
		}
	}
	_, rest, _ := strings.Cut(h.template, "://")
	host := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host = rest[:i]
	}
	u, err := h.url(eventValidate)
	switch {
	case h.template == "":
		return errors.New("URLTemplate or Handler is required")
	case placeholder.MatchString(host):
		return errors.New("URLTemplate has a placeholder in its host, which the service does not allow")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("URLTemplate is not an http or https URL, nor tunnel:///path")
	}
	return nil
}

// selectEvents sets the events that the handler receives.
func (h *handler) selectEvents(systemEvents []string, userEventPattern string) error {
	for _, name := range systemEvents {
		name = strings.ToLower(name)
		if name != eventConnect && name != eventConnected && name != eventDisconnected {
			return fmt.Errorf("SystemEvents has the unknown event %.40q; the system events are connect, connected and disconnected", name)
		}
		h.system = append(h.system, name)
	}
	if strings.TrimSpace(userEventPattern) != "" {
		for name := range strings.SplitSeq(userEventPattern, ",") {
			switch name = strings.TrimSpace(name); {
			case name == "*":
				h.allUsers = true
			case protocol.EventPattern.MatchString(name):
				h.users = append(h.users, strings.ToLower(name))
			default:
				return fmt.Errorf("UserEventPattern has %.40q, which is neither * nor a valid event name", name)
			}
		}
	}
	if len(h.system) == 0 && len(h.users) == 0 && !h.allUsers {
		return errors.New("the handler receives no events: SystemEvents and UserEventPattern are empty")
	}
	return nil
}

// The placeholders of a URL template, matched without regard to case.
const (
	hubPlaceholder   = "{hub}"
	eventPlaceholder = "{event}"
)

// url returns the URL to which an event is sent.
func (h *handler) url(event string) (*url.URL, error) {
	u, err := url.Parse(placeholder.ReplaceAllStringFunc(h.template, func(name string) string {
		if strings.EqualFold(name, hubPlaceholder) {
			return url.PathEscape(h.hub)
		}
		return url.PathEscape(event)
	}))
	if err != nil {
		return nil, errNoURL
	}
	return u, nil
}

// validation returns the validation of an origin. It creates one on first use.
func (h *handler) validation(origin string) *validation {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.validations[origin]
	if v == nil {
		v = &validation{}
		h.validations[origin] = v
	}
	return v
}

// hubHandlers are the handlers of every hub.
type hubHandlers struct {
	mu   sync.RWMutex          // guards hubs
	hubs map[string][]*handler // by lower-case name
}

// find returns the first handler of a hub that match accepts, or nil.
func (h *hubHandlers) find(hub string, match func(*handler) bool) *handler {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if i := slices.IndexFunc(h.hubs[strings.ToLower(hub)], match); i >= 0 {
		return h.hubs[strings.ToLower(hub)][i]
	}
	return nil
}

// Listens reports whether a hub has at least one handler.
func (h *hubHandlers) Listens(hub string) bool {
	return h.find(hub, func(*handler) bool { return true }) != nil
}

// Receives reports whether a handler of a hub receives the events with a name: system events if a system event has the name.
func (h *hubHandlers) Receives(hub, name string) bool {
	match := receivesUser(name)
	switch name = strings.ToLower(name); name {
	case eventConnect, eventConnected, eventDisconnected:
		match = receivesSystem(name)
	}
	return h.find(hub, match) != nil
}

func receivesSystem(event string) func(*handler) bool {
	return func(h *handler) bool { return slices.Contains(h.system, event) }
}

func receivesUser(event string) func(*handler) bool {
	event = strings.ToLower(event)
	return func(h *handler) bool { return h.allUsers || slices.Contains(h.users, event) }
}

// Set replaces the handlers of a hub. It returns an error that names the first invalid handler and the reason; nothing has
// changed then.
func (u *Sender) Set(hub string, settings []Handler) error {
	handlers := make([]*handler, len(settings))
	for i, e := range settings {
		var err error
		client := u.client
		if strings.HasPrefix(e.URLTemplate, tunnelPrefix) {
			client = newEventClient(u.Tunnels.Transport(hub))
		}
		if handlers[i], err = newHandler(hub, e, client, u.Service.Log); err != nil {
			return fmt.Errorf("EventHandlers[%d]: %w", i, err)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hubs[strings.ToLower(hub)] = handlers
	return nil
}
