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

// EventHandler is an application that receives events: the connect, connected and disconnected of clients and what they
// send. Each event is an HTTP request, as the service makes it: CloudEvents in binary mode, with a signature of the
// connection's id under both access keys.
//
// Before the first event, the handler is asked whether it accepts events of this server: OPTIONS, and GET after a 404, with the
// host that the client connected to in WebHook-Request-Origin. It accepts with 2xx and a WebHook-Allowed-Origin header that
// is * or that host; a list in one header does not count. It is asked again after a minute, and after a refusal when a second
// has passed, two, four and so on up to a minute. While it refuses, connect fails with 500 and user events fail.
//
// Answers mean what they mean to the service:
//   - A 2xx to connect accepts the client. A 4xx refuses it: the client receives the status, the content type and the body. Any
//     other status reaches it alone, and a fault (no answer, JSON that cannot be read) is a 500.
//   - The body of a 2xx to a user event goes to the client that sent it. Any other answer fails the event: the client is
//     not told why, but the log is, and [Server.Events].
//   - An event that is answered with 408 or 5xx, or not at all, is sent again 1, 3 and 5 seconds later by the server's
//     clock (see [Server.Advance]). A handler has 100 seconds for all of that, by the machine's clock.
type EventHandler struct {
	// URLTemplate is where events are posted, such as "http://localhost:3000/eventhandler/{event}". {hub} and
	// {event}, in any case, stand for the names of the hub, in lower case, and of the event, but not in the host. The question
	// whether the handler accepts events is the event validate. It may be left out if Handler is set, and is "http://localhost/eventhandler/{event}" then.
	//
	// tunnel:///path, such as "tunnel:///eventhandler/{event}", sends the events through the connections that servers have
	// opened to the hub's tunnel. See [Server.Tunnels].
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
// mean that nobody is told. The settings are looked up for each event, so they count for clients that are connected
// already. The error names the handler that is wrong, and why; nothing is changed then.
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
