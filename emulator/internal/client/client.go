// Package client serves the WebSocket clients that speak one of the service's JSON and protobuf subprotocols, or none:
// their handshake, their sockets, and reliable clients that come back. It knows frames through room protocol and
// everything else through the kernel.
package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/faults"
	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// Server serves clients.
type Server struct {
	*handshake.Handshaker

	// ClientFaults are what goes wrong on purpose with requests of clients.
	ClientFaults *faults.ClientList

	// ConnectedAfterRecovery tells a reliable client that has come back that it is connected, a second time.
	ConnectedAfterRecovery bool
}

// ServeHTTP answers the handshake of a client, at /client/hubs/{hub} or /client/?hub={hub}.
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
	if !handshake.IsWebSocket(r) {
		return handshake.NotWebSocket()
	}
	if id, _ := handshake.Query(r, "awps_connection_id"); id != "" {
		s.reconnect(w, r, name, id)
		return nil
	}
	claims, err := s.Authorize(r, wire.ClientPath, name)
	if err != nil {
		return err
	}
	if err := handshake.Check(r, claims); err != nil {
		return err
	}
	raw, err := rawMode(r)
	if err != nil {
		return err
	}

	sock := &socket{faults: s.ClientFaults, Connection: hub.Connection{ID: newConnectionID(), Hub: s.Service.Hub(name), UserID: claims.User()}}
	sock.Link = sock
	reply, err := s.ask(r.Context(), sock, claims.AllRoles(), claims.Groups, func() *hub.ConnectRequest { return handshake.Describe(r) })
	if err != nil {
		return err
	}
	chosen := reply.Subprotocol
	if chosen == "" {
		chosen = known(handshake.Offered(r))
	}
	token := sock.speak(chosen, raw)
	sock.SetRoles(reply.Roles, protocol.CheckGroup)

	// The connection is in its hub before the client knows that it is connected, so that nothing passes it by.
	sock.Hub.Add(&sock.Connection, reply.Groups, func() { sock.enqueue(sock.codec.Connected(&sock.Connection, token)) })
	ws, nc := s.Upgrade(w, r, chosen, sock.pinged)
	if ws == nil {
		sock.Lost("the handshake failed")
		return nil
	}
	s.Service.Log.Debug("client connected", "hub", name, "connection", sock.ID, "user", sock.UserID, "subprotocol", chosen)
	sock.Show("connection", "connected ", chosen)
	sock.open(ws, nc)
	s.EndIfClosing(&sock.Connection, nc)
	// Not in this goroutine, which would keep the request and net/http's buffers alive as long as the client stays.
	go sock.read(ws, nc)
	return nil
}

// known returns the first of some subprotocols that the service knows, as it is spelled there, or "".
func known(offered []string) string {
	for _, name := range offered {
		if _, ok := protocol.FindSubprotocol(name); ok {
			return name
		}
	}
	return ""
}

// ask asks the application whether a client may connect.
func (s Server) ask(ctx context.Context, sock *socket, roles, groups []string, describe func() *hub.ConnectRequest) (hub.ConnectReply, *wire.Error) {
	reply, err := sock.Connect(ctx, roles, groups, describe)
	if rejected, ok := errors.AsType[*hub.Rejection](err); ok {
		return reply, &wire.Error{Status: rejected.Status, Code: "Rejected", Message: rejected.Reason}
	}
	if err != nil {
		return reply, &wire.Error{Status: http.StatusInternalServerError, Code: "InternalServerError",
			Message: "the connect event failed: " + err.Error()}
	}
	return reply, nil
}

// clientHub returns the hub a client wants, and false when the path is not one that clients use.
func clientHub(r *http.Request) (string, bool) {
	if path := r.URL.EscapedPath(); path == "/client" || path == "/client/" {
		return r.URL.Query().Get("hub"), true
	} else if rest, ok := strings.CutPrefix(path, wire.ClientPath); ok && !strings.Contains(rest, "/") {
		name, err := url.PathUnescape(rest)
		return name, err == nil
	}
	return "", false
}

// rawMode reads what a client without a protocol of the service wants its frames to mean. It is checked of every client.
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
			return protocol.Raw{}, wire.BadRequest("noEcho", "noEcho is neither true nor false")
		}
		return protocol.Raw{Group: group, NoEcho: strings.EqualFold(noEcho, "true")}, nil
	default:
		return protocol.Raw{}, wire.BadRequest("webpubsub_mode", "webpubsub_mode is neither sendEvent nor sendToGroup")
	}
}
