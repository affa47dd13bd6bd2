package emulator

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/awps-go/webpubsub/emulator/internal/events"
	kernel "github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/internal/redact"
)

// This file lets a test move the server's clock, inspect the server's state, and wait for a state.

// Advance moves the server's clock forward. When Advance returns, everything due by the new time has expired: tokens, messages,
// and the recovery windows of clients that were cut off. Advance panics if d is negative.
//
//   - If a client has cut its own connection, the server notices a moment later: use WaitForRecovering before Advance.
//   - Delayed requests and events that are due continue, but Advance does not wait for them. Use WaitForDelayed before Advance,
//     and WaitForRequests or WaitForEvents after it.
//   - Service clients sign tokens by the machine's clock. To the server, these tokens are older by the sum of all Advances.
//     After a total of an hour and five minutes, requests of service clients are rejected. After the lifetime of a client access
//     token, new tokens with the same lifetime are rejected. Let clients connect before Advance, and use the methods of Server
//     after it.
func (s *Server) Advance(d time.Duration) {
	if d < 0 {
		panic("emulator: Advance: the duration is negative")
	}
	s.service.Clock.Advance(d)
}

// Now returns the time of the server's clock: the machine's time plus the sum of all Advances.
func (s *Server) Now() time.Time { return s.service.Clock.Now() }

// Connection describes a client of a hub, at the moment of the call.
type Connection struct {
	ID          string
	UserID      string   // "" for an anonymous client
	Subprotocol string   // as negotiated; "" for a client without a subprotocol
	Groups      []string // in alphabetical order
	Recovering  bool     // whether the client, reliable or MQTT, was cut off and may still recover
}

// Hubs returns the names of the hubs that clients or tunnels have connected to, in alphabetical order.
func (s *Server) Hubs() []string {
	names := []string{}
	for _, h := range s.service.Hubs() {
		names = append(names, h.Name)
	}
	return names
}

// Connections returns the clients of a hub, including those that may still recover, in the order of their IDs.
func (s *Server) Connections(hub string) []Connection {
	infos := s.service.Hub(hub).Inspect()
	all := make([]Connection, len(infos))
	for i, info := range infos {
		all[i] = Connection(info)
	}
	return all
}

// Groups returns the groups of a hub that have members, in alphabetical order.
func (s *Server) Groups(hub string) []string {
	return slices.Sorted(maps.Keys(s.service.Hub(hub).Groups()))
}

// Users returns the users of a hub who have connections, in alphabetical order.
func (s *Server) Users(hub string) []string { return s.service.Hub(hub).Users() }

// HasPermission reports whether a connection exists and has a permission for a group, or for all groups if group is "". It
// returns an error if the permission is unknown. After [StartT], such an error also fails the test.
func (s *Server) HasPermission(hub, connectionID string, permission Permission, group string) (bool, error) {
	p, ok := kernel.ParsePermission(string(permission))
	if !ok {
		err := fmt.Errorf("emulator: HasPermission: there is no permission %q: the permissions are %s", permission,
			strings.Join(kernel.PermissionNames(), ", "))
		s.failTest(err)
		return false, err
	}
	return s.service.Hub(hub).HasPermission(connectionID, p, group), nil
}

// DropConnection cuts a client's connection without a close frame, as a failing network does. It reports whether the hub has the
// connection.
//
// When DropConnection returns, the recovery window of a reliable client has started, and any other client has left the hub.
func (s *Server) DropConnection(hub, connectionID string) bool {
	c := s.service.Hub(hub).Find(connectionID)
	if c == nil {
		return false
	}
	noticed := c.Link.Drop()
	if noticed == nil { // the client is cut off already, or its handshake is under way
		noticed = func() bool { return !c.Member() || c.Link.Away() }
	}
	s.waitUntil(noticed)
	return true
}

// noticeTimeout bounds the wait for the server to notice that it has cut a connection. It takes that long only on a machine that is
// far too busy.
const noticeTimeout = 10 * time.Second

// waitUntil waits until noticed returns true.
func (s *Server) waitUntil(noticed func() bool) {
	ctx, cancel := context.WithTimeout(context.Background(), noticeTimeout)
	defer cancel()
	_ = s.wait(ctx, 1, "", func() int { return count(noticed()) })
}

// count returns 1 for true and 0 for false.
func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// Request describes a REST request that the server has processed.
type Request struct {
	Operation   string // the service client's name for it, such as "SendToAll"; "" if the request matches no operation
	Method      string
	Path        string      // as sent, with the query, but with "REDACTED" in place of credentials
	Header      http.Header // as sent, with "REDACTED" in place of credentials
	ContentType string      // the Content-Type header
	Body        []byte      // the first 16 KiB of the body, with "REDACTED" in place of keys and tokens; nil if it was not read
	Status      int         // of the response; 0 if a Fault cut the connection
	Time        time.Time   // of the response, by the server's clock
}

// Requests returns the REST requests that the server has processed, successfully or not, in the order of their responses. The
// server keeps the last 1,000.
func (s *Server) Requests() []Request {
	served, keys := s.api.Requests(), s.keys.secrets()
	all := make([]Request, len(served))
	for i, r := range served {
		all[i] = Request{Operation: r.Operation, Method: r.Method, Path: redact.URL(r.Path, keys...), Header: make(http.Header, len(r.Header)),
			ContentType: r.Header.Get("Content-Type"), Status: r.Status, Time: r.Time}
		if r.Body != nil {
			all[i].Body = events.Recorded(r.Body, keys)
		}
		for name, values := range r.Header {
			all[i].Header[name] = redactHeader(name, values, keys...)
		}
	}
	return all
}

// redactHeader returns the values of a header without secrets.
func redactHeader(name string, values []string, keys ...string) []string {
	shown := make([]string, len(values))
	for i, v := range values {
		shown[i] = redact.Header(name, []string{v}, keys...)
	}
	return shown
}

// RequestCount returns the number of requests of an operation that the server has processed since it started, successfully or not.
// The operation is a REST operation, such as OperationSendToAll, or OperationConnect for the handshakes of clients. "" counts the
// REST requests that match no operation. RequestCount panics if the operation is unknown.
func (s *Server) RequestCount(operation Operation) int {
	if operation == OperationConnect {
		return int(s.handshakes.Load())
	}
	if operation != "" {
		if err := s.checkOperation(operation); err != nil {
			panic("emulator: RequestCount: " + err.Error())
		}
	}
	return s.api.Count(string(operation))
}

// delayedThings is what WaitForDelayed counts.
const delayedThings = "delayed requests and events"

// wait waits until count returns want, ctx ends or the server closes. An error names what was awaited, and says whether
// something is delayed: a test that has not called Advance may be waiting for its effect.
func (s *Server) wait(ctx context.Context, want int, what string, count func() int) error {
	if _, limited := ctx.Deadline(); !limited && s.waitTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.waitTimeout)
		defer cancel()
	}
	err := s.board.Wait(ctx, s.service.Life.Closing(), want, what, count)
	if delayed := s.service.Delayed(); err != nil && delayed > 0 && what != delayedThings {
		err = fmt.Errorf("%w; delayed by the server's clock until Advance: %d requests or events", err, delayed)
	}
	return err
}

// WaitForConnections waits until a hub has exactly n clients, including those that may still recover. It returns an error with
// the current number of clients if ctx ends or the server is closed first.
func (s *Server) WaitForConnections(ctx context.Context, hub string, n int) error {
	return s.wait(ctx, n, "connections in hub "+hub, func() int { return s.service.Hub(hub).Count(&kernel.Target{}) })
}

// WaitForGroup waits until exactly n connections of a hub are in a group. See [Server.WaitForConnections].
func (s *Server) WaitForGroup(ctx context.Context, hub, group string, n int) error {
	return s.wait(ctx, n, "connections in group "+group+" of hub "+hub, func() int { return s.service.Hub(hub).Count(&kernel.Target{Group: group}) })
}

// WaitForUser waits until a user has exactly n connections to a hub. See [Server.WaitForConnections].
func (s *Server) WaitForUser(ctx context.Context, hub, userID string, n int) error {
	return s.wait(ctx, n, "connections of user "+userID+" to hub "+hub, func() int { return s.service.Hub(hub).Count(&kernel.Target{User: userID}) })
}

// WaitForRecovering waits until exactly n clients of a hub, reliable or MQTT, are cut off and may still recover. See
// [Server.WaitForConnections].
func (s *Server) WaitForRecovering(ctx context.Context, hub string, n int) error {
	return s.wait(ctx, n, "recovering connections in hub "+hub, func() int {
		recovering := 0
		for _, c := range s.Connections(hub) {
			if c.Recovering {
				recovering++
			}
		}
		return recovering
	})
}

// WaitForRequests waits until the server has processed at least n requests of an operation since it started, successfully or not.
// The operation is a REST operation, such as OperationSendToAll, or OperationConnect for the handshakes of clients.
// WaitForRequests returns an error if the operation is unknown. See also [Server.WaitForConnections].
func (s *Server) WaitForRequests(ctx context.Context, operation Operation, n int) error {
	if err := s.checkOperation(operation, OperationConnect); err != nil {
		return fmt.Errorf("emulator: WaitForRequests: %w", err)
	}
	err := s.wait(ctx, n, string(operation)+" requests", func() int { return min(n, s.RequestCount(operation)) })
	if err != nil && operation == OperationGetClientAccessToken && s.acceptsKeysOnly {
		err = fmt.Errorf("%w; with an access key, service clients sign tokens without a request", err)
	}
	return err
}

// WaitForDelayed waits until at least n requests and events are delayed by the server's clock. [Server.Advance] then ends the
// delays. These are delayed:
//
//   - a request, a handshake or a connected event by the Delay of a [Fault], and a client's request by the Delay of a
//     [ClientFault]
//   - an event, or the validation of an event handler, that failed, until it is sent again
//   - an event that waits for an application's server to connect to the tunnel
//
// See also [Server.WaitForConnections].
func (s *Server) WaitForDelayed(ctx context.Context, n int) error {
	return s.wait(ctx, n, delayedThings, func() int { return min(n, s.service.Delayed()) })
}
