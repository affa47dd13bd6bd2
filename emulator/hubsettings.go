package emulator

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/events"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
)

// HubSettings configure a hub: where its events go, and whether anonymous clients may connect. The emulator programs read them
// from a JSON file.
type HubSettings struct {
	// EventHandlers receive the events of the hub. An event goes only to the first handler that selects its kind.
	EventHandlers []EventHandler `json:"eventHandlers"`

	// AnonymousConnectPolicy selects whether clients may connect without a token. "" means AnonymousConnectDeny. An anonymous
	// client has no user, groups or roles, unless a handler's response to connect assigns them.
	AnonymousConnectPolicy AnonymousConnectPolicy `json:"anonymousConnectPolicy"`
}

// AnonymousConnectPolicy selects whether clients may connect without a token. Values are case-insensitive.
type AnonymousConnectPolicy string

const (
	// AnonymousConnectDeny rejects clients without a token with 401.
	AnonymousConnectDeny AnonymousConnectPolicy = "deny"
	// AnonymousConnectAllow accepts clients without a token. A client with an invalid token is still rejected.
	AnonymousConnectAllow AnonymousConnectPolicy = "allow"
)

// EventHandler is an application that receives the events of a hub: connect, connected, disconnected and user events. Each event
// is an HTTP request like the service's: a CloudEvent in binary mode. The connection ID is signed with both access keys.
//
// Before the first event, the server validates the handler with OPTIONS. If the status is 404, it repeats the request with GET.
//
//   - The header WebHook-Request-Origin is the host that the client connected to.
//   - The handler accepts with a 2xx and a header WebHook-Allowed-Origin that is "*" or the requested host. The handler may
//     send several such headers, but a header with a list of hosts does not match.
//   - A success is valid for a minute, a failure for 1, 2, 4 and so on up to 60 seconds, by the server's clock: see
//     [Server.Advance]. The next event after that starts a new validation in the background.
//   - After a failure, no event is sent: connect fails with 500, and user events fail.
//
// Responses have the same meaning as for the service:
//
//   - A 2xx to connect accepts the client.
//   - A 4xx to connect rejects the client. The client receives the status, the content type and the body.
//   - Any other status to connect rejects the client with the status alone. A missing or invalid response rejects the client with
//     500.
//   - The body of a 2xx to a user event goes to the client that sent the event. After any other response the event fails. The
//     reason is in the log and in [Server.Events]. Only MQTT clients receive such a response.
//   - After 408, 5xx or no response, the server retries an event after 1, 3 and 5 seconds by the server's clock. The attempts
//     may take 100 seconds in total, by the machine's clock.
type EventHandler struct {
	// URLTemplate is the URL that events are posted to, such as "http://localhost:3000/eventhandler/{event}". {hub} is
	// replaced by the hub's name in lower case, and {event} by the event's name, or by "validate" in the validation. The
	// placeholders are case-insensitive and must not be in the host. If Handler is set, the default is
	// "http://localhost/eventhandler/{event}".
	//
	// A template such as "tunnel:///eventhandler/{event}" sends events through the hub's tunnel: see [Server.Tunnels].
	URLTemplate string `json:"urlTemplate"`

	// Handler, if set, is called instead of sending the request over the network. Each request runs in its own goroutine, so a
	// handler may panic or call t.Fatal; the event then has no response. After the request's context is done, neither the
	// server nor [Server.Close] waits for the handler.
	Handler http.Handler `json:"-"`

	// SystemEvents are the system events that the handler receives: connect, connected and disconnected, case-insensitive.
	SystemEvents []string `json:"systemEvents"`

	// UserEventPattern selects the user events that the handler receives: "*" for all, or case-insensitive names separated by
	// commas. "" selects none. A frame of a client without a subprotocol is an event named message.
	UserEventPattern string `json:"userEventPattern"`
}

// SetHubSettings replaces the settings of a hub. Use it instead of Options.Hubs if a handler can be created only after the
// server, for example because it needs the access key. Without handlers, the hub's events are sent to nobody.
//
// The settings are read for each event, so they apply to connected clients too. If a setting is not valid, SetHubSettings changes
// nothing and returns an error that names the handler and the reason.
func (s *Server) SetHubSettings(hub string, settings HubSettings) error {
	if !protocol.HubPattern.MatchString(hub) {
		return fmt.Errorf("emulator: the hub name %.140q is not valid", hub)
	}
	allow := strings.EqualFold(string(settings.AnonymousConnectPolicy), string(AnonymousConnectAllow))
	if p := settings.AnonymousConnectPolicy; p != "" && !allow && !strings.EqualFold(string(p), string(AnonymousConnectDeny)) {
		return fmt.Errorf("emulator: hub %s: AnonymousConnectPolicy is %.40q: it must be deny or allow", hub, p)
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
