// Package client serves the WebSocket clients that speak one of the service's JSON and protobuf subprotocols, or none:
// their handshake, their sockets, and reliable clients that come back. It knows frames through room protocol and
// everything else through the kernel.
package client

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/awps-go/webpubsub/emulator/internal/handshake"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// Server serves clients.
type Server struct{ *handshake.Handshaker }

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
	query := r.URL.Query()
	if query.Has("awps_connection_id") && handshake.IsWebSocket(r) {
		s.reconnect(w, r, name)
		return nil
	}
	claims, err := s.Authorize(r, wire.ClientPath, name)
	if err != nil {
		return err
	}
	raw, err := rawMode(query)
	if err != nil {
		return err
	}
	if err := handshake.Check(r, claims); err != nil {
		return err
	}

	sock := &socket{Connection: hub.Connection{ID: rand.Text(), Hub: s.Service.OpenHub(name), UserID: claims.Subject}}
	sock.Link = sock
	var chosen string
	offered := handshake.Offered(r)
	if i := slices.IndexFunc(offered, func(p string) bool { _, ok := protocol.Subprotocols[p]; return ok }); i >= 0 {
		chosen = offered[i]
	}
	sock.Host = handshake.Host(r)
	reply, asked := sock.Connect(r.Context(), claims.Roles, claims.Groups, func() *hub.ConnectRequest { return handshake.Describe(r) })
	if asked != nil {
		return s.RefusedByApplication(w, sock.Hub.Name, asked)
	}
	if reply.Subprotocol != "" {
		chosen = reply.Subprotocol
	}
	token := sock.speak(chosen, raw)
	if err := sock.SetRoles(reply.Roles); err != nil {
		return wire.BadRequest("role", "%s", err)
	}

	// The connection is in its hub before the client knows that it is connected, so that nothing passes it by.
	sock.Hub.Add(&sock.Connection, reply.Groups, func() { sock.enqueue(sock.codec.Connected(&sock.Connection, token)) })
	ws, nc := s.Upgrade(w, r, chosen)
	if ws == nil {
		sock.Left("the handshake failed")
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

// rawMode reads what a client without a protocol of the service wants its frames to mean.
func rawMode(query url.Values) (protocol.Raw, *wire.Error) {
	switch mode := query.Get("webpubsub_mode"); {
	case mode == "", strings.EqualFold(mode, "sendEvent"):
		return protocol.Raw{}, nil
	case strings.EqualFold(mode, "sendToGroup"):
		group := query.Get("group")
		if fault := protocol.CheckGroup(group); fault != "" {
			return protocol.Raw{}, wire.BadRequest("group", "%s", fault)
		}
		return protocol.Raw{Group: group, NoEcho: strings.EqualFold(query.Get("noEcho"), "true")}, nil
	default:
		return protocol.Raw{}, wire.BadRequest("webpubsub_mode", "webpubsub_mode is neither sendEvent nor sendToGroup")
	}
}
