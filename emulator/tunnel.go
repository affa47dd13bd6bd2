package emulator

import (
	"context"

	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

// This file lets a test inspect and break the tunnel: the connections that an application's servers open to receive events.

// Tunnel describes a tunnel connection, at the moment of the call. An application's server opens such connections to receive
// the events of a hub.
type Tunnel struct {
	ID         string // as sent to the application's server when it connected
	UserID     string // the subject of the token: the same for all connections of one server
	Target     string // the service instance that the connection asked for; "" for a server's first connection
	Unanswered int    // the number of events sent that have no response yet
}

// Tunnels returns the tunnel connections of a hub, in the order in which they were opened. An application's server, such as
// package tunnel or an official npm package, connects at /server/tunnel?hub={hub}. If an [EventHandler] has a URLTemplate such
// as tunnel:///path, its events are sent through these connections in turn.
//
//   - If there is no connection, an event waits 5 seconds by the emulator's clock, and then fails without a retry. A connect event
//     rejects the client with 500.
//   - If a connection ends, its unanswered events are retried after 1, 3 and 5 seconds, as after a network failure.
//   - The handler is not validated, because the connection's token shows that the application wants the events.
//
// Microsoft does not document the tunnel. Frames, URL and token follow the official packages. The rules above are choices of this
// emulator.
func (s *Server) Tunnels(hub string) []Tunnel {
	infos := s.tunnels.List(hub)
	all := make([]Tunnel, len(infos))
	for i, info := range infos {
		all[i] = Tunnel(info)
	}
	return all
}

// WaitForTunnels waits until a hub has exactly n tunnel connections. See [Server.WaitForConnections].
func (s *Server) WaitForTunnels(ctx context.Context, hub string, n int) error {
	return s.wait(ctx, n, "tunnels of hub "+hub, func() int { return s.tunnels.Count(hub) })
}

// TunnelTarget tells an application's server where to open a new tunnel connection.
type TunnelTarget struct {
	Endpoint string // the URL of the service; "" for the current endpoint
	Target   string // the query parameter target of the new connection, a service instance; "" for none
	Message  string // a reason, for the log of the application's server
}

// RebalanceTunnel sends a Rebalance frame over a tunnel connection. The frame asks the application's server to open one more
// connection. The service probably sends such frames when it scales out. RebalanceTunnel reports whether the connection exists.
//
// The official packages handle Rebalance, Reconnect and Close frames. We have never seen the service send them.
func (s *Server) RebalanceTunnel(hub, tunnelID string, to TunnelTarget) bool {
	return s.tunnels.Tell(hub, tunnelID, &tunnelframe.Rebalance{TargetID: to.Target, Endpoint: to.Endpoint, Message: to.Message})
}

// ReconnectTunnel sends a Reconnect frame over a tunnel connection. The frame asks the application's server to replace the
// connection. The service probably sends such frames before an instance stops. From then on, the emulator uses the connection
// only if there is no other. ReconnectTunnel reports whether the connection exists. See also [Server.RebalanceTunnel].
func (s *Server) ReconnectTunnel(hub, tunnelID string, to TunnelTarget) bool {
	return s.tunnels.Tell(hub, tunnelID, &tunnelframe.Reconnect{TargetID: to.Target, Endpoint: to.Endpoint, Message: to.Message})
}

// CloseTunnel sends a Close frame over a tunnel connection. The frame asks the application's server to close the connection
// without opening another. The emulator sends no more events over the connection. CloseTunnel reports whether the connection
// exists. See also [Server.RebalanceTunnel].
func (s *Server) CloseTunnel(hub, tunnelID, message string) bool {
	return s.tunnels.Tell(hub, tunnelID, &tunnelframe.Close{Message: message})
}

// DropTunnel cuts a tunnel connection without a close frame, as a failing network does. It reports whether the connection
// exists. When DropTunnel returns, the emulator has removed the connection, and the application's server may have opened
// another.
func (s *Server) DropTunnel(hub, tunnelID string) bool {
	noticed := s.tunnels.Drop(hub, tunnelID)
	if noticed == nil {
		return false
	}
	s.waitUntil(noticed)
	return true
}
