package emulator

import (
	"context"

	"github.com/awps-go/webpubsub/emulator/internal/wire"
	"github.com/awps-go/webpubsub/internal/tunnelframe"
)

// This file is what a test sees and does of the tunnel: the connections that servers open to receive events.

// Tunnel is a connection of a server that receives the events of a hub, as it is at the moment of asking.
type Tunnel struct {
	ID         string // as the server was told when it connected
	UserID     string // the subject of its token: all connections of one server have the same
	Target     string // the instance of the service that it was directed to; "" for the first connection
	Unanswered int    // events on their way
}

// Tunnels returns the connections of servers to the tunnel of a hub, in the order in which they came. Servers connect at
// /server/tunnel?hub={hub}, as package tunnel and the official npm packages do. A handler whose [EventHandler].URLTemplate is
// tunnel:///path receives its events through them, in turn:
//
//   - An event for which no server is connected waits 5 seconds by the server's clock. Then it fails, and is not sent again:
//     a connect event refuses the client with 500.
//   - Events that a connection has not answered when it ends fail as if the network did: they are sent again 1, 3 and 5
//     seconds later.
//   - The handler is not asked whether it accepts events of this server: the connection's token has shown it.
//
// Microsoft does not document the tunnel. These are choices of the emulator; frames, URL and token are those of the official
// packages.
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

// TunnelTarget is where a server is directed to.
type TunnelTarget struct {
	Endpoint string // the URL of the service to connect to; "" for the one in use
	Target   string // the query parameter target of the new connection, an instance of the service; "" for none
	Message  string // a reason, for the server's log
}

// RebalanceTunnel asks the server at the other end of a tunnel's connection to open one more, as the service is believed to
// do when it grows. It was never seen from the real service: it is read from the official packages. It reports whether there
// is such a connection.
func (s *Server) RebalanceTunnel(hub, tunnelID string, to TunnelTarget) bool {
	return s.tunnels.Tell(hub, tunnelID, &tunnelframe.Rebalance{TargetID: to.Target, Endpoint: to.Endpoint, Message: to.Message})
}

// ReconnectTunnel asks the server at the other end of a tunnel's connection to replace it by another, as the service is
// believed to do when an instance goes. Until then the connection receives events only if there is no other. It was never
// seen from the real service: see [Server.RebalanceTunnel].
func (s *Server) ReconnectTunnel(hub, tunnelID string, to TunnelTarget) bool {
	return s.tunnels.Tell(hub, tunnelID, &tunnelframe.Reconnect{TargetID: to.Target, Endpoint: to.Endpoint, Message: to.Message})
}

// CloseTunnel asks the server at the other end of a tunnel's connection to close it, and to open no other for it. The
// connection receives no more events. It was never seen from the real service: see [Server.RebalanceTunnel].
func (s *Server) CloseTunnel(hub, tunnelID, message string) bool {
	return s.tunnels.Tell(hub, tunnelID, &tunnelframe.Close{Message: message})
}

// DropTunnel cuts a tunnel's connection without a close frame, as a network does that fails. It reports whether there is such
// a connection. When it returns, the connection is gone; the server may have opened another.
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
