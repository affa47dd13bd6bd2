package emulator

import (
	"context"

	"github.com/awps-go/webpubsub/emulator/internal/wire"
	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

// This file is what a test sees and does of the tunnel: the connections that servers open to receive events.

// Tunnel describes a connection over which a server receives the events of a hub, at the moment of the call.
type Tunnel struct {
	ID         string // as the server was told when it connected
	UserID     string // the subject of its token: all connections of one server have the same
	Target     string // the instance of the service that the server was directed to; "" for the first connection
	Unanswered int    // the number of events that were sent and not answered yet
}

// Tunnels returns the connections of servers to the tunnel of a hub, in the order in which they were opened. Servers connect at
// /server/tunnel?hub={hub}, as package tunnel and the official npm packages do. A handler with an [EventHandler].URLTemplate
// such as tunnel:///path receives its events through these connections, in turn:
//
//   - If no server is connected, an event waits 5 seconds by the server's clock. Then the event fails, and is not sent again. A
//     connect event rejects the client with 500.
//   - If a connection ends, its unanswered events are sent again 1, 3 and 5 seconds later, as after a network failure.
//   - The handler is not validated, because the connection's token has shown that the server wants the events.
//
// Microsoft does not document the tunnel. Frames, URL and token are those of the official packages. The rules above are choices
// of the emulator.
func (s *Server) Tunnels(hub string) []Tunnel {
	infos := s.tunnels.List(hub)
	all := make([]Tunnel, len(infos))
	for i, info := range infos {
		all[i] = Tunnel(info)
	}
	return all
}

// WaitForTunnels waits until exactly n connections of servers are in the tunnel of a hub. See [Server.WaitForConnections].
func (s *Server) WaitForTunnels(ctx context.Context, hub string, n int) error {
	return s.wait(ctx, n, "tunnels of hub "+hub, func() int { return s.tunnels.Count(hub) })
}

// TunnelTarget tells a server where to open a tunnel's connection.
type TunnelTarget struct {
	Endpoint string // the URL of the service to connect to; "" for the one in use
	Target   string // the query parameter target of the new connection, an instance of the service; "" for none
	Message  string // a reason, for the server's log
}

// RebalanceTunnel asks the server at the other end of a tunnel's connection to open another connection, as the service is
// believed to do when it scales out. It reports whether there is such a connection. This frame was read from the official
// packages, and was never seen from the real service.
func (s *Server) RebalanceTunnel(hub, tunnelID string, to TunnelTarget) bool {
	return s.tunnels.Tell(hub, tunnelID, &tunnelframe.Rebalance{TargetID: to.Target, Endpoint: to.Endpoint, Message: to.Message})
}

// ReconnectTunnel asks the server at the other end of a tunnel's connection to replace the connection, as the service is
// believed to do before an instance stops. Until then, the connection receives events only if there is no other. It reports
// whether there is such a connection. See [Server.RebalanceTunnel] for where this frame is from.
func (s *Server) ReconnectTunnel(hub, tunnelID string, to TunnelTarget) bool {
	return s.tunnels.Tell(hub, tunnelID, &tunnelframe.Reconnect{TargetID: to.Target, Endpoint: to.Endpoint, Message: to.Message})
}

// CloseTunnel asks the server at the other end of a tunnel's connection to close the connection without opening another. The
// connection receives no more events. CloseTunnel reports whether there is such a connection. See [Server.RebalanceTunnel] for
// where this frame is from.
func (s *Server) CloseTunnel(hub, tunnelID, message string) bool {
	return s.tunnels.Tell(hub, tunnelID, &tunnelframe.Close{Message: message})
}

// DropTunnel cuts a tunnel's connection without a close frame, as a failing network does. It reports whether there is such a
// connection. When DropTunnel returns, the connection is gone, and the server may have opened another.
func (s *Server) DropTunnel(hub, tunnelID string) bool {
	noticed, ok := s.tunnels.Drop(hub, tunnelID)
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), wire.CloseTimeout)
	defer cancel()
	_ = s.wait(ctx, 1, "", func() int { return count(noticed()) })
	return true
}
