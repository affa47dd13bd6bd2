// Package handshake is what the handshakes of WebSocket and of MQTT clients share: who may connect, with which token,
// from which page, and how the HTTP connection becomes a WebSocket. It knows tokens, faults and the kernel; which
// protocol the client speaks then is its callers' business.
package handshake

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"strings"

	"github.com/coder/websocket"

	"github.com/awps-go/webpubsub/emulator/internal/faults"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/emulator/internal/token"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// Handshaker answers handshakes.
type Handshaker struct {
	Service  *hub.Service
	Conns    *wire.Conns
	Endpoint wire.Endpoint
	Tokens   *token.Authority
	Faults   *faults.List
}

// Refuse answers a handshake with what is wrong with it.
func (h *Handshaker) Refuse(w http.ResponseWriter, r *http.Request, hubName string, err *wire.Error) {
	h.Service.Log.Info("client refused", "path", r.URL.Path, "status", err.Status, "reason", err.Message)
	if o := h.Service.Observer; o.Watched() {
		o.Traffic(hub.TrafficEvent{Kind: "connection", Hub: hubName, Status: err.Status, Text: "refused: " + err.Message})
	}
	err.Write(w, r)
}

// Admit checks what a handshake has before its token: the hub, and the page it comes from. A fault that was asked for
// happens here.
func (h *Handshaker) Admit(w http.ResponseWriter, r *http.Request, hubName string) *wire.Error {
	if !protocol.HubPattern.MatchString(hubName) {
		return wire.BadRequest("hub", "the hub name %.140q does not match %s", hubName, protocol.HubPattern)
	}
	if origin := r.Header.Get("Origin"); origin != "" && !wire.LoopbackOrigin(origin) && !h.Endpoint.OwnOrigin(r, origin) {
		return &wire.Error{Status: http.StatusForbidden, Code: "Forbidden", Target: "Origin",
			Message: "the origin " + text.Shorten(origin, 100) + " may not connect: only pages of this machine may"}
	}
	return h.Faults.Apply(h.Faults.Next(faults.Connect), w)
}

// Authorize checks the token of a client that wants to connect to a hub, at a path that begins with prefix. It may lack one if
// the hub allows anonymous clients.
func (h *Handshaker) Authorize(r *http.Request, prefix, hubName string) (*token.Claims, *wire.Error) {
	claims, err := h.Tokens.AuthorizeClient(r, prefix, hubName)
	switch {
	case errors.Is(err, token.ErrNoToken) && h.Service.Hub(hubName).AllowsAnonymous():
		return &token.Claims{}, nil
	case err != nil:
		return nil, wire.Unauthorized(err)
	}
	return claims, nil
}

// Check checks what a handshake has with its token.
func Check(r *http.Request, claims *token.Claims) *wire.Error {
	if user := claims.User(); user != "" {
		if fault := protocol.CheckUser(user); fault != "" {
			return wire.BadRequest("sub", "%s", fault)
		}
	}
	for _, g := range claims.Groups {
		if fault := protocol.CheckGroup(g); fault != "" {
			return wire.BadRequest("webpubsub.group", "%s", fault)
		}
	}
	if !IsWebSocket(r) {
		return NotWebSocket()
	}
	return nil
}

// NotWebSocket is the answer to a request that is not a WebSocket handshake.
func NotWebSocket() *wire.Error {
	return wire.BadRequest("Upgrade", "this is not a WebSocket handshake of version 13")
}

// Query returns the value of a parameter of a handshake, whose name counts in any case. Of several the last counts.
func Query(r *http.Request, name string) (value string, found bool) { return token.Query(r.URL, name) }

// Describe returns a handshake as the application sees it. The access token is the service's own business.
func Describe(r *http.Request) *hub.ConnectRequest {
	query := r.URL.Query()
	maps.DeleteFunc(query, func(name string, _ []string) bool { return strings.EqualFold(name, token.QueryName) })
	header := maps.Clone(r.Header)
	maps.DeleteFunc(header, func(name string, _ []string) bool {
		return name == "Authorization" || strings.HasPrefix(name, "X-Asrs-Internal-")
	})
	return &hub.ConnectRequest{Claims: token.ShowClaims(r), Query: query, Header: header, Subprotocols: Offered(r),
		Certificates: wire.ConnOf(r).PeerCertificates()}
}

// Upgrade answers a handshake and counts the goroutine that the caller starts to read the socket. It returns nil when
// there is nothing to read. pinged, if not nil, is handed the WebSocket pings of the client and sees to their answer, as
// the WebSocket library gives up a client that does not take the pong at once. See [Pong].
func (h *Handshaker) Upgrade(w http.ResponseWriter, r *http.Request, subprotocol string, pinged func(payload []byte)) (*websocket.Conn, *wire.Conn) {
	nc := wire.ConnOf(r)
	if !h.Conns.Track(nc) {
		unavailable := &wire.Error{Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable", Message: hub.ClosingReason}
		unavailable.Write(w, r)
		return nil, nil
	}
	options := &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocol},
		InsecureSkipVerify: true, // Admit has checked the origin
	}
	if pinged != nil {
		options.OnPingReceived = func(_ context.Context, payload []byte) bool {
			pinged(bytes.Clone(payload))
			return false
		}
	}
	ws, err := websocket.Accept(w, r, options)
	if err != nil { // Accept has answered
		h.Service.Log.Info("handshake failed", "error", err)
		nc.Untrack()
		return nil, nil
	}
	nc.Hijacked()
	return ws, nc
}

// EndIfClosing ends a connection that has come in while the server was closing its hubs, and may have been missed.
func (h *Handshaker) EndIfClosing(c *hub.Connection, nc *wire.Conn) {
	if h.Service.Life.IsClosing() {
		nc.ShortenClosing()
		c.End(hub.ClosingReason)
	}
}

// Offered returns the subprotocols that a client offers, in its order.
func Offered(r *http.Request) []string {
	var offered []string
	for _, v := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(v, ",") {
			if p = strings.TrimSpace(p); p != "" {
				offered = append(offered, p)
			}
		}
	}
	return offered
}

// IsWebSocket reports whether a request is a handshake that can be answered.
func IsWebSocket(r *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	return r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) && err == nil && len(key) == 16 &&
		strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && r.Header.Get("Sec-WebSocket-Version") == "13" &&
		strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade")
}
