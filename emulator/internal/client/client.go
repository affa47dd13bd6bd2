// Package client serves WebSocket clients that use one of the service's JSON and protobuf subprotocols, or none. It does
// their handshakes, reads and writes their sockets, and lets reliable clients reconnect. Package protocol encodes and decodes
// the frames; everything else is in the kernel, package hub.
package client

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// Server serves clients.
type Server struct {
	*handshake.Handshaker

	// RequestFaults are the faults to inject into clients' requests.
	RequestFaults *FaultList

	// ConnectedAfterRecovery sends a second connected frame to a reliable client that has reconnected.
	ConnectedAfterRecovery bool
}

// ServeHTTP handles the handshake of a client, at /client/hubs/{hub} or /client/?hub={hub}.
func (s Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.connect(w, r); err != nil {
		name, _ := clientHub(r)
		s.Refuse(w, r, name, err)
	}
}

func (s Server) connect(w http.ResponseWriter, r *http.Request) *wire.Error {
	name, ok := clientHub(r)
	if !ok {
		return wire.NotFound("clients connect at /client/hubs/{hub}")
	}
	if err := s.Admit(w, r, name); err != nil {
		return err
	}
	if err := handshake.CheckWebSocket(r); err != nil {
		return err
	}
	if id, _ := handshake.Query(r, "awps_connection_id"); id != "" {
		s.reconnect(w, r, name, id)
		return nil
	}
	claims, err := s.Authorize(r, wire.ClientPath, name)
	if err != nil {
		return err
	}
	if err := handshake.Check(claims); err != nil {
		return err
	}
	raw, err := rawMode(r)
	if err != nil {
		return err
	}

	sock := &socket{faults: s.RequestFaults, Connection: hub.Connection{ID: newConnectionID(), Hub: s.Service.Hub(name), UserID: claims.User()}}
	sock.Link = sock
	sock.Host = handshake.Host(r)
	reply, refused := sock.Connect(r.Context(), claims.AllRoles(), claims.Groups, func() *hub.ConnectRequest { return handshake.Describe(r) })
	if refused != nil {
		return s.RefusedByApplication(w, sock.Hub.Name, refused)
	}
	chosen := reply.Subprotocol
	if chosen == "" {
		chosen = firstKnown(handshake.Offered(r))
	}
	token := sock.setProtocol(chosen, raw)
	sock.SetRoles(reply.Roles, protocol.CheckGroup)

	// Add the connection to its hub before the client knows that it is connected, so that the client misses no message.
	sock.Hub.Add(&sock.Connection, reply.Groups, func() { sock.enqueue(sock.codec.Connected(&sock.Connection, token)) })
	ws, nc := s.Upgrade(w, r, chosen, sock.onPing)
	if ws == nil {
		sock.Lost("the handshake failed")
		return nil
	}
	s.Service.Log.Debug("client connected", "hub", name, "connection", sock.ID, "user", sock.UserID, "subprotocol", chosen)
	sock.Show("connection", "connected ", chosen)
	sock.setSocket(ws, nc)
	s.EndIfClosing(&sock.Connection, nc)
	// Read in a new goroutine: this one would keep the request and net/http's buffers alive as long as the client stays.
	go sock.read(ws, nc)
	return nil
}

// firstKnown returns the first offered subprotocol that the service knows, in the client's spelling, or "".
func firstKnown(offered []string) string {
	for _, name := range offered {
		if _, ok := protocol.FindSubprotocol(name); ok {
			return name
		}
	}
	return ""
}

// clientHub returns the name of the hub that a client wants to connect to, and false if the path is not a client path.
func clientHub(r *http.Request) (string, bool) {
	if path := r.URL.EscapedPath(); path == "/client" || path == "/client/" {
		return r.URL.Query().Get("hub"), true
	} else if rest, ok := strings.CutPrefix(path, wire.ClientPath); ok && !strings.Contains(rest, "/") {
		name, err := url.PathUnescape(rest)
		return name, err == nil
	}
	return "", false
}

// rawMode reads the query parameters that give the frames of a raw client their meaning. Every client's parameters are
// checked, even if the client is not raw.
func rawMode(r *http.Request) (protocol.Raw, *wire.Error) {
	switch mode, _ := handshake.Query(r, "webpubsub_mode"); {
	case mode == "", strings.EqualFold(mode, "sendEvent"):
		return protocol.Raw{}, nil
	case strings.EqualFold(mode, "sendToGroup"):
		group, _ := handshake.Query(r, "group")
		if fault := protocol.CheckGroup(group); fault != "" {
			return protocol.Raw{}, wire.BadRequest("group", "%s", fault)
		}
		noEcho, _ := handshake.Query(r, "noEcho")
		if noEcho != "" && !strings.EqualFold(noEcho, "true") && !strings.EqualFold(noEcho, "false") {
			return protocol.Raw{}, wire.BadRequest("noEcho", "noEcho must be true or false")
		}
		return protocol.Raw{Group: group, NoEcho: strings.EqualFold(noEcho, "true")}, nil
	default:
		return protocol.Raw{}, wire.BadRequest("webpubsub_mode", "webpubsub_mode must be sendEvent or sendToGroup")
	}
}
