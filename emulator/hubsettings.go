package emulator

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/events"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// HubSettings say who is told of a hub's events. Its JSON form is that of a settings file.
type HubSettings struct {
	// EventHandlers are asked in order: the first that takes an event gets it, and no other.
	EventHandlers []EventHandler `json:"eventHandlers"`

	// AnonymousConnectPolicy says whether clients may connect without a token. The default, and "", is
	// AnonymousConnectDeny. An anonymous client has no user, groups and roles, unless a handler's answer to connect gives it
	// some.
	AnonymousConnectPolicy AnonymousConnectPolicy `json:"anonymousConnectPolicy"`
}

// AnonymousConnectPolicy is whether clients without a token may connect. Case does not count.
type AnonymousConnectPolicy string

const (
	// AnonymousConnectDeny refuses clients without a token with 401.
	AnonymousConnectDeny AnonymousConnectPolicy = "deny"
	// AnonymousConnectAllow lets clients without a token connect. One with a bad token is refused all the same.
	AnonymousConnectAllow AnonymousConnectPolicy = "allow"
)

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

// SetHubSettings says who is told of a hub's events from now on, in place of what was said before, by Options.Hubs or
// here. It is for handlers that need to know the server, as its access key, before they can be made. Empty settings
// mean that nobody is told. Clients that are connected already are told of by the new settings, too. The error names the handler that
// is wrong, and why; nothing is changed then.
func (s *Server) SetHubSettings(hub string, settings HubSettings) error {
	if !protocol.HubPattern.MatchString(hub) {
		return fmt.Errorf("emulator: the hub %.140q has no valid name", hub)
	}
	allow := strings.EqualFold(string(settings.AnonymousConnectPolicy), string(AnonymousConnectAllow))
	if p := settings.AnonymousConnectPolicy; p != "" && !allow && !strings.EqualFold(string(p), string(AnonymousConnectDeny)) {
		return fmt.Errorf("emulator: hub %s: AnonymousConnectPolicy is %.40q, neither deny nor allow", hub, p)
	}
	handlers := make([]events.Handler, len(settings.EventHandlers))
	for i, h := range settings.EventHandlers {
		handlers[i] = events.Handler(h)
	}
	if err := s.events.Set(hub, handlers); err != nil {
		return fmt.Errorf("emulator: hub %s: %w", hub, err)
	}
	s.service.Hub(hub).AllowAnonymous(allow)
	return nil
}
