// Package handshake has the parts of the handshake that WebSocket and MQTT clients share: the checks of the hub, the web page
// and the token, and the upgrade from HTTP to WebSocket. Its callers decide which protocol the client then uses.
package handshake

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/coder/websocket"
	"golang.org/x/net/http/httpguts"

	"github.com/awps-go/webpubsub/emulator/internal/faults"
	"github.com/awps-go/webpubsub/emulator/internal/hub"
	"github.com/awps-go/webpubsub/emulator/internal/protocol"
	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/emulator/internal/token"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// Handshaker checks and answers handshakes.
type Handshaker struct {
	Service  *hub.Service
	Conns    *wire.Conns
	Endpoint wire.Endpoint
	Tokens   *token.Authority
	Faults   *faults.List
}

// Refuse rejects a handshake with an error. It also logs the error and reports it as traffic.
func (h *Handshaker) Refuse(w http.ResponseWriter, r *http.Request, hubName string, err *wire.Error) {
	h.Service.Log.Info("client rejected", "path", r.URL.Path, "status", err.Status, "reason", err.Message)
	if o := h.Service.Observer; o.Watched() {
		o.Traffic(hub.TrafficEvent{Kind: "connection", Hub: hubName, Status: err.Status, Text: "rejected: " + err.Message})
	}
	err.Write(w, r)
}

// Admit checks the hub name and the Origin header of a handshake, before its token. It also injects the next connect fault.
func (h *Handshaker) Admit(w http.ResponseWriter, r *http.Request, hubName string) *wire.Error {
	if err := CheckHub(hubName); err != nil {
		return err
	}
	if origin := r.Header.Get("Origin"); origin != "" && !wire.LoopbackOrigin(origin) && !h.Endpoint.OwnOrigin(r, origin) {
		return &wire.Error{Status: http.StatusForbidden, Code: "Forbidden", Target: "Origin",
			Message: "the origin " + text.Shorten(origin, 100) + " is not allowed: only web pages from this machine may connect"}
	}
	return h.Faults.Apply(h.Faults.Next(faults.Connect), w)
}

// CheckHub checks the hub name of a handshake.
func CheckHub(name string) *wire.Error {
	if !protocol.HubPattern.MatchString(name) {
		return wire.BadRequest("hub", "the hub name %.140q does not match %s", name, protocol.HubPattern)
	}
	return nil
}

// Authorize checks the token of a client that connects to a hub, at a path that begins with prefix. The token may be missing
// if the hub allows anonymous clients; the claims are then empty.
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

// Check checks the user and the groups in the token of a handshake.
func Check(claims *token.Claims) *wire.Error {
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
	return nil
}

// Query returns the value of a query parameter of a handshake, and whether it exists. Names are case-insensitive. If a
// parameter is repeated, the last value counts.
func Query(r *http.Request, name string) (value string, found bool) { return token.Query(r.URL, name) }

// Describe describes a handshake to the application. Package events leaves out the access token and internal headers.
func Describe(r *http.Request) *hub.ConnectRequest {
	header := map[string][]string{"Host": {r.Host}} // net/http keeps it outside of the header
	for name, values := range r.Header {
		if suffix, ok := strings.CutPrefix(name, "Sec-Websocket-"); ok {
			name = "Sec-WebSocket-" + suffix // as clients write it
		}
		header[name] = values
	}
	return &hub.ConnectRequest{Claims: token.ShowClaims(r), Query: query(r.URL.RawQuery), Header: header, Subprotocols: Offered(r),
		Certificates: wire.ConnOf(r).PeerCertificates()}
}

// query parses the query of a client's URL. Unlike net/url, it does not drop parameters with a semicolon or an invalid escape.
func query(raw string) map[string][]string {
	values := make(map[string][]string)
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, value = unescape(name), unescape(value)
		values[name] = append(values[name], value)
	}
	return values
}

// unescape decodes a part of a query, or returns a part with an invalid escape unchanged.
func unescape(part string) string {
	if plain, err := url.QueryUnescape(part); err == nil {
		return plain
	}
	return part
}

// Upgrade completes a handshake and returns the WebSocket. On failure it responds with an error and returns nil.
//
// Upgrade tracks the connection: the caller reads it in a goroutine of its own, which must call [wire.Conn.Untrack] at the end.
//
// onPing, if not nil, receives the payloads of the client's WebSocket pings and must send the pongs (see [Pong]). Without
// onPing, the WebSocket library sends them, and drops a client that does not read a pong within 5 seconds.
func (h *Handshaker) Upgrade(w http.ResponseWriter, r *http.Request, subprotocol string, onPing func(payload []byte)) (*websocket.Conn, *wire.Conn) {
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
	if onPing != nil {
		options.OnPingReceived = func(_ context.Context, payload []byte) bool {
			onPing(bytes.Clone(payload))
			return false
		}
	}
	ws, err := websocket.Accept(w, r, options)
	if err != nil { // Accept has sent the response
		h.Service.Log.Info("handshake failed", "error", err)
		nc.Untrack()
		return nil, nil
	}
	return ws, nc
}

// EndIfClosing ends a new connection if the server is closing, because the server may not have seen it when it closed its
// hubs.
func (h *Handshaker) EndIfClosing(c *hub.Connection, nc *wire.Conn) {
	if h.Service.Life.IsClosing() {
		nc.ShortenClosing()
		c.End(hub.ClosingReason)
	}
}

// Offered returns the subprotocols that a client offers, in the client's order.
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

// CheckWebSocket checks that a request is a WebSocket handshake of version 13. It must not accept what the WebSocket library
// rejects, because Upgrade runs after the application has accepted the client.
func CheckWebSocket(r *http.Request) *wire.Error {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	if r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) && err == nil && len(key) == 16 && len(r.Header.Values("Sec-WebSocket-Key")) == 1 &&
		strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && r.Header.Get("Sec-WebSocket-Version") == "13" &&
		httpguts.HeaderValuesContainsToken(r.Header.Values("Connection"), "upgrade") {
		return nil
	}
	return wire.BadRequest("Upgrade", "this is not a WebSocket handshake of version 13")
}
