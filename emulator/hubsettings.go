package emulator

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/events"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// HubSettings are the settings of a hub: who receives its events, and who may connect. The JSON form is that of the emulator
// program's settings file.
type HubSettings struct {
	// EventHandlers receive the events of the hub. An event goes to the first handler that accepts its kind, and to no other.
	EventHandlers []EventHandler `json:"eventHandlers"`

	// AnonymousConnectPolicy tells whether clients may connect without a token. "" means AnonymousConnectDeny. An anonymous
	// client has no user, groups or roles, unless a handler's answer to connect gives it some.
	AnonymousConnectPolicy AnonymousConnectPolicy `json:"anonymousConnectPolicy"`
}

// AnonymousConnectPolicy tells whether clients may connect without a token. Its values are read in any case.
type AnonymousConnectPolicy string

const (
	// AnonymousConnectDeny rejects clients without a token with 401.
	AnonymousConnectDeny AnonymousConnectPolicy = "deny"
	// AnonymousConnectAllow lets clients without a token connect. A client with a bad token is rejected all the same.
	AnonymousConnectAllow AnonymousConnectPolicy = "allow"
)

// EventHandler is an application that receives the events of clients: connect, connected, disconnected and user events. Each
// event is an HTTP request, as the service makes it: CloudEvents in binary mode, with a signature of the connection's id by
// both access keys.
//
// Before the first event, the server validates the handler with OPTIONS, and with GET if the answer is 404:
//
//   - The header WebHook-Request-Origin is the host that the client connected to.
//   - The handler accepts with a 2xx and a header WebHook-Allowed-Origin that is "*" or that host. A list in one header is not
//     read.
//   - The validation is repeated after a minute. After a refusal it is repeated after a second, then two, four and so on up
//     to a minute. Until the handler accepts, connect fails with 500, and user events fail.
//
// Answers have the meaning that they have for the service:
//
//   - A 2xx to connect accepts the client.
//   - A 4xx to connect rejects the client, who receives the status, the content type and the body.
//   - Any other status to connect rejects the client with that status alone. No answer, or an answer that cannot be read,
//     rejects the client with 500.
//   - The body of a 2xx to a user event goes to the client that sent the event. Any other answer fails the event. The log and
//     [Server.Events] have the reason, and the client does not receive it.
//   - After 408, 5xx or no answer, an event is sent again 1, 3 and 5 seconds later, by the server's clock: see
//     [Server.Advance]. A handler has 100 seconds for all attempts, by the machine's clock.
type EventHandler struct {
	// URLTemplate is the URL that events are posted to, such as "http://localhost:3000/eventhandler/{event}". {hub} is
	// replaced by the hub's name in lower case, {event} by the event's name, which is validate for the validation. Both may be
	// written in any case, and must not be in the host. If Handler is set and URLTemplate is "", it is
	// "http://localhost/eventhandler/{event}".
	//
	// A template such as "tunnel:///eventhandler/{event}" sends the events through the connections that servers have opened to
	// the hub's tunnel. See [Server.Tunnels].
	URLTemplate string `json:"urlTemplate"`

	// Handler, if set, is called instead of sending the request over the network. Each request has a goroutine of its own, so
	// a handler may end by a panic or a t.Fatal; the event then has no answer. When the request's context has ended, nobody
	// waits for the handler any longer, and Close does not either.
	Handler http.Handler `json:"-"`

	// SystemEvents are the system events that the handler receives: connect, connected and disconnected, in any case.
	SystemEvents []string `json:"systemEvents"`

	// UserEventPattern selects the user events that the handler receives: "*" for all, or names separated by commas, in any
	// case. "" means none. A frame of a client without a subprotocol is the event message.
	UserEventPattern string `json:"userEventPattern"`
}

// SetHubSettings replaces the settings of a hub. Settings without handlers mean that nobody receives the hub's events. It is for
// handlers that need something of the server, such as its access key, before they can be made.
//
// The settings are read for each event, so they affect clients that are already connected. If a setting is not valid, the error
// names the handler and the reason, and nothing changes.
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
